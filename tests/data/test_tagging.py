"""Tagged words against the treebank's files, read apart from the code under test."""

import re

import pytest
from small_texts import content, known, most_frequent

from seqlab import data
from seqlab.data import Ewt
from seqlab.data.examples import decode
from seqlab.errors import InputError

SENTENCES = {"train": 12_544, "dev": 2_001, "test": 2_077}
WORDS = {"train": 204_577, "dev": 25_147, "test": 25_094}
WORD = re.compile(r"^\d+\t([^\t]+)\t[^\t]+\t([^\t]+)\t([^\t]+)\t", re.MULTILINE)


@pytest.fixture(scope="module")
def rows(texts) -> list[list[list[tuple[str, str, str]]]]:
    """For each split its sentences, for each word of them the form and its two tags."""
    paragraphs = [
        content(texts, f"ud_english_ewt/en_ewt-ud-{split}.conllu")
        .decode()
        .strip("\n")
        .split("\n\n")
        for split in SENTENCES
    ]
    return [[WORD.findall(paragraph) for paragraph in split] for split in paragraphs]


@pytest.mark.parametrize(("tags", "column", "count"), [("upos", 1, 17), ("xpos", 2, 49)])
def test_words_and_tags_are_those_of_the_treebank(tags, column, count, rows, is_published):
    dataset = data.load(Ewt(min_count=2, tags=tags))
    words = most_frequent([[row[0] for row in sentence] for sentence in rows[0]], 2)
    assert dataset.symbols == ("<unk>", *words)
    assert dataset.classes == tuple(sorted({row[column] for s in rows[0] for row in s}))
    for examples, sentences in zip(dataset[:3], rows, strict=True):
        forms = [[row[0] for row in sentence] for sentence in sentences]
        assert decode(examples.inputs, dataset.symbols) == known(forms, words)
        expected = [[row[column] for row in sentence] for sentence in sentences]
        assert decode(examples.targets, dataset.classes) == expected
        assert examples.inputs.lengths.tolist() == examples.targets.lengths.tolist()
    if is_published:
        assert len(dataset.classes) == count
        assert [len(e.inputs.lengths) for e in dataset[:3]] == list(SENTENCES.values())
        assert [len(e.inputs.values) for e in dataset[:3]] == list(WORDS.values())


def test_every_word_of_train_is_known_if_one_occurrence_is_enough(rows):
    dataset = data.load(Ewt(min_count=1))
    forms = [[row[0] for row in sentence] for sentence in rows[0]]
    assert decode(dataset.train.inputs, dataset.symbols) == forms


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match=r"^no tags 'pos'. Did you mean '[ux]pos'\?"):
        Ewt(tags="pos")
    with pytest.raises(InputError, match=r"^min_count must be 1 or more, not 0"):
        Ewt(min_count=0)
