"""What a data set of many sequences hands to training: inputs and targets."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np

UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"


class Ragged(NamedTuple):
    """M sequences end to end.

    Attributes:
        values: int32 [N] numbers of symbols, float32 [N, C] measurements, or uint8 [N, H, W]
            frames.
        lengths: int32 [M], which add up to N.
    """

    values: np.ndarray
    lengths: np.ndarray


class Shown(NamedTuple):
    """The picture that goes with each of M sequences; one picture may go with many.

    Attributes:
        images: uint8 [N, H, W, 3].
        numbers: int32 [M].
    """

    images: np.ndarray
    numbers: np.ndarray


class Examples(NamedTuple):
    """M sequences and their targets.

    Attributes:
        targets: int32 [M], a class of each sequence; float32 [M, C], measurements to be predicted;
            or as many sequences: a tag for each symbol or for the first of them, or a translation.
        shown: the pictures that go with the sequences, if any.
    """

    inputs: Ragged
    targets: np.ndarray | Ragged
    shown: Shown | None = None


class ExampleDataset(NamedTuple):
    """Three splits and what their numbers mean.

    Attributes:
        symbols: `symbols[i]` is what number i of the inputs stands for.
        classes: `classes[i]` is what number i of the targets stands for.
    """

    train: Examples
    valid: Examples
    test: Examples
    symbols: tuple[str, ...]
    classes: tuple[str, ...]


def vocabulary(
    sequences: Iterable[Sequence[str]],
    min_count: int,
    most: int | None = None,
    special: tuple[str, ...] = (UNKNOWN,),
) -> tuple[str, ...]:
    """The special symbols, and then words by how often they occur, ties in alphabetical order.

    Args:
        sequences: of words, from train alone: the other splits must not shape the vocabulary.
        min_count: words that occur less often are left out.
        most: no more words than these, the special ones not counted.
    """
    counts = Counter(chain.from_iterable(sequences))
    words = [word for word in counts if counts[word] >= min_count and word not in special]
    return special + tuple(sorted(words, key=lambda word: (-counts[word], word))[:most])


def encode(sequences: Sequence[Sequence[str]], symbols: Sequence[str]) -> Ragged:
    """Words as numbers; a word that is no symbol becomes <unk>.

    Raises:
        KeyError: it is none, and neither is <unk>.
    """
    number = {symbol: i for i, symbol in enumerate(symbols)}
    words = chain.from_iterable(sequences)
    if UNKNOWN in number:
        numbers = map(number.get, words, repeat(number[UNKNOWN]))
    else:
        numbers = map(number.__getitem__, words)
    lengths = np.fromiter(map(len, sequences), np.int32, len(sequences))
    return Ragged(np.fromiter(numbers, np.int32, lengths.sum()), lengths)


def decode(ragged: Ragged, symbols: Sequence[str]) -> list[list[str]]:
    """The words that the numbers of each sequence stand for."""
    words = np.array(symbols, dtype=object)[ragged.values].tolist()
    ends = np.cumsum(ragged.lengths)
    starts = ends - ragged.lengths
    return [words[start:end] for start, end in zip(starts, ends, strict=True)]
