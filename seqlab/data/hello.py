"""Three words over four letters, the smallest exercise there is: which letter comes next?"""

from collections.abc import Sequence
from dataclasses import dataclass

from seqlab.data.examples import ExampleDataset, Examples, encode

LETTERS = ("h", "e", "l", "o")
WORDS = ("hello", "eolll", "lleel")
TIMES = 20  # copies of each in train: an epoch of one batch would mean a checkpoint per batch


@dataclass(frozen=True)
class Hello:
    """There are three words and nothing to choose about them."""


def load(config: Hello) -> ExampleDataset:
    """The five letters of each word, and to each of the first four the one that follows.

    What follows the fifth is not asked: it has no target. All splits are of the same three words:
    what is asked is whether they can be learnt. The last letter alone does not say which is next;
    all letters so far do.
    """
    once, often = _examples(WORDS), _examples(WORDS * TIMES)
    return ExampleDataset(often, once, once, symbols=LETTERS, classes=LETTERS)


def _examples(words: Sequence[str]) -> Examples:
    return Examples(encode(words, LETTERS), encode([word[1:] for word in words], LETTERS))
