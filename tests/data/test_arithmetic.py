"""Examples are read back with a regular expression and computed with Python's integers."""

import re
from collections import Counter

import jax
import numpy as np
import pytest
from scipy.stats import chisquare

from seqlab.data.arithmetic import FLOOR, SYMBOLS, Arithmetic, load, stream
from seqlab.data.text import decode
from seqlab.errors import InputError

LETTERS = "abcdefghijklmnopqrstuvwxyz"
INTEGER = r"(-?)(0|[1-9]\d*)"
EXAMPLE = re.compile(rf"{INTEGER}([+-]){INTEGER}=(0|-?[1-9]\d*)\.")
LIMITS = [(1, 0), (2, 1), (8, 2), (18, 5)]  # (max_digits, max_distractors)


def written(size, max_digits=8, max_distractors=2):
    return decode(stream(jax.random.key(11), size, max_digits, max_distractors).values, SYMBOLS)


def complete_examples(text):
    return [example + "." for example in text.split(".")[:-1]]


def read(example):
    match = EXAMPLE.fullmatch(re.sub("[a-z]", "", example))
    assert match, example
    return match.groups()


def is_right(example):
    first_sign, first, operation, second_sign, second, answer = read(example)
    left, right = int(first_sign + first), int(second_sign + second)
    return int(answer) == (left + right if operation == "+" else left - right)


def is_uniform(counts, cells):
    assert len(counts) == cells
    return cells == 1 or chisquare(list(counts.values())).pvalue > 1e-3


def test_the_reader_agrees_with_the_published_example():
    example = "3e36d9-h1h39f94eeh43keg3c=-13991064."
    assert is_right(example)
    assert not is_right(example.replace("64.", "65."))


@pytest.mark.parametrize(("max_digits", "max_distractors"), LIMITS)
def test_every_answer_is_exact(max_digits, max_distractors):
    examples = complete_examples(written(100_000, max_digits, max_distractors))
    assert len(examples) > 1000
    assert all(is_right(example) for example in examples)


@pytest.mark.parametrize(("max_digits", "max_distractors"), LIMITS)
def test_answers_and_nothing_else_are_scored(max_digits, max_distractors):
    values, scored = stream(jax.random.key(11), 100_000, max_digits, max_distractors)
    answering, expected = False, []
    for character in decode(values, SYMBOLS):
        expected.append(answering)
        answering = character == "=" or (answering and character != ".")
    np.testing.assert_array_equal(scored, expected)


@pytest.mark.parametrize(("max_digits", "max_distractors"), LIMITS)
def test_distractors_stand_between_input_characters_in_uniform_numbers(max_digits, max_distractors):
    gaps, letters = Counter(), Counter()
    for example in complete_examples(written(300_000, max_digits, max_distractors)):
        question, answer = example.split("=")
        assert question[0] in "-0123456789"
        assert not re.search("[a-z]", answer)
        gaps.update(len(gap) for gap in re.findall("[^a-z]([a-z]*)", question))
        letters.update(re.findall("[a-z]", question))
    assert set(gaps) == set(range(max_distractors + 1))
    assert is_uniform(gaps, max_distractors + 1)
    assert is_uniform(letters, 26) if max_distractors else not letters


def test_lengths_signs_and_operations_are_uniform_and_independent():
    kinds = Counter()
    for example in complete_examples(written(1_000_000)):
        first_sign, first, operation, second_sign, second, _ = read(example)
        kinds[first_sign, len(first), operation, second_sign, len(second)] += 1
    assert is_uniform(kinds, 2 * 8 * 2 * 2 * 8)


def test_digits_are_uniform_at_each_place():
    places = {(length, place): Counter() for length in range(1, 9) for place in range(length)}
    for example in complete_examples(written(1_000_000)):
        _, first, _, _, second, _ = read(example)
        for number in (first, second):
            for place, digit in enumerate(number):
                places[len(number), place][digit] += 1
    for (length, place), digits in places.items():
        assert is_uniform(digits, 9 if length > 1 and place == 0 else 10), (length, place)


def test_the_floor_is_what_the_most_common_symbol_of_each_position_scores():
    positions = {}
    for example in complete_examples(written(4_000_000)):
        for position, symbol in enumerate(example.split("=")[1]):
            positions.setdefault(position, Counter())[symbol] += 1
    right = sum(max(symbols.values()) for symbols in positions.values())
    assert right / sum(symbols.total() for symbols in positions.values()) == pytest.approx(
        FLOOR, abs=0.002
    )


def test_a_stream_is_a_function_of_its_key():
    first, again = (stream(jax.random.key(4), 50_000, 8, 2) for _ in range(2))
    other = stream(jax.random.key(5), 50_000, 8, 2)
    longer = stream(jax.random.key(4), 200_000, 8, 2)
    np.testing.assert_array_equal(first.values, again.values)
    np.testing.assert_array_equal(first.scored, again.scored)
    np.testing.assert_array_equal(first.values, longer.values[:50_000])
    assert complete_examples(decode(first.values, SYMBOLS))[0] not in decode(other.values, SYMBOLS)


def test_splits_have_their_sizes_and_share_no_long_example():
    dataset = load(Arithmetic(train_size=50_001, valid_size=20_000, test_size=20_002, seed=3))
    assert [len(split.values) for split in dataset[:3]] == [50_001, 20_000, 20_002]
    assert [len(split.scored) for split in dataset[:3]] == [50_001, 20_000, 20_002]
    assert "".join(dataset.symbols) == LETTERS + "0123456789+-=."
    assert dataset.channels == 40
    assert dataset.symbols[dataset.start] == "."
    for split in dataset[:3]:
        assert (split.values.dtype, split.scored.dtype) == (np.int32, bool)
    train, valid, test = (
        {
            example
            for example in complete_examples(decode(split.values, SYMBOLS))
            if len(example) > 25
        }
        for split in dataset[:3]
    )
    assert len(train) > 500
    assert not train & valid | train & test | valid & test


def test_the_seed_decides_all_splits():
    sizes = {"train_size": 3000, "valid_size": 3000, "test_size": 3000}
    first, again, other = (load(Arithmetic(**sizes, seed=seed)) for seed in (1, 1, 2))
    for ours, same, different in zip(first[:3], again[:3], other[:3], strict=True):
        np.testing.assert_array_equal(ours.values, same.values)
        assert np.mean(ours.values == different.values) < 0.2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("train_size", 0),
        ("valid_size", -1),
        ("test_size", 0),
        ("max_digits", 0),
        ("max_digits", 19),
        ("max_distractors", -1),
        ("max_distractors", 101),
        ("seed", -1),
        ("seed", 2**32),
    ],
)
def test_an_impossible_field_is_named(field, value):
    with pytest.raises(InputError, match=rf"^{field} must be .*, not {value}\.$"):
        Arithmetic(**{field: value})


def test_a_stream_of_integers_beyond_64_bits_is_refused():
    with pytest.raises(InputError, match="max_digits must be from 1 to 18, not 19"):
        stream(jax.random.key(0), 10, 19, 0)
