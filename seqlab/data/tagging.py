"""Part-of-speech tags of English words from the web: Universal Dependencies, English Web Treebank.

The annotations are CC BY-SA 4.0.
"""

from dataclasses import dataclass

from seqlab.data import prepared, published
from seqlab.data.examples import ExampleDataset, Examples, encode, vocabulary
from seqlab.data.files import Original
from seqlab.data.ranges import check_range
from seqlab.errors import InputError, nearest

TAGS = ("upos", "xpos")
"""Universal tags, of which there are 17, and those of Penn Treebank, 49."""


@dataclass(frozen=True)
class Ewt:
    """Which tags: upos or xpos.

    Words that occur less than `min_count` times in train are unknown.
    """

    min_count: int = 2
    tags: str = "upos"

    def __post_init__(self):
        if self.tags not in TAGS:
            raise InputError(f"no tags {self.tags!r}.{nearest(self.tags, TAGS)}")
        check_range(1, min_count=self.min_count)


def load(config: Ewt) -> ExampleDataset:
    """204,577 / 25,147 / 25,094 words in 12,544 / 2,001 / 2,077 sentences, a tag for each word.

    Words are as they were written, with capitals. Classes are the tags of train, in alphabetical
    order; the other splits have no others.

    Raises:
        InputError: the data is not there or is damaged; names the command that prepares it.

    Source: Silveira et al. 2014, A Gold Standard Dependency Corpus for English; release 2.16.
    """
    texts = published.read(SOURCES["ud_english_ewt"])
    words = {split: published.sentences(kept[0]) for split, kept in texts.items()}
    tags = {
        split: published.sentences(kept[1 + TAGS.index(config.tags)])
        for split, kept in texts.items()
    }
    symbols = vocabulary(words["train"], config.min_count)
    classes = tuple(sorted({tag for sentence in tags["train"] for tag in sentence}))
    splits = {
        split: Examples(encode(words[split], symbols), encode(tags[split], classes))
        for split in texts
    }
    return ExampleDataset(**splits, symbols=symbols, classes=classes)


def check(config: Ewt) -> None:
    """Raise the InputError that `load` would raise, before any work has started."""
    prepared.check(SOURCES["ud_english_ewt"])


def words_and_tags(conllu: bytes) -> list[bytes]:
    """Three texts, of words, universal tags and Penn tags: a sentence on a line, spaces between.

    Multiword tokens (`1-2`, the line of `can't` above those of its two words) and empty nodes
    (`8.1`) are left out.
    """
    sentences = []
    for paragraph in conllu.decode().removesuffix("\n\n").split("\n\n"):
        rows = [line.split("\t") for line in paragraph.split("\n") if not line.startswith("#")]
        sentences.append([(row[1], row[3], row[4]) for row in rows if row[0].isdecimal()])
    return [
        "".join(f"{' '.join(row[column] for row in rows)}\n" for rows in sentences).encode()
        for column in range(3)
    ]


_URL = (
    "https://raw.githubusercontent.com/UniversalDependencies/UD_English-EWT/"
    "15d613d8447b3478787d4c278730a1e48a945efb/"
)


def _file(file: str, size: int, sha256: str) -> list[Original]:
    return [Original(f"ud_english_ewt/{file}", size, sha256, _URL + file)]


_EWT = published.source(
    "ud_english_ewt",
    {
        "train": _file(
            "en_ewt-ud-train.conllu",
            14_203_025,
            "3fb78e2b55482c8ee00caa653af436c88c9e5bc9a73ce26e4ae3ddc79d2b7e7b",
        ),
        "valid": _file(
            "en_ewt-ud-dev.conllu",
            1_805_545,
            "531a54ff90d6ab12201c5a50c3e78e6ddac4de69abc4bce5d275d3cd29efe2b6",
        ),
        "test": _file(
            "en_ewt-ud-test.conllu",
            1_804_515,
            "e266e515a0a7547657ed3d90d9ba46487d6bd251f27ad4269d4e8a427c8555cd",
        ),
    },
    keep=words_and_tags,
)
SOURCES = {_EWT.name: _EWT}
