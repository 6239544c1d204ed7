"""Two file formats of image sets: idx, and a tar of JPEG pictures in a folder for each class."""

import io
import math
import re
from collections.abc import Sequence

import numpy as np

from seqlab.data.archives import read_tar_xz
from seqlab.errors import InputError

IDX_UINT8 = 8  # the third byte of an idx file is the type of its numbers
LARGEST_PICTURE = 65_536  # bytes in a tar: what claims more is not read


def read_idx(content: bytes, dimensions: int, name: str) -> np.ndarray:
    """The array in an idx file of unsigned bytes.

    Two zero bytes, the type, the number of dimensions, each dimension as four bytes with the most
    significant one first, then the numbers, the last dimension fastest.

    Args:
        name: what to call the file where it is not what it should be.

    Returns:
        uint8, with that many dimensions.

    Raises:
        InputError: another format, type or number of dimensions, or too few or too many numbers.

    Source: LeCun, Cortes and Burges, the MNIST database.
    """
    magic = bytes([0, 0, IDX_UINT8, dimensions])
    if content[:4] != magic:
        raise InputError(f"{name}: expected idx magic {magic.hex()}, found {content[:4].hex()}")
    header = 4 + 4 * dimensions
    shape = np.frombuffer(content[4:header].ljust(4 * dimensions, b"\0"), ">u4").tolist()
    expected = header + math.prod(shape)
    if len(content) != expected:
        raise InputError(
            f"{name}: expected {expected} bytes for an array {shape}, found {len(content)}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def read_labelled_idx(
    images: bytes, labels: bytes, classes: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """A file of grey pictures, and the file of their classes.

    Args:
        classes: how many there are.
        name: what the names of the two files begin with.

    Returns:
        uint8 [N, H, W, 1] and int32 [N].

    Raises:
        InputError: as `read_idx`; not one label for each picture; a label that is no class.
    """
    pixels = read_idx(images, 3, f"{name}-images-idx3-ubyte")
    numbers = read_idx(labels, 1, f"{name}-labels-idx1-ubyte")
    if len(pixels) != len(numbers):
        raise InputError(f"{name}: found {len(pixels)} images and {len(numbers)} labels")
    if (numbers >= classes).any():
        raise InputError(f"{name}-labels-idx1-ubyte: {numbers.max()} is none of {classes} classes")
    return pixels[..., None], numbers.astype(np.int32)


def read_jpeg_tar(
    content: bytes, split: str, classes: Sequence[str], side: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """The pictures in an xz-compressed tar of `split/class/NNNN.jpg`, and the class of each.

    Args:
        side: height and width that every picture must have.
        name: what to call the file where it is not what it should be.

    Returns:
        uint8 [N, side, side, 3] and int32 [N], by class and then by number.

    Raises:
        InputError: not such a tar, or a member that is not such a picture.
    """
    place = re.compile(
        rf"{re.escape(split)}/({'|'.join(map(re.escape, classes))})/([0-9]{{1,9}})\.jpg"
    )
    pictures: dict[tuple[int, int], np.ndarray] = {}
    for path, data in read_tar_xz(content, place, LARGEST_PICTURE, name).items():
        where = f"{name}: {path!r}"
        *_, of_class, file = path.split("/")
        at = classes.index(of_class), int(file.removesuffix(".jpg"))
        if at in pictures:
            raise InputError(f"{where}: is there twice")
        pictures[at] = _decode(data, side, where)
    if not pictures:
        raise InputError(f"{name}: expected a tar.xz of pictures, found none")
    order = sorted(pictures)
    labels = np.array([number for number, _ in order], dtype=np.int32)
    return np.stack([pictures[at] for at in order]), labels


def _decode(data: bytes, side: int, where: str) -> np.ndarray:
    import PIL.Image  # needed once, when a set is prepared

    try:
        with PIL.Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
            found = (*picture.size, picture.mode)
            if found == (side, side, "RGB"):
                return np.asarray(picture)
    except (OSError, PIL.Image.DecompressionBombError) as error:
        raise InputError(f"{where}: not a JPEG picture ({error})") from error
    width, height, mode = found
    raise InputError(
        f"{where}: expected a picture of {side} x {side} in RGB, found {width} x {height} in {mode}"
    )
