"""Counts, their information and its factors, against plain loops and dense algebra."""

import math
from collections import Counter

import numpy as np
import pytest
from scipy.sparse import csr_array

from seqlab.data.stream import Dataset, Stream
from seqlab.embeddings import counting
from seqlab.embeddings.corpus import Words, corpus

RNG = np.random.default_rng(0)
SIZE = 7


def text(length: int = 60) -> Words:
    ids = RNG.integers(SIZE, size=length).astype(np.int32)
    return Words(ids, np.cumsum(RNG.random(length) < 0.15).astype(np.int32))


@pytest.mark.parametrize("window", [1, 2, 5, 100])
def test_cooccurrences_are_counted_pair_by_pair(window):
    words = text()
    expected = np.zeros((SIZE, SIZE), int)
    for i, j in np.ndindex(len(words.ids), len(words.ids)):
        if 0 < abs(i - j) <= window and words.lines[i] == words.lines[j]:
            expected[words.ids[i], words.ids[j]] += 1
    np.testing.assert_array_equal(counting.cooccurrences(words, SIZE, window).toarray(), expected)


def test_information_is_that_of_the_definition():
    counts = RNG.integers(0, 4, (5, 5))
    counts += counts.T
    expected = np.zeros((5, 5))
    total = counts.sum()
    for a, b in np.ndindex(5, 5):
        if counts[a, b]:
            chance = counts[a].sum() * counts[:, b].sum() / total
            expected[a, b] = max(0.0, math.log(counts[a, b] / chance))
    found = counting.ppmi(csr_array(counts)).toarray()
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert (expected > 0).any()
    assert (counts[expected == 0] > 0).any()  # a pair is rarer than by chance


@pytest.mark.parametrize("dim", [1, 3, 5])
def test_no_matrix_of_the_rank_is_nearer(dim):
    matrix = RNG.normal(size=(8, 8))
    words, contexts = counting.factors(csr_array(matrix), dim)
    u, s, vt = np.linalg.svd(matrix)
    np.testing.assert_allclose(words @ contexts.T, (u[:, :dim] * s[:dim]) @ vt[:dim], atol=1e-5)
    np.testing.assert_allclose((words**2).sum(0), (contexts**2).sum(0), rtol=1e-5)
    again = counting.factors(csr_array(matrix), dim)
    np.testing.assert_array_equal(words, again[0])


def test_a_corpus_is_the_frequent_words_in_lower_case():
    symbols = ("The", "<unk>", "cat", "the", "<eos>", "Cat", "sat", "odd")
    said = [0, 2, 6, 4, 3, 5, 1, 6, 4, 3, 7, 2, 4]
    train = Stream(np.array(said, np.int32), np.ones(len(said), bool))
    valid = Stream(np.array([7, 3, 4, 1, 5], np.int32), np.ones(5, bool))
    found = corpus(Dataset(train, valid, valid, symbols, len(symbols), start=4), min_count=2)
    assert found.symbols == ("cat", "the", "sat")  # three times, three times, twice
    assert found.counts.tolist() == [3, 3, 2]
    plain = [symbols[n].lower() for n in said]
    lines = " ".join(plain).split("<eos>")
    kept = [[word for word in line.split() if word in found.symbols] for line in lines]
    assert [found.symbols[n] for n in found.train.ids] == [w for line in kept for w in line]
    sizes = Counter(found.train.lines.tolist())
    assert [sizes[n] for n in range(3)] == [len(line) for line in kept[:3]]
    assert [found.symbols[n] for n in found.valid.ids] == ["the", "cat"]
    assert found.valid.lines.tolist() == [0, 1]
