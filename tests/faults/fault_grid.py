"""The grid that is disturbed, and a door to the product through which real processes are started.

Forty trials of two cells, each a second or so of real training with a checkpoint an epoch.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from seqlab import results
from seqlab.launch import claims

REPOSITORY = Path(__file__).resolve().parent.parent.parent
NAME = "mut_vs_lstm_gru"
SEEDS = 20
EPOCHS = 12
LINES = 3 * EPOCHS  # of a log: two dispatches an epoch, and its end
DEADLINE = 500.0


def words(num_seeds: int, cells: str = "rnn,gru", **changes: str) -> list[str]:
    """What follows `run` or `work` for this many seeds of each cell.

    Args:
        num_seeds: of each cell.
        cells: their names.
        changes: values of fields, by path with `__` for the dot.
    """
    values = {
        "model.parameter_budget": "3000",
        "optim.optimizer": "sgd",
        "optim.learning_rate": "0.1",
        "data.train_size": "7000",
        "data.valid_size": "700",
        "data.test_size": "700",
        "train.steps_per_epoch": "100",  # two dispatches: a signal is obeyed between them
        "train.schedule.max_epochs": str(EPOCHS),
        "train.schedule.patience": "100",
        "seed": ",".join(map(str, range(num_seeds))),
    } | {path.replace("__", "."): value for path, value in changes.items()}
    only = ["--budget", "smoke", "--only", "task=xml", "--only", f"model.cell={cells}"]
    return [NAME, *only, *(f"--set={path}={value}" for path, value in values.items())]


GRID = words(SEEDS)


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line of what a person saw."""
        return (self.err.strip().splitlines() or [""])[-1]


class Undisturbed(NamedTuple):
    """The grid as it should be: its directory, its results by identity, seconds on the wall."""

    root: Path
    rows: dict[str, dict[str, Any]]
    seconds: float

    def same(self, root: Path, count: int) -> bool:
        """Whether there are `count` results, each as here; the digest says it of all together."""
        rows = rows_of(root)
        expected = [self.rows[identity] for identity in rows]
        return len(rows) == count and results.digest(rows.values()) == results.digest(expected)


@dataclass(frozen=True)
class Door:
    """The front door of a copy of the product.

    Attributes:
        tree: the copy.
        compiled: where compiled programs are kept.
        around: the working directory and the home of its processes; nothing is written there.
    """

    tree: Path
    compiled: Path
    around: Path

    def environment(self) -> dict[str, str]:
        self.around.mkdir(exist_ok=True)
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SEQLAB_")}
        return kept | {
            "HOME": str(self.around),
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(self.compiled),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "PYTHONPATH": str(self.tree),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def start(
        self, *arguments: str, root: Path, by: tuple[str, ...] = (), **variables: str
    ) -> subprocess.Popen:
        """Start a command on the results directory `root`.

        Args:
            arguments: of launch.py.
            root: the results directory.
            by: the program that starts it, and its arguments.
            variables: of the environment.
        """
        command = [*by, sys.executable, str(self.tree / "launch.py"), *arguments]
        return self.process(*command, "--results-dir", str(root), **variables)

    def process(self, *command: str, **variables: str) -> subprocess.Popen:
        return subprocess.Popen(
            command,
            cwd=self.environment()["HOME"],
            env=self.environment() | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, root: Path, **variables: str) -> Done:
        return finish(self.start(*arguments, root=root, **variables))

    def interrupt_one(self, root: Path) -> None:
        """Leave the first trial of the grid unfinished, with two checkpoints."""
        worker = self.start("work", *words(1, "gru"), root=root)
        wait_until(lambda: len(saved_steps(root)) >= 2, worker)
        worker.send_signal(signal.SIGTERM)
        assert finish(worker).code == 130


def finish(process: subprocess.Popen) -> Done:
    out, err = process.communicate(timeout=DEADLINE)
    return Done(process.returncode, out, err)


def wait_until(condition: Callable[[], Any], process: subprocess.Popen, pause: float = 0.01):
    """Wait for a condition that holds while the process runs."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(pause)


def workers_of(launcher: subprocess.Popen) -> list[psutil.Process]:
    """The workers of a launcher that live."""
    try:
        children = psutil.Process(launcher.pid).children()
        return [c for c in children if c.status() != psutil.STATUS_ZOMBIE and "work" in c.cmdline()]
    except psutil.NoSuchProcess:
        return []


# What lies in a results directory


def folders(root: Path) -> list[Path]:
    """Of the trials that somebody has tried."""
    return sorted(p for p in (root / NAME).glob("*") if p.is_dir() and p.name[0] != ".")


def rows_of(root: Path, experiment: str = NAME) -> dict[str, dict[str, Any]]:
    """The valid results by identity."""
    return {row["trial_id"]: row for row in results.rows(root, experiment)}


def trials_with_one_result(root: Path, count: int) -> str:
    """`40/40`, if every trial has one valid result and nothing half written lies beside it."""
    rows = rows_of(root)
    assert len(rows) == count
    leftovers = [p for p in (root / NAME).rglob("*") if ".tmp" in p.name or ".partial" in p.name]
    assert leftovers == []
    return f"{len(rows)}/{count}"


def saved_steps(root: Path) -> list[int]:
    """The steps that all unfinished trials have committed."""
    paths = (root / NAME).glob("*/attempt-*/checkpoints/*/manifest.json")
    return sorted(int(path.parent.name) for path in paths if path.parent.name.isdecimal())


def log_lines(folder: Path) -> list[str]:
    """The whole lines of a trial's log; of its epochs and its dispatches."""
    kept = claims.work_folder(folder)
    path = kept / "log.jsonl" if kept else folder
    try:
        return path.read_text().splitlines(keepends=True)
    except OSError:
        return []


class Twice:
    """Counts what of a trial's training is done again after its worker has ended."""

    def __init__(self):
        self._left: list[tuple[Path, list[str]]] = []

    def ended(self, folder: Path) -> None:
        """A worker has left this trial as it lies there."""
        self._left.append((folder, [line for line in log_lines(folder) if line.endswith("\n")]))

    def lines(self) -> list[dict[str, Any]]:
        """Of all that was left, the dispatches that the final logs hold other ones instead of."""
        again = []
        for folder, left in self._left:
            final = log_lines(folder)
            same = next((n for n, line in enumerate(left) if final[n : n + 1] != [line]), len(left))
            again += [json.loads(line) for line in left[same:]]
        return [line for line in again if "seconds" in line]

    def seconds(self) -> float:
        return sum(line["seconds"] for line in self.lines())


def held_by(root: Path, pid: int) -> Path | None:
    """The folder of the trial that this worker has."""
    for folder in folders(root):
        attempt = claims.last_attempt(folder)
        try:
            claim = json.loads((folder / f"claim-{attempt}").read_text())
        except (OSError, ValueError):
            continue
        if f"-{pid}-" in claim["worker"] and not (folder / results.RESULT).exists():
            return folder
    return None


# Disks


@contextlib.contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own in memory."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no room on the disk of `folder`: the file that takes it."""
    filler = folder / "filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler
