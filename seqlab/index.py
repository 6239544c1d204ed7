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
import logging
import os
import secrets
import shutil
import socket
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from seqlab import forms, frame, results
from seqlab.errors import InputError
from seqlab.forms import HIDDEN, ID
from seqlab.rows import Rows

SEGMENT_ROWS = 16_384  # so many results are in memory at once
LARGE = SEGMENT_ROWS // 2  # a segment of so many is not merged
MOST_SMALL = 32
REPLACED = (errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY)  # another process was first

log = logging.getLogger(__name__)


def table(experiment: Path, columns: Collection[str] | None = None) -> pl.DataFrame:
    """All results in the order of their identities, in the columns of `seqlab.frame`.

    Args:
        experiment: its folder, which may be read-only: then the index is not written.
        columns: those that are read, trial_id among them. Default: all.
    """
    found = rows(experiment)
    all_of_them = {*frame.FIELDS, *found.names} - set(HIDDEN)
    return found.columns(columns or sorted(all_of_them, key=frame.order))


def rows(experiment: Path) -> Rows:
    """The same as `seqlab.results.rows`, and only what is new is read from its files."""
    parts, gone = _updated(experiment)
    parts.sort(key=lambda part: part.identities.min() or "")  # then they often are in order
    identities = pl.concat([pl.Series(ID, [], pl.String), *(part.identities for part in parts)])
    if identities.is_sorted() and identities.n_unique() == len(identities) and not gone:
        return Rows(parts)
    numbered = identities.to_frame().with_row_index("at").unique(ID)  # two may have added it
    there = numbered.filter(~pl.col(ID).is_in(sorted(gone))).sort(ID)
    return Rows(parts, there["at"].to_numpy())


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
            held = [_read(path) for path in _segments(newest)]
            still = any(gone.intersection(part.identities) for part in held if part is not None)
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


def _updated(experiment: Path) -> tuple[list["Segment"], set[str]]:
    """All segments and what was not in them yet, and which of their trials are gone."""
    while True:
        newest = _newest(experiment)
        try:
            return _update(experiment, newest)
        except FileNotFoundError:
            if newest == _newest(experiment):
                raise


def _update(experiment: Path, newest: Path) -> tuple[list["Segment"], set[str]]:
    read = {path: _read(path) for path in _segments(newest)}
    parts = [part for part in read.values() if part is not None]
    damaged = [path for path, part in read.items() if part is None]
    for path in damaged:
        log.warning("%s is damaged: its results are read again", path)
    known = set().union(*(part.identities.to_list() for part in parts))
    # Listed after the segments were read: what is in them and not here is gone.
    there = _listed(experiment)
    fresh = sorted(name for name in there - known if not name.startswith("."))
    for start in range(0, len(fresh), SEGMENT_ROWS):
        found = _collect(experiment, fresh[start : start + SEGMENT_ROWS])
        if found.height:
            parts.append(Segment(_encoded(found)))
            # Where that is refused, by a read-only or a full disk, it is read again next time.
            with contextlib.suppress(OSError):
                _write(newest, parts[-1].content)
    gone = known - there
    if gone or damaged or sum(part.height < LARGE for part in parts) > MOST_SMALL:
        with contextlib.suppress(OSError):
            _renew(newest, gone)
    return parts, gone


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
            part = _read(path)
            if part is None:
                continue
            if part.height >= LARGE and gone.isdisjoint(part.identities):
                os.link(path, made / path.name)
                continue
            held.append(part.read(part.names).filter(~pl.col(ID).is_in(sorted(gone))))
            if sum(each.height for each in held) >= SEGMENT_ROWS:
                _write(made, _encoded(frame.joined(held).unique(ID)))
                held = []
        # Even if it has no rows: a folder that is not empty is replaced by no other.
        _write(made, _encoded(frame.joined([_collect(newest, []), *held]).unique(ID)))
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


class Segment:
    """Some results in columns, in memory as they are in the file."""

    def __init__(self, content: bytes):
        self.content = content
        self.names = list(pl.read_parquet_schema(content))
        self.identities = self._decoded([ID])[ID]
        self.height = len(self.identities)

    def read(self, names: Sequence[str]) -> pl.DataFrame:
        """The identities and these columns."""
        wanted = [name for name in dict.fromkeys(names) if name != ID]
        return pl.DataFrame([self.identities, *(self._decoded(wanted) if wanted else ())])

    def _decoded(self, names: Sequence[str]) -> pl.DataFrame:
        return pl.read_parquet(self.content, columns=list(names), use_statistics=False)


def _read(path: Path) -> Segment | None:
    """A segment; None where a byte is not as it was written, or columns are missing."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:  # there is a newer generation
        raise
    except OSError:
        content = b""
    if hashlib.sha256(content).hexdigest() != path.stem:
        return None
    segment = Segment(content)
    return segment if set(HIDDEN) <= set(segment.names) else None


def _encoded(part: pl.DataFrame) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(
        part.to_arrow(compat_level=pl.CompatLevel.oldest()),
        sink,
        compression="zstd",
        write_page_checksum=True,  # for other readers
    )
    return sink.getvalue().to_pybytes()


def _write(generation: Path, content: bytes) -> None:
    """Add a segment, which is there whole or not at all."""
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


# Results


def _listed(experiment: Path) -> set[str]:
    """The names of what may be the folders of trials, and of more."""
    try:
        return set(os.listdir(experiment))
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
    return forms.of(found)
