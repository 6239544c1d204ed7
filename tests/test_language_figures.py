"""What is looked at after training, and what is drawn of it."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from experiments import char_lm, pos_tagging, sentiment
from seqlab import train, train_sequences
from seqlab.data import Dataset, ExampleDataset, Examples, Ragged
from seqlab.data.examples import decode
from seqlab.data.stream import Stream
from seqlab.models.rnn import Stack
from seqlab.models.sequence import Classifier, LanguageModel, SymbolEmbedding, Tagger
from seqlab.trial import as_dict, replace, trial_id

SYMBOLS = tuple("abcdefg")
NOTHING = Stack(())  # returns its input: what is said of a word follows from the word alone


def drawn(model, *inputs):
    """Params in which nothing is zero, and they as NumPy sees them."""
    rng = np.random.default_rng(3)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), shapes)
    return params, jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)["params"]


def sentences(lengths: Sequence[int], most: int, seed: int) -> Ragged:
    values = np.random.default_rng(seed).integers(most, size=sum(lengths)).astype(np.int32)
    return Ragged(values, np.array(lengths, np.int32))


def whole(test: Examples, classes: tuple[str, ...]) -> ExampleDataset:
    return ExampleDataset(test, test, test, SYMBOLS, classes)


def row(trial, **metrics) -> dict:
    identity = {"trial_id": trial_id(trial), "config": as_dict(trial), "status": "DONE"}
    return identity | {"metrics": metrics}


# Tags by place


def test_words_are_counted_at_their_places_from_both_ends():
    lengths = [1, 2, 23, 3, 4, 11, 6]
    test = Examples(sentences(lengths, 7, seed=0), sentences(lengths, 3, seed=1))
    model = Tagger(SymbolEmbedding(7, 2), NOTHING, 3)
    params, p = drawn(model, jnp.zeros((1, 1), jnp.int32))
    program = train_sequences.Program(model, train_sequences.ALIGNED, "sgd")
    found = pos_tagging.by_place(program, params, whole(test, tuple("XYZ")))["by_place"]

    guess = (p["embedding"]["embedding"] @ p["head"]["kernel"] + p["head"]["bias"]).argmax(-1)
    expected = {end: [[0, 0] for _ in pos_tagging.PLACES] for end in ("beginning", "end")}
    words, tags = iter(test.inputs.values), iter(test.targets.values)  # pyright: ignore
    for length in lengths:
        for n in range(1, length + 1):
            right = int(guess[next(words)] == next(tags))
            for end, number in (("beginning", n), ("end", length + 1 - n)):
                # 1, 2, 3, 4-5, 6-10, 11-20, 21 and more
                place = [number <= last for last in (1, 2, 3, 5, 10, 20, 99)].index(True)
                expected[end][place][0] += 1
                expected[end][place][1] += right
    assert found == expected
    assert 0 < sum(right for _, right in found["end"]) < sum(lengths)


def test_accuracy_by_place_is_the_mean_over_seeds_with_its_band():
    rng = np.random.default_rng(4)
    planned = [t for t in pos_tagging.trials("default") if t.model.bidirectional]
    counts = [[[100, int(n)] for n in rng.integers(80, 100, 7)] for _ in planned]
    rows = [
        row(t, by_place={"beginning": c, "end": c[::-1]})
        for t, c in zip(planned, counts, strict=True)
    ]
    old = replace(planned[0], {"model.bidirectional": False})
    figures = pos_tagging.figures([*rows, row(old, test_accuracy=0.9)])
    assert list(figures) == ["accuracy_by_place_default"]
    for panel, step in zip(figures["accuracy_by_place_default"].axes, (1, -1), strict=True):
        (line,) = panel.get_lines()
        values = np.array(counts)[:, ::step, 1]  # of a hundred words: percent
        np.testing.assert_allclose(line.get_ydata(), values.mean(axis=0))
        half = stats.t.ppf(0.975, len(planned) - 1) * stats.sem(values, axis=0)
        (band,) = panel.collections
        low, high = band.get_paths()[0].get_extents().intervaly
        assert low == pytest.approx((values.mean(axis=0) - half).min())
        assert high == pytest.approx((values.mean(axis=0) + half).max())
    assert pos_tagging.figures([row(old, test_accuracy=0.9)]) == {}


# Where attention looks


def test_what_is_kept_of_a_sentence_is_its_own(monkeypatch):
    shown = sentences([2, 5, 3], 7, seed=5)
    lines = decode(shown, SYMBOLS)
    truths = ("bad", "good", "bad")
    told = [(" ".join(line), truth) for line, truth in zip(lines, truths, strict=True)]
    monkeypatch.setattr(sentiment, "SHOWN", tuple(told))
    test = Examples(sentences([4], 7, seed=6), np.array([0], np.int32))
    model = Classifier(SymbolEmbedding(7, 2), NOTHING, 2, "attention")
    params, p = drawn(model, jnp.zeros((1, 1), jnp.int32))
    program = train_sequences.Program(model, train_sequences.MANY_TO_ONE, "sgd")
    found = sentiment.read_attentively(program, params, whole(test, ("bad", "good")))["read"]

    starts = np.cumsum([0, *shown.lengths])
    assert [kept["truth"] for kept in found] == list(truths)
    for n, kept in enumerate(found):
        words = shown.values[starts[n] : starts[n + 1]]
        ys = p["embedding"]["embedding"][words]
        hidden = np.tanh(ys @ p["attention_hidden"]["kernel"] + p["attention_hidden"]["bias"])
        weights = special.softmax((hidden @ p["attention_score"]["kernel"])[:, 0])
        said = special.softmax(weights @ ys @ p["head"]["kernel"] + p["head"]["bias"])
        assert kept["words"] == [SYMBOLS[word] for word in words]
        np.testing.assert_allclose(kept["weights"], weights, rtol=0, atol=1e-4)
        assert kept["guess"] == ("bad", "good")[said.argmax()]
        assert kept["probability"] == pytest.approx(said.max(), abs=1e-4)


def test_every_letter_of_a_word_is_shaded_by_its_weight():
    attentive = [t for t in sentiment.trials("default") if t.pooling == "attention"]
    words, weights = ["so", "dull"], [0.125, 0.875]
    beside = {"truth": "negative", "guess": "positive", "probability": 0.75}
    read = [{"words": words, "weights": weights} | beside]
    figures = sentiment.figures([row(t, read=read) for t in attentive])
    assert sorted(figures) == ["attention_mr_default", "attention_sst2_default"]
    panel = figures["attention_sst2_default"].axes[0]
    (ground,) = panel.get_images()
    shades = [0.125] * 2 + [0.0] + [0.875] * 4
    np.testing.assert_array_equal(np.asarray(ground.get_array()), [shades])
    assert "".join(text.get_text() for text in panel.texts) == "sodull"
    assert [text.get_position()[0] for text in panel.texts] == [0, 1, 3, 4, 5, 6]
    (verdict,) = panel.get_yticklabels()
    assert verdict.get_text() == "positive, 75%: it is negative"
    assert sentiment.figures([row(attentive[0])]) == {}


# Surprise, letter by letter


def test_bits_are_those_of_a_loop_over_the_passage(monkeypatch):
    monkeypatch.setattr(char_lm, "PASSAGE", 12)
    values = np.random.default_rng(6).integers(7, size=30).astype(np.int32)
    stream = Stream(values, np.ones(30, bool))
    dataset = Dataset(stream, stream, stream, SYMBOLS, channels=7, start=2)
    model = LanguageModel(NOTHING, 7, 3)
    params, p = drawn(model, jnp.zeros((1, 1), jnp.int32))
    passage = char_lm.surprises(train.Program(model, train.SYMBOLS, "sgd"), params, dataset)
    logits = p["embedding"]["embedding"] @ p["head"]["kernel"] + p["head"]["bias"]
    bits, last = [], 2
    for value in values[:12]:
        bits.append(-math.log2(special.softmax(logits[last])[value]))
        last = value
    found = passage["passage"]
    assert found["text"] == "".join(SYMBOLS[value] for value in values[:12])
    np.testing.assert_allclose(found["bits"], bits, rtol=0, atol=1e-3)


def test_the_end_of_a_line_is_a_letter_too():
    lines, bits = char_lm.in_lines("ab\n\nc d\nlast", list(range(12)))
    assert lines == ["ab↵", "↵", "c d↵", "last"]
    assert bits == [[0, 1, 2], [3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_a_passage_is_drawn_of_each_cell():
    (first, *_) = [t for t in char_lm.trials("default") if not isinstance(t.data, char_lm.Hello)]
    passage = {"text": "I.\nYou\n", "bits": [1.0, 2.0, 0.5, 3.0, 4.0, 9.5, 0.25]}
    other = replace(first, {"model.cell": "mut1"})
    again = replace(first, {"seed": 1})
    rows = [row(t, passage=passage) for t in (again, first, other)] + [
        row(char_lm.trials("smoke")[0])
    ]
    figures = char_lm.figures(rows)
    assert sorted(figures) == ["surprise_lstm_default", "surprise_mut1_default"]
    panel = figures["surprise_lstm_default"].axes[0]
    (ground,) = panel.get_images()
    np.testing.assert_array_equal(
        np.asarray(ground.get_array()), [[1.0, 2.0, 0.5, 0.0], [3.0, 4.0, 9.5, 0.25]]
    )
    assert "".join(text.get_text() for text in panel.texts) == "I.↵You↵"
