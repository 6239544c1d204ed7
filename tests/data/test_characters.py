"""Tiny Shakespeare and the letters of Penn Treebank against their own text."""

import numpy as np
import pytest
from small_texts import content

from seqlab import data
from seqlab.data import PtbChar, Shakespeare
from seqlab.data.stream import Dataset

SPLITS = ("train", "valid", "test")


def decoded(dataset: Dataset, split: str) -> str:
    stream = dataset._asdict()[split]
    assert stream.values.dtype == np.int32
    assert stream.scored.shape == stream.values.shape
    assert stream.scored.all()
    return "".join(dataset.symbols[number] for number in stream.values)


@pytest.fixture(scope="module")
def shakespeare(texts) -> Dataset:
    return data.load(Shakespeare())


@pytest.fixture(scope="module")
def ptb_char(texts) -> Dataset:
    return data.load(PtbChar())


def test_shakespeare_is_the_text_cut_at_90_and_95_percent(shakespeare, texts, is_published):
    text = content(texts, "tinyshakespeare/input.txt").decode()
    parts = [decoded(shakespeare, split) for split in SPLITS]
    assert "".join(parts) == text
    total = len(text)
    for part, share in zip(parts, (0.9, 0.05, 0.05), strict=True):
        assert abs(len(part) - share * total) <= 1
    if is_published:
        assert (total, text.count("\n")) == (1_115_394, 40_000)
        assert [len(part) for part in parts] == [1_003_854, 55_770, 55_770]


def test_letters_of_penn_treebank_are_the_published_symbols(ptb_char, texts, is_published):
    for split in SPLITS:
        published = content(texts, f"ptb_char/ptb.char.{split}.txt").decode()
        assert "".join(f"{symbol} " for symbol in decoded(ptb_char, split)) == published
    if is_published:
        sizes = [len(stream.values) for stream in ptb_char[:3]]
        assert sizes == [5_017_482, 393_042, 442_423]


def test_letters_of_penn_treebank_are_those_of_its_words(ptb_char, texts, is_published):
    if not is_published:
        pytest.skip("made-up letters are not those of made-up words")
    for split in SPLITS:
        lines = content(texts, f"ptb/ptb.{split}.txt").decode().splitlines()
        expected = "".join(f"{line.strip().replace(' ', '_')}\n" for line in lines)
        assert decoded(ptb_char, split) == expected


def test_symbols_are_those_of_train_and_a_line_end_comes_first(shakespeare, ptb_char):
    for kind, dataset, size in ((Shakespeare, shakespeare, 65), (PtbChar, ptb_char, 50)):
        assert data.CHANNELS[kind] == dataset.channels == len(dataset.symbols) == size
        assert set(np.unique(dataset.train.values)) == set(range(size))
        assert dataset.symbols[dataset.start] == "\n"
