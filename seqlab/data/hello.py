"""Three words of four letters, the smallest exercise there is: which letter comes next?"""

from dataclasses import dataclass

from seqlab.data.examples import ExampleDataset, Examples, encode

LETTERS = ("h", "e", "l", "o")
WORDS = ("hello", "eolll", "lleel")


@dataclass(frozen=True)
class Hello:
    """There are three words and nothing to choose about them."""


def load(config: Hello) -> ExampleDataset:
    """The first four letters of each word, and to each of them the one that follows.

    Train, valid and test are the same three words: what is asked is whether they can be learnt.
    The last letter alone does not say which is next; all letters so far do.
    """
    words = Examples(
        encode([word[:-1] for word in WORDS], LETTERS),
        encode([word[1:] for word in WORDS], LETTERS),
    )
    return ExampleDataset(words, words, words, symbols=LETTERS, classes=LETTERS)
