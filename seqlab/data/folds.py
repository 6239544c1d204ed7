"""Splits of what was published without any: one order for ever, and folds of it."""

from typing import NamedTuple

import numpy as np


class Fold(NamedTuple):
    """Which examples are in which split, each in the order of publication."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def constant_order(size: int) -> np.ndarray:
    """A permutation of `size` that is the same for ever."""
    # NumPy promises that the bits of Philox stay the same, and of `permutation` it does not.
    return np.argsort(np.random.Philox(key=0).random_raw(size), kind="stable")


def fold(labels: np.ndarray, number: int, folds: int) -> Fold:
    """One of the rounds of a cross-validation, in which every example is tested once.

    The examples are put into one order for ever, then by class, and dealt to the folds one by one:
    sizes, and sizes of classes, differ by no more than one. Of what is not tested, every tenth is
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
