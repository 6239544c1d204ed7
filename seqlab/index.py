"""The index of an experiment's results: a copy in columns, which opens at once.

    DIR/EXPERIMENT/.index/3/SHA256.parquet …     generation 3: segments, named by their content

The files result.json are the truth. Whoever reads the index adds what is not in it yet, as one more
segment; two who add the same results add them twice, and they are read once. Rows leave by a new
generation alone, made beside the last and renamed to the next number, which only one process can
do. Everybody writes to the generation that was there before they looked at any result: what was
read before a result was discarded ends up in a generation that nobody reads any more.

Gone is a trial whose folder is gone; a listing tells, and no file is opened to ask. Whoever takes
away the result alone says so (`leave`). Nothing is lost when `.index` is deleted.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from seqlab import frame, results
from seqlab.errors import InputError

ID = "trial_id"
JSON = "json"  # the column that holds a result as it is
SEGMENT_ROWS = 16_384  # so many results are in memory at once
LARGE = SEGMENT_ROWS // 2  # a segment of so many is not merged
MOST_SMALL = 32
REPLACED = (errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY)  # another process was first

Wanted = Callable[[str], bool]  # which columns, by their names

log = logging.getLogger(__name__)


def table(experiment: Path, columns: Collection[str] | None = None) -> pl.DataFrame:
    """All results in the order of their identities, in the columns of `seqlab.frame`.

    Args:
        experiment: its folder, which may be read-only: then the index is not written.
        columns: those that are read, trial_id among them. Default: all.
    """
    wanted = columns.__contains__ if columns else JSON.__ne__
    parts = _updated(experiment, wanted)
    return frame.joined(parts).unique(ID).sort(ID)


def rows(experiment: Path) -> list[dict[str, Any]]:
    """The same as `seqlab.results.rows`, and only what is new is read from its files."""
    found = {}
    for part in _updated(experiment, (ID, JSON).__contains__):
        # of many at once: they share the names of their fields in memory
        decoded = json.loads(f"[{','.join(part[JSON])}]")
        found |= zip(part[ID], decoded, strict=True)
    return [found[identity] for identity in sorted(found)]


def leave(experiment: Path, identities: Iterable[str]) -> None:
    """Take trials out of the index whose results are gone or discarded.

    To be called after they were taken away, and before there can be others. Afterwards none of the
    old ones is in it, nor will be: somebody may have read one and not have written it yet.

    Raises:
        InputError: the index cannot be written.
    """
    gone = set(identities)
    before = newest = _newest(experiment)
    while gone:
        try:
            held = [_read(path, ID.__eq__) for path in _segments(newest)]
            still = any(gone.intersection(part[ID]) for part in held if part is not None)
            if newest != before and not still:
                return
            _renew(newest, gone)
        except OSError as error:
            if error.errno not in REPLACED:
                raise InputError(
                    f"{experiment / results.INDEX} cannot be brought up to date: {error.strerror}. "
                    "Delete it"
                ) from error
        newest = _newest(experiment)


# Generations


def _newest(experiment: Path) -> Path:
    """The folder of the newest generation, which need not be there when it is the first."""
    try:
        numbers = [int(name) for name in os.listdir(experiment / results.INDEX) if name.isdecimal()]
    except OSError:
        numbers = []
    return experiment / results.INDEX / str(max(numbers, default=1))


def _updated(experiment: Path, wanted: Wanted) -> list[pl.DataFrame]:
    """The wanted columns of all segments, and of what was not in them yet."""
    while True:
        newest = _newest(experiment)
        try:
            return _update(experiment, newest, wanted)
        except FileNotFoundError:
            if newest == _newest(experiment):
                raise


def _update(experiment: Path, newest: Path, wanted: Wanted) -> list[pl.DataFrame]:
    paths = _segments(newest)
    read = {path: _read(path, wanted) for path in paths}
    parts = [part for part in read.values() if part is not None]
    damaged = [path for path, part in read.items() if part is None]
    for path in damaged:
        log.warning("%s is damaged: its results are read again", path)
    known = {identity for part in parts for identity in part[ID]}
    # Listed after the segments were read: what is in them and not here is gone.
    there = _trials(experiment)
    fresh = sorted(there - known)
    for start in range(0, len(fresh), SEGMENT_ROWS):
        part = _collect(experiment, fresh[start : start + SEGMENT_ROWS])
        if part.height:
            # Where that is refused, by a read-only or a full disk, it is read again next time.
            with contextlib.suppress(OSError):
                _write(newest, part)
            parts.append(part.select(filter(wanted, part.columns)))
    gone = known - there
    if gone or damaged or sum(part.height < LARGE for part in parts) > MOST_SMALL:
        with contextlib.suppress(OSError):
            _renew(newest, gone)
    return [_without(part, gone) for part in parts]


def _renew(newest: Path, gone: set[str]) -> None:
    """Make the generation after this one, without the trials that are gone and what is damaged.

    Raises:
        OSError: with one of REPLACED if another process made it first.
    """
    number = int(newest.name) + 1
    ours = f"{number}.{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    made, renewed = newest.with_name(ours), newest.with_name(str(number))
    made.mkdir(parents=True)
    try:
        held: list[pl.DataFrame] = []
        for path in _segments(newest):
            identities = _read(path, ID.__eq__)
            if identities is None:
                continue
            if identities.height >= LARGE and gone.isdisjoint(identities[ID]):
                os.link(path, made / path.name)
                continue
            part = _read(path)
            held += [] if part is None else [_without(part, gone)]
            if sum(each.height for each in held) >= SEGMENT_ROWS:
                _write(made, frame.joined(held).unique(ID))
                held = []
        # Even if it has no rows: a folder that is not empty is replaced by no other.
        _write(made, frame.joined([_collect(newest, []), *held]).unique(ID))
        made.rename(renewed)
        results.flush(newest.parent)
        if _newest(newest.parent.parent) != renewed:
            raise FileExistsError(errno.EEXIST, "there is a newer generation", str(renewed))
    finally:
        shutil.rmtree(made, ignore_errors=True)
    for name in os.listdir(newest.parent):
        earlier, _, unfinished = name.partition(".")
        if earlier.isdecimal() and int(earlier) < number + bool(unfinished):
            shutil.rmtree(newest.with_name(name), ignore_errors=True)


# Segments


def _segments(generation: Path) -> list[Path]:
    return sorted(generation.glob("*.parquet"))


def _read(path: Path, wanted: Wanted = bool) -> pl.DataFrame | None:
    """The wanted columns of a segment; None where a byte is not as it was written."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:  # there is a newer generation
        raise
    except OSError:
        content = b""
    if hashlib.sha256(content).hexdigest() != path.stem:
        return None
    file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
    found = pl.from_arrow(file.read(list(filter(wanted, file.schema_arrow.names))))
    assert isinstance(found, pl.DataFrame)
    return found


def _write(generation: Path, part: pl.DataFrame) -> None:
    """Add a segment, which is there whole or not at all."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        part.to_arrow(compat_level=pl.CompatLevel.oldest()),
        sink,
        compression="zstd",
        write_page_checksum=True,  # for other readers; ours compares every byte with the name
    )
    content = sink.getvalue()
    name = hashlib.sha256(content).hexdigest()
    generation.mkdir(parents=True, exist_ok=True)
    temporary = generation / f".{name}-{socket.gethostname()}-{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(generation / f"{name}.parquet")
    finally:
        temporary.unlink(missing_ok=True)
    results.flush(generation)


def _without(part: pl.DataFrame, gone: set[str]) -> pl.DataFrame:
    return part.filter(~pl.col(ID).is_in(sorted(gone))) if gone else part


# Results


def _trials(experiment: Path) -> set[str]:
    """The names of what may be the folders of trials."""
    try:
        return {name for name in os.listdir(experiment) if not name.startswith(".")}
    except FileNotFoundError:
        return set()


def _collect(experiment: Path, identities: Sequence[str]) -> pl.DataFrame:
    found = []
    for identity in identities:
        path = experiment / identity / results.RESULT
        result = results.read(path.parent)
        if result is None and path.exists():
            result = results.read(path.parent)  # it may have come just now
            if result is None:
                log.warning("%s is not a whole result, skipped", path)
        if result is not None:
            found.append(result)
    texts = pl.Series(JSON, [json.dumps(row) for row in found], pl.String)
    return frame.of(found).with_columns(texts)
