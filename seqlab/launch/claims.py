"""Who runs what: the claims of trials, and the hearts of the workers that hold them.

    DIR/EXPERIMENT/.workers/NAME         a worker: its process, and a counter rising while it lives
    DIR/EXPERIMENT/TRIAL_ID/claim-1 …    who tried the trial, one file an attempt
                            failure-1 …  what went wrong, unless the process died
                            attempt-2/   what the last attempt keeps: log and checkpoints

Correct on a file system that hosts share: nothing is locked and no clock but one's own is read. A
claim is an exclusive create. A worker of this machine is dead when its process is; one of another
machine when its counter has stood still for PATIENCE_SECONDS of the observer's own clock. A worker
that is taken over while it lives (suspended or cut off) finds its folder gone, stops at the
next step boundary, and comes too late with a result, which is committed once.
"""

import contextlib
import itertools
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seqlab import interruption
from seqlab.results import create, numbered

BEAT_SECONDS = 10.0
# Far above a beat, and above the 60 seconds for which an NFS client may believe an old directory.
PATIENCE_SECONDS = 120.0
WORKERS = ".workers"


class Heart:
    """A worker's name and counter; it also notices when a trial was taken from its worker."""

    def __init__(self, experiment_folder: Path):
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._path = experiment_folder / WORKERS / self.name
        self._claim: tuple[Path, int] | None = None
        self._lock = threading.Lock()
        self.was_robbed = False

    @contextlib.contextmanager
    def beating(self) -> Iterator["Heart"]:
        """The counter rises in this block; afterwards there is no such worker."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._sweep()
        ended = threading.Event()
        self._beat(0)

        def beat() -> None:
            number = 0
            while not ended.wait(BEAT_SECONDS):
                number += 1
                with contextlib.suppress(OSError):  # no room, no network: the next may come through
                    self._beat(number)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            ended.set()
            thread.join()
            self._path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def holding(self, folder: Path, attempt: int) -> Iterator[None]:
        """In this block the worker runs this attempt of the trial in `folder`."""
        self.was_robbed = False
        self._claim = folder, attempt
        try:
            yield
        finally:
            with self._lock:  # what is noticed after this is not about the next trial
                self._claim = None

    def _sweep(self) -> None:
        """Remove what killed workers of this machine have left."""
        observer = Observer(self._path.parent.parent)
        for path in self._path.parent.iterdir():
            if not path.name.startswith(".") and not observer.is_alive(path.name):
                path.unlink(missing_ok=True)

    def _beat(self, number: int) -> None:
        content = json.dumps({"beat": number, **_place(), **_process(os.getpid())})
        temporary = self._path.with_name(f".{self.name}.tmp")
        temporary.write_text(content)
        temporary.rename(self._path)
        with self._lock:
            if self._claim is not None and last_attempt(self._claim[0]) > self._claim[1]:
                self.was_robbed = True
                interruption.request()


class Observer:
    """Says which workers live, by what it has seen since it began to look."""

    def __init__(self, experiment_folder: Path):
        self._folder = experiment_folder / WORKERS
        self._seen: dict[str, tuple[Any, float]] = {}

    def is_alive(self, name: str) -> bool:
        try:
            worker = json.loads((self._folder / name).read_text())
        except FileNotFoundError:
            return False  # it has ended
        except ValueError:
            worker = {}
        if not isinstance(worker, dict) or not worker.keys() >= {"beat", "pid", "started"}:
            worker = {"beat": None, "pid": 0}  # damaged: the next beat mends it
        if _place().items() <= worker.items():
            return _process(worker["pid"]) == {k: worker[k] for k in ("pid", "started")}
        now = time.monotonic()
        beat, since = self._seen.get(name, (object(), now))
        if worker["beat"] != beat:
            self._seen[name] = worker["beat"], now
            return True
        return now - since < PATIENCE_SECONDS

    def silent_seconds(self, name: str) -> float:
        """For how long the counter of another machine's worker has been seen to stand still."""
        now = time.monotonic()
        return now - self._seen.get(name, (None, now))[1]

    def holder(self, folder: Path) -> str | None:
        """The worker that runs the trial in `folder`; None if nobody does."""
        attempt = last_attempt(folder)
        if attempt == 0 or (folder / f"failure-{attempt}").exists():
            return None
        claimed = _read(folder, attempt)
        return claimed["worker"] if claimed and self.is_alive(claimed["worker"]) else None


def claim(folder: Path, heart: Heart, observer: Observer) -> int | None:
    """Take the trial in `folder` for a worker, if nobody has it.

    Returns:
        The number of this attempt, from 1; None when somebody else has the trial.
    """
    folder.mkdir(parents=True, exist_ok=True)
    last = last_attempt(folder)
    if last and not (folder / f"failure-{last}").exists():
        claimed = _read(folder, last)
        # None: it was given back this moment, and whoever looks again may have it
        if claimed is None or observer.is_alive(claimed["worker"]):
            return None
    content = {"worker": heart.name, "step": saved_step(folder)}
    made = create(folder / f"claim-{last + 1}", json.dumps(content), durable=False)
    return last + 1 if made else None


def release(folder: Path, attempt: int) -> None:
    """Give an unfinished trial back; an attempt that was given back does not count."""
    (folder / f"claim-{attempt}").unlink(missing_ok=True)


def give_back(folder: Path, attempt: int | None) -> None:
    """Release an attempt, unless the trial is somebody else's by now; None was never one."""
    if attempt is not None and last_attempt(folder) == attempt:
        release(folder, attempt)


def fail(folder: Path, attempt: int, cause: str) -> None:
    """End an attempt that went wrong; the trial is free for the next."""
    create(folder / f"failure-{attempt}", cause)


def failure(folder: Path, attempt: int) -> str | None:
    """What an attempt ended with; None if its process died."""
    path = folder / f"failure-{attempt}"
    return path.read_text() if path.exists() else None


def last_attempt(folder: Path) -> int:
    return max(numbered(folder, "claim-"), default=0)


def in_vain(folder: Path, attempt: int) -> int:
    """How many attempts before this one came to nothing, with no checkpoint between them."""
    step = saved_step(folder)
    earlier = (_read(folder, number) for number in range(attempt - 1, 0, -1))
    return sum(
        1 for _ in itertools.takewhile(lambda c: c is not None and c["step"] == step, earlier)
    )


def adopt(folder: Path, attempt: int) -> Path:
    """The folder of this attempt, with all that the last one has left.

    It is moved and not copied: a process that still believes it has the trial writes nowhere. One
    that was suspended after its claim and finds a later attempt gets a folder that nobody reads.
    """
    mine = folder / f"attempt-{attempt}"
    there = [number for number in numbered(folder, "attempt-") if number != attempt]
    earlier = [] if max(there, default=0) > attempt else there
    if not mine.exists():
        if earlier:
            (folder / f"attempt-{max(earlier)}").rename(mine)
        else:
            mine.mkdir()
    return mine


def work_folder(folder: Path) -> Path | None:
    """Where the last attempt keeps its log and its checkpoints."""
    attempts = numbered(folder, "attempt-")
    return folder / f"attempt-{max(attempts)}" if attempts else None


def saved_step(folder: Path) -> int | None:
    """The step of the newest checkpoint of a trial, not verified."""
    from seqlab import checkpoint  # here: only looking needs no jax, which is slow to import

    kept = work_folder(folder)
    return checkpoint.latest_step(kept / "checkpoints") if kept else None


def forget(folder: Path) -> None:
    """Begin to count attempts anew; what the last one has left stays for the next."""
    kept = work_folder(folder)
    if kept is not None:
        kept.rename(folder / "attempt-0")
    for name in ("claim-", "failure-"):
        for number in numbered(folder, name):
            (folder / f"{name}{number}").unlink(missing_ok=True)


def _read(folder: Path, attempt: int) -> dict[str, Any] | None:
    """A claim; None where there is none. One torn by a power cut has no owner."""
    try:
        content = json.loads((folder / f"claim-{attempt}").read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        content = None
    nobody = {"worker": "nobody", "step": None}
    return content if isinstance(content, dict) and content.keys() >= nobody.keys() else nobody


def _place() -> dict[str, Any]:
    """The scope in which process ids are unique: a boot of a machine, and a pid namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        boot = space = None
    return {"host": socket.gethostname(), "boot": boot, "space": space}


def _process(pid: int) -> dict[str, Any]:
    """A process by pid and start time, as pids are reused; started is None when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return {"pid": pid, "started": None}
    state, *others = stat.rpartition(")")[2].split()
    return {"pid": pid, "started": None if state in "ZX" else others[18]}  # Z: dead, not waited for
