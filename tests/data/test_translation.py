"""Sentence pairs against their files, read apart from the code under test."""

import io
import unicodedata
import zipfile
from collections import Counter

import pytest
from small_texts import content, known, most_frequent

from seqlab import data
from seqlab.data import ExampleDataset, Multi30k, Tatoeba
from seqlab.data.examples import Examples, decode
from seqlab.errors import InputError

SPLITS = ("train", "valid", "test")
SIZES = {
    "train": 29_000,
    "val": 1_014,
    "test_2016_flickr": 1_000,
    "test_2017_flickr": 1_000,
    "test_2017_mscoco": 461,
}
# What the tokeniser of the published text has put in the place of signs; & comes last.
ESCAPED = {"&apos;": "'", "&quot;": '"', "&#124;": "|", "&lt;": "<", "&gt;": ">"}
ESCAPED |= {"&#91;": "[", "&#93;": "]", "&amp;": "&"}
TRAIN_WORDS = {"en": 377_534, "de": 360_706, "fr": 409_845}


def both(dataset: ExampleDataset, examples: Examples) -> tuple[list[list[str]], list[list[str]]]:
    return decode(examples.inputs, dataset.symbols), decode(examples.targets, dataset.classes)


def captions(texts, part: str, language: str) -> list[list[str]]:
    text = content(texts, f"multi30k/tok/{part}.lc.norm.tok.{language}").decode()
    for entity, sign in ESCAPED.items():
        text = text.replace(entity, sign)
    return [line.split() for line in text.removesuffix("\n").split("\n")]


@pytest.mark.parametrize(
    ("source", "target", "test"),
    [("de", "en", "2016_flickr"), ("fr", "de", "2017_flickr"), ("en", "fr", "2017_mscoco")],
)
def test_multi30k_is_the_published_captions(source, target, test, texts, is_published):
    dataset = data.load(Multi30k(source, target, test, min_count=2))
    symbols = most_frequent(captions(texts, "train", source), 2)
    classes = most_frequent(captions(texts, "train", target), 2)
    assert dataset.symbols == ("<unk>", *symbols)
    assert dataset.classes == ("<unk>", "<s>", "</s>", *classes)
    parts = ("train", "val", f"test_{test}")
    for examples, part in zip(dataset[:3], parts, strict=True):
        inputs, targets = both(dataset, examples)
        assert inputs == known(captions(texts, part, source), symbols)
        assert targets == known(captions(texts, part, target), classes)
        if is_published:
            assert len(inputs) == len(targets) == SIZES[part]
    if is_published:
        assert len(dataset.train.inputs.values) == TRAIN_WORDS[source]
        assert len(dataset.train.targets.values) == TRAIN_WORDS[target]


def test_long_captions_are_left_out_of_train_alone(texts):
    dataset = data.load(Multi30k("en", "de", min_count=1, max_length=8))
    everything = list(
        zip(captions(texts, "train", "en"), captions(texts, "train", "de"), strict=True)
    )
    kept = [pair for pair in everything if len(pair[0]) <= 8 and len(pair[1]) <= 8]
    assert 0 < len(kept) < len(everything)
    assert list(zip(*both(dataset, dataset.train), strict=True)) == kept
    assert max(dataset.valid.inputs.lengths) > 8
    assert len(dataset.valid.inputs.lengths) == len(captions(texts, "val", "en"))


# Tatoeba


def split_off(text: str) -> str:
    """Lower-cased, with a space on either side of whatever is no letter and no digit."""
    kept = [
        c if unicodedata.category(c)[0] in "LN" else " " if c.isspace() else f" {c} "
        for c in text.lower()
    ]
    return " ".join("".join(kept).split())


@pytest.fixture(scope="module")
def lines(texts) -> list[tuple[str, str]]:
    archive = content(texts, "tatoeba_fra_eng/fra-eng.zip")
    with zipfile.ZipFile(io.BytesIO(archive)) as members:
        text = members.read("fra-eng/fra.txt").decode()
    pairs = [line.split("\t") for line in text.removesuffix("\n").split("\n")]
    return [(split_off(english), split_off(french)) for english, french in pairs]


@pytest.fixture(scope="module")
def pairs(texts) -> dict[str, list[tuple[str, str]]]:
    """English and French of each split, where no word of train is rare."""
    dataset = data.load(Tatoeba("fra", "eng", min_count=1))
    found = {}
    for name, examples in zip(SPLITS, dataset[:3], strict=True):
        french, english = both(dataset, examples)
        joined = zip(map(" ".join, english), map(" ".join, french), strict=True)
        found[name] = list(joined)
    return found


def test_every_pair_is_in_one_split_and_no_english_sentence_in_two(lines, pairs, is_published):
    of_train = {english for english, _ in pairs["train"]}
    assert pairs["train"] == [pair for pair in lines if pair[0] in of_train]
    english_words, french_words = (
        {word for sentences in pairs["train"] for word in sentences[language].split()}
        for language in (0, 1)
    )
    held_out = [
        (
            " ".join(word if word in english_words else "<unk>" for word in english.split()),
            " ".join(word if word in french_words else "<unk>" for word in french.split()),
        )
        for english, french in lines
        if english not in of_train
    ]
    assert Counter(pairs["valid"] + pairs["test"]) == Counter(held_out)
    english = [{one for one, _ in pairs[name] if "<unk>" not in one} for name in SPLITS]
    assert not english[0] & english[1]
    assert not english[0] & english[2]
    assert not english[1] & english[2]
    shares = [len(pairs[name]) / len(lines) for name in SPLITS]
    assert shares == pytest.approx([0.9, 0.05, 0.05], abs=0.01 if is_published else 0.03)
    if is_published:
        assert len(lines) == 167_130


def test_the_other_direction_is_the_same_pairs_turned_round(texts):
    one = data.load(Tatoeba("fra", "eng", most=1000))
    other = data.load(Tatoeba("eng", "fra", most=1000))
    assert one.symbols == ("<unk>", *other.classes[3:])
    assert other.symbols == ("<unk>", *one.classes[3:])
    for forth, back in zip(one[:3], other[:3], strict=True):
        assert both(one, forth) == both(other, back)[::-1]


def test_most_takes_the_first_pairs_and_moves_none(lines, pairs, texts):
    dataset = data.load(Tatoeba(min_count=1, most=1000))
    sizes = [len(examples.inputs.lengths) for examples in dataset[:3]]
    assert sum(sizes) == 1000
    assert min(sizes) > 0
    french, english = both(dataset, dataset.train)
    joined = list(zip(map(" ".join, english), map(" ".join, french), strict=True))
    assert joined == pairs["train"][: sizes[0]]
    assert Counter(joined) - Counter(lines[:1000]) == Counter()


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Multi30k("cs", "en"), "no language 'cs'."),
        (lambda: Multi30k("de", "de"), "source and target must be two languages, not 'de' twice"),
        (lambda: Multi30k(test="2018_flickr"), "no test '2018_flickr'. Did you mean '201"),
        (lambda: Multi30k(min_count=0), "min_count must be 1 or more, not 0"),
        (lambda: Multi30k(max_length=4), "max_length must be 5 or more, not 4"),
        (lambda: Tatoeba("fr", "eng"), "no language 'fr'. Did you mean 'fra'?"),
        (lambda: Tatoeba(most=999), "most must be 1000 or more, not 999"),
        (lambda: Tatoeba(min_count=0), "min_count must be 1 or more, not 0"),
    ],
)
def test_what_cannot_be_is_refused(make, complaint):
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value).startswith(complaint)
