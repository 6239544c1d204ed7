"""Sentences of film reviews against their files, read apart from the code under test."""

from collections import Counter

import numpy as np
import pytest
from small_texts import content, known, most_frequent

from seqlab import data
from seqlab.data import ExampleDataset, MovieReviews, Sst
from seqlab.data.examples import decode
from seqlab.errors import InputError

SST = {2: "binary", 5: "fine"}
SIZES = {2: (6_920, 872, 1_821), 5: (8_544, 1_101, 2_210)}


def published(texts, classes: int) -> list[list[list[str]]]:
    """For each split its lines, for each line the label and the words."""
    contents = [
        content(texts, f"sst/stsa.{SST[classes]}.{split}").decode()
        for split in ("train", "dev", "test")
    ]
    return [[line.split() for line in text.split("\n") if line] for text in contents]


@pytest.mark.parametrize("min_count", [1, 3])
@pytest.mark.parametrize("classes", SST)
def test_sst_is_the_published_sentences_and_their_classes(classes, min_count, texts, is_published):
    dataset = data.load(Sst(classes, min_count))
    splits = published(texts, classes)
    words = most_frequent([line[1:] for line in splits[0]], min_count)
    assert dataset.symbols == ("<unk>", *words)
    for examples, lines in zip(dataset[:3], splits, strict=True):
        sentences = [line[1:] for line in lines]
        assert decode(examples.inputs, dataset.symbols) == known(sentences, words)
        assert examples.targets.tolist() == [int(line[0]) for line in lines]
        assert examples.targets.dtype == np.int32
    if min_count == 1:
        assert decode(dataset.train.inputs, dataset.symbols) == [line[1:] for line in splits[0]]
    if is_published:
        assert tuple(len(examples.targets) for examples in dataset[:3]) == SIZES[classes]


def test_the_classes_have_names_in_order(texts):
    two, five = data.load(Sst(2)), data.load(Sst(5))
    assert two.classes == ("negative", "positive")
    assert five.classes[0] == "very negative"
    assert five.classes[2] == "neutral"
    assert five.classes[4] == "very positive"


# The polarity set


def reviews(texts) -> list[tuple[str, int]]:
    found = []
    for label, name in enumerate(("neg", "pos")):
        text = content(texts, f"rt_polarity/rt-polarity.{name}").decode("cp1252")
        found += [(" ".join(line.split()), label) for line in text.split("\n") if line]
    return found


def said(dataset: ExampleDataset, split: str) -> list[tuple[str, int]]:
    examples = dataset._asdict()[split]
    sentences = decode(examples.inputs, dataset.symbols)
    labels = examples.targets.tolist()
    return [(" ".join(words), label) for words, label in zip(sentences, labels, strict=True)]


def test_ten_folds_test_every_review_once_and_as_many_of_either_class(texts, is_published):
    every = reviews(texts)
    tested = Counter()
    for number in range(10):
        dataset = data.load(MovieReviews(number, min_count=1))
        train = said(dataset, "train")
        words = {word for text, _ in train for word in text.split()}
        assert set(dataset.symbols) == words | {"<unk>"}  # those of train alone
        tested.update(dataset.test.targets.tolist())
        sizes = [len(examples.targets) for examples in dataset[:3]]
        assert sum(sizes) == len(every)
        for examples, size in zip(dataset[:3], sizes, strict=True):
            assert abs(2 * examples.targets.sum() - size) <= 4
        if number == 3:
            held_out = Counter(every) - Counter(train)
            rest = [
                (" ".join(known([text.split()], list(words))[0]), label)
                for text, label in held_out.elements()
            ]
            assert Counter(rest) == Counter(said(dataset, "valid") + said(dataset, "test"))
        if is_published:
            assert sizes in ([8_635, 960, 1_067], [8_636, 960, 1_066])
    assert tested == Counter(label for _, label in every)
    if is_published:
        assert tested == {0: 5_331, 1: 5_331}


def test_a_rare_word_of_train_is_unknown(texts):
    dataset = data.load(MovieReviews(fold=1, min_count=2))
    every = data.load(MovieReviews(fold=1, min_count=1))
    sentences = decode(every.train.inputs, every.symbols)
    words = most_frequent(sentences, 2)
    assert dataset.symbols == ("<unk>", *words)
    assert decode(dataset.train.inputs, dataset.symbols) == known(sentences, words)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Sst(3), "classes must be 2 or 5, not 3"),
        (lambda: Sst(2, 0), "min_count must be 1 or more, not 0"),
        (lambda: MovieReviews(10), "fold must be from 0 to 9, not 10"),
        (lambda: MovieReviews(-1), "fold must be from 0 to 9, not -1"),
        (lambda: MovieReviews(0, 0), "min_count must be 1 or more, not 0"),
    ],
)
def test_what_cannot_be_is_refused(make, complaint):
    with pytest.raises(InputError, match=f"^{complaint}"):
        make()
