"""The results directory: one folder a trial, the truth about a grid and the queue of its workers.

DIR/EXPERIMENT/TRIAL_ID/claim-1 …     who tried it, one file an attempt
                        log.jsonl     a line an epoch
                        checkpoints/  while it is not finished
                        result.json   written once, atomically; a trial is done when it is there
"""

import json
import logging
import os
import re
import socket
from pathlib import Path
from typing import Any

from seqlab.errors import InputError, nearest
from seqlab.trial import split_assignment

DONE, FAILED, DIVERGED, OOM = "DONE", "FAILED", "DIVERGED", "OOM"
STATUSES = (DONE, FAILED, DIVERGED, OOM)
FIELDS = {"trial_id", "config", "status", "metrics"}  # of every result, whoever wrote it

log = logging.getLogger(__name__)


def named_root(directory: str | None) -> Path:
    """The results directory that was asked for, else `SEQLAB_RESULTS`, else `results`."""
    return Path(directory or os.environ.get("SEQLAB_RESULTS") or "results").absolute()


def writable_root(directory: str | None, experiment: str) -> Path:
    """The results directory, made if need be, with a folder for the experiment.

    Raises:
        InputError: it cannot be written.
    """
    root = named_root(directory)
    try:
        (root / experiment).mkdir(parents=True, exist_ok=True)
        # What claims and results need: to make a file and to link it to its name.
        probe = root / experiment / f".probe-{socket.gethostname()}-{os.getpid()}"
        _create(probe, "")
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"results directory {root} cannot be written: {error.strerror}") from error
    return root


def trial_folder(root: Path, experiment: str, trial_id: str) -> Path:
    """Where a trial's files are; names that could lead out of the root are refused."""
    for name in (experiment, trial_id):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise InputError(f"{name!r} is not a name of letters, digits, '.', '_' and '-'")
    return root / experiment / trial_id


def claim(folder: Path) -> int | None:
    """Take a trial for this process by exclusive create.

    Attempt n+1 can be claimed when the process of attempt n is gone. A process on another host is
    taken to be alive.

    Returns:
        The number of this attempt, from 1; None when somebody else has the trial.
    """
    folder.mkdir(parents=True, exist_ok=True)
    attempt = _last_attempt(folder) + 1
    if attempt > 1 and _is_held(folder / f"claim-{attempt - 1}"):
        return None
    owner = {"host": socket.gethostname(), **_identity(os.getpid())}
    return attempt if _create(folder / f"claim-{attempt}", json.dumps(owner)) else None


def release(folder: Path, attempt: int) -> None:
    """Give an unfinished trial back; an attempt that was given back does not count."""
    (folder / f"claim-{attempt}").unlink(missing_ok=True)


def is_running(folder: Path) -> bool:
    """Whether the process of the last attempt is alive, as far as this host can know."""
    attempt = _last_attempt(folder)
    return attempt > 0 and _is_held(folder / f"claim-{attempt}")


def has_moved(folder: Path, since: int) -> bool:
    """Whether an epoch was finished after attempt `since` began; by one file system's clock."""
    log, claim = folder / "log.jsonl", folder / f"claim-{since}"
    return log.exists() and claim.exists() and log.stat().st_mtime > claim.stat().st_mtime


def _is_held(claim: Path) -> bool:
    try:
        owner = json.loads(claim.read_text())
    except FileNotFoundError:
        return True  # given back this moment: whoever looks again may have it
    except ValueError:
        return False
    if owner["host"] != socket.gethostname():
        return True
    return _identity(owner["pid"]) == {"pid": owner["pid"], "started": owner["started"]}


def _last_attempt(folder: Path) -> int:
    return max((int(p.name.removeprefix("claim-")) for p in folder.glob("claim-*")), default=0)


def _identity(pid: int) -> dict[str, Any]:
    """A process by number and start time, as numbers are used again; started is None when gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return {"pid": pid, "started": None}
    state, *others = stat.rpartition(")")[2].split()
    return {"pid": pid, "started": None if state in "ZX" else others[18]}  # Z: dead, not waited for


def commit(folder: Path, result: dict[str, Any]) -> bool:
    """Write result.json so that it is there whole or not at all, and never written over.

    Returns:
        False when another process had already committed a result for this trial.
    """
    text = json.dumps(result, indent=1, sort_keys=True, allow_nan=False)
    return _create(folder / "result.json", text)


def _create(path: Path, text: str) -> bool:
    """Make a file that is there whole or not at all; False where there is one already."""
    temporary = path.with_name(f".{path.name}-{socket.gethostname()}-{os.getpid()}.tmp")
    try:
        with open(temporary, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def set_aside_damaged(folder: Path) -> None:
    """Rename a result that cannot be read, so that a new one can be committed.

    For whoever has claimed the trial: nobody else can commit as long as the damaged file is there.
    """
    path = folder / "result.json"
    if path.exists() and read(folder) is None:
        path.rename(folder / "result.json.damaged")


def read(folder: Path) -> dict[str, Any] | None:
    """The trial's result; None when what is there is not a whole result of this trial."""
    try:
        result = json.loads((folder / "result.json").read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    whole = isinstance(result, dict) and set(result) >= FIELDS
    return result if whole and result["trial_id"] == folder.name else None


def load(root: Path, experiment: str) -> list[dict[str, Any]]:
    """All results of an experiment, in the order of their identities.

    A file that is not a whole result is named on the log and counts as missing.
    """
    rows = []
    for path in sorted((root / experiment).glob("*/result.json")):
        result = read(path.parent)
        if result is None:
            log.warning("%s is not a whole result, skipped", path)
        else:
            rows.append(result)
    return rows


def discard(folder: Path) -> None:
    """Forget a trial's result and attempts, so that it is run again; its checkpoints stay."""
    for path in [folder / "result.json", *folder.glob("claim-*")]:
        path.unlink(missing_ok=True)


def select(rows: list[dict[str, Any]], conditions: list[str]) -> list[dict[str, Any]]:
    """The results whose configuration has one of the values of each `path=v1,v2`.

    Raises:
        InputError: a condition is not of that form, or a value occurs in no result.
    """
    for condition in conditions:
        path, values = split_assignment(condition)
        found = [(_text_at(row["config"], path), row) for row in rows]
        present = {text for text, _ in found if text is not None}
        for value in values:
            if value not in present:
                raise InputError(f"no result has {path}={value}.{nearest(value, present)}")
        rows = [row for text, row in found if text in values]
    return rows


def _text_at(config: Any, path: str) -> str | None:
    for name in path.split("."):
        if not isinstance(config, dict) or name not in config:
            return None
        config = config[name]
    return str(config)
