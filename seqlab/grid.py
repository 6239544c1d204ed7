"""Grids as lists: products of axes and random search."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from seqlab.trial import replace

T = TypeVar("T")


def product(base: T, axes: Mapping[str, Sequence[Any]]) -> list[T]:
    """One trial for every combination of values, the last axis changing fastest."""
    return [
        replace(base, dict(zip(axes, values, strict=True)))
        for values in itertools.product(*axes.values())
    ]


def random_search(
    space: Mapping[str, Sequence[Any]], count: int, seed: int
) -> list[dict[str, Any]]:
    """`count` settings, each field drawn uniformly from its values; the same for the same seed.

    The first k settings do not depend on `count`, so a larger budget contains the smaller one.
    """
    rng = np.random.default_rng(seed)
    return [
        {path: values[int(rng.integers(len(values)))] for path, values in space.items()}
        for _ in range(count)
    ]
