"""The two image formats: what was written reads back, and what is damaged is one clear line."""

import io
import lzma
import struct
import tarfile

import numpy as np
import PIL.Image
import pytest
from small_images import idx, jpeg, tar_xz
from small_set import one_line

from seqlab.data.image_files import LARGEST_PICTURE, read_idx, read_jpeg_tar, read_labelled_idx
from seqlab.errors import InputError

CLASSES = ("cat", "dog")
RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 3, 4), (0, 28, 28)])
def test_idx_reads_back(shape):
    array = RANDOM.integers(256, size=shape, dtype=np.uint8)
    found = read_idx(idx(array), len(shape), "file")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array)


IDX = idx(np.zeros((2, 3), np.uint8))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "expected idx magic 00000802, found $"),
        (b"<html>", "expected idx magic 00000802, found 3c68746d$"),
        (struct.pack(">I", 0x0802), r"expected 12 bytes for an array \[0, 0\], found 4$"),
        (idx(np.zeros(6, np.uint8)), "expected idx magic 00000802, found 00000801$"),
        (IDX[:2] + b"\x0d" + IDX[3:], "expected idx magic 00000802, found 00000d02$"),
        (IDX[:-1], r"expected 18 bytes for an array \[2, 3\], found 17$"),
        (IDX + b"\0", r"expected 18 bytes for an array \[2, 3\], found 19$"),
        (IDX[:7], r"expected \d+ bytes for an array \[.*\], found 7$"),
        (IDX[:4] + b"\xff" * 8 + IDX[12:], r"expected \d{20} bytes for an array .*, found 18$"),
    ],
)
def test_what_is_not_the_idx_file_is_one_line(content, problem):
    with pytest.raises(InputError, match=f"^file: {problem}") as caught:
        read_idx(content, 2, "file")
    one_line(caught)


def test_labels_must_be_classes_and_one_for_each_picture():
    pixels = RANDOM.integers(256, size=(3, 4, 5), dtype=np.uint8)
    images, labels = read_labelled_idx(idx(pixels), idx(np.array([1, 0, 2], np.uint8)), 3, "train")
    np.testing.assert_array_equal(images[..., 0], pixels)
    assert images.shape == (3, 4, 5, 1)
    assert labels.dtype == np.int32
    assert labels.tolist() == [1, 0, 2]
    with pytest.raises(InputError, match=r"^train: found 3 images and 2 labels$"):
        read_labelled_idx(idx(pixels), idx(np.zeros(2, np.uint8)), 3, "train")
    with pytest.raises(InputError, match=r"^train-labels-idx1-ubyte: 2 is none of 2 classes$"):
        read_labelled_idx(idx(pixels), idx(np.array([1, 0, 2], np.uint8)), 2, "train")


def test_pictures_come_by_class_and_number_whatever_their_order_in_the_tar():
    flat = {name: np.full((8, 8, 3), 40 * i, np.uint8) for i, name in enumerate("abcd")}
    members = [
        ("train/dog/0001.jpg", jpeg(flat["d"])),
        ("train/cat/0010.jpg", jpeg(flat["b"])),
        ("train/dog/0000.jpg", jpeg(flat["c"])),
        ("train/cat/0002.jpg", jpeg(flat["a"])),
    ]
    images, labels = read_jpeg_tar(tar_xz(members), "train", CLASSES, 8, "archive")
    assert labels.dtype == np.int32
    assert labels.tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(images, np.stack(list(flat.values())), atol=2)
    assert images.dtype == np.uint8


def test_picture_is_the_one_that_was_packed_right_way_up():
    ramp = np.broadcast_to(np.linspace(0, 255, 16)[:, None, None], (16, 16, 3))
    tinted = (ramp * [1.0, 0.5, 0.25]).astype(np.uint8)
    images, _ = read_jpeg_tar(
        tar_xz([("train/cat/0000.jpg", jpeg(tinted))]), "train", CLASSES, 16, "archive"
    )
    assert np.abs(images[0].astype(int) - tinted).mean() < 2


GOOD = jpeg(RANDOM.integers(256, size=(8, 8, 3), dtype=np.uint8))


def grey() -> bytes:
    file = io.BytesIO()
    PIL.Image.new("L", (8, 8)).save(file, "JPEG")
    return file.getvalue()


def png() -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()


def claimed(width: int, height: int) -> bytes:
    """A picture whose header says that it is of another size."""
    at = GOOD.index(b"\xff\xc0") + 5  # start of frame: marker, length, precision, height, width
    return GOOD[:at] + struct.pack(">HH", height, width) + GOOD[at + 4 :]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (jpeg(np.zeros((8, 9, 3), np.uint8)), "of 8 x 8 in RGB, found 9 x 8 in RGB$"),
        (grey(), "of 8 x 8 in RGB, found 8 x 8 in L$"),
        (claimed(65_500, 65_500), "not a JPEG picture"),
        (claimed(9_000, 9_000), "of 8 x 8 in RGB, found 9000 x 9000 in RGB$"),
        (GOOD[: len(GOOD) // 2], "not a JPEG picture"),
        (png(), "not a JPEG picture"),
        (b"", "not a JPEG picture"),
        (GOOD.ljust(LARGEST_PICTURE + 1, b"\0"), "65537 bytes are more than 65536$"),
    ],
)
def test_bad_picture_in_the_tar_is_named(data, problem):
    members = [("train/cat/0000.jpg", GOOD), ("train/dog/0123.jpg", data)]
    with pytest.raises(InputError, match=problem) as caught:
        read_jpeg_tar(tar_xz(members), "train", CLASSES, 8, "archive")
    assert one_line(caught).startswith("archive: 'train/dog/0123.jpg': ")


@pytest.mark.parametrize(
    "name",
    [
        "train/cow/0000.jpg",
        "test/cat/0000.jpg",
        "/train/cat/0000.jpg",
        "../train/cat/0000.jpg",
        "train/cat/../dog/0000.jpg",
        "train/cat/0000.jpg\n",
        "train/cat/0000.jpeg",
        "train/cat/²³.jpg",
        "train/cat",
    ],
)
def test_member_of_another_name_is_refused(name):
    with pytest.raises(InputError, match=r": expected a file train/\(cat\|dog\)/") as caught:
        read_jpeg_tar(tar_xz([(name, GOOD)]), "train", CLASSES, 8, "archive")
    one_line(caught)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_member_that_is_a_link_is_refused(kind):
    content = tar_xz([("train/cat/0000.jpg", b"")], kind)
    with pytest.raises(InputError, match=r": expected a file train/\(cat\|dog\)/"):
        read_jpeg_tar(content, "train", CLASSES, 8, "archive")


def test_same_picture_twice_is_refused():
    members = [("train/cat/0001.jpg", GOOD), ("train/cat/01.jpg", GOOD)]
    with pytest.raises(InputError, match=r"^archive: 'train/cat/01.jpg': is there twice$"):
        read_jpeg_tar(tar_xz(members), "train", CLASSES, 8, "archive")


WHOLE = tar_xz([("train/cat/0000.jpg", GOOD)])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>404</html>",
        WHOLE[: len(WHOLE) // 2],
        WHOLE[:40],
        lzma.compress(b"text"),
        tar_xz([]),
        tar_xz([("train/cat/0000.jpg", b"")], tarfile.DIRTYPE),
    ],
)
def test_what_is_no_archive_of_pictures_is_one_line(content):
    with pytest.raises(InputError, match=r"^archive: expected a tar\.xz.*, found .") as caught:
        read_jpeg_tar(content, "train", CLASSES, 8, "archive")
    one_line(caught)
