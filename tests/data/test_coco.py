"""Photographs and what is said of them, against a small set that tensorflow-datasets has written.

Its features are those of coco_captions, letter for letter.
"""

import importlib.util
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds
from small_set import one_line

from seqlab import data
from seqlab.data import CocoCaptions, catalogue, coco
from seqlab.data.examples import decode
from seqlab.errors import InputError

RANDOM = np.random.default_rng(0)
SIZES = {"train": 6, "val": 4, "test": 3, "restval": 2}
FIRST = {"train": 0, "val": 10, "test": 20, "restval": 30}  # the number of its first picture
SHAPES = ((10, 12), (12, 10), (10, 10))


def jpeg(number: int) -> bytes:
    """Broad, tall and square in turn; every fifth is grey."""
    height, width = SHAPES[number % 3]
    pixels = RANDOM.integers(256, size=(height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).convert("RGB" if number % 5 else "L").save(file, "JPEG")
    return file.getvalue()


def captions(number: int) -> list[str]:
    """From one to three, of words of this picture and of its split."""
    split = "common" if number < FIRST["val"] else "elsewhere"
    ways = (f"A Common picture{number}.", f"It's a {split} sight,\n no.{number}", f"a {split}  dog")
    return [*ways[: number % 3 + 1]]


SPLITS = {split: range(FIRST[split], FIRST[split] + SIZES[split]) for split in SIZES}
PICTURES = {number: jpeg(number) for numbers in SPLITS.values() for number in numbers}


class Small(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """What coco_captions would be of fewer pictures."""

    name = coco.NAME
    VERSION = tfds.core.Version(coco.VERSION)
    BUILDER_CONFIGS = (
        tfds.core.BuilderConfig(name=coco.CONFIG, version=coco.VERSION, description="small"),
    )

    def _info(self) -> tfds.core.DatasetInfo:
        objects = {
            "id": np.int64,
            "area": np.int64,
            "bbox": tfds.features.BBoxFeature(),
            "label": tfds.features.ClassLabel(num_classes=80),
            "is_crowd": np.bool_,
        }
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "image/filename": tfds.features.Text(),
            "image/id": np.int64,
            "objects": tfds.features.Sequence(objects),
            "captions": tfds.features.Sequence({"text": np.str_, "id": np.int64}),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {split: self._generate_examples(split) for split in SIZES}

    def _generate_examples(self, split: str):
        box = tfds.features.BBox(0.0, 0.0, 0.5, 0.5)
        for number in SPLITS[split]:
            told = [{"id": 0, "text": text} for text in captions(number)]
            thing = {"id": 7, "area": 30, "bbox": box, "label": 3, "is_crowd": False}
            yield (
                number,
                {
                    "image": io.BytesIO(PICTURES[number]),
                    "image/filename": f"{number}.jpg",
                    "image/id": number,
                    "objects": [thing] * (number % 2),
                    "captions": told,
                },
            )


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("coco")
    tfds.disable_progress_bar()
    builder: Any = Small(data_dir=root, config=coco.CONFIG, file_format="array_record")
    builder.download_and_prepare()
    return root


@pytest.fixture
def folder(written, tmp_path, monkeypatch) -> Path:
    """A copy of this test's own."""
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    return coco.folder()


def order(folder: Path, split: str) -> list[int]:
    """The numbers of the pictures, in the order in which they were written."""
    builder: Any = tfds.builder_from_directory(folder)
    records = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    return [int(record["image/id"]) for record in records]


def square(number: int, size: int) -> np.ndarray:
    """The middle of a picture, and the mean of blocks of it."""
    with PIL.Image.open(io.BytesIO(PICTURES[number])) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(float)
    height, width, _ = pixels.shape
    if height < width:
        pixels = pixels[:, 1:-1]
    elif width < height:
        pixels = pixels[1:-1]
    return pixels.reshape(size, 10 // size, size, 10 // size, 3).mean(axis=(1, 3))


def said(number: int) -> list[str]:
    split = "common" if number < FIRST["val"] else "elsewhere"
    ways = (
        f"a common picture{number} .",
        f"it 's a {split} sight , no.{number}",
        f"a {split} dog",
    )
    return [*ways[: number % 3 + 1]]


def test_a_picture_of_ones_own_is_read_as_those_of_the_set_are():
    for number, content in PICTURES.items():
        expected = square(number, 5)
        found = coco.read_picture(content, 5, 5, "one.jpg")
        np.testing.assert_allclose(found, expected, atol=1)  # rounded across, and down
    with pytest.raises(InputError, match=r"text\.jpg: not a PNG or JPEG picture"):
        coco.read_picture(b"no picture", 5, 5, "text.jpg")


def test_each_split_has_its_pictures_and_all_that_is_said_of_each(folder):
    assert coco.check(CocoCaptions()) is None
    dataset = data.load(CocoCaptions(size=5, min_count=1))
    assert dataset.symbols[:3] == ("<unk>", "<s>", "</s>")
    known = {word for number in SPLITS["train"] for text in said(number) for word in text.split()}
    assert set(dataset.symbols[3:]) == known
    for split, name in (("train", "train"), ("valid", "val"), ("test", "test")):
        captioned = getattr(dataset, split)
        numbers = order(folder, name)
        assert sorted(numbers) == list(SPLITS[name])
        assert captioned.images.dtype == np.uint8
        expected = np.stack([square(number, 5) for number in numbers])
        assert np.abs(captioned.images - expected).max() <= 1  # rounded across, and down
        assert captioned.shown.dtype == np.int32
        texts = sentences(dataset, split)
        assert list(zip((numbers[at] for at in captioned.shown), texts, strict=True)) == [
            (number, " ".join(word if word in known else "<unk>" for word in text.split()))
            for number in numbers
            for text in said(number)
        ]


def sentences(dataset: data.CaptionDataset, split: str) -> list[str]:
    captions = getattr(dataset, split).captions
    return [" ".join(words) for words in decode(captions, dataset.symbols)]


@pytest.mark.usefixtures("folder")
def test_the_middle_square_is_what_it_is_where_no_pixel_is_lost(folder):
    images = data.load(CocoCaptions(size=10)).train.images
    expected = np.stack([square(number, 10) for number in order(folder, "train")])
    np.testing.assert_array_equal(images, expected)


@pytest.mark.usefixtures("folder")
def test_the_first_are_the_same_however_many_there_are(monkeypatch):
    whole = data.load(CocoCaptions(None, None, size=5, min_count=1))
    monkeypatch.setattr(coco, "_BLOCK", 2)  # more than one block, and the last is not full
    few = data.load(CocoCaptions(3, 2, size=5, min_count=1))
    assert [len(split.images) for split in whole[:3]] == [6, 4, 3]
    for split, number in (("train", 3), ("valid", 2), ("test", 2)):
        found, expected = getattr(few, split), getattr(whole, split)
        np.testing.assert_array_equal(found.images, expected.images[:number])
        among = expected.shown < number
        np.testing.assert_array_equal(found.shown, expected.shown[among])
        assert set(found.shown.tolist()) == set(range(number))
    head = sentences(whole, "train")[: len(few.train.shown)]
    assert sentences(few, "train") == head
    assert set(few.symbols[3:]) == {word for text in head for word in text.split()}


@pytest.mark.usefixtures("folder")
def test_rare_words_of_train_are_unknown():
    dataset = data.load(CocoCaptions(size=1, min_count=6))
    # Six pictures: six times "common" in the first way, four in the second, two in the third.
    assert dataset.symbols == ("<unk>", "<s>", "</s>", "a", "common", ".")
    assert {text.split()[1] for text in sentences(dataset, "train")} == {"common", "<unk>"}


def test_it_is_read_without_tensorflow(folder):
    program = (
        "import sys; from seqlab import data; "
        "data.load(data.CocoCaptions(size=1)); "
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


# The catalogue


def test_the_catalogue_knows_it(folder):
    counts = "train 6, valid 4, test 3"
    assert catalogue.verify(coco.NAME) == f"{coco.NAME}: whole, {counts} pictures in {folder}"
    assert catalogue.prepare(coco.NAME) == folder
    entry = catalogue.describe()[-1]
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert entry == (coco.NAME, "prepared", folder, size)
    with pytest.raises(
        InputError, match=r"no data set 'coco_caption'\. Did you mean 'coco_captions'\?"
    ):
        catalogue.prepare("coco_caption")


# What a person can get wrong, and what a disk can


@pytest.mark.parametrize("question", [data.check, data.load])
def test_a_set_that_is_not_there_is_one_line_with_the_command(question, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(InputError) as caught:
        question(CocoCaptions())
    place = tmp_path / "coco_captions" / "2014" / "1.1.0"
    assert one_line(caught) == (
        f"{place} does not exist; run: python launch.py data prepare coco_captions"
    )
    assert not any(tmp_path.iterdir())


def test_it_is_where_tensorflow_datasets_looks_for_it(monkeypatch):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    below = "tensorflow_datasets/coco_captions/2014/1.1.0"
    assert str(coco.folder()) == f"/home/someone/{below}"
    monkeypatch.setenv("TFDS_DATA_DIR", "~/tensorflow_datasets")
    assert str(coco.folder()) == f"/home/someone/{below}"


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is not None, reason="would download 38 GiB"
)
def test_preparing_it_asks_for_tensorflow(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(InputError) as caught:
        catalogue.prepare(coco.NAME)
    assert one_line(caught).endswith("which is not installed; run: pip install tensorflow")
    assert not any(tmp_path.iterdir())


def test_tensorflow_datasets_prepares_it(written, tmp_path, monkeypatch):
    """Its builder, which takes TensorFlow, is played by one that copies, once the network is up."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    asked = []

    class Copies:
        def __init__(self, name: str, data_dir: Path, file_format: str):
            asked.append((name, data_dir, file_format))

        def download_and_prepare(self):
            if len(asked) == 1:
                raise ConnectionError("no\nnetwork")
            shutil.copytree(written, tmp_path, dirs_exist_ok=True)

    monkeypatch.setattr(tfds, "builder", Copies)
    monkeypatch.setattr(importlib.util, "find_spec", {"tensorflow": True}.get)
    with pytest.raises(InputError) as caught:
        catalogue.prepare(coco.NAME)
    assert one_line(caught) == f"{coco.folder()}: cannot be prepared (no network)"
    for _ in range(2):  # the second finds it there
        assert catalogue.prepare(coco.NAME) == coco.folder()
    assert asked == [("coco_captions/2014:1.1.0", tmp_path, "array_record")] * 2
    assert len(data.load(CocoCaptions(size=1)).train.images) == SIZES["train"]


def test_another_file_format_is_one_line(folder):
    info = folder / "dataset_info.json"
    facts = json.loads(info.read_text())
    info.write_text(json.dumps({**facts, "fileFormat": "tfrecord"}))
    for question in (data.check, data.load):
        with pytest.raises(InputError) as caught:
            question(CocoCaptions())
        assert one_line(caught) == (
            f"{folder}: expected array_record, found tfrecord; "
            "remove the folder and run: python launch.py data prepare coco_captions"
        )


SHARD = "coco_captions-val.array_record-00000-of-00001"


@pytest.mark.parametrize("name", [SHARD, "dataset_info.json", "features.json"])
@pytest.mark.parametrize("fault", ["gone", "empty", "cut", "flipped"])
def test_a_damaged_file_is_one_line(name, fault, folder):
    path = folder / name
    content = bytearray(path.read_bytes())
    cut = content[: len(content) // 2]
    content[1000 if name == SHARD else 100] ^= 128  # zeros fill the end of a shard
    damaged = {"gone": None, "empty": b"", "cut": cut, "flipped": content}
    if damaged[fault] is None:
        path.unlink()
    else:
        path.write_bytes(damaged[fault])
    questions = [data.load, lambda _: catalogue.verify(coco.NAME)]
    questions += [data.check] * (fault == "gone" or name != SHARD)
    for question in questions:
        with pytest.raises(InputError) as caught:
            question(CocoCaptions(size=1))
        assert one_line(caught).startswith(f"{folder}: damaged (")
        assert one_line(caught).endswith(f"; remove it and run: {coco.COMMAND}")


def test_a_record_that_is_no_photograph_or_of_which_nothing_is_said(folder, monkeypatch):
    record = {"image": b"no picture", "image/id": 7, "captions": {"text": [b"a dog"]}}
    for change, complaint in (
        ({}, "cannot identify image file"),
        ({"image": PICTURES[0], "captions": {"text": []}}, "nothing is said of picture 7"),
        ({"image": PICTURES[0], "captions": {"text": [b" "]}}, "nothing is said of picture 7"),
        ({"image": PICTURES[0][:300]}, ""),
    ):

        class Records(list):
            def __getitems__(self, block):
                return [self[number] for number in block]

        records = dict.fromkeys(coco.SPLITS, Records([record | change]))
        monkeypatch.setattr(coco, "_records", lambda records=records: records)
        with pytest.raises(InputError) as caught:
            data.load(CocoCaptions(size=1))
        assert one_line(caught).startswith(f"{folder}: damaged ({complaint}")


@pytest.mark.parametrize("name", ["most", "held_out", "size", "min_count"])
def test_what_cannot_be_is_refused(name):
    with pytest.raises(InputError, match=rf"^{name} must be 1 or more, not 0"):
        CocoCaptions(**{name: 0})
