"""Photographs with about five captions each: COCO, as tensorflow-datasets prepares it.

It downloads 38 GiB and keeps 19, in its own folder, TFDS_DATA_DIR or else ~/tensorflow_datasets;
nothing is copied from there. Preparing the set needs TensorFlow; reading it does not.
"""

import importlib.util
import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seqlab.data.examples import BEGIN, END, UNKNOWN, encode, vocabulary
from seqlab.data.ranges import check_range
from seqlab.data.scenes import CaptionDataset, Captioned
from seqlab.data.tokens import words
from seqlab.errors import InputError

NAME, CONFIG, VERSION = "coco_captions", "2014", "1.1.0"
COMMAND = f"python launch.py data prepare {NAME}"
SPLITS = {"train": "train", "valid": "val", "test": "test"}  # as tensorflow-datasets calls them
_FORMAT = "array_record"  # what is read without TensorFlow
_BLOCK = 256  # pictures that are in memory as published


@dataclass(frozen=True)
class CocoCaptions:
    """Captions of photographs of `size` by `size` pixels.

    The first `most` of train, and the first `held_out` of valid and of test; None: all of them.
    Words that occur less than `min_count` times in what there is of train are unknown.
    """

    most: int | None = 10_000
    held_out: int | None = 1_000
    size: int = 64
    min_count: int = 5

    def __post_init__(self):
        limits = {"most": self.most, "held_out": self.held_out}
        check_range(1, **{name: limit for name, limit in limits.items() if limit is not None})
        check_range(1, size=self.size, min_count=self.min_count)


class _Split(NamedTuple):
    images: np.ndarray
    shown: list[int]
    said: list[list[str]]


def load(config: CocoCaptions) -> CaptionDataset:
    """Pictures with all their captions: the first of 82,783 / 5,000 / 5,000 in each split.

    tensorflow-datasets has shuffled them, in one fixed order, so that the first are a fair sample.
    A picture is cropped to its middle square, each pixel the mean of those it covers. The split
    restval, 30,504 pictures, is not read. Punctuation marks are words.

    Raises:
        InputError: the data is not there or is damaged; names the command that prepares it.

    Source: Chen et al. 2015, Microsoft COCO Captions; the splits are those of Karpathy and Fei-Fei
        2015, Deep Visual-Semantic Alignments for Generating Image Descriptions.
    """
    records = _records()
    limits = {"train": config.most, "valid": config.held_out, "test": config.held_out}
    splits = {split: _read(records[split], limits[split], config.size) for split in SPLITS}
    symbols = vocabulary(splits["train"].said, config.min_count, special=(UNKNOWN, BEGIN, END))
    captioned = {
        split: Captioned(images, np.array(shown, np.int32), encode(said, symbols))
        for split, (images, shown, said) in splits.items()
    }
    return CaptionDataset(**captioned, symbols=symbols)


def check(config: CocoCaptions) -> None:
    """Raise InputError unless all files are there, before any work has started.

    What is in them is not looked at: that is 19 GiB.
    """
    _records()


def folder() -> Path:
    """Where the prepared set lives, whether or not it is there yet."""
    return _root() / NAME / CONFIG / VERSION


def prepare() -> Path:
    """Let tensorflow-datasets download the set and prepare it; returns its folder.

    Raises:
        InputError: no TensorFlow, no network, no room; or what is there already is damaged.
    """
    if not folder().exists():
        _build()
    _records()
    return folder()


def verify() -> dict[str, int]:
    """How many pictures each split has, after decoding every one.

    Raises:
        InputError: not prepared, or damaged.
    """
    return {split: len(_read(found, None, 1).images) for split, found in _records().items()}


def _root() -> Path:
    named = os.environ.get("TFDS_DATA_DIR")
    return Path(named).expanduser() if named else Path.home() / "tensorflow_datasets"


def _build() -> None:
    if importlib.util.find_spec("tensorflow") is None:
        raise InputError(
            f"{NAME}: tensorflow-datasets prepares it with TensorFlow, which is not installed; "
            "run: pip install tensorflow"
        )
    import tensorflow_datasets as tfds

    try:
        builder: Any = tfds.builder(
            f"{NAME}/{CONFIG}:{VERSION}", data_dir=_root(), file_format=_FORMAT
        )
        builder.download_and_prepare()
    except Exception as error:  # of the network, the disk, and the archives
        raise InputError(f"{folder()}: cannot be prepared ({_reason(error)})") from error


def _records() -> dict[str, Any]:
    """What reads the records of each split."""
    if not folder().exists():
        raise InputError(f"{folder()} does not exist; run: {COMMAND}")

    import tensorflow_datasets as tfds  # half a second, for those who read data

    try:
        builder: Any = tfds.builder_from_directory(folder())  # its decorators hide its types
        formats = sorted(found.value for found in builder.info.available_file_formats())
        if _FORMAT not in formats:
            raise InputError(
                f"{folder()}: expected {_FORMAT}, found {', '.join(formats)}; "
                f"remove the folder and run: {COMMAND}"
            )
        records = builder.as_data_source(
            SPLITS, decoders={"image": tfds.decode.SkipDecoding()}, file_format=_FORMAT
        )
        paths = [path for split in SPLITS.values() for path in builder.info.splits[split].filepaths]
    except InputError:
        raise
    except Exception as error:  # whatever its many parsers raise
        raise _damaged(error) from error
    for path in paths:
        if not path.exists():
            raise _damaged(f"no {path.name}")
    return records


def _read(records: Any, most: int | None, size: int) -> _Split:
    """The first `most` records."""
    number = len(records) if most is None else min(most, len(records))
    images = np.empty((number, size, size, 3), np.uint8)
    shown, said = [], []
    with ThreadPoolExecutor() as threads:  # pictures are decoded side by side
        for start in range(0, number, _BLOCK):
            block = range(start, min(start + _BLOCK, number))
            try:
                found = records.__getitems__(block)
                contents = [record["image"] for record in found]
                squares = threads.map(partial(_middle_square, size=size), contents)
                images[start : block.stop] = list(squares)
                told = [_sentences(record) for record in found]
            except (OSError, RuntimeError, ValueError) as error:  # of a picture, or of records
                raise _damaged(error) from error
            for picture, sentences in zip(block, told, strict=True):
                shown += [picture] * len(sentences)
                said += sentences
    return _Split(images, shown, said)


def read_picture(content: bytes, height: int, width: int, name: str) -> np.ndarray:
    """A picture of one's own, as those of the set are read: its middle square.

    Args:
        height, width: the same.
        name: what to call it where it is not what it should be.

    Raises:
        InputError: no such picture.
    """
    import PIL.Image

    assert height == width
    try:
        return _middle_square(content, height)
    except (OSError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise InputError(f"{name}: not a PNG or JPEG picture ({error})") from error


def _middle_square(content: bytes, size: int) -> np.ndarray:
    """uint8 [size, size, 3], of a picture of any size, grey ones too."""
    import PIL.Image

    with PIL.Image.open(io.BytesIO(content), formats=["PNG", "JPEG"]) as picture:
        side = min(picture.size)
        left, top = ((length - side) // 2 for length in picture.size)
        square = (left, top, left + side, top + side)
        rgb = picture.convert("RGB")
        return np.asarray(rgb.resize((size, size), PIL.Image.Resampling.BOX, square))


def _sentences(record: dict[str, Any]) -> list[list[str]]:
    texts = record["captions"]["text"]
    sentences = [said for text in texts if (said := words(text.decode()))]
    if not sentences:
        raise ValueError(f"nothing is said of picture {record['image/id']}")
    return sentences


def _damaged(error: Exception | str) -> InputError:
    return InputError(f"{folder()}: damaged ({_reason(error)}); remove it and run: {COMMAND}")


def _reason(error: Exception | str) -> str:
    return " ".join(str(error).split())
