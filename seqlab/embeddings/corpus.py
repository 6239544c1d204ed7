"""What vectors of words are learnt from: the words of a text, in their lines."""

from collections import Counter
from typing import NamedTuple

import numpy as np

from seqlab.data.stream import Dataset, Stream

END, UNKNOWN = "<eos>", "<unk>"


class Words(NamedTuple):
    """A text.

    Attributes:
        ids: int32 [N], the numbers of its words.
        lines: int32 [N], the line that each stands in, from 0; no window reaches into another.
    """

    ids: np.ndarray
    lines: np.ndarray


class Corpus(NamedTuple):
    """Two splits of a text, and what their numbers stand for.

    Attributes:
        train, valid: the words.
        symbols: `symbols[i]` is word i; the most frequent first, ties in alphabetical order.
        counts: int64 [V], how often each stands in train.
    """

    train: Words
    valid: Words
    symbols: tuple[str, ...]
    counts: np.ndarray


def corpus(dataset: Dataset, min_count: int) -> Corpus:
    """The words of a text in lower case.

    Line ends, unknown words, and those that stand in train less than `min_count` times are left
    out; the words around one that is left out become neighbours.
    """
    assert dataset.symbols is not None
    folded = [symbol.lower() for symbol in dataset.symbols]
    often: Counter[str] = Counter()
    for word, count in zip(folded, np.bincount(dataset.train.values), strict=True):
        often[word] += int(count)
    kept = {w for w, count in often.items() if count >= min_count} - {END, UNKNOWN}
    symbols = tuple(sorted(kept, key=lambda word: (-often[word], word)))
    number = {word: n for n, word in enumerate(symbols)}
    numbers = np.array([number.get(word, -1) for word in folded], np.int32)
    end = dataset.symbols.index(END)

    def words(split: Stream) -> Words:
        ids, lines = numbers[split.values], np.cumsum(split.values == end, dtype=np.int32)
        return Words(ids[ids >= 0], lines[ids >= 0])

    counts = np.array([often[word] for word in symbols], np.int64)
    return Corpus(words(dataset.train), words(dataset.valid), symbols, counts)
