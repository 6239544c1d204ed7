"""Penn Treebank against its own text, read and counted apart from the code under test."""

import gzip
from collections import Counter

import numpy as np
import pytest

from seqlab.data import ptb
from seqlab.data.stream import Dataset

TOKENS = {"train": 929_589, "valid": 73_760, "test": 82_430}


@pytest.fixture(scope="module")
def texts(original_files) -> dict[str, list[str]]:
    """The words of each split, <eos> for every line end."""
    found = {}
    for split in TOKENS:
        path = original_files / "ptb" / f"ptb.{split}.txt"
        packed = path.with_name(f"{path.name}.gz")
        content = path.read_bytes() if path.exists() else gzip.decompress(packed.read_bytes())
        found[split] = content.decode("ascii").replace("\n", " <eos> ").split()
    return found


@pytest.fixture(scope="module")
def dataset(original_files, tmp_path_factory) -> Dataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQLAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        ptb.check(ptb.Ptb())
        first = ptb.load(ptb.Ptb())
        patch.delenv("SEQLAB_DATA")
        second = ptb.load(ptb.Ptb())  # from the prepared set alone
    assert all(
        np.array_equal(a, b)
        for one, two in zip(first[:3], second[:3], strict=True)
        for a, b in zip(one, two, strict=True)
    )
    assert first[3:] == second[3:]
    return second


@pytest.mark.parametrize("split", TOKENS)
def test_numbers_decode_to_the_text(split, dataset, texts):
    stream = dataset._asdict()[split]
    assert stream.values.dtype == np.int32
    assert stream.values.shape == stream.scored.shape == (TOKENS[split],)
    assert stream.scored.all()
    assert [dataset.symbols[number] for number in stream.values] == texts[split]


def test_vocabulary_is_that_of_train_by_count_then_alphabet(dataset, texts):
    counts = Counter(texts["train"])
    assert dataset.channels == len(dataset.symbols) == len(counts) == ptb.VOCABULARY == 10_000
    assert set(texts["valid"]) | set(texts["test"]) <= set(dataset.symbols)
    rank = [(-counts[word], word) for word in dataset.symbols]
    assert rank == sorted(rank)
    numbers = np.bincount(dataset.train.values, minlength=10_000)
    assert numbers.tolist() == [counts[word] for word in dataset.symbols]


def test_first_word_comes_after_a_line_end(dataset):
    assert dataset.symbols[dataset.start] == "<eos>"
    assert "<unk>" in dataset.symbols
