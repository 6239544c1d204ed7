"""XML: predict the next character of nested tags, which takes a stack of their names.

`<fgh><kq></kq></fgh>`: a tag opens with `<name>` and closes with `</name>`, and a name is 2 to 10
random letters, each length as likely. A document is an iteration: with probability 1/2, and always
after 50 iterations, close the most recently opened tag, or stop if none is open; otherwise open a
new one. Documents follow one another with no mark in between, so an empty one leaves no trace.

Source: Jozefowicz, Zaremba and Sutskever 2015.
"""

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from seqlab.data.keys import generator, split_keys
from seqlab.data.ranges import check_splits
from seqlab.data.stream import Dataset, Stream
from seqlab.data.text import ABSENT, LETTERS, first, flow

if TYPE_CHECKING:
    import jax

SYMBOLS = (*LETTERS, "<", ">", "/")
OPEN, CLOSE, SLASH = (SYMBOLS.index(symbol) for symbol in "<>/")

ANCHORS = {
    "no tag name recalled": 0.3013,
    "recalled if closed immediately": 0.4774,
    "recalled if at most one tag was opened in between": 0.5224,
    "perfect stack": 0.6497,
}
"""Expected accuracy of a predictor that knows the rule and recalls these names in closing tags.

It knows whether a tag is open, and takes the most probable character each time: after `<` it says
`/` where one is; letters it does not recall it guesses, two of them, and then says `>`.
"""

FREE_ITERATIONS = 50
SHORTEST, LONGEST = 2, 10  # letters of a name
BLOCK = 4096  # documents drawn at a time


@dataclass(frozen=True)
class Xml:
    """Sizes in characters."""

    train_size: int = 2_100_000
    valid_size: int = 70_000
    test_size: int = 70_000
    seed: int = 0

    def __post_init__(self):
        check_splits(self.train_size, self.valid_size, self.test_size, self.seed)


def load(config: Xml) -> Dataset:
    """Three splits from three keys; every character is scored."""
    keys = split_keys(config.seed)
    return Dataset(
        train=stream(keys.train, config.train_size),
        valid=stream(keys.valid, config.valid_size),
        test=stream(keys.test, config.test_size),
        symbols=SYMBOLS,
        channels=len(SYMBOLS),
        start=CLOSE,
    )


def stream(key: "jax.Array", size: int) -> Stream:
    """Documents end to end, the last one cut: a pure function of the key.

    A shorter stream is a prefix of a longer one.

    Returns:
        `size` characters, all scored.
    """
    random = generator(key)
    return first(size, (_documents(random) for _ in count()))


def _documents(random: np.random.Generator) -> Stream:
    steps = np.where(random.integers(2, size=(BLOCK, FREE_ITERATIONS), dtype=bool), 1, -1)
    open_tags = np.cumsum(steps, axis=1)
    # To close where no tag is open is to stop: the walk's first step below 0 ends the document.
    running = np.minimum.accumulate(open_tags, axis=1) >= 0
    left_open = np.where(running[:, -1], open_tags[:, -1], 0)
    closing_down = np.arange(FREE_ITERATIONS) < left_open[:, None]
    steps = np.concatenate([steps, np.full_like(steps, -1)], axis=1)
    steps = steps[np.concatenate([running, closing_down], axis=1)]

    # At one level of nesting, opening and closing tags alternate, and neighbours belong together.
    level = np.cumsum(steps) + (steps < 0)
    by_level = np.argsort(level.astype(np.int8), kind="stable")
    opened, closed = by_level[0::2], by_level[1::2]

    names = random.integers(len(LETTERS), size=(len(opened), LONGEST), dtype=np.int8)
    lengths = random.integers(SHORTEST, LONGEST + 1, size=(len(opened), 1))
    names[np.arange(LONGEST) >= lengths] = ABSENT

    tags = np.empty((len(steps), 1 + 1 + LONGEST + 1), np.int8)
    tags[:, 0] = OPEN
    tags[:, 1] = np.where(steps < 0, SLASH, ABSENT)
    tags[opened, 2:-1] = names
    tags[closed, 2:-1] = names
    tags[:, -1] = CLOSE
    return flow(tags)
