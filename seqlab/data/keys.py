"""From one seed to a key per split, and from a key to random numbers on the host."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import jax


class SplitKeys(NamedTuple):
    """One typed key per split."""

    train: "jax.Array"
    valid: "jax.Array"
    test: "jax.Array"


def split_keys(seed: int) -> SplitKeys:
    """The keys of the three splits of a synthetic task, independent of one another."""
    import jax  # here: naming a data set needs no jax

    return SplitKeys(*jax.random.split(jax.random.key(seed), 3))


def generator(key: "jax.Array") -> np.random.Generator:
    """A NumPy generator that is a pure function of a typed key: equal keys draw equal numbers."""
    import jax

    words = np.asarray(jax.random.key_data(key)).ravel().tolist()
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))
