"""Memorisation: read five letters, then reproduce them; the screen before the real tasks.

`qwert=qwert.`: random letters, `=`, the same letters, `.`. One example follows another, and only
the reproduced letters are scored. The source asks for 5 symbols out of 26 and lets an architecture
pass at 95% accuracy; it describes no marks, so the two are a choice made here.

Source: Jozefowicz, Zaremba and Sutskever 2015.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from seqlab.data.keys import generator, split_keys
from seqlab.data.ranges import check_range, check_splits
from seqlab.data.stream import Dataset, Stream
from seqlab.data.text import LETTERS

if TYPE_CHECKING:
    import jax

SYMBOLS = (*LETTERS, "=", ".")
EQUALS, STOP = (SYMBOLS.index(symbol) for symbol in "=.")


@dataclass(frozen=True)
class Memorisation:
    """Sizes in characters; `length` letters to remember."""

    train_size: int = 700_000
    valid_size: int = 70_000
    test_size: int = 70_000
    length: int = 5
    seed: int = 0

    def __post_init__(self):
        check_splits(self.train_size, self.valid_size, self.test_size, self.seed)
        check_range(1, length=self.length)


def load(config: Memorisation) -> Dataset:
    """Three splits from three keys; only the reproduced letters are scored."""
    keys = split_keys(config.seed)
    return Dataset(
        train=stream(keys.train, config.train_size, config.length),
        valid=stream(keys.valid, config.valid_size, config.length),
        test=stream(keys.test, config.test_size, config.length),
        symbols=SYMBOLS,
        channels=len(SYMBOLS),
        start=STOP,
    )


def stream(key: "jax.Array", size: int, length: int) -> Stream:
    """Examples end to end, the last one cut: a pure function of the key.

    A shorter stream is a prefix of a longer one.

    Returns:
        `size` characters, scored where the letters are reproduced.
    """
    examples = -(-size // (2 * length + 2))
    letters = generator(key).integers(len(LETTERS), size=(examples, length), dtype=np.int32)
    mark = np.ones((examples, 1), np.int32)
    values = np.concatenate([letters, EQUALS * mark, letters, STOP * mark], axis=1)
    scored = np.zeros(values.shape, bool)
    scored[:, length + 1 : -1] = True
    return Stream(values.ravel()[:size], scored.ravel()[:size])
