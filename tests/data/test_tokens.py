"""Lines that a person types, as the words of the published texts."""

import os

import pytest

from seqlab import data
from seqlab.data.examples import UNKNOWN, decode
from seqlab.data.tokens import words


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", ""),
        ("  ", ""),
        ("It's fun, isn't it?", "it 's fun , is n't it ?"),
        ("I don't; they've. We'll can't", "i do n't ; they 've . we 'll ca n't"),
        ("A well-made film (1999)!", "a well-made film ( 1999 ) !"),
        ("it costs 3.5 millions", "it costs 3.5 millions"),
        ("'quoted' words", "' quoted ' words"),
        ("Zwei Männer, ein T-Shirt.", "zwei männer , ein t-shirt ."),
        ("typographer’s", "typographer 's"),
        ("n't alone is n't", "n't alone is n't"),
    ],
)
def test_a_line_is_split_as_the_treebank_is(line, expected):
    assert " ".join(words(line)) == expected


def test_capitals_stay_if_they_are_to():
    assert words("The Cat isn't", lower=False) == ["The", "Cat", "is", "n't"]


def test_words_that_are_split_already_stay_as_they_are():
    said = "the film is n't bad , and it 's short ."
    assert " ".join(words(said)) == said


@pytest.mark.skipif("SEQLAB_DATA" not in os.environ, reason="the data sets are not here")
@pytest.mark.parametrize("config", [data.Sst(), data.Multi30k()])
def test_published_sentences_are_split_as_they_are(config):
    """Of those without unknown words, nearly all: signs such as `...` are not."""
    dataset = data.load(config)
    sentences = [s for s in decode(dataset.test.inputs, dataset.symbols) if UNKNOWN not in s]
    alike = sum(words(" ".join(sentence)) == sentence for sentence in sentences)
    assert alike / len(sentences) > 0.85
