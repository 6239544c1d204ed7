"""Prepared sets: built once from the original files, verified before every reading."""

import contextlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seqlab.data import download, files
from seqlab.errors import InputError

VERSION = "1.0.0"  # of the records: a change in what they hold makes every prepared set a new one


class Records(NamedTuple):
    """A data set as it is kept.

    Attributes:
        splits: for each split its records, in order; a record is arrays by name, each with rows of
            its own number, and the rows of one name, joined over the records, make up the split.
        symbols: what the numbers stand for; empty for frames.
    """

    splits: dict[str, list[dict[str, np.ndarray]]]
    symbols: tuple[str, ...]

    def joined(self, split: str) -> dict[str, np.ndarray]:
        """The whole split: the arrays of each name, one after the other."""
        records = self.splits[split]
        return {name: np.concatenate([record[name] for record in records]) for name in records[0]}


class Source(NamedTuple):
    """Where a prepared set comes from.

    Attributes:
        name: of the set; the key in `builders.BUILDERS` and in the catalogue.
        originals: the published files.
        parse: from the contents of `originals`, in that order, to the records.
        unit: what a row of the first array of a record is.
    """

    name: str
    originals: tuple[files.Original, ...]
    parse: Callable[..., Records]
    unit: str = "positions"

    @property
    def folder(self) -> Path:
        return files.prepared_folder(self.name, VERSION)

    @property
    def command(self) -> str:
        return f"python launch.py data prepare {self.name}"


def check(source: Source) -> None:
    """Raise the InputError that `load` would raise, before any work has started."""
    if source.folder.exists():
        verify(source)
    else:
        _originals_at_hand(source)


def load(source: Source) -> Records:
    """The verified records; prepares them first where only the original files are there.

    Raises:
        InputError: no files, or files that are not what they should be.
    """
    if not source.folder.exists():
        _build(source, _originals_at_hand(source))
    verify(source)

    import tensorflow_datasets as tfds  # half a second, for those who read data

    builder: Any = tfds.builder_from_directory(source.folder)  # its decorators hide its types
    splits = {
        split: list(records.__getitems__(range(len(records))))
        for split, records in builder.as_data_source().items()
    }
    return Records(splits, tuple(builder.info.metadata["symbols"]))


def prepare(source: Source, fetch: Callable[[files.Original], bytes] = download.fetch) -> Path:
    """Make the prepared set be there and whole; what SEQLAB_DATA does not hold is downloaded.

    Raises:
        InputError: an original file is damaged or cannot be had, or the folder cannot be written.
    """
    if source.folder.exists():
        with contextlib.suppress(InputError):
            verify(source)
            return source.folder
    contents = []
    for original in source.originals:
        path = files.find_original(original)
        contents.append(files.read_original(original, path) if path else fetch(original))
    _build(source, contents)
    verify(source)
    return source.folder


def verify(source: Source) -> dict[str, Any]:
    """The manifest of the prepared set, after comparing every file with it.

    Raises:
        InputError: not prepared, damaged, or prepared from other files than the published ones.
    """
    if not source.folder.exists():
        raise InputError(f"{source.folder} does not exist; run: {source.command}")
    manifest = files.verify_manifest(source.folder, source.command)
    expected, found = _identities(source), manifest.get("originals")
    if found != expected:
        raise InputError(
            f"{source.folder / files.MANIFEST}: expected to be made from {expected}, "
            f"found {found}; run: {source.command}"
        )
    return manifest


def _originals_at_hand(source: Source) -> list[bytes]:
    contents = []
    for original in source.originals:
        path = files.find_original(original)
        if path is None:
            raise _missing(source, original)
        contents.append(files.read_original(original, path))
    return contents


def _missing(source: Source, original: files.Original) -> InputError:
    folder = files.originals_folder()
    tried = "SEQLAB_DATA is not set" if folder is None else f"not found in {folder}"
    if original.url is None:
        return InputError(f"{original.path}: {tried}, and there is no download: {original.origin}")
    path = f"{original.path}[{'|'.join(files.PACKINGS)}]"
    return InputError(f"{path}: {tried}, and {source.folder} does not exist; run: {source.command}")


def _build(source: Source, contents: list[bytes]) -> None:
    """Write the set beside its place and move it there; of two that do so, one is kept."""
    import tensorflow_datasets as tfds

    from seqlab.data.builders import BUILDERS

    records = source.parse(*contents)
    parent = source.folder.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix=".incomplete-") as temporary:
            # Announcements and bars would end up in the output of whoever reads data first.
            tfds.disable_progress_bar()
            with contextlib.redirect_stdout(io.StringIO()):
                builder = BUILDERS[source.name](
                    splits=records.splits, symbols=records.symbols, data_dir=Path(temporary)
                )
                builder.download_and_prepare()
            built = Path(builder.data_dir)
            files.write_manifest(built, _facts(source, records, tfds.__version__))
            if source.folder.exists():
                try:
                    verify(source)
                except InputError:
                    files.withdraw(source.folder, Path(temporary) / "damaged")
            files.publish(built, source.folder)
    except (OSError, RuntimeError) as error:  # array_record reports a full disk as the latter
        reason = " ".join(str(error).split())
        raise InputError(
            f"{parent}: cannot be written ({reason}); SEQLAB_CACHE names the folder to write to"
        ) from error


def _identities(source: Source) -> dict[str, str]:
    return {original.path: original.sha256[:16] for original in source.originals}


def _facts(source: Source, records: Records, tfds_version: str) -> dict[str, Any]:
    return {
        "name": source.name,
        "version": VERSION,
        "originals": _identities(source),
        "splits": {
            split: {"records": len(kept), source.unit: sum(map(_length, kept))}
            for split, kept in records.splits.items()
        },
        "tensorflow_datasets": tfds_version,
    }


def _length(record: dict[str, np.ndarray]) -> int:
    return len(next(iter(record.values())))
