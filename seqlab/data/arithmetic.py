"""Arithmetic: read a sum or a difference among distractors, then write the answer.

`3e36d9-h1h39f94eeh43keg3c=-13991064.` says 3369 - 13994433 = -13991064.

An example is two integers joined by `+` or `-`, then `=`, the answer and `.`. Between successive
input characters, up to `=`, stand random letters that mean nothing; the answer has none.

The source gives no distribution for four things. Here each is uniform and independent of the rest:
how many digits an integer has, 1..max_digits (0 leads only where it stands alone); its sign, so
that `12--34=` and `-0+7=` occur; the operation; how many letters fill a gap, 0..max_distractors.

Source: Jozefowicz, Zaremba and Sutskever 2015.
"""

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from seqlab.data.keys import generator, split_keys
from seqlab.data.ranges import check_range, check_splits
from seqlab.data.stream import Dataset, Stream
from seqlab.data.text import ABSENT, LETTERS, first, flow

if TYPE_CHECKING:
    import jax

SYMBOLS = (*LETTERS, *"0123456789", "+", "-", "=", ".")
ZERO, PLUS, MINUS, EQUALS, STOP = (SYMBOLS.index(symbol) for symbol in "0+-=.")

FLOOR = 0.234
"""Accuracy of always guessing the most common symbol of each answer position, at the defaults."""

BLOCK = 4096  # examples drawn at a time


@dataclass(frozen=True)
class Arithmetic:
    """Sizes in characters; the longest integer in digits; the longest gap in letters."""

    train_size: int = 2_100_000
    valid_size: int = 70_000
    test_size: int = 70_000
    max_digits: int = 8
    max_distractors: int = 2
    seed: int = 0

    def __post_init__(self):
        check_splits(self.train_size, self.valid_size, self.test_size, self.seed)
        _check_example(self.max_digits, self.max_distractors)


def load(config: Arithmetic) -> Dataset:
    """Three splits from three keys; only answers are scored."""
    keys = split_keys(config.seed)
    limits = config.max_digits, config.max_distractors
    return Dataset(
        train=stream(keys.train, config.train_size, *limits),
        valid=stream(keys.valid, config.valid_size, *limits),
        test=stream(keys.test, config.test_size, *limits),
        symbols=SYMBOLS,
        channels=len(SYMBOLS),
        start=STOP,
    )


def stream(key: "jax.Array", size: int, max_digits: int, max_distractors: int) -> Stream:
    """Examples end to end, the last one cut: a pure function of the key.

    A shorter stream is a prefix of a longer one.

    Returns:
        `size` characters, scored from after `=` up to and including `.`.

    Raises:
        InputError: a limit out of range.
    """
    _check_example(max_digits, max_distractors)
    random = generator(key)
    return first(size, (_examples(random, max_digits, max_distractors) for _ in count()))


def _check_example(max_digits: int, max_distractors: int) -> None:
    check_range(1, 18, max_digits=max_digits)  # the sum of two such integers fits 64 bits
    check_range(0, 100, max_distractors=max_distractors)


def _examples(random: np.random.Generator, max_digits: int, max_distractors: int) -> Stream:
    digits = random.integers(1, max_digits + 1, (BLOCK, 2))
    magnitude = random.integers(np.where(digits == 1, 0, 10 ** (digits - 1)), 10**digits)
    negative = random.integers(2, size=(BLOCK, 2), dtype=bool)
    minus = random.integers(2, size=BLOCK, dtype=bool)

    left, right = np.where(negative, -magnitude, magnitude).T
    answer = np.where(minus, left - right, left + right)

    question = np.concatenate(
        [
            _written(magnitude[:, 0], negative[:, 0], max_digits),
            np.where(minus, MINUS, PLUS)[:, None],
            _written(magnitude[:, 1], negative[:, 1], max_digits),
            np.full((BLOCK, 1), EQUALS),
        ],
        axis=1,
        dtype=np.int8,
    )
    question = _with_distractors(random, question, max_distractors)
    reply = np.concatenate(
        [_written(np.abs(answer), answer < 0, max_digits + 1), np.full((BLOCK, 1), STOP)],
        axis=1,
        dtype=np.int8,
    )
    return flow(np.concatenate([question, reply], axis=1), scored_from=question.shape[1])


def _written(magnitude: np.ndarray, negative: np.ndarray, max_digits: int) -> np.ndarray:
    powers = 10 ** np.arange(max_digits)[::-1]
    digits = ZERO + magnitude[:, None] // powers % 10
    leading = (magnitude[:, None] < powers) & (powers > 1)
    sign = np.where(negative, MINUS, ABSENT)[:, None]
    return np.concatenate([sign, np.where(leading, ABSENT, digits)], axis=1)


def _with_distractors(random: np.random.Generator, text: np.ndarray, limit: int) -> np.ndarray:
    letters = random.integers(len(LETTERS), size=(*text.shape, limit), dtype=np.int8)
    gaps = random.integers(limit + 1, size=text.shape)
    gaps[text == ABSENT] = 0
    gaps[:, -1] = 0  # the answer follows `=` at once
    letters[np.arange(limit) >= gaps[:, :, None]] = ABSENT
    return np.concatenate([text[:, :, None], letters], axis=2).reshape(len(text), -1)
