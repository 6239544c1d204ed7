"""The one place that owns data folders: original files, prepared sets, and the manifest of each."""

import contextlib
import errno
import gzip
import hashlib
import json
import lzma
import os
import zlib
from pathlib import Path, PurePath
from typing import Any, BinaryIO, NamedTuple

from seqlab.errors import InputError

MANIFEST = "manifest.json"

PACKINGS = {".gz": gzip.open, ".xz": lzma.open}
"""Suffixes of packed files that are accepted in place of an original file."""


class Original(NamedTuple):
    """One published file; size and sha256 are those of its content, unpacked.

    Attributes:
        path: where it lies below the folder that SEQLAB_DATA names, or that with one of PACKINGS.
        url: https address pinned to one commit; None where there is no such file to download.
        origin: without a url, what the file was made from and how, for whoever looks for it.
    """

    path: str
    size: int
    sha256: str
    url: str | None
    origin: str = ""


def originals_folder() -> Path | None:
    """The folder that SEQLAB_DATA names, if it is set."""
    folder = os.environ.get("SEQLAB_DATA")
    return Path(folder).expanduser() if folder else None


def prepared_folder(name: str, version: str) -> Path:
    """Where the prepared set lives, whether or not it is there yet."""
    if cache := os.environ.get("SEQLAB_CACHE"):
        root = Path(cache).expanduser()
    elif xdg := os.environ.get("XDG_CACHE_HOME"):
        root = Path(xdg) / "seqlab"
    else:
        root = Path.home() / ".cache" / "seqlab"
    return root / "data" / name / version


def find_original(original: Original) -> Path | None:
    """The file below SEQLAB_DATA, plain or packed, or None."""
    folder = originals_folder()
    if folder is None:
        return None
    candidates = [folder / f"{original.path}{packing}" for packing in ("", *PACKINGS)]
    return next((path for path in candidates if path.is_file()), None)


def read_original(original: Original, path: Path) -> bytes:
    """The unpacked content of `path`, proven to be the published one.

    Raises:
        InputError: unreadable, or not the content that was published.
    """
    try:
        with path.open("rb") as file:
            return unpack(original, file, str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def unpack(original: Original, file: BinaryIO, where: str) -> bytes:
    """What `file` holds, unpacked as the end of `where` says, proven to be what was published.

    Where the original itself ends like that, it is an archive and stays packed.

    Raises:
        InputError: it is not; begins with `where`, the path or address of the file.
    """
    packing = PurePath(where).suffix
    is_packed = packing in PACKINGS and not original.path.endswith(packing)
    opened = PACKINGS[packing](file) if is_packed else file
    try:
        content = opened.read(original.size + 1)  # no more than it takes to know it is wrong
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise InputError(
            f"{where}: expected {_stamp(original.size, original.sha256)}, "
            f"found a damaged {packing} file ({error})"
        ) from error
    actual = hashlib.sha256(content).hexdigest()
    if actual != original.sha256:
        more = "more than " if len(content) > original.size else ""
        raise InputError(
            f"{where}: expected {_stamp(original.size, original.sha256)}, "
            f"found {more}{_stamp(min(len(content), original.size), actual)}"
        )
    return content


def write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """Write size and sha256 of every file in `folder`, and `facts`, to its manifest."""
    files = {
        path.name: {"size": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.iterdir())
    }
    (folder / MANIFEST).write_text(json.dumps({**facts, "files": files}, indent=1) + "\n")


def verify_manifest(folder: Path, remedy: str) -> dict[str, Any]:
    """The manifest of `folder`, after comparing every file with it.

    Raises:
        InputError: a file is missing or differs; ends with the command `remedy`.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        expected = {
            name: (int(entry["size"]), str(entry["sha256"]))
            for name, entry in manifest["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = type(error).__name__
        raise InputError(
            f"{folder / MANIFEST}: expected a manifest, found none that can be read "
            f"({reason}); run: {remedy}"
        ) from error
    for name, (size, sha256) in expected.items():
        path = folder / name
        if path.name != name:
            raise InputError(f"{folder / MANIFEST}: {name!r} is not a file name; run: {remedy}")
        try:
            found = (path.stat().st_size, _sha256(path))
        except OSError as error:
            actual = error.strerror
        else:
            if found == (size, sha256):
                continue
            actual = _stamp(*found)
        raise InputError(f"{path}: expected {_stamp(size, sha256)}, found {actual}; run: {remedy}")
    return manifest


def publish(built: Path, folder: Path) -> None:
    """Move the finished `built` to `folder` in one step; one that is already there stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        built.rename(folder)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


def withdraw(folder: Path, discarded: Path) -> None:
    """Move `folder` away in one step, unless another process has already done so."""
    with contextlib.suppress(FileNotFoundError):
        folder.rename(discarded)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp(size: int, sha256: str) -> str:
    return f"{size} bytes, sha256 {sha256[:16]}"
