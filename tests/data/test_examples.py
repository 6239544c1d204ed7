"""Words as numbers and back, and folds."""

import numpy as np
import pytest

from seqlab.data.examples import (
    ExampleDataset,
    Examples,
    Ragged,
    decode,
    encode,
    vocabulary,
)
from seqlab.data.fingerprint import fingerprint
from seqlab.data.folds import constant_order, fold
from seqlab.data.series import SeriesDataset

SENTENCES = [["b", "a", "b"], [], ["c", "a", "<s>"], ["b", "d"]]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((1,), ("<unk>", "b", "a", "<s>", "c", "d")),
        ((2,), ("<unk>", "b", "a")),
        ((3,), ("<unk>", "b")),
        ((4,), ("<unk>",)),
        ((1, 0), ("<unk>",)),
        ((1, 3), ("<unk>", "b", "a", "<s>")),
        ((1, 9, ()), ("b", "a", "<s>", "c", "d")),
        ((1, None, ("<unk>", "<s>", "</s>")), ("<unk>", "<s>", "</s>", "b", "a", "c", "d")),
    ],
)
def test_vocabulary_is_special_symbols_then_words_by_count_then_alphabet(arguments, expected):
    assert vocabulary(SENTENCES, *arguments) == expected
    assert vocabulary(SENTENCES[::-1], *arguments) == expected


def test_words_survive_as_numbers_and_unknown_ones_become_unk():
    every = vocabulary(SENTENCES, 1)
    ragged = encode(SENTENCES, every)
    assert ragged.lengths.tolist() == [3, 0, 3, 2]
    assert [every[number] for number in ragged.values] == ["b", "a", "b", "c", "a", "<s>", "b", "d"]
    assert (ragged.values.dtype, ragged.lengths.dtype) == (np.int32, np.int32)
    assert decode(ragged, every) == SENTENCES
    few = vocabulary(SENTENCES, 2)
    assert decode(encode(SENTENCES, few), few) == [
        ["b", "a", "b"],
        [],
        ["<unk>", "a", "<unk>"],
        ["b", "<unk>"],
    ]
    assert decode(encode([], few), few) == []
    assert encode(["CAB"], "ABC").values.tolist() == [2, 0, 1]
    with pytest.raises(KeyError, match="D"):
        encode(["CAD"], "ABC")


@pytest.mark.parametrize(("size", "folds"), [(100, 10), (106, 106), (53, 10), (31, 7)])
def test_folds_test_every_example_once_and_keep_the_classes_in_proportion(size, folds):
    labels = np.random.default_rng(size).choice(3, size=size, p=[0.6, 0.3, 0.1])
    tested = []
    for number in range(folds):
        splits = fold(labels, number, folds)
        assert sorted(np.concatenate(splits)) == list(range(size))
        for split in splits:
            assert split.tolist() == sorted(split)
        tested.extend(splits.test)
        assert len(splits.test) in (size // folds, -(-size // folds))
        assert len(splits.valid) == -(-(size - len(splits.test)) // 10)
        for label in range(3):
            share = (labels == label).sum() / folds
            assert abs((labels[splits.test] == label).sum() - share) < 1
            share = ((labels == label).sum() - (labels[splits.test] == label).sum()) / 10
            assert abs((labels[splits.valid] == label).sum() - share) < 1
    assert sorted(tested) == list(range(size))


def test_the_order_is_the_same_for_ever():
    assert constant_order(8).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
    assert sorted(constant_order(1000)) == list(range(1000))


def test_fingerprint_of_examples_changes_with_everything():
    def split() -> Examples:
        inputs = Ragged(np.arange(6, dtype=np.int32), np.array([4, 2], np.int32))
        return Examples(inputs, np.array([0, 1], np.int32))

    def tagged() -> Examples:
        return split()._replace(targets=split().inputs)

    dataset = ExampleDataset(split(), split(), split(), ("a", "b"), ("x", "y"))
    changes = []
    for make in (split, tagged):
        value, length, target = make(), make(), make()
        value.inputs.values[5] = 0
        length.inputs.lengths[:] = 3
        (target.targets if make is split else target.targets.values)[0] = 1
        changes += [
            dataset._replace(**{name: changed})
            for name in ("train", "valid", "test")
            for changed in (value, length, target)
        ]
    changes += [
        dataset._replace(symbols=("a", "c")),
        dataset._replace(classes=("y", "x")),
        dataset._replace(train=tagged()),
    ]
    assert len({fingerprint(dataset), *map(fingerprint, changes)}) == len(changes) + 1
    series = SeriesDataset(split(), split(), split(), 0.5, 2.0, "m")
    others = [series._replace(mean=0.25), series._replace(std=1.0), series._replace(unit="s")]
    assert len({fingerprint(series), *map(fingerprint, others)}) == 4
