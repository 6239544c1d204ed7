"""Pieces of DNA against their files, read apart from the code under test."""

from collections import Counter

import pytest
from small_texts import content

from seqlab import data
from seqlab.data import ExampleDataset, Promoters, Splice
from seqlab.data.examples import decode
from seqlab.errors import InputError

MEANING = {
    "EI": "exon to intron",
    "IE": "intron to exon",
    "N": "neither",
    "+": "promoter",
    "-": "no promoter",
}


def rows(texts, name: str) -> Counter:
    """How often each pair of bases and class is in the file."""
    lines = content(texts, f"dna/{name}.data").decode().split("\n")[:-1]
    parts = [line.split(",") for line in lines]
    return Counter((bases.strip(), MEANING[label]) for label, _, bases in parts)


def found(dataset: ExampleDataset, split: str) -> Counter:
    examples = dataset._asdict()[split]
    sequences = map("".join, decode(examples.inputs, dataset.symbols))
    return Counter(zip(sequences, (dataset.classes[i] for i in examples.targets), strict=True))


@pytest.mark.parametrize(
    ("name", "configs"),
    [
        ("splice", [Splice(number) for number in range(10)]),
        ("promoters", [Promoters(number) for number in range(106)]),
        ("promoters", [Promoters(number, 10) for number in range(10)]),
    ],
    ids=["splice", "leave one out", "ten folds"],
)
def test_folds_test_every_sequence_once(name, configs, texts, is_published):
    every = rows(texts, name)
    tested = Counter()
    for config in configs[:: 1 if len(configs) == 10 else 21]:
        dataset = data.load(config)
        assert found(dataset, "train") + found(dataset, "valid") + found(dataset, "test") == every
        assert len(dataset.valid.targets) == -(-(every.total() - len(dataset.test.targets)) // 10)
        tested += found(dataset, "test")
    if len(configs) == 10:
        assert tested == every
    else:
        assert tested.total() == 6
        assert set(tested.values()) == {1}
    if is_published and name == "splice":
        counts = Counter()
        for (bases, label), count in every.items():
            assert len(bases) == 60
            counts[label] += count
        assert counts == {"exon to intron": 767, "intron to exon": 768, "neither": 1_655}
        assert every.total() - len({bases for bases, _ in every}) == 185
    if is_published and name == "promoters":
        assert Counter(label for _, label in every) == {"promoter": 53, "no promoter": 53}
        assert {len(bases) for bases, _ in every} == {57}


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Splice(10), "fold must be from 0 to 9, not 10"),
        (lambda: Promoters(106), "fold must be from 0 to 105, not 106"),
        (lambda: Promoters(10, 10), "fold must be from 0 to 9, not 10"),
        (lambda: Promoters(0, 1), "folds must be from 2 to 106, not 1"),
        (lambda: Promoters(0, 107), "folds must be from 2 to 106, not 107"),
    ],
)
def test_what_cannot_be_is_refused(make, complaint):
    with pytest.raises(InputError, match=f"^{complaint}"):
        make()
