"""Character-level language modelling: tiny Shakespeare, and Penn Treebank letter by letter.

Shakespeare's text is in the public domain. That of Penn Treebank belongs to the Linguistic Data
Consortium and is not open: it is read, never passed on.
"""

import string
from dataclasses import dataclass

import numpy as np

from seqlab.data import prepared, published
from seqlab.data.files import Original
from seqlab.data.stream import Dataset, Stream

SHAKESPEARE_SYMBOLS = ("\n", *" !$&',-.3:;?", *string.ascii_uppercase, *string.ascii_lowercase)
PTB_SYMBOLS = ("\n", *"#$&'*-./", *string.digits, *"<>N\\_", *string.ascii_lowercase)


@dataclass(frozen=True)
class Shakespeare:
    """There is one tiny Shakespeare and nothing to choose about it."""


@dataclass(frozen=True)
class PtbChar:
    """There is one Penn Treebank and nothing to choose about it."""


def load_shakespeare(config: Shakespeare) -> Dataset:
    """1,115,394 characters, 65 different ones: 90, 5 and 5 % of them, by position.

    Every character is scored, and a line end comes before the first.

    Raises:
        InputError: the data is not there or is damaged; names the command that prepares it.

    Source: Karpathy 2015, The Unreasonable Effectiveness of Recurrent Neural Networks; the splits
        are the usual ones and not published.
    """
    (text,) = published.read(SOURCES["tinyshakespeare"])["published"]
    valid, test = len(text) * 90 // 100, len(text) * 95 // 100
    return _dataset(text[:valid], text[valid:test], text[test:], SHAKESPEARE_SYMBOLS)


def load_ptb_char(config: PtbChar) -> Dataset:
    """5,017,482 / 393,042 / 442,423 characters, 50 different ones; `_` stands for a space.

    Every character is scored, line ends too, and a line end comes before the first.

    Raises:
        InputError: the data is not there or is damaged; names the command that prepares it.

    Source: Mikolov et al. 2012, Subword Language Modeling with Neural Networks.
    """
    texts = published.read(SOURCES["ptb_char"])
    # As published, every symbol is followed by a space.
    (train,), (valid,), (test,) = texts["train"], texts["valid"], texts["test"]
    return _dataset(train[::2], valid[::2], test[::2], PTB_SYMBOLS)


def check_shakespeare(config: Shakespeare) -> None:
    """Raise the InputError that `load_shakespeare` would, before any work has started."""
    prepared.check(SOURCES["tinyshakespeare"])


def check_ptb_char(config: PtbChar) -> None:
    """Raise the InputError that `load_ptb_char` would raise, before any work has started."""
    prepared.check(SOURCES["ptb_char"])


def _dataset(train: bytes, valid: bytes, test: bytes, symbols: tuple[str, ...]) -> Dataset:
    number = np.full(256, -1, np.int32)
    number[[ord(symbol) for symbol in symbols]] = np.arange(len(symbols))

    def stream(text: bytes) -> Stream:
        values = number[np.frombuffer(text, np.uint8)]
        return Stream(values, scored=np.ones(len(values), dtype=bool))

    return Dataset(
        stream(train),
        stream(valid),
        stream(test),
        symbols=symbols,
        channels=len(symbols),
        start=symbols.index("\n"),
    )


_PTB_URL = (
    "https://raw.githubusercontent.com/arthurdehgan/IFT6135_assignment_2/"
    "191820cabc95c8d8af11d0bf3679207dd3b97e08/data/"
)


def _ptb_file(split: str, size: int, sha256: str) -> Original:
    file = f"ptb.char.{split}.txt"
    return Original(f"ptb_char/{file}", size, sha256, _PTB_URL + file)


_SOURCES = (
    published.source(
        "tinyshakespeare",
        {
            "published": [
                Original(
                    "tinyshakespeare/input.txt",
                    1_115_394,
                    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
                    "https://raw.githubusercontent.com/karpathy/char-rnn/"
                    "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt",
                )
            ]
        },
    ),
    published.source(
        "ptb_char",
        {
            "train": [
                _ptb_file(
                    "train",
                    10_034_964,
                    "e313d91425e06c4f0a8fb6e881dcce0c291f2a0e9f4dda54833069b122f91da9",
                )
            ],
            "valid": [
                _ptb_file(
                    "valid",
                    786_084,
                    "21661f63ec355085879458b6524644d4add5573541b4be14fb52ab2e2e995eb8",
                )
            ],
            "test": [
                _ptb_file(
                    "test",
                    884_846,
                    "1ef5607ac3c463b16e38bfe7900dd3bfc91de5a96e0f21e7eab5188b465b8ebe",
                )
            ],
        },
    ),
)
SOURCES = {source.name: source for source in _SOURCES}
