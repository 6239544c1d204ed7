"""Evaluation of word vectors: similarity, nearest words, analogies."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from seqlab.data.word_eval import Judged
from seqlab.errors import InputError, nearest

SIGNS = {"+", "-", "−"}
AT_ONCE = 512  # questions, whose cosines with all words are there together


class Vocabulary:
    """Words, and vectors of length 1 for them, [V, d]."""

    def __init__(self, symbols: tuple[str, ...], vectors: np.ndarray):
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        self.symbols = symbols
        self.number = {word: n for n, word in enumerate(symbols)}
        self.vectors = vectors / np.maximum(lengths, np.finfo(vectors.dtype).tiny)

    def of(self, words: Sequence[str]) -> np.ndarray:
        return self.vectors[[self.number[word] for word in words]]


class Answered(NamedTuple):
    """A score, and of how many of the questions: those whose words all have vectors."""

    score: float
    answered: int
    asked: int


def similarity(vocabulary: Vocabulary, pairs: Sequence[Judged]) -> Answered:
    """Spearman's ρ between the cosines of pairs and what people say; 0 where it is undefined."""
    from scipy.stats import spearmanr

    known = [p for p in pairs if {p.first, p.second} <= vocabulary.number.keys()]
    if len({pair.score for pair in known}) < 2:
        return Answered(0.0, len(known), len(pairs))
    first = vocabulary.of([pair.first for pair in known])
    second = vocabulary.of([pair.second for pair in known])
    cosines = (first * second).sum(axis=1)
    if np.ptp(cosines) == 0:
        return Answered(0.0, len(known), len(pairs))
    found: Any = spearmanr(cosines, [pair.score for pair in known])  # typed as a plain tuple
    return Answered(float(found.statistic), len(known), len(pairs))


def analogies(vocabulary: Vocabulary, questions: Iterable[tuple[str, str, str, str]]) -> Answered:
    """The share of a : b = c : d of which d is found, by 3CosAdd.

        d = argmax over w, which is none of a, b, c, of cos(w, b) - cos(w, a) + cos(w, c)

    Source: Mikolov et al. 2013; the name, Levy and Goldberg 2014.
    """
    every = list(questions)
    known = [question for question in every if set(question) <= vocabulary.number.keys()]
    right = 0
    for start in range(0, len(known), AT_ONCE):
        some = known[start : start + AT_ONCE]
        a, b, c, d = np.array([[vocabulary.number[word] for word in row] for row in some]).T
        vectors = vocabulary.vectors
        cosines = (vectors[b] - vectors[a] + vectors[c]) @ vectors.T
        for given in (a, b, c):
            cosines[np.arange(len(some)), given] = -np.inf
        right += int((cosines.argmax(axis=1) == d).sum())
    return Answered(right / len(known) if known else 0.0, len(known), len(every))


def near(vocabulary: Vocabulary, line: str, count: int) -> list[tuple[str, float]]:
    """The words nearest to a sum, such as `king - man + woman`, and their cosines with it.

    Raises:
        InputError: it is no sum of words, or has a word without a vector.
    """
    terms = summed(line)
    for _, word in terms:
        if word not in vocabulary.number:
            close = nearest(word, vocabulary.symbols)
            hint = close if "Did you mean" in close else ""
            raise InputError(f"no vector for {word!r}.{hint}")
    total = sum(sign * vocabulary.of([word])[0] for sign, word in terms)
    cosines = vocabulary.vectors @ (total / max(float(np.linalg.norm(total)), 1e-12))
    given = {word for _, word in terms}
    order = [n for n in np.argsort(-cosines) if vocabulary.symbols[n] not in given]
    return [(vocabulary.symbols[n], float(cosines[n])) for n in order[:count]]


def summed(line: str) -> list[tuple[int, str]]:
    """The words of `a - b + c` and their signs, which stand apart, for words have hyphens.

    Raises:
        InputError: two words without a sign between them, or a sign without a word.
    """
    terms = line.lower().split()
    terms = terms if terms[:1] and terms[0] in SIGNS else ["+", *terms]
    signs, words = terms[::2], terms[1::2]
    if len(signs) != len(words) or not SIGNS.issuperset(signs) or SIGNS.intersection(words):
        raise InputError(f"{line!r} is no sum of words, such as king - man + woman")
    return [(1 if sign == "+" else -1, word) for sign, word in zip(signs, words, strict=True)]


def plane(vectors: np.ndarray) -> np.ndarray:
    """The two directions in which these vectors differ most: principal components, [M, 2]."""
    centred = vectors - vectors.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return centred @ directions[:2].T
