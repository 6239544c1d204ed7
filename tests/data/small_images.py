"""Small sets of images in the published formats, for tests without real data."""

import hashlib
import io
import struct
import tarfile

import numpy as np
import PIL.Image

from seqlab.data import images


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def jpeg(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(picture).save(file, "JPEG", quality=95)
    return file.getvalue()


def tar_xz(members: list[tuple[str, bytes]], kind: bytes = tarfile.REGTYPE) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:xz") as archive:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.linkname = kind, len(data), "train/cat/0001.jpg"
            archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def small(name: str, contents: list[bytes], sizes: tuple[int, int]) -> images.ImageSet:
    """The set of that name as if these were the contents of its published files."""
    image_set = images.SETS[name]
    originals = tuple(
        original._replace(size=len(content), sha256=hashlib.sha256(content).hexdigest())
        for original, content in zip(image_set.source.originals, contents, strict=True)
    )
    return image_set._replace(source=image_set.source._replace(originals=originals), sizes=sizes)
