"""The generated examples are read back with a regular expression."""

import re
from collections import Counter

import jax
import numpy as np
import pytest
from scipy.stats import chisquare

from seqlab.data.memorisation import SYMBOLS, Memorisation, load, stream
from seqlab.data.text import decode
from seqlab.errors import InputError

LENGTHS = [1, 5, 12]


@pytest.mark.parametrize("length", LENGTHS)
def test_each_example_repeats_its_letters(length):
    text = decode(stream(jax.random.key(7), 60_000, length).values, SYMBOLS)
    examples = text.split(".")[:-1]
    assert len(examples) == 60_000 // (2 * length + 2)
    for example in examples:
        assert re.fullmatch(rf"([a-z]{{{length}}})=\1", example)


@pytest.mark.parametrize("length", LENGTHS)
def test_reproduced_letters_and_nothing_else_are_scored(length):
    values, scored = stream(jax.random.key(7), 60_001, length)
    reproducing, expected = False, []
    for character in decode(values, SYMBOLS):
        reproducing = reproducing and character != "."
        expected.append(reproducing)
        reproducing = reproducing or character == "="
    np.testing.assert_array_equal(scored, expected)


def test_letters_are_uniform_and_independent():
    text = decode(stream(jax.random.key(7), 1_200_000, 5).values, SYMBOLS)
    examples = text.split(".")[:-1]
    for place in range(4):
        pairs = Counter(example[place : place + 2] for example in examples)
        assert len(pairs) == 26 * 26
        assert chisquare(list(pairs.values())).pvalue > 1e-3


def test_a_stream_is_a_function_of_its_key():
    first, again, other = (stream(jax.random.key(key), 50_000, 5) for key in (4, 4, 5))
    longer = stream(jax.random.key(4), 200_000, 5)
    np.testing.assert_array_equal(first.values, again.values)
    np.testing.assert_array_equal(first.values, longer.values[:50_000])
    assert np.mean(first.values[first.scored] == other.values[other.scored]) < 0.1


def test_splits_have_their_sizes_and_share_no_example():
    dataset = load(
        Memorisation(train_size=5_001, valid_size=2_000, test_size=2_003, length=8, seed=3)
    )
    assert [len(split.values) for split in dataset[:3]] == [5_001, 2_000, 2_003]
    assert [len(split.scored) for split in dataset[:3]] == [5_001, 2_000, 2_003]
    assert "".join(dataset.symbols) == "abcdefghijklmnopqrstuvwxyz=."
    assert dataset.channels == 28
    assert dataset.symbols[dataset.start] == "."
    for split in dataset[:3]:
        assert (split.values.dtype, split.scored.dtype) == (np.int32, bool)
    train, valid, test = (
        set(decode(split.values, SYMBOLS).split(".")[:-1]) for split in dataset[:3]
    )
    assert len(train) == 5_001 // 18
    assert not train & valid | train & test | valid & test


def test_the_seed_decides_all_splits():
    sizes = {"train_size": 3000, "valid_size": 3000, "test_size": 3000}
    first, again, other = (load(Memorisation(**sizes, seed=seed)) for seed in (1, 1, 2))
    for ours, same, different in zip(first[:3], again[:3], other[:3], strict=True):
        np.testing.assert_array_equal(ours.values, same.values)
        assert np.mean(ours.values[ours.scored] == different.values[ours.scored]) < 0.1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("train_size", 0),
        ("valid_size", 0),
        ("test_size", -1),
        ("length", 0),
        ("seed", -1),
        ("seed", 2**32),
    ],
)
def test_an_impossible_field_is_named(field, value):
    with pytest.raises(InputError, match=rf"^{field} must be .*, not {value}\.$"):
        Memorisation(**{field: value})
