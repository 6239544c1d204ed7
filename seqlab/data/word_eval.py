"""Human judgements of words: the similarity of two, and analogies."""

from dataclasses import dataclass
from typing import NamedTuple

from seqlab.data import prepared, published
from seqlab.data.files import Original


@dataclass(frozen=True)
class WordEval:
    """There is nothing to choose about it."""


class Judged(NamedTuple):
    """Two words and how alike they are, by the mean of many people; every set has its own scale."""

    first: str
    second: str
    score: float


class WordQuestions(NamedTuple):
    """All words are in lower case.

    Attributes:
        similarity: of each set of pairs, its pairs.
        analogies: of each section, its questions: of a, b, c, d the last is to be found, which is
            to c as b is to a.
    """

    similarity: dict[str, tuple[Judged, ...]]
    analogies: dict[str, tuple[tuple[str, str, str, str], ...]]


PAIRS = {"wordsim353": 353, "similarity": 203, "relatedness": 252, "simlex999": 999}
PAIRS |= {"rg65": 65, "men": 3_000}
"""The sets of pairs, and how many each has."""
QUESTIONS = "analogies"


def load(config: WordEval) -> WordQuestions:
    """Six sets of pairs, and 19,544 analogies in 14 sections.

    wordsim353, and the two parts that it was divided into, similarity and relatedness; simlex999,
    where coast and shore are alike, and clothes and closet are not; rg65; men.

    Raises:
        InputError: the data is not there or is damaged; names the command that prepares it.

    Source: Finkelstein et al. 2002; Agirre et al. 2009; Hill et al. 2015; Rubenstein and Goodenough
        1965; Bruni et al. 2014; for the analogies Mikolov et al. 2013.
    """
    texts = published.read(SOURCES["word_eval"])
    similarity = {}
    for name in PAIRS:
        rows = published.sentences(texts[name][0].lower())
        similarity[name] = tuple(Judged(a, b, float(score)) for a, b, score in rows)
    analogies: dict[str, list[tuple[str, str, str, str]]] = {}
    section = ""
    for row in published.sentences(texts[QUESTIONS][0].lower()):
        if row[0] == ":":
            section = row[1]
        else:
            a, b, c, d = row
            analogies.setdefault(section, []).append((a, b, c, d))
    return WordQuestions(similarity, {name: tuple(rows) for name, rows in analogies.items()})


def check(config: WordEval) -> None:
    """Raise the InputError that `load` would raise, before any work has started."""
    prepared.check(SOURCES["word_eval"])


_SIMILARITY_URL = (
    "https://raw.githubusercontent.com/mfaruqui/eval-word-vectors/"
    "94b3dd9fdbac7ed08dbee7179cd5ee464acf0594/data/word-sim/"
)
_ANALOGIES_URL = (
    "https://raw.githubusercontent.com/tmikolov/word2vec/20c129af10659f7c50e86e3be406df663beff438/"
)


def _file(file: str, size: int, sha256: str, url: str = _SIMILARITY_URL) -> list[Original]:
    return [Original(f"word_eval/{file}", size, sha256, url + file)]


_WORD_EVAL = published.source(
    "word_eval",
    {
        "wordsim353": _file(
            "EN-WS-353-ALL.txt",
            7_405,
            "ce12919b240af45bdf46d243601eaca2b6212b159b5e7e9b435ee7ee40c5619c",
        ),
        "similarity": _file(
            "EN-WS-353-SIM.txt",
            4_002,
            "f1da938998863c94e53f72f984a5c6e215f0b46c323aae8f0f4930703a339107",
        ),
        "relatedness": _file(
            "EN-WS-353-REL.txt",
            5_134,
            "66a7c88100624d0a391605ff61ce84e11d11ee620d51ec0298da49592838f8fa",
        ),
        "simlex999": _file(
            "EN-SIMLEX-999.txt",
            18_024,
            "405394ffb7d25f6d0e3c041f87c9f27d29dc6b047506769953e85c4523b11685",
        ),
        "rg65": _file(
            "EN-RG-65.txt",
            1_210,
            "c243f3a91c3f5d8cf67f21a67f6fb80bde8b6bb060851a6a48e6f2d68ec98c9f",
        ),
        "men": _file(
            "EN-MEN-TR-3k.txt",
            53_593,
            "888b13580faa362c7b11da0a670258cf1b1eb4bf0ecbcd418918729a3bd3f43a",
        ),
        "analogies": _file(
            "questions-words.txt",
            603_955,
            "8c29b3332afc46f3fb8be04cb5297bf96f39aa7131272dff57869b4485b22a36",
            _ANALOGIES_URL,
        ),
    },
)
SOURCES = {_WORD_EVAL.name: _WORD_EVAL}
