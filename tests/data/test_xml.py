"""A stack machine reads the text, and the shape of its trees is held against the rule's law."""

import re
from collections import Counter, defaultdict

import jax
import numpy as np
import pytest
from scipy.stats import chisquare

from seqlab.data.text import decode
from seqlab.data.xml import ANCHORS, SYMBOLS, Xml, load, stream
from seqlab.errors import InputError

RECALLS = {  # by the number of tags opened since the one that is being closed
    "no tag name recalled": lambda opened_since: False,
    "recalled if closed immediately": lambda opened_since: opened_since == 0,
    "recalled if at most one tag was opened in between": lambda opened_since: opened_since <= 1,
    "perfect stack": lambda opened_since: True,
}


@pytest.fixture(scope="module")
def text():
    return decode(stream(jax.random.key(12), 4_000_000).values, SYMBOLS)


def trees(text):
    """The names of each top-level element, in the order of opening; raises where tags mismatch."""
    names, stack = [], []
    for slash, name in re.findall("<(/?)([a-z]+)>", text):
        if slash:
            assert stack.pop() == name
            if not stack:
                yield names
                names = []
        else:
            stack.append(name)
            names.append(name)


def expected_trees_per_document():
    """The rule followed by probabilities: how many top-level elements of n tags a document has."""
    expected = defaultdict(float)
    states = {(0, 0): 1.0}  # (open tags, tags in this element) -> probability
    for _ in range(50):
        following = defaultdict(float)
        for (depth, tags), probability in states.items():
            following[depth + 1, tags + 1] += probability / 2
            if depth > 1:
                following[depth - 1, tags] += probability / 2
            elif depth == 1:
                expected[tags] += probability / 2
                following[0, 0] += probability / 2
        states = following
    for (depth, tags), probability in states.items():
        if depth:
            expected[tags] += probability
    return expected


def accuracy(text, recalls):
    """Predict each character from those before it, always the most probable one."""
    right, opened, stack, tag, guess = 0, 0, [], "", "<"
    for character in text:
        right += guess == character
        if character == "<":
            tag = ""
            guess = "/" if stack else "a"
        elif character == ">":
            if tag[0] == "/":
                stack.pop()
            else:
                opened += 1
                stack.append((tag, opened))
            guess = "<"
        else:
            tag += character
            if tag[0] == "/" and recalls(opened - stack[-1][1]):
                guess = (stack[-1][0] + ">")[len(tag) - 1]
            else:  # of a name nothing is known but its length
                guess = ">" if len(tag.strip("/")) >= 2 else "a"
    return right / len(text)


def test_the_text_is_tags_and_nothing_else(text):
    assert re.fullmatch("(</?[a-z]{2,10}>)*(<?/?[a-z]{0,10}>?)", text)


def test_every_closing_tag_names_the_most_recently_opened_one(text):
    read = list(trees(text))
    assert sum(len(names) for names in read) > 200_000


def test_the_stack_machine_refuses_a_wrong_name():
    assert list(trees("<ab><cd></cd></ab><cd></cd>")) == [["ab", "cd"], ["cd"]]
    with pytest.raises(AssertionError):
        list(trees("<ab><cd></ab></cd>"))


def test_documents_follow_the_law_of_the_rule(text):
    observed = Counter(len(names) for names in trees(text))
    expected = expected_trees_per_document()
    common = [size for size in expected if expected[size] * observed.total() > 50]
    assert min(common) == 1
    assert max(common) > 30
    law = np.array([expected[size] for size in common])
    found = np.array([observed[size] for size in common])
    assert chisquare(found, law / law.sum() * found.sum()).pvalue > 1e-3
    assert max(observed) <= 50


def test_names_have_uniform_lengths_and_letters(text):
    names = [name for tree in trees(text) for name in tree]
    lengths = Counter(len(name) for name in names)
    assert set(lengths) == set(range(2, 11))
    assert chisquare(list(lengths.values())).pvalue > 1e-3
    for place in range(10):
        letters = Counter(name[place] for name in names if len(name) > place)
        assert len(letters) == 26
        assert chisquare(list(letters.values())).pvalue > 1e-3


@pytest.mark.parametrize("name", ANCHORS)
def test_an_anchor_is_what_its_predictor_scores(text, name):
    assert accuracy(text[:2_000_000], RECALLS[name]) == pytest.approx(ANCHORS[name], abs=0.002)


def test_a_stream_is_a_function_of_its_key():
    first, again, other = (stream(jax.random.key(key), 50_000) for key in (4, 4, 5))
    longer = stream(jax.random.key(4), 1_000_000)
    np.testing.assert_array_equal(first.values, again.values)
    np.testing.assert_array_equal(first.values, longer.values[:50_000])
    assert np.mean(first.values == other.values) < 0.2


def test_splits_are_scored_throughout_and_share_no_long_name():
    dataset = load(Xml(train_size=50_001, valid_size=20_000, test_size=20_002, seed=3))
    assert [len(split.values) for split in dataset[:3]] == [50_001, 20_000, 20_002]
    assert "".join(dataset.symbols) == "abcdefghijklmnopqrstuvwxyz<>/"
    assert dataset.channels == 29
    assert dataset.symbols[dataset.start] == ">"
    for split in dataset[:3]:
        assert (split.values.dtype, split.scored.dtype) == (np.int32, bool)
        assert split.scored.shape == split.values.shape
        assert split.scored.all()
    train, valid, test = (
        {name for names in trees(decode(split.values, SYMBOLS)) for name in names if len(name) > 7}
        for split in dataset[:3]
    )
    assert len(train) > 500
    assert not train & valid | train & test | valid & test


def test_the_seed_decides_all_splits():
    sizes = {"train_size": 3000, "valid_size": 3000, "test_size": 3000}
    first, again, other = (load(Xml(**sizes, seed=seed)) for seed in (1, 1, 2))
    for ours, same, different in zip(first[:3], again[:3], other[:3], strict=True):
        np.testing.assert_array_equal(ours.values, same.values)
        assert np.mean(ours.values == different.values) < 0.2


@pytest.mark.parametrize(
    ("field", "value"),
    [("train_size", 0), ("valid_size", 0), ("test_size", -1), ("seed", -1), ("seed", 2**32)],
)
def test_an_impossible_field_is_named(field, value):
    with pytest.raises(InputError, match=rf"^{field} must be .*, not {value}\.$"):
        Xml(**{field: value})
