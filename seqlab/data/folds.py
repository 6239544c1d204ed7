"""Splits of sets that were published without any: one fixed order, and its folds."""

from typing import NamedTuple

import numpy as np


class Fold(NamedTuple):
    """Which examples are in which split, each in the order of publication."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def constant_order(size: int) -> np.ndarray:
    """A permutation of `size` that is the same for ever."""
    # NumPy guarantees the bit stream of Philox across versions, but not that of `permutation`.
    return np.argsort(np.random.Philox(key=0).random_raw(size), kind="stable")


def fold(labels: np.ndarray, number: int, folds: int) -> Fold:
    """One round of a stratified cross-validation, in which every example is tested once.

    The examples are put into one fixed order, then sorted by class, and dealt to the folds one by
    one: sizes, and sizes of classes, differ by no more than one. Every tenth of those not tested is
    for validation. As many folds as examples is leave-one-out.

    Args:
        labels: the class of each example.
        number: which fold is tested, from 0.
    """
    order = constant_order(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    tested = np.arange(len(order)) % folds == number
    rest = order[~tested]
    validates = np.arange(len(rest)) % 10 == 0
    return Fold(
        train=np.sort(rest[~validates]), valid=np.sort(rest[validates]), test=np.sort(order[tested])
    )
