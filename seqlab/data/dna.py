"""Short pieces of DNA and what they are: splice junctions of primates, promoters of E. coli.

Both are CC BY 4.0, of the UCI Machine Learning Repository.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seqlab.data import prepared, published
from seqlab.data.examples import ExampleDataset, Examples, encode
from seqlab.data.files import Original
from seqlab.data.folds import fold
from seqlab.data.ranges import check_range

SPLICE_SYMBOLS = ("A", "C", "G", "T", "D", "N", "R", "S")
"""Bases; D is A, G or T, and N any of them, and R is A or G, and S is C or G."""
SPLICE_CLASSES = {"EI": "exon to intron", "IE": "intron to exon", "N": "neither"}
SPLICE_FOLDS = 10

PROMOTER_SYMBOLS = ("a", "c", "g", "t")
PROMOTER_CLASSES = {"-": "no promoter", "+": "promoter"}
PROMOTERS = 106


@dataclass(frozen=True)
class Splice:
    """Which of ten folds is tested, from 0."""

    fold: int = 0

    def __post_init__(self):
        check_range(0, SPLICE_FOLDS - 1, fold=self.fold)


@dataclass(frozen=True)
class Promoters:
    """Which fold is tested, from 0; as many folds as sequences is leave-one-out, as published."""

    fold: int = 0
    folds: int = PROMOTERS

    def __post_init__(self):
        check_range(2, PROMOTERS, folds=self.folds)
        check_range(0, self.folds - 1, fold=self.fold)


def load_splice(config: Splice) -> ExampleDataset:
    """3,190 sequences of 60 bases with, in their middle, the end or beginning of an exon, or none.

    767 EI, 768 IE, 1,655 N, in ten folds with as many of each; a tenth is tested, and a tenth of
    the others is for validation. 185 are copies of others, as published.

    Raises:
        InputError: the data is not there or is damaged; names the command that prepares it.

    Source: Noordewier, Towell and Shavlik 1991. The folds are seqlab's.
    """
    return _dataset("splice", SPLICE_SYMBOLS, SPLICE_CLASSES, config.fold, SPLICE_FOLDS)


def load_promoters(config: Promoters) -> ExampleDataset:
    """106 sequences of 57 bases, a promoter of transcription in half of them.

    Of what is not tested, a tenth is for validation.

    Raises:
        InputError: the data is not there or is damaged; names the command that prepares it.

    Source: Towell, Shavlik and Noordewier 1990.
    """
    return _dataset("promoters", PROMOTER_SYMBOLS, PROMOTER_CLASSES, config.fold, config.folds)


def check_splice(config: Splice) -> None:
    """Raise the InputError that `load_splice` would raise, before any work has started."""
    prepared.check(SOURCES["splice"])


def check_promoters(config: Promoters) -> None:
    """Raise the InputError that `load_promoters` would raise, before any work has started."""
    prepared.check(SOURCES["promoters"])


def _dataset(
    name: str, symbols: tuple[str, ...], classes: dict[str, str], number: int, folds: int
) -> ExampleDataset:
    ((text,),) = published.read(SOURCES[name]).values()
    rows = [[part.strip() for part in line.split(",")] for line in published.lines(text)]
    labels = np.array([list(classes).index(label) for label, _, _ in rows], np.int32)
    sequences = [bases for _, _, bases in rows]

    def examples(chosen: np.ndarray) -> Examples:
        return Examples(encode([sequences[i] for i in chosen], symbols), labels[chosen])

    folded = fold(labels, number, folds)
    return ExampleDataset(*map(examples, folded), symbols=symbols, classes=tuple(classes.values()))


def _only(path: str, size: int, sha256: str, url: str) -> dict[str, Sequence[Original]]:
    address = f"https://raw.githubusercontent.com/{url}"
    return {"published": [Original(path, size, sha256, address)]}


_SOURCES = (
    published.source(
        "splice",
        _only(
            "dna/splice.data",
            319_000,
            "ebbae10c85d3c285e2a2489a37e42bc2ee8d91d15005e391a9962fa3389a114f",
            "drusk/splice-junction-gene-sequences/"
            "e862a929e3d82a881bb7abc8e0ffba3f68cf9a8c/data/splice.data",
        ),
    ),
    published.source(
        "promoters",
        _only(
            "dna/promoters.data",
            7_089,
            "9cba9e8661ab04760d69b857f62259233446f2dce5ec9b515efe0b23c315bb29",
            "farhan-137/dna-promoter-classifier/"
            "585478d4bcbeb8a6293f777d9d1abfae91c6db59/data/promoters.data",
        ),
    ),
)
SOURCES = {source.name: source for source in _SOURCES}
