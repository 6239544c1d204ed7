"""Made-up original files for sets that come as one file, and archives to put into them."""

import hashlib
import io
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

from seqlab.data import catalogue


def tar_xz(members: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:xz", preset=0) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.linkname = kind, len(content), "elsewhere"
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def stand_in(
    module: ModuleType, name: str, content: bytes, root: Path, patch: pytest.MonkeyPatch
) -> None:
    """Let `content` be the published file of a set, in folders below `root`."""
    source = module.SOURCES[name]
    (original,) = source.originals
    path = root / "original" / original.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    small = source._replace(originals=(original._replace(size=len(content), sha256=sha256),))
    patch.setitem(module.SOURCES, name, small)
    patch.setitem(catalogue.SOURCES, name, small)
    patch.setenv("SEQLAB_DATA", str(root / "original"))
    patch.setenv("SEQLAB_CACHE", str(root / "cache"))
