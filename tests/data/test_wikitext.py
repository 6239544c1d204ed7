"""WikiText-2 against its own text, read and counted apart from the code under test."""

import numpy as np
import pytest
from small_texts import content, most_frequent

from seqlab import data
from seqlab.data import WikiText2
from seqlab.data.stream import Dataset

TOKENS = {"train": 2_088_628, "valid": 217_646, "test": 245_569}


@pytest.fixture(scope="module")
def dataset(texts) -> Dataset:
    return data.load(WikiText2())


@pytest.fixture(scope="module")
def words(texts) -> dict[str, list[str]]:
    """Those of each split, <eos> for every line end."""
    return {
        split: content(texts, f"wikitext2/wiki.{split}.tokens")
        .decode()
        .replace("\n", " <eos> ")
        .split()
        for split in TOKENS
    }


@pytest.mark.parametrize("split", TOKENS)
def test_numbers_decode_to_the_text(split, dataset, words, is_published):
    stream = dataset._asdict()[split]
    assert stream.values.dtype == np.int32
    assert stream.scored.shape == stream.values.shape
    assert stream.scored.all()
    assert [dataset.symbols[number] for number in stream.values] == words[split]
    if is_published:
        assert len(stream.values) == TOKENS[split]


def test_vocabulary_is_that_of_train_by_count_then_alphabet(dataset, words, is_published):
    assert list(dataset.symbols) == most_frequent([words["train"]], 1)
    assert dataset.channels == len(dataset.symbols)
    assert dataset.symbols[dataset.start] == "<eos>"
    assert "<unk>" in dataset.symbols
    if is_published:
        assert data.CHANNELS[WikiText2] == dataset.channels == 33_278
