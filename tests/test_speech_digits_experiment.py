"""Spoken digits: what the network has to beat, what is seen of it, and its table."""

import itertools
import math

import jax
import numpy as np
import pytest

from experiments import speech_digits
from seqlab import sequence_trial
from seqlab.data import ExampleDataset, Examples, Ragged, SpokenDigits, speech
from seqlab.errors import InputError
from seqlab.sample import Asked
from seqlab.sequence_trial import Model
from seqlab.trial import as_dict, replace, trial_id

DIGITS = tuple("0123456789")
RNG = np.random.default_rng(0)
TONES = RNG.normal(size=(10, 2, 40))  # of the beginning and of the end of a digit
TONES[:, 0] = TONES[0, 0]  # all begin alike


def recordings(size: int) -> Examples:
    digits = RNG.permutation(np.arange(size) % 10).astype(np.int32)
    lengths = RNG.integers(8, 20, size).astype(np.int32)
    frames = [
        np.where(np.arange(n)[:, None] < n // 2, *TONES[digit]) + RNG.normal(0, 0.3, (n, 40))
        for digit, n in zip(digits, lengths, strict=True)
    ]
    return Examples(Ragged(np.concatenate(frames).astype(np.float32), lengths), digits)


DATASET = ExampleDataset(recordings(100), recordings(20), recordings(40), (), DIGITS)


def test_parts_are_means_of_runs_of_frames():
    values, lengths = DATASET.test.inputs
    found = speech_digits.parts(DATASET.test).reshape(len(lengths), 8, 40)
    for whole, mine in zip(np.split(values, np.cumsum(lengths)[:-1]), found, strict=True):
        cuts = [len(whole) * k // 8 for k in range(9)]
        for (start, end), mean in zip(itertools.pairwise(cuts), mine, strict=True):
            np.testing.assert_allclose(mean, whole[start:end].mean(axis=0), atol=1e-5)


def test_the_linear_reader_has_no_slope_left():
    """The gradient of what it minimises, in W and b, is 0; told apart by the classes it names."""
    train, test = speech_digits.parts(DATASET.train), speech_digits.parts(DATASET.test)
    wanted = np.eye(10)[np.asarray(DATASET.train.targets)]
    # Ridge as least squares: rows of √RIDGE that want 0, and a column of ones that they do not see.
    penalty = math.sqrt(speech_digits.RIDGE) * np.eye(train.shape[1])
    rows = np.concatenate(
        [np.pad(train, ((0, 0), (0, 1)), constant_values=1), np.pad(penalty, ((0, 0), (0, 1)))]
    )
    zeros = np.zeros((len(penalty), 10))
    weights = np.linalg.lstsq(rows, np.concatenate([wanted, zeros]))[0]
    expected = (np.pad(test, ((0, 0), (0, 1)), constant_values=1) @ weights).argmax(axis=1)
    assert speech_digits.least_squares(DATASET).tolist() == expected.tolist()
    right = np.mean(expected == DATASET.test.targets)
    assert speech_digits.baselines(DATASET) == {"chance": 0.1, "linear in 8 parts": right}


@pytest.fixture
def invented(monkeypatch) -> None:
    monkeypatch.setattr(sequence_trial, "load", lambda config: (DATASET, "of this test"))


VALUES = {"model": Model("gru", 8), "train.num_buckets": 1}
VALUES |= {"train.schedule.max_epochs": 12, "train.batch_size": 10}
VALUES |= {"optim.learning_rate": 2e-2, "optim.dropout_rate": None}


@pytest.mark.usefixtures("invented")
def test_a_training_through_run_learns_and_can_be_used(tmp_path, monkeypatch):
    trial = replace(speech_digits.Trial("smoke", SpokenDigits()), VALUES)
    with jax.numpy_dtype_promotion("standard"):  # Adam counts in int32
        metrics = speech_digits.run(trial, tmp_path)
    counts = np.array(metrics["confusions"])
    assert counts.sum(axis=1).tolist() == [4] * 10  # of the truth
    assert np.trace(counts) / 40 == pytest.approx(metrics["test_accuracy"])
    assert metrics["heard"][-1] == pytest.approx(metrics["test_accuracy"])
    assert metrics["heard"][0] < 0.3 < 0.9 < metrics["heard"][-1]

    frames = DATASET.test.inputs.values[: DATASET.test.inputs.lengths[0]]
    level = frames.mean(axis=0)
    monkeypatch.setattr(speech, "deviation", lambda config: np.full(40, 2, np.float32))
    monkeypatch.setattr(speech, "log_mel", lambda wav, name: 2 * (frames - level) + level + 1)
    (tmp_path / "a.wav").touch()
    listen = speech_digits.sampler(trial, tmp_path, Asked())
    said = listen(str(tmp_path / "a.wav")).split("  ")
    probabilities = {word.split()[0]: float(word.split()[1]) for word in said}
    assert set(probabilities) == set(DIGITS)
    assert sum(probabilities.values()) == pytest.approx(1, abs=0.06)
    assert sorted(probabilities.values(), reverse=True) == list(probabilities.values())
    with pytest.raises(InputError, match=r"no\.wav: cannot be read \(No such file"):
        listen("no.wav")
    with pytest.raises(InputError, match=r"--(temperature|seed): there is no such choice"):
        speech_digits.sampler(trial, tmp_path, Asked(seed=1))


# Trials and the table


def test_every_speaker_is_left_out_as_often():
    for budget, seeds in (("default", (3, 1)), ("paper", (5, 5))):
        planned = speech_digits.trials(budget)
        assert len({trial_id(t) for t in planned}) == len(planned)
        tests = [t.data.test for t in planned]
        assert tests.count("official") == seeds[0]
        assert {tests.count(name) for name in speech.SPEAKERS} == {seeds[1]}
        assert len(planned) == seeds[0] + 6 * seeds[1]
    assert len(speech_digits.trials("smoke")) == 1
    with pytest.raises(InputError, match="Did you mean 'smoke'"):
        speech_digits.trials("smok")


def test_what_cannot_be_run_is_one_line(monkeypatch):
    monkeypatch.setattr(sequence_trial, "check_data", lambda config: None)
    trial = speech_digits.trials("smoke")[0]
    speech_digits.check(trial)
    with pytest.raises(InputError, match=r"no pooling 'men'\. Did you mean 'mean'"):
        speech_digits.check(replace(trial, {"pooling": "men"}))


def row(trial, accuracy):
    metrics = {"test_accuracy": accuracy, "params": 5, "epochs": 2, "device_seconds": 60.0}
    metrics["baselines"] = {"chance": 0.1, "linear in 8 parts": accuracy / 2}
    metrics["confusions"] = (np.eye(10) * 3 + np.eye(10, k=1)).astype(int).tolist()
    metrics["heard"] = [accuracy * n / 10 for n in range(1, 11)]
    identity, config = trial_id(trial), as_dict(trial)
    return {"trial_id": identity, "config": config, "status": "DONE", "metrics": metrics}


def test_speakers_are_one_line_and_drawn_together():
    planned = speech_digits.trials("default")
    accuracies = [0.98, 0.99, 1.0, 0.6, 0.7, 0.8, 0.9, 0.7, 0.7]
    rows = [row(t, value) for t, value in zip(planned, accuracies, strict=True)]
    lines = [line for line in speech_digits.table(rows).rows if line.get("source") == "ours"]
    found = {line["data"]: (line["n"], line["value"]) for line in lines}
    assert found == {
        "FSDD, official split": (3, pytest.approx(99)),
        "FSDD, a speaker left out": (6, pytest.approx(100 * np.mean(accuracies[3:]))),
    }
    assert rows[5]["config"]["data"]["test"] == "lucas"  # the rows are left as they are

    drawn = speech_digits.figures(rows)
    assert set(drawn) == {"fsdd_default", "fsdd_speakers_default"}
    soon, confusions = drawn["fsdd_default"].axes
    np.testing.assert_allclose(np.asarray(soon.lines[0].get_ydata())[-1], 99)
    shown = np.asarray(confusions.images[0].get_array())
    assert (shown[0, 0], shown[0, 1], shown[1, 0], shown[9, 9]) == (75, 25, 0, 100)
