"""The results directory: one folder a trial, the truth about a grid and the queue of its workers.

Whoever decides what is to be run reads the results themselves (`rows`, `read`); whoever shows them
takes them from their index (`load`).

DIR/EXPERIMENT/TRIAL_ID/claim-1 …     who tried it, one file an attempt
                        attempt-1/    of the last attempt
                            log.jsonl     a line a dispatch and a line an epoch, as training goes
                            checkpoints/  while it is not finished
                            origin.json   the code and the data that it began with
                        result.json   written once, atomically; a trial is done when it is there
"""

import hashlib
import json
import logging
import os
import re
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab.errors import InputError, nearest
from seqlab.trial import split_assignment

if TYPE_CHECKING:
    import polars

DONE, FAILED, DIVERGED, OOM = "DONE", "FAILED", "DIVERGED", "OOM"
STATUSES = (DONE, FAILED, DIVERGED, OOM)
RESULT = "result.json"
INDEX = ".index"
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
        create(probe, "")
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


def commit(folder: Path, result: dict[str, Any]) -> bool:
    """Write result.json so that it is there whole or not at all, and never written over.

    Returns:
        False when another process had already committed a result for this trial.
    """
    return create(folder / RESULT, _text(result | {"sha256": _sha256(result)}))


def _text(result: dict[str, Any]) -> str:
    return json.dumps(result, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _sha256(result: dict[str, Any]) -> str:
    """Of the result as it is written, without this."""
    rest = {name: value for name, value in result.items() if name != "sha256"}
    return hashlib.sha256(_text(rest).encode()).hexdigest()


def create(path: Path, text: str, durable: bool = True) -> bool:
    """Make a file that is there whole or not at all; False where there is one already.

    By link and not by rename, which would replace the other one.

    Args:
        path: of the file.
        text: its content.
        durable: when this returns, it survives a power cut.
    """
    temporary = path.with_name(f".{path.name}-{socket.gethostname()}-{os.getpid()}.tmp")
    try:
        with open(temporary, "w") as file:
            file.write(text)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        flush(path.parent)
    return True


def flush(path: Path) -> None:
    """What is in a file, or which names are in a folder, survives a power cut from now on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def numbered(folder: Path, prefix: str) -> list[int]:
    """The numbers behind a prefix in the names of a folder."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    ends = (name.removeprefix(prefix) for name in names if name.startswith(prefix))
    return [int(end) for end in ends if end.isdecimal()]


def set_aside_damaged(folder: Path) -> None:
    """Rename a result that cannot be read, so that a new one can be committed.

    For whoever has claimed the trial: nobody else can commit as long as the damaged file is there.
    """
    path = folder / RESULT
    if path.exists() and read(folder) is None:
        path.rename(folder / f"{RESULT}.damaged")


def read(folder: Path) -> dict[str, Any] | None:
    """The trial's result; None when what is there is not a whole result of this trial.

    One that a worker has committed is whole if every byte is as it was written.
    """
    try:
        text = (folder / RESULT).read_bytes().decode()
        result = json.loads(text)
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    if not isinstance(result, dict) or not set(result) >= FIELDS:
        return None
    ours = "provenance" in result or "sha256" in result
    if ours and not _is_as_written(text, result.get("sha256")):
        return None
    return result if result["trial_id"] == folder.name else None


def _is_as_written(text: str, sha256: Any) -> bool:
    """Whether the digest stands in its line and is that of all other lines."""
    before, line, after = text.partition(f'\n "sha256": "{sha256}",\n')
    rest = f"{before}\n{after}".encode()
    return bool(line) and hashlib.sha256(rest).hexdigest() == sha256


def rows(root: Path, experiment: str) -> list[dict[str, Any]]:
    """All results of an experiment, read from their files, in the order of their identities.

    A file that is not a whole result is named on the log and counts as missing.
    """
    found = []
    for path in sorted((root / experiment).glob(f"*/{RESULT}")):
        result = read(path.parent)
        if result is None:
            log.warning("%s is not a whole result, skipped", path)
        else:
            found.append(result)
    return found


def load(experiment: str, results_dir: str | None = None) -> "polars.DataFrame":
    """All results of an experiment, one row a trial, from their index.

    Args:
        experiment: its name.
        results_dir: default: `SEQLAB_RESULTS`, or `results`.

    Returns:
        trial_id, status, error, wall_seconds, attempts; then the columns that any trial has:
        `config.` with dotted paths, `metrics.`, and of `provenance.` what is one value. Lists, and
        metrics that are no single value, are JSON text.

    Raises:
        InputError: there is no such experiment in the results directory.
    """
    from seqlab import index  # here: polars takes time to import

    root = named_root(results_dir)
    if not (root / experiment).is_dir():
        names = [path.name for path in root.iterdir()] if root.is_dir() else []
        raise InputError(f"no results of {experiment!r} in {root}.{nearest(experiment, names)}")
    return index.table(root / experiment)


def digest(rows: Iterable[dict[str, Any]]) -> str:
    """Of what was found: identities, statuses and metrics, without times and causes.

    Equal for the same trials on the same kind of CPU, whoever has run them and however often they
    were interrupted. A time is a metric with `seconds` in its name.
    """
    whole = hashlib.sha256()
    for row in sorted(rows, key=lambda row: row["trial_id"]):
        whole.update(found(row).encode())
    return whole.hexdigest()


def found(row: dict[str, Any]) -> str:
    """What of a result the digest takes."""
    metrics = {k: v for k, v in row["metrics"].items() if "seconds" not in k}
    return _text({"metrics": metrics} | {k: row[k] for k in ("trial_id", "status")})


def select(rows: list[dict[str, Any]], conditions: list[str]) -> list[dict[str, Any]]:
    """The results whose configuration has one of the values of each `path=v1,v2`.

    Raises:
        InputError: a condition is not of that form, or a value occurs in no result.
    """
    for condition in conditions:
        path, values = split_assignment(condition)
        has = having([row["config"] for row in rows], path, values)
        rows = [row for row, wanted in zip(rows, has, strict=True) if wanted]
    return rows


def having(configs: list[dict[str, Any]], path: str, values: list[str]) -> list[bool]:
    """Whether the value at a path of each configuration is one of these, as text.

    Raises:
        InputError: a value occurs in none.
    """
    texts = [_text_at(config, path) for config in configs]
    present = {text for text in texts if text is not None}
    for value in values:
        if value not in present:
            raise InputError(f"no result has {path}={value}.{nearest(value, present)}")
    return [text in values for text in texts]


def _text_at(config: Any, path: str) -> str | None:
    for name in path.split("."):
        if not isinstance(config, dict) or name not in config:
            return None
        config = config[name]
    return str(config)
