"""Sentences in two languages: Multi30k, captions of photographs, and Tatoeba, short and plain.

Multi30k is for non-commercial research and education: it is read, never passed on. Tatoeba is
CC BY 2.0.
"""

import hashlib
import io
import re
import zipfile
from dataclasses import dataclass
from html import unescape

from seqlab.data import prepared, published
from seqlab.data.examples import (
    BEGIN,
    END,
    UNKNOWN,
    ExampleDataset,
    Examples,
    encode,
    vocabulary,
)
from seqlab.data.files import Original
from seqlab.data.ranges import check_range
from seqlab.errors import InputError, nearest

MULTI30K_LANGUAGES = ("en", "de", "fr")
MULTI30K_TESTS = ("2016_flickr", "2017_flickr", "2017_mscoco")
TATOEBA_LANGUAGES = ("eng", "fra")

Pairs = list[tuple[list[str], list[str]]]


@dataclass(frozen=True)
class Multi30k:
    """From which to which of en, de and fr, and which test: 2016_flickr, 2017_flickr, 2017_mscoco.

    Words that occur less than `min_count` times in train are unknown. Pairs with a sentence of
    more than `max_length` words are left out of train, and of train alone.
    """

    source: str = "de"
    target: str = "en"
    test: str = "2016_flickr"
    min_count: int = 2
    max_length: int | None = None

    def __post_init__(self):
        _check_languages(self.source, self.target, MULTI30K_LANGUAGES)
        if self.test not in MULTI30K_TESTS:
            raise InputError(f"no test {self.test!r}.{nearest(self.test, MULTI30K_TESTS)}")
        check_range(1, min_count=self.min_count)
        if self.max_length is not None:
            check_range(5, max_length=self.max_length)  # what the shortest captions have


@dataclass(frozen=True)
class Tatoeba:
    """From which to which of eng and fra.

    Words that occur less than `min_count` times in train are unknown. `most` pairs are taken from
    the beginning of the file, where the shortest sentences are; all of them by default.
    """

    source: str = "fra"
    target: str = "eng"
    min_count: int = 2
    most: int | None = None

    def __post_init__(self):
        _check_languages(self.source, self.target, TATOEBA_LANGUAGES)
        check_range(1, min_count=self.min_count)
        if self.most is not None:
            check_range(1000, most=self.most)  # fewer might leave a split without any


def load_multi30k(config: Multi30k) -> ExampleDataset:
    """29,000 / 1,014 / 1,000 captions; the other tests have 1,000 (flickr) and 461 (mscoco).

    Lower-cased, normalised and split into words as published; its `&apos;` is ' here, and so on.
    Sentences have no marks at their ends; "<s>" and "</s>" are among the classes for whoever puts
    them there.

    Raises:
        InputError: the data is not there or is damaged; names the command that prepares it.

    Source: Elliott et al. 2016, Multi30K; 2017, Findings of the second shared task.
    """
    texts = published.read(SOURCES["multi30k"])
    source = MULTI30K_LANGUAGES.index(config.source)
    target = MULTI30K_LANGUAGES.index(config.target)

    def pairs(split: str) -> Pairs:
        kept = texts[split]
        both = published.sentences(kept[source]), published.sentences(kept[target])
        return [
            ([*map(unescape, one)], [*map(unescape, two)]) for one, two in zip(*both, strict=True)
        ]

    train = pairs("train")
    if config.max_length is not None:
        train = [pair for pair in train if max(map(len, pair)) <= config.max_length]
    splits = {"train": train, "valid": pairs("valid"), "test": pairs(f"test_{config.test}")}
    return _dataset(splits, config.min_count)


def load_tatoeba(config: Tatoeba) -> ExampleDataset:
    """167,130 pairs; 90, 5 and 5 % of the English sentences, with all of their translations.

    Lower-cased; a word is a run of letters and digits, or one other sign. Which split a sentence is
    in depends on nothing but its English words: a larger `most` moves none. The same French
    sentence may be in two splits, where it stands for two English ones.
    Sentences have no marks at their ends; "<s>" and "</s>" are among the classes for whoever puts
    them there.

    Raises:
        InputError: the data is not there or is damaged; names the command that prepares it.

    Source: tatoeba.org and manythings.org/anki, of 2019-04-07. The splits are seqlab's: there are
        no published ones.
    """
    (texts,) = published.read(SOURCES["tatoeba_fra_eng"]).values()
    by_language = [published.lines(text)[: config.most] for text in texts]
    sources = by_language[TATOEBA_LANGUAGES.index(config.source)]
    targets = by_language[TATOEBA_LANGUAGES.index(config.target)]
    splits: dict[str, Pairs] = {"train": [], "valid": [], "test": []}
    for english, one, two in zip(by_language[0], sources, targets, strict=True):
        splits[_split(english)].append((one.split(), two.split()))
    return _dataset(splits, config.min_count)


def check_multi30k(config: Multi30k) -> None:
    """Raise the InputError that `load_multi30k` would raise, before any work has started."""
    prepared.check(SOURCES["multi30k"])


def check_tatoeba(config: Tatoeba) -> None:
    """Raise the InputError that `load_tatoeba` would raise, before any work has started."""
    prepared.check(SOURCES["tatoeba_fra_eng"])


def tokens(text: str) -> list[str]:
    """Lower-cased runs of letters and digits, and every other sign as a word of its own."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


def tokenised_pairs(archive: bytes) -> list[bytes]:
    """Two texts from the published zip, English first: a sentence on a line, spaces between."""
    with zipfile.ZipFile(io.BytesIO(archive)) as members:
        lines = published.lines(members.read("fra-eng/fra.txt"))
    pairs = [line.split("\t") for line in lines]
    return [
        "".join(f"{' '.join(tokens(pair[language]))}\n" for pair in pairs).encode()
        for language in range(2)
    ]


def _split(english: str) -> str:
    place = int.from_bytes(hashlib.sha256(english.encode()).digest()[:8]) % 100
    return "valid" if place < 5 else "test" if place < 10 else "train"


def _dataset(splits: dict[str, Pairs], min_count: int) -> ExampleDataset:
    sources = {split: [pair[0] for pair in pairs] for split, pairs in splits.items()}
    targets = {split: [pair[1] for pair in pairs] for split, pairs in splits.items()}
    symbols = vocabulary(sources["train"], min_count)
    classes = vocabulary(targets["train"], min_count, special=(UNKNOWN, BEGIN, END))
    examples = {
        split: Examples(encode(sources[split], symbols), encode(targets[split], classes))
        for split in splits
    }
    return ExampleDataset(**examples, symbols=symbols, classes=classes)


def _check_languages(source: str, target: str, languages: tuple[str, ...]) -> None:
    for name in (source, target):
        if name not in languages:
            raise InputError(f"no language {name!r}.{nearest(name, languages)}")
    if source == target:
        raise InputError(f"source and target must be two languages, not {source!r} twice.")


_MULTI30K_URL = (
    "https://raw.githubusercontent.com/multi30k/dataset/"
    "a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/tok/"
)
_MULTI30K_FILES = {
    "train.lc.norm.tok.en": (
        1_837_696,
        "08925f8e0572bcd5a006702fc5fe20e2d77c6917d4eebd576fc20de6693c2119",
    ),
    "train.lc.norm.tok.de": (
        2_150_008,
        "cb5a23529b65ec2061f1dc446192a9c37382b63cc75f81a0be59d34894b3a505",
    ),
    "train.lc.norm.tok.fr": (
        2_235_588,
        "8fa41bb718412bcb7c5dfa58603842810a01543eae86a51279f9886b901266e1",
    ),
    "val.lc.norm.tok.en": (
        64_608,
        "46573ce391ae227f1c72f873392436a20ef18e0a6d518098cfbd70b77c8572ec",
    ),
    "val.lc.norm.tok.de": (
        77_273,
        "97232bd273eceb7207f689527386a97e4be2616b18ada47576bdaf96c8ae1f00",
    ),
    "val.lc.norm.tok.fr": (
        78_242,
        "b303e301aa21fe7822a846b2b3fb2d5a1121ec807cd5b1d006fb7b2b5507168a",
    ),
    "test_2016_flickr.lc.norm.tok.en": (
        63_307,
        "5b7f32627cf99eced828311b955dae9800bb52bc8b91cf8b6526829e605b29d2",
    ),
    "test_2016_flickr.lc.norm.tok.de": (
        71_917,
        "c6a33d39d48f9f510de147651316cd9d918e09ad0219df734a2f16b6baccacc4",
    ),
    "test_2016_flickr.lc.norm.tok.fr": (
        76_394,
        "1463bd5960f9bfe098ec3cd752d3df0c49c84dc646fb518964a29232658cd836",
    ),
    "test_2017_flickr.lc.norm.tok.en": (
        56_123,
        "c9d1dfd7a26add989382e534af235af9f0f658b2a30e7eb0efdaf142496ee54f",
    ),
    "test_2017_flickr.lc.norm.tok.de": (
        65_228,
        "02067e4a9402786a4fcb8c1b6f4307e4a5073ced64800abead5273b54f5f31f6",
    ),
    "test_2017_flickr.lc.norm.tok.fr": (
        69_537,
        "c0583117a47b31e8a6c6a97cfe8de153e462074668f4e994764fcc80b21d33b4",
    ),
    "test_2017_mscoco.lc.norm.tok.en": (
        25_380,
        "fe69ae004d71c42ead0301e70c57de5b1b6b5fb7f52210d42b22801e98e656f3",
    ),
    "test_2017_mscoco.lc.norm.tok.de": (
        30_464,
        "e2825990b8a4e5289d2cdba801d57c187810bab9b4f5d87a30c35800a0d871b6",
    ),
    "test_2017_mscoco.lc.norm.tok.fr": (
        31_725,
        "0b6a4620f02b6b9acf7811fda23f90fed9c6baa0b96aa224db50a273078c84d1",
    ),
}


def _multi30k_files(part: str) -> list[Original]:
    files = [f"{part}.lc.norm.tok.{language}" for language in MULTI30K_LANGUAGES]
    return [
        Original(f"multi30k/tok/{file}", *_MULTI30K_FILES[file], _MULTI30K_URL + file)
        for file in files
    ]


_SOURCES = (
    published.source(
        "multi30k",
        {
            "train": _multi30k_files("train"),
            "valid": _multi30k_files("val"),
            **{f"test_{test}": _multi30k_files(f"test_{test}") for test in MULTI30K_TESTS},
        },
    ),
    published.source(
        "tatoeba_fra_eng",
        {
            "published": [
                Original(
                    "tatoeba_fra_eng/fra-eng.zip",
                    3_424_571,
                    "161c93f18da3a7e6df611ed961426613260de8af06ccf8c79c977afe5135ac44",
                    "https://raw.githubusercontent.com/modelexlab/data/"
                    "adddaf33ac35572bcfeb421efec29435e7ea9332/fra-eng.zip",
                )
            ]
        },
        keep=tokenised_pairs,
    ),
)
SOURCES = {source.name: source for source in _SOURCES}
