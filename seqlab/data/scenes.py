"""Pictures of shapes and what is asked or said of them: easy-VQA and NLVR.

easy-VQA asks of a picture of one shape what it is and what colour it has; NLVR has three boxes of
shapes, and sentences of people that are true of them or false.
"""

import io
import json
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from seqlab.data import prepared, published
from seqlab.data.archives import read_tar_xz
from seqlab.data.examples import BEGIN, END, UNKNOWN, Ragged, encode, vocabulary
from seqlab.data.files import Original
from seqlab.data.folds import constant_order
from seqlab.data.ranges import check_range
from seqlab.data.tokens import words
from seqlab.errors import InputError, nearest

SHAPES = ("circle", "rectangle", "triangle")
COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
CAPTIONS = (  # every word of them is in a question of the set
    "there is a {colour} {shape} in the image",
    "the image does contain a {colour} {shape}",
    "a {colour} {shape} is present in the image",
)
SIZES = {"easy_vqa": (64, 64), "nlvr": (50, 200)}  # H, W; those of nlvr are halved
_PICTURES_PER_RECORD = 100
_LARGEST = 4_000_000  # bytes of a file in an archive


@dataclass(frozen=True)
class Questions:
    """What is asked of a picture, and the answer: easy_vqa, or nlvr, where it is true or false.

    Words that occur less than `min_count` times in train are unknown.
    """

    name: str = "easy_vqa"
    min_count: int = 1

    def __post_init__(self):
        _check_fields(self.name, self.min_count)


@dataclass(frozen=True)
class Captions:
    """What is said of a picture: easy_vqa, in seqlab's words, or nlvr, in those of people.

    Words that occur less than `min_count` times in train are unknown.
    """

    name: str = "easy_vqa"
    min_count: int = 1

    def __post_init__(self):
        _check_fields(self.name, self.min_count)


class Questioned(NamedTuple):
    """N pictures, and M questions each of which is about one of them.

    Attributes:
        images: uint8 [N, H, W, 3].
        shown: int32 [M], the picture of each question.
        questions: M sequences of symbols.
        answers: int32 [M].
    """

    images: np.ndarray
    shown: np.ndarray
    questions: Ragged
    answers: np.ndarray


class Captioned(NamedTuple):
    """N pictures, and M sentences each of which is true of one of them.

    Attributes:
        images: uint8 [N, H, W, 3].
        shown: int32 [M], the picture of each caption; all of one picture stand together.
        captions: M sequences of symbols, without marks at their ends.
    """

    images: np.ndarray
    shown: np.ndarray
    captions: Ragged


class QuestionDataset(NamedTuple):
    """Three splits; `symbols[i]` is a word of the questions, `classes[i]` an answer."""

    train: Questioned
    valid: Questioned
    test: Questioned
    symbols: tuple[str, ...]
    classes: tuple[str, ...]


class CaptionDataset(NamedTuple):
    """Three splits; `symbols[i]` is a word, or "<unk>", "<s>" or "</s>" for whoever writes."""

    train: Captioned
    valid: Captioned
    test: Captioned
    symbols: tuple[str, ...]


class _Line(NamedTuple):
    """What is said of one picture; pictures of one `group` are in one split."""

    picture: int
    group: int
    text: str
    answer: str


class _Split(NamedTuple):
    images: np.ndarray
    lines: list[_Line]


def load_questions(config: Questions) -> QuestionDataset:
    """Pictures, questions and answers.

    easy_vqa: 3,600 / 400 / 1,000 pictures of 64 x 64, about ten questions of each, 13 answers;
    test is as published. nlvr: pictures of 50 x 200, half as published, a sentence of each that is
    to be judged. There is no train of it here: test is the published one, train and valid are of
    the published dev and hidden, by what was shown to people together; a picture that is in test
    or valid, too, is not in train.

    Raises:
        InputError: the data is not there or is damaged; names the command that prepares it.

    Source: Zhou 2019, github.com/vzhou842/easy-VQA; Suhr et al. 2017, A Corpus of Natural Language
        for Visual Reasoning. The validation splits, and train of nlvr, are seqlab's.
    """
    splits, classes = _splits(config.name)
    said = {split: [words(line.text) for line in lines] for split, (_, lines) in splits.items()}
    symbols = vocabulary(said["train"], config.min_count)
    asked = {
        split: Questioned(
            images,
            np.array([line.picture for line in lines], np.int32),
            encode(said[split], symbols),
            np.array([classes.index(line.answer) for line in lines], np.int32),
        )
        for split, (images, lines) in splits.items()
    }
    return QuestionDataset(**asked, symbols=symbols, classes=classes)


def load_captions(config: Captions) -> CaptionDataset:
    """Pictures of which there is something to say, and what is true of them; splits as above.

    easy_vqa: the three `CAPTIONS` of every picture of which the questions and their answers tell
    both shape and colour, which is nine of ten. nlvr: the true sentences.

    Raises:
        InputError: the data is not there or is damaged; names the command that prepares it.

    Source: as of the questions. The captions of easy_vqa are seqlab's.
    """
    splits, _ = _splits(config.name)
    tell = _of_one_shape if config.name == "easy_vqa" else _true
    told = {split: tell(lines) for split, (_, lines) in splits.items()}
    said = {split: [words(text) for _, text in told[split]] for split in splits}
    symbols = vocabulary(said["train"], config.min_count, special=(UNKNOWN, BEGIN, END))
    captioned = {}
    for split, (images, _) in splits.items():
        kept, shown = np.unique([picture for picture, _ in told[split]], return_inverse=True)
        sentences = encode(said[split], symbols)
        captioned[split] = Captioned(images[kept], shown.astype(np.int32), sentences)
    return CaptionDataset(**captioned, symbols=symbols)


def check(config: Questions | Captions) -> None:
    """Raise the InputError that `load` would raise, before any work has started."""
    prepared.check(SOURCES[config.name])


def read_picture(content: bytes, height: int, width: int, name: str) -> np.ndarray:
    """A PNG or JPEG picture in RGB; of another size, each pixel is the mean of those it covers.

    Args:
        name: what to call it where it is not what it should be.

    Returns:
        uint8 [height, width, 3].

    Raises:
        InputError: no such picture.
    """
    import PIL.Image  # when a set is prepared, or for a picture of one's own

    try:
        with PIL.Image.open(io.BytesIO(content), formats=["PNG", "JPEG"]) as picture:
            resized = picture.convert("RGB").resize((width, height), PIL.Image.Resampling.BOX)
            return np.asarray(resized)
    except (OSError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise InputError(f"{name}: not a PNG or JPEG picture ({error})") from error


# Captions


def _of_one_shape(lines: list[_Line]) -> list[tuple[int, str]]:
    """Every way of saying what the answers tell of a picture."""
    told: dict[int, set[str]] = defaultdict(set)
    for line in lines:
        told[line.picture] |= _told(line)
    captions = []
    for picture, found in sorted(told.items()):
        shapes, colours = found.intersection(SHAPES), found.intersection(COLOURS)
        if shapes and colours:
            (shape,), (colour,) = shapes, colours
            captions += [(picture, way.format(colour=colour, shape=shape)) for way in CAPTIONS]
    return captions


def _told(line: _Line) -> set[str]:
    """The words of a question and its answer that hold for the picture."""
    asked = words(line.text)
    if line.answer not in ("yes", "no"):  # what colour is the circle? blue
        return {*asked, line.answer}
    denies = not {"not", "no"}.isdisjoint(asked)
    return set(asked) if (line.answer == "yes") != denies else set()


def _true(lines: list[_Line]) -> list[tuple[int, str]]:
    return sorted((line.picture, line.text) for line in lines if line.answer == "true")


# Splits


def _splits(name: str) -> tuple[dict[str, _Split], tuple[str, ...]]:
    """Pictures and lines of each split, and the answers that there are."""
    records = prepared.load(SOURCES[name])
    kept = {split: _split(records.joined(split)) for split in records.splits}
    test = kept.pop("test")
    rest = _joined(list(kept.values()))
    groups = np.zeros(len(rest.images), np.int64)
    for line in rest.lines:
        groups[line.picture] = line.group
    names = np.unique(groups)
    validates = np.isin(groups, names[constant_order(len(names))[: len(names) // 10]])
    unseen = ~_among(rest.images, test.images)
    valid = rest.images[validates & unseen]
    trains = ~validates & unseen & ~_among(rest.images, valid)
    splits = {
        "train": _chosen(rest, trains),
        "valid": _chosen(rest, validates & unseen),
        "test": test,
    }
    return splits, records.symbols


def _split(arrays: dict[str, np.ndarray]) -> _Split:
    lines = []
    for line in published.lines(arrays["text"].tobytes()):
        picture, group, text, answer = line.split("\t")
        lines.append(_Line(int(picture), int(group), text, answer))
    return _Split(arrays["images"], lines)


def _joined(splits: Sequence[_Split]) -> _Split:
    lines, before = [], 0
    for images, of_split in splits:
        lines += [line._replace(picture=line.picture + before) for line in of_split]
        before += len(images)
    return _Split(np.concatenate([images for images, _ in splits]), lines)


def _chosen(split: _Split, chosen: np.ndarray) -> _Split:
    number = np.cumsum(chosen) - 1
    lines = [
        line._replace(picture=int(number[line.picture]))
        for line in split.lines
        if chosen[line.picture]
    ]
    return _Split(split.images[chosen], lines)


def _among(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    there = {image.tobytes() for image in others}
    return np.array([image.tobytes() in there for image in images], bool)


# The published archives


def _parse_easy_vqa(archive: bytes) -> prepared.Records:
    name = "easy_vqa_data.tar.xz"
    expected = re.compile(
        r"data/(README\.md|answers\.txt|(train|test)/(questions\.json|images/[0-9]{1,6}\.png))"
    )
    files = read_tar_xz(archive, expected, _LARGEST, name)
    classes = tuple(_file(files, "data/answers.txt", name).decode().split())
    splits = {}
    for split in ("train", "test"):
        place = f"data/{split}/questions.json"
        lines, pictures = [], {}
        for question, answer, picture in json.loads(_file(files, place, name)):
            lines.append(_Line(picture, picture, " ".join(question.split()), answer))
            pictures[picture] = f"data/{split}/images/{picture}.png"
        splits[split] = _records(files, pictures, lines, classes, "easy_vqa", f"{name}: {place}")
    return prepared.Records(splits, classes)


def _parse_nlvr(archive: bytes) -> prepared.Records:
    name, classes = "nlvr_dev_test_hidden_perm0.tar.xz", ("false", "true")
    expected = re.compile(
        r"README\.md|(dev|test|hidden)/((dev|test|hidden)\.json|images/[0-9]+/[a-z]+[-0-9]+\.png)"
    )
    files = read_tar_xz(archive, expected, _LARGEST, name)
    by_name = {file.rpartition("/")[2]: file for file in files}
    splits = {}
    for split in ("dev", "hidden", "test"):
        place = f"{split}/{split}.json"
        lines, pictures = [], {}
        for picture, row in enumerate(published.lines(_file(files, place, name))):
            example = json.loads(row)
            identifier, sentence = example["identifier"], " ".join(example["sentence"].split())
            group = int(identifier.partition("-")[0])
            lines.append(_Line(picture, group, sentence, example["label"]))
            file = f"{split}-{identifier}-0.png"
            pictures[picture] = by_name.get(file, file)
        splits[split] = _records(files, pictures, lines, classes, "nlvr", f"{name}: {place}")
    return prepared.Records(splits, classes)


def _records(
    files: dict[str, bytes],
    pictures: dict[int, str],
    lines: list[_Line],
    classes: tuple[str, ...],
    scenes: str,
    where: str,
) -> list[dict[str, np.ndarray]]:
    """Runs of pictures, and the lines about them.

    Args:
        pictures: the name of the file of each picture, by its number.
        where: what to call the file of the lines.
    """
    if sorted(pictures) != list(range(len(pictures))):
        raise InputError(f"{where}: expected something of every picture, found a gap")
    rows: dict[int, list[str]] = defaultdict(list)
    for line in lines:
        if line.answer not in classes:
            raise InputError(f"{where}: no answer {line.answer!r}.{nearest(line.answer, classes)}")
        rows[line.picture].append("\t".join(map(str, line)) + "\n")
    archive = where.partition(":")[0]
    records = []
    for start in range(0, len(pictures), _PICTURES_PER_RECORD):
        run = range(start, min(start + _PICTURES_PER_RECORD, len(pictures)))
        images = [
            read_picture(
                _file(files, pictures[n], archive), *SIZES[scenes], f"{archive}: {pictures[n]!r}"
            )
            for n in run
        ]
        text = "".join(row for n in run for row in rows[n]).encode()
        records.append({"images": np.stack(images), "text": np.frombuffer(text, np.uint8)})
    return records


def _file(files: dict[str, bytes], name: str, archive: str) -> bytes:
    if name not in files:
        raise InputError(f"{archive}: expected a file {name}, found none")
    return files[name]


def _check_fields(name: str, min_count: int) -> None:
    if name not in SOURCES:
        raise InputError(f"no scenes {name!r}.{nearest(name, SOURCES)}")
    check_range(1, min_count=min_count)


def _source(
    name: str,
    file: str,
    size: int,
    sha256: str,
    parse: Callable[[bytes], prepared.Records],
    origin: str,
) -> prepared.Source:
    told = f"it packs {origin}; set SEQLAB_DATA to a folder that holds it"
    original = Original(f"{name}/{file}", size, sha256, url=None, origin=told)
    return prepared.Source(name, (original,), parse, unit="pictures")


_SOURCES = (
    _source(
        "easy_vqa",
        "easy_vqa_data.tar.xz",
        1_881_920,
        "bf01bf8710a0891573dea36d5be65278c7863001a87008072687294b2b17635a",
        _parse_easy_vqa,
        "easy_vqa/data of github.com/vzhou842/easy-VQA at commit "
        "3b553bb7ff42a868d5f4cbe8c88255d7333c3c31",
    ),
    _source(
        "nlvr",
        "nlvr_dev_test_hidden_perm0.tar.xz",
        4_455_984,
        "553c8b43affe7928aead0eb4a06477b0089b83bbdce3f8bde90b17d87ba58583",
        _parse_nlvr,
        "the first of six permutations of dev, test and hidden of nlvr of github.com/lil-lab/nlvr "
        "at commit 18924841aa96d519cfb8584f0945350f07a6d860",
    ),
)
SOURCES = {source.name: source for source in _SOURCES}
