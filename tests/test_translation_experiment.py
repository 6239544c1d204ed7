"""What `translation` reads, reports and has to beat, against sentences one by one."""

import math
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import translation
from experiments.translation import Model, Multi30k, Tatoeba, Trial
from seqlab import sequence_trial
from seqlab.data import ExampleDataset, Examples, Ragged
from seqlab.data.examples import BEGIN, END, UNKNOWN, decode, encode
from seqlab.errors import InputError
from seqlab.models.decoders import DECODERS
from seqlab.optim import Schedule
from seqlab.sample import Asked
from seqlab.train_sequences import SequenceTrainConfig
from seqlab.trial import BUDGETS, as_dict, replace, trial_id

SOURCES = ["der hund schläft", "ein hund", "der mann ist groß", "mann und hund und mann"]
TARGETS = ["the dog sleeps", "a dog", "the man is tall", "man and dog and man"]


@pytest.fixture
def dataset():
    pairs = [[line.split() for line in side] for side in (SOURCES, TARGETS)]
    symbols = (UNKNOWN, *sorted({word for words in pairs[0] for word in words}))
    classes = (UNKNOWN, BEGIN, END, *sorted({word for words in pairs[1] for word in words}))
    train = Examples(encode(pairs[0], symbols), encode(pairs[1], classes))
    test = Examples(encode([["ein", "mann", "bellt"]], symbols), encode([["a", "man"]], classes))
    return ExampleDataset(train, test, test, symbols, classes)


def test_each_word_is_put_into_the_one_it_goes_along_with_most(dataset):
    """Dice's coefficient by a loop over all pairs of words."""

    def best(word):
        having = [n for n, line in enumerate(SOURCES) if word in line.split()]
        scores = {}
        for other in dataset.classes[1:]:  # <unk> is never written
            among = [n for n, line in enumerate(TARGETS) if other in line.split()]
            both = len(set(having) & set(among))
            scores[other] = 2 * both / max(len(having) + len(among), 1)
        return max(scores, key=lambda other: (scores[other], -dataset.classes.index(other)))

    everything = dataset._replace(test=dataset.train)
    expected = [[best(word) for word in line.split()] for line in SOURCES]
    assert translation.word_by_word(everything) == expected
    assert expected[1] == ["a", "dog"]
    assert translation.word_by_word(dataset)[0][:2] == ["a", "man"]


def test_a_source_that_is_reversed_is_read_from_its_end(dataset):
    trial = Trial("smoke", Tatoeba(), Model(bidirectional=False, reversed_source=True))
    read = translation.as_it_is_read(trial, dataset.train)
    assert decode(read.inputs, dataset.symbols) == [line.split()[::-1] for line in SOURCES]
    assert read.targets is dataset.train.targets
    forward = Trial("smoke", Tatoeba(), Model())
    assert translation.as_it_is_read(forward, dataset.train) is dataset.train


def bleu_by_hand(translations, references):
    """Papineni et al. 2002: all n-grams of up to four words, and the penalty of what is short."""
    log_precision = 0.0
    for n in range(1, 5):
        right = total = 0
        for words, reference in zip(translations, references, strict=True):
            grams, wanted = (
                Counter(tuple(some[i : i + n]) for i in range(len(some) - n + 1))
                for some in (words, reference)
            )
            right += sum((grams & wanted).values())
            total += sum(grams.values())
        log_precision += math.log(right / total) / 4
    sizes = [sum(map(len, side)) for side in (translations, references)]
    return 100 * math.exp(log_precision + min(0.0, 1 - sizes[1] / sizes[0]))


def test_bleu_is_that_of_the_paper_and_of_each_length():
    rng = np.random.default_rng(0)
    references = [[*"abcdefg"[: rng.integers(5, 8)], "."] for _ in range(40)]
    translations = [[w for w in words if rng.random() > 0.08] for words in references]
    lengths = np.array([4, 5, 6, 12] * 10, np.int32)
    found = translation.bleu_by_length(translations, references, lengths)
    assert found["test_bleu"] == pytest.approx(bleu_by_hand(translations, references))
    assert [(edge, count) for edge, count, _ in found["bleu_by_length"]] == [
        (5, 20),
        (10, 10),
        (15, 10),
    ]
    rows = [n for n, length in enumerate(lengths) if length == 6]
    expected = bleu_by_hand([translations[n] for n in rows], [references[n] for n in rows])
    assert found["bleu_by_length"][1][2] == pytest.approx(expected)


@pytest.mark.parametrize("reverse", [False, True])
def test_alignments_are_of_the_sentences_that_are_shown(dataset, reverse, monkeypatch):
    monkeypatch.setitem(translation.SHOWN, "fr", ("ein hund", "der mann und ein hund"))
    model = Model("gru", 4, bidirectional=not reverse, reversed_source=reverse)
    trial = Trial("smoke", Tatoeba(), model)
    network = translation.network(trial, len(dataset.symbols), len(dataset.classes))
    inputs = jnp.zeros((1, 1), jnp.int32), jnp.ones(1, jnp.int32), jnp.zeros((1, 1), jnp.int32)
    params = jax.jit(network.init)(jax.random.key(0), *inputs)
    head = params["params"]["decoder"]["head"]
    head["bias"] = head["bias"].at[dataset.classes.index(END)].set(-3.0)  # do not stop at once
    kept = translation.alignments(network, params, trial, dataset)
    order = slice(None, None, -1 if reverse else 1)
    assert [one["source"] for one in kept] == [
        ["ein", "hund"][order],
        ["der", "mann", "und", "ein", "hund"][order],
    ]
    for one in kept:
        weights = np.array(one["weights"]).reshape(-1, len(one["source"]))
        assert weights.shape == (len(one["written"]), len(one["source"]))
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=3e-3)
    assert all(one["written"] for one in kept)
    blind = replace(trial, {"model.attention": "no_attention"})
    network = translation.network(blind, len(dataset.symbols), len(dataset.classes))
    params = jax.jit(network.init)(jax.random.key(0), *inputs)
    assert translation.alignments(network, params, blind, dataset) == []


def row(trial, bleu, **more):
    metrics = {"test_bleu": bleu, "baseline": 13.0, "params": 10, "epochs": 8}
    metrics |= {"device_seconds": 60.0, "bleu_by_length": [[5, 3, bleu]], "alignments": [], **more}
    config = as_dict(trial)
    return {"trial_id": trial_id(trial), "config": config, "status": "DONE", "metrics": metrics}


def test_the_table_has_a_line_for_each_way_to_attend():
    planned = translation.trials("default")
    table = translation.table([row(trial, 30.0) for trial in planned])
    ours = [line for line in table.rows if line["kind"] == "ours"]
    assert len({(line["task"], line["system"]) for line in ours}) == len(ours) == 6
    assert all(line["n"] == 3 and line["value"] == 30.0 for line in ours)
    assert sum("source reversed" in line["system"] for line in ours) == 1


def test_the_figures_show_each_section_and_an_alignment_where_there_is_one():
    planned = translation.trials("default")
    kept = {"source": list("abc"), "written": list("xy"), "weights": [[0.2, 0.3, 0.5]] * 2}
    rows = [row(t, 20.0 + n, alignments=[kept] * (n % 2)) for n, t in enumerate(planned)]
    figures = translation.figures(rows)
    assert set(figures) == {
        f"{section}_default_{what}"
        for section in ("multi30k_de-en", "tatoeba_fra-eng")
        for what in ("by_length", "alignment")
    }
    axes = figures["multi30k_de-en_default_by_length"].axes[0]
    assert len(axes.get_legend().get_texts()) == 4
    shown = figures["multi30k_de-en_default_alignment"].axes[0]
    assert [label.get_text() for label in shown.get_xticklabels()] == list("abc")
    np.testing.assert_allclose(shown.images[0].get_array(), kept["weights"])


REFUSED = {
    ("model.units", 65): "model.units must be even",
    ("model.reversed_source", True): r"for one direction: model\.bidirectional=false",
    ("search.width", 0): r"search\.width must be above 0, not 0",
    ("search.max_length", 0): r"search\.max_length must be above 0",
}


def test_the_plans_are_good_and_different(monkeypatch):
    monkeypatch.setattr(sequence_trial, "check_data", lambda config: None)
    for budget in BUDGETS:
        planned = translation.trials(budget)
        assert len({trial_id(trial) for trial in planned}) == len(planned) > 0
        for trial in planned:
            translation.check(trial)
    trial = translation.trials("smoke")[0]
    wrong = replace(trial, {"model.attention": "bahdanu"})
    with pytest.raises(InputError, match=r"no attention 'bahdanu'\. Did you mean 'bahdanau'"):
        translation.check(wrong)
    for attention in DECODERS:
        for cell in ("lstm", "mut1"):
            two = {"model.attention": attention, "model.cell": cell, "model.num_layers": 2}
            translation.check(replace(trial, two))
    for refused, why in REFUSED.items():
        with pytest.raises(InputError, match=why):
            translation.check(replace(trial, dict([refused])))
    with pytest.raises(InputError, match="Did you mean 'paper'"):
        translation.trials("papers")
    assert isinstance(translation.trials("default")[0].data, Multi30k)
    assert isinstance(trial.data, Tatoeba)
    assert isinstance(
        translation.sentences(Examples(*[Ragged(np.zeros(0), np.zeros(0))] * 2)), Ragged
    )


def test_a_trained_translator_is_used_on_lines_as_people_type_them(dataset, tmp_path, monkeypatch):
    """It has learnt four sentences by heart; a line that it cannot end has … behind it."""
    schedule = Schedule(max_epochs=8, patience=8, halvings=0)
    small = {"model.units": 16, "model.cell": "gru", "optim.learning_rate": 0.02}
    trial = replace(translation.trials("smoke")[0], small | {"optim.dropout_rate": None})
    trial = replace(trial, {"train": SequenceTrainConfig(4, 1, schedule), "search.width": 1})
    often = Examples(*(Ragged(np.tile(v, 10), np.tile(n, 10)) for v, n in dataset.train[:2]))
    known = dataset._replace(train=often, valid=dataset.train, test=dataset.train)
    monkeypatch.setattr(sequence_trial, "load", lambda config: (known, "sha256"))
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam
        metrics = translation.run(trial, tmp_path)
    assert metrics["test_bleu"] > 99
    say = translation.sampler(trial, tmp_path, Asked())
    assert say("Der Hund schläft") == "the dog sleeps"
    assert say("ein hund") == "a dog"
    with pytest.raises(InputError, match="expected a word, found none"):
        say("  ")
    short = replace(trial, {"search.max_length": 2})
    assert translation.sampler(short, tmp_path, Asked())("Der Hund schläft") == "the dog …"
    with pytest.raises(InputError, match="--temperature: there is no such choice"):
        translation.sampler(trial, tmp_path, Asked(temperature=1.0))
