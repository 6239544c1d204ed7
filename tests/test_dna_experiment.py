"""What is known of a piece of DNA without a network, and what the network depends on."""

import collections
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import dna
from seqlab import buckets, data, sequence_trial
from seqlab.data import ExampleDataset, Examples, Promoters, Ragged, Splice, catalogue
from seqlab.data.dna import PROMOTERS, SPLICE_FOLDS
from seqlab.errors import InputError
from seqlab.models.sequence import Classifier, SymbolEmbedding
from seqlab.sequence_trial import Model
from seqlab.train_sequences import MANY_TO_ONE, Program
from seqlab.trial import BUDGETS, as_dict, replace, trial_id

CLASSES = ("exon to intron", "intron to exon", "neither")
LENGTH = 7


def pieces(size: int, seed: int) -> Examples:
    rng = np.random.default_rng(seed)
    bases = rng.choice(5, (size, LENGTH), p=[0.4, 0.3, 0.2, 0.08, 0.02]).astype(np.int32)
    classes = rng.choice(3, size, p=[0.2, 0.3, 0.5]).astype(np.int32)
    bases[:, 2] = np.where(rng.random(size) < 0.8, classes, bases[:, 2])
    return Examples(Ragged(bases.ravel(), np.full(size, LENGTH, np.int32)), classes)


DATASET = ExampleDataset(pieces(60, 0), pieces(5, 1), pieces(40, 2), tuple("ACGTN"), CLASSES)


def read(examples: Examples) -> list[tuple[list[int], int]]:
    rows = examples.inputs.values.reshape(-1, LENGTH).tolist()
    return list(zip(rows, np.asarray(examples.targets).tolist(), strict=True))


def test_the_baselines_are_those_of_a_loop():
    train, test = read(DATASET.train), read(DATASET.test)
    sizes = collections.Counter(label for _, label in train)
    seen = collections.Counter((label, t, b) for row, label in train for t, b in enumerate(row))

    def score(row, label):
        log_p = math.log(sizes[label] + 1)
        for t, base in enumerate(row):
            log_p += math.log((seen[label, t, base] + 1) / (sizes[label] + 5))
        return log_p

    told = [max(range(3), key=lambda label: score(row, label)) for row, _ in test]
    (most, _), *_ = sizes.most_common()
    expected = {
        "each base by itself": np.mean([a == b for a, (_, b) in zip(told, test, strict=True)]),
        "the most frequent class": np.mean([label == most for _, label in test]),
    }
    assert dna.naive_bayes(DATASET).tolist() == told
    assert dna.baselines(DATASET) == pytest.approx(expected)
    assert expected["each base by itself"] > expected["the most frequent class"] > 0


def test_the_most_frequent_class_is_never_right_where_one_of_two_equals_is_left_out():
    labels = np.array([0, 1, 0, 1, 0, 1], np.int32)

    def of(rows):
        bases = np.zeros((len(rows), LENGTH), np.int32)
        return Examples(Ragged(bases.ravel(), np.full(len(rows), LENGTH, np.int32)), labels[rows])

    for left_out in range(6):
        rest = of([row for row in range(6) if row != left_out])
        found = dna.baselines(ExampleDataset(rest, rest, of([left_out]), ("A",), ("no", "yes")))
        assert found["the most frequent class"] == 0


# The network


def program(place: int, cell: str = "gru") -> Program:
    layers = Model(cell, 4, bidirectional=True).layers()
    return Program(dna.Meeting(SymbolEmbedding(5, 4), layers, 3, place), MANY_TO_ONE, "adam")


def drawn(of: Program) -> tuple[dict, jax.Array]:
    (batch,) = buckets.padded(DATASET.test, 1)
    return jax.jit(of.model.init)(jax.random.key(0), batch.inputs, batch.lengths), batch.inputs


def test_readers_that_meet_are_two_that_each_read_their_part():
    """Classifiers of the parts before and behind the place, their last outputs side by side."""
    place = 3
    of = program(place)
    params, bases = drawn(of)
    ours = jax.jit(of.model.apply)(params, bases, jnp.full(len(bases), LENGTH))
    whole = params["params"]
    summary = []
    for part, mine in ((bases[:, :place], slice(0, 4)), (bases[:, place:], slice(4, 8))):
        layers = Model("gru", 4, bidirectional=True).layers()
        reader = Classifier(SymbolEmbedding(5, 4), layers, 8)
        head = {"kernel": jnp.eye(8), "bias": jnp.zeros(8)}
        said = jax.jit(reader.apply)({"params": {**whole, "head": head}}, part)
        summary.append(said[:, mine])  # pyright: ignore
    kernel, bias = whole["head"]["kernel"], whole["head"]["bias"]
    theirs = np.concatenate(summary, axis=1) @ np.asarray(kernel) + np.asarray(bias)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_effects_are_those_of_one_base_after_the_other():
    of = program(3)
    params, _ = drawn(of)
    params = jax.tree.map(lambda p: 3 * p, params)  # that there is something to see
    logits = jax.jit(of.model.apply)

    def log_p(row, label):
        said = np.asarray(logits(params, jnp.array([row]), jnp.array([LENGTH])), np.float64)[0]
        return said[label] - np.log(np.exp(said).sum())

    few = Examples(
        Ragged(DATASET.test.inputs.values[: 3 * LENGTH], DATASET.test.inputs.lengths[:3]),
        np.asarray(DATASET.test.targets)[:3],
    )
    assert any(4 not in row for row, _ in read(few))
    ours = dna.outputs(dna.effects, of, params, few, batch_size=2)
    for (row, label), found in zip(read(few), ours, strict=True):
        for place in range(LENGTH):
            if row[place] == 4:
                continue  # an ambiguous base is not one of the four
            others = [b for b in range(4) if b != row[place]]
            changed = [log_p([*row[:place], b, *row[place + 1 :]], label) for b in others]
            expected = log_p(row, label) - np.mean(changed)
            assert found[place] == pytest.approx(expected, abs=1e-5)
    assert np.abs(ours).max() > 1e-2


def test_a_training_through_run_learns_and_says_what_it_depends_on(monkeypatch):
    """One base of seven tells the class, and the network is to find it."""
    monkeypatch.setattr(sequence_trial, "load", lambda config: (DATASET, "of this test"))
    monkeypatch.setitem(dna.LANDMARKS, "Splice", dna.Landmark("the base", 3))
    values = {"model.units": 8, "optim.optimizer": "sgd", "optim.learning_rate": 0.5}
    values |= {"optim.dropout_rate": None, "train.batch_size": 8}
    values |= {"train.schedule.max_epochs": 30, "train.schedule.patience": 30}
    trial = replace(dna.Trial("smoke", Splice()), values)
    metrics = dna.run(trial)
    assert metrics["test_accuracy"] > metrics["baselines"]["the most frequent class"] + 0.1
    assert set(metrics["effects"]) == set(CLASSES)
    assert np.mean(list(metrics["effects"].values()), axis=0).argmax() == 2


# Trials and the table


def test_every_fold_is_tested_once_by_each_seed():
    for budget, seeds in (("default", 1), ("paper", 5)):
        planned = dna.trials(budget)
        assert len({trial_id(t) for t in planned}) == len(planned)
        assert all(t.budget == budget for t in planned)
        for seed in range(seeds):
            of_seed = [t for t in planned if t.seed == seed]
            for pooling in ("meeting", "attention"):
                mine = [t.data for t in of_seed if t.pooling == pooling]
                splice = [d.fold for d in mine if isinstance(d, Splice)]
                assert sorted(splice) == list(range(SPLICE_FOLDS))
            held_out = [t.data for t in of_seed if isinstance(t.data, Promoters)]
            assert sorted(d.fold for d in held_out) == list(range(PROMOTERS))
            assert {d.folds for d in held_out} == {PROMOTERS}
        assert {t.seed for t in planned} == set(range(seeds))
    assert len(dna.trials("smoke")) == 1
    with pytest.raises(InputError, match="Did you mean 'smoke'"):
        dna.trials("smok")


def test_what_cannot_be_run_is_one_line(monkeypatch):
    monkeypatch.setattr(sequence_trial, "check_data", lambda config: None)
    for budget in BUDGETS:
        for trial in {t.pooling: t for t in dna.trials(budget)}.values():
            dna.check(trial)
    trial = dna.trials("smoke")[0]
    with pytest.raises(InputError, match=r"no pooling 'meting'\. Did you mean 'meeting'"):
        dna.check(replace(trial, {"pooling": "meting"}))
    one_way = replace(trial, {"model.bidirectional": False})
    with pytest.raises(InputError, match="it takes two to meet"):
        dna.check(one_way)
    dna.check(replace(one_way, {"pooling": "last"}))


def row(trial, accuracy):
    metrics = {"test_accuracy": accuracy, "params": 5, "epochs": 2, "device_seconds": 60.0}
    metrics["baselines"] = {"each base by itself": accuracy / 2, "the most frequent class": 0.0}
    metrics["effects"] = {"promoter": [accuracy, 0.0]}
    identity, config = trial_id(trial), as_dict(trial)
    return {"trial_id": identity, "config": config, "status": "DONE", "metrics": metrics}


def test_folds_are_one_line_below_what_it_has_to_beat():
    planned = [t for t in dna.trials("default") if isinstance(t.data, Promoters)]
    right = [float(number % 10 != 0) for number in range(PROMOTERS)]  # 11 of 106 are wrong
    rows = [row(t, value) for t, value in zip(planned, right, strict=True)]
    lines = {line["system"]: line for line in dna.table(rows).rows}
    (ours,) = [line for line in lines.values() if line.get("source") == "ours"]
    assert ours["n"] == PROMOTERS
    assert ours["value"] == pytest.approx(100 * 95 / 106)
    assert lines["baseline: each base by itself"]["value"] == pytest.approx(50 * 95 / 106)
    assert lines["baseline: the most frequent class"]["value"] == 0
    errors = {"KBANN": 4, "backpropagation": 8, "O'Neill": 12, "nearest neighbour": 13, "ID3": 19}
    for name, wrong in errors.items():  # of 106, as published
        assert lines[name]["value"] == pytest.approx(100 * (1 - wrong / 106), abs=0.01)


def test_what_others_reach_on_splice_is_of_their_three_classes():
    """UCI's splice.names: percent wrong of neither, EI and IE, of which there are so many."""
    wrong = {"KBANN": (4.62, 7.56, 8.47), "backpropagation": (5.29, 5.74, 10.75)}
    wrong |= {"PEBLS": (6.86, 8.18, 7.55), "perceptron": (3.99, 16.32, 17.41)}
    wrong |= {"ID3": (8.84, 10.58, 13.99), "nearest neighbour": (31.11, 11.65, 9.09)}
    for name, rates in wrong.items():
        overall = np.average(rates, weights=(1655, 767, 768))
        value = dna.PUBLISHED["splice", "test_accuracy", name].value
        assert 100 * value == pytest.approx(100 - overall, abs=0.006)


def test_a_figure_has_the_mean_over_folds():
    planned = [t for t in dna.trials("default") if isinstance(t.data, Promoters)][:3]
    rows = [row(t, value) for t, value in zip(planned, (1.0, 0.5, 0.0), strict=True)]
    del rows[2]["metrics"]["effects"]  # of an older run
    (figure,) = dna.figures(rows).values()
    (panel,) = figure.axes
    curve = panel.lines[0]
    np.testing.assert_allclose(np.asarray(curve.get_ydata()), [0.75, 0.0])
    np.testing.assert_allclose(np.asarray(curve.get_xdata()), [-49.5, -48.5])


@pytest.mark.usefixtures("original_files")
def test_the_junction_is_where_it_is_said_to_be(tmp_path, monkeypatch):
    """An intron begins with GT."""
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path))
    catalogue.prepare("splice")
    dataset = data.load(Splice())
    bases = dataset.test.inputs.values.reshape(len(dataset.test.targets), -1)
    place = dna.LANDMARKS["Splice"].place
    begins = bases[np.asarray(dataset.test.targets) == 0, place : place + 2]
    words = ["".join(dataset.symbols[b] for b in pair) for pair in begins]
    assert words.count("GT") > 0.95 * len(words) > 50
