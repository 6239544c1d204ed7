"""WikiText-2, word level: articles of Wikipedia, CC BY-SA."""

from dataclasses import dataclass

from seqlab.data import prepared, words
from seqlab.data.files import Original
from seqlab.data.stream import Dataset

VOCABULARY = 33_278  # different words, <unk> and <eos> among them

_URL = (
    "https://raw.githubusercontent.com/pytorch/examples/"
    "77f55b912142e11fcfdf5b530231fb9c52f181e8/word_language_model/data/wikitext-2/"
)


@dataclass(frozen=True)
class WikiText2:
    """There is one WikiText-2 and nothing to choose about it."""


def load(config: WikiText2) -> Dataset:
    """2,088,628 / 217,646 / 245,569 words, 33,278 different ones, <unk> and <eos> among them.

    Every line ends in <eos>, every position is scored, and <eos> comes before the first word.
    Words are numbered by how often they occur in train, ties in alphabetical order.

    Raises:
        InputError: the data is not there or is damaged; names the command that prepares it.

    Source: Merity et al. 2016, Pointer Sentinel Mixture Models.
    """
    return words.dataset(SOURCES["wikitext2"])


def check(config: WikiText2) -> None:
    """Raise the InputError that `load` would raise, before any work has started."""
    prepared.check(SOURCES["wikitext2"])


_WIKITEXT2 = prepared.Source(
    "wikitext2",
    (
        Original(
            "wikitext2/wiki.train.tokens",
            10_797_148,
            "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f",
            _URL + "train.txt",
        ),
        Original(
            "wikitext2/wiki.valid.tokens",
            1_121_681,
            "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
            _URL + "valid.txt",
        ),
        Original(
            "wikitext2/wiki.test.tokens",
            1_256_449,
            "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
            _URL + "test.txt",
        ),
    ),
    words.parse,
)
SOURCES = {_WIKITEXT2.name: _WIKITEXT2}
