"""What is predicted of a series, and what it has to beat, against plain loops."""

import itertools

import jax
import numpy as np
import pytest

from experiments import time_series
from seqlab import sequence_trial
from seqlab.data import Examples, Ragged, SeriesDataset, TimeSeries
from seqlab.errors import InputError
from seqlab.models.sequence import Classifier, FrameEmbedding
from seqlab.sequence_trial import Model
from seqlab.trial import BUDGETS, as_dict, replace, trial_id

MEAN, STD = 50.0, 20.0


def rising(size: int = 80) -> np.ndarray:
    """A season of 12, a slope, and some noise."""
    steps, rng = np.arange(size), np.random.default_rng(0)
    return 50 + 0.8 * steps + 15 * np.sin(steps * np.pi / 6) + rng.normal(0, 2, size)


def dataset_of(values: np.ndarray, window: int, horizon: int) -> SeriesDataset:
    """As `seqlab.data` cuts a series: 70, 15 and 15 % of its values are predicted."""
    scaled = ((values - MEAN) / STD).astype(np.float32)
    ends = len(values) * 70 // 100, len(values) * 85 // 100
    splits = []
    for start, end in itertools.pairwise((window + horizon - 1, *ends, len(values))):
        windows = [scaled[i - horizon - window + 1 : i - horizon + 1] for i in range(start, end)]
        inputs = Ragged(np.concatenate(windows)[:, None], np.full(len(windows), window, np.int32))
        splits.append(Examples(inputs, scaled[start:end, None]))
    return SeriesDataset(*splits, mean=MEAN, std=STD, unit="of this test")


@pytest.mark.parametrize(("window", "horizon"), [(5, 1), (7, 3), (12, 13)])
def test_the_baselines_are_those_of_a_loop(window, horizon):
    values = rising()
    config = TimeSeries("airline", window, horizon)
    dataset = dataset_of(values, window, horizon)
    begin, train_end = len(values) * 85 // 100, len(values) * 70 // 100

    def rmse(predict):
        errors = [predict(i) - values[i] for i in range(begin, len(values))]
        return (sum(error**2 for error in errors) / len(errors)) ** 0.5

    def seen(i):
        return [*values[i - horizon - window + 1 : i - horizon + 1], 1.0]

    def season_before(i):
        known = i - 12
        while known > i - horizon:  # not yet known when it has to be said
            known -= 12
        return values[known]

    design = np.array([seen(i) for i in range(window + horizon - 1, train_end)])
    wanted = values[window + horizon - 1 : train_end]
    weights = np.linalg.solve(design.T @ design, design.T @ wanted)  # the normal equations
    assert time_series.baselines(config, dataset) == pytest.approx(
        {
            "the last value": rmse(lambda i: values[i - horizon]),
            "the value one season before": rmse(season_before),
            "least squares on the window": rmse(lambda i: seen(i) @ weights),
        },
        rel=1e-4,
    )
    whole = time_series.whole(config, dataset) * STD + MEAN
    np.testing.assert_allclose(whole, values, rtol=1e-5)


def test_who_says_the_change_follows_any_level():
    reader = Classifier(FrameEmbedding(4), Model("gru", 4).layers(), 1)
    change = time_series.Change(reader)
    windows = jax.random.normal(jax.random.key(0), (3, 6, 1))
    params = jax.jit(change.init)(jax.random.key(1), windows)
    said = jax.jit(change.apply)(params, windows)
    higher = jax.jit(change.apply)(params, windows + 100.0)
    np.testing.assert_allclose(np.asarray(higher) - 100.0, said, atol=1e-4)  # pyright: ignore
    alone = {"params": params["params"]["network"]}
    last = windows[:, -1]
    differences = jax.jit(reader.apply)(alone, windows - last[:, None])
    np.testing.assert_allclose(np.asarray(said), last + differences, atol=1e-6)
    assert np.abs(np.asarray(said) - np.asarray(last)).max() > 1e-3


@pytest.fixture(scope="module")
def trained():
    """By what is predicted, the metrics of a training on a series that leaves its range."""
    dataset = dataset_of(rising(120), 12, 1)
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequence_trial, "load", lambda config: (dataset, "of this test"))
        for predicts in time_series.PREDICTS:
            values = {"predicts": predicts, "model.units": 8, "optim.optimizer": "sgd"}
            values |= {"optim.learning_rate": 0.1, "train.schedule.max_epochs": 40}
            values |= {"train.schedule.patience": 40}
            trial = replace(time_series.trials("smoke")[0], values | {"data.window": 12})
            found[predicts] = time_series.run(trial)
    return found


def test_errors_are_those_of_what_was_predicted(trained):
    truth = rising(120)[120 * 85 // 100 :]
    for metrics in trained.values():
        np.testing.assert_allclose(metrics["test_truth"], truth, atol=1e-3)
        errors = np.array(metrics["test_predicted"]) - truth
        assert metrics["test_rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-3)
        of_gauss = 0.5 * metrics["valid_squared_error"] + 0.5 * np.log(2 * np.pi)
        assert metrics["valid_nll"] == pytest.approx(of_gauss, rel=1e-5)
        assert metrics["valid_rmse"] == pytest.approx(STD * metrics["valid_squared_error"] ** 0.5)


def test_changes_are_learnt_beyond_the_range_of_train(trained):
    change, value = trained["change"], trained["value"]
    assert change["test_rmse"] < change["baselines"]["the last value"]
    assert change["test_rmse"] < 0.8 * value["test_rmse"]


# Trials, table, figure


def test_every_series_has_both_networks_from_every_seed():
    for budget, num_seeds in (("default", 3), ("paper", 5)):
        planned = time_series.trials(budget)
        assert len({trial_id(t) for t in planned}) == len(planned)
        assert all(t.budget == budget for t in planned)
        found = sorted((t.data.name, t.predicts, t.seed) for t in planned)
        names = ("airline", "births", "sunspots", "temperatures")
        assert found == list(itertools.product(names, ("change", "value"), range(num_seeds)))
    assert len(time_series.trials("smoke")) == 1
    with pytest.raises(InputError, match="Did you mean 'paper'"):
        time_series.trials("papr")


def test_what_cannot_be_run_is_one_line(monkeypatch):
    monkeypatch.setattr(sequence_trial, "check_data", lambda config: None)
    for budget in BUDGETS:
        for trial in {t.data: t for t in time_series.trials(budget)}.values():
            time_series.check(trial)
    trial = time_series.trials("smoke")[0]
    with pytest.raises(InputError, match=r"not 'values'\. Did you mean 'value'"):
        time_series.check(replace(trial, {"predicts": "values"}))
    with pytest.raises(InputError, match=r"train\.batch_size must be above 0"):
        time_series.check(replace(trial, {"train.batch_size": 0}))


def row(trial, rmse):
    metrics = {"test_rmse": rmse, "params": 5, "epochs": 2, "device_seconds": 60.0}
    metrics |= {"test_truth": [1.0, 2.0, 4.0], "test_predicted": [1.5, rmse, 3.0]}
    metrics["baselines"] = {"the last value": 7.0, "the value one season before": 9.0}
    identity, config = trial_id(trial), as_dict(trial)
    return {"trial_id": identity, "config": config, "status": "DONE", "metrics": metrics}


def test_the_table_has_a_section_a_series_and_a_line_a_network():
    planned = time_series.trials("default")
    rows = [row(t, 2.0 + t.seed + 10 * (t.predicts == "value")) for t in planned]
    table = time_series.table(rows)
    for name, sections in itertools.groupby(table.rows, key=lambda line: line["task"]):
        lines = list(sections)
        trivial = {line["system"]: line["value"] for line in lines if "source" not in line}
        assert trivial == {
            "baseline: the last value": 7.0,
            "baseline: the value one season before": 9.0,
        }
        ours = {line["system"]: line for line in lines if line.get("source") == "ours"}
        assert len(ours) == 2, name
        for system, line in ours.items():
            assert line["n"] == 3
            assert line["value"] == pytest.approx(13.0 if ", value" in system else 3.0)
    (heading,) = {line["section"] for line in table.rows if line["task"] == "births"}
    assert "girls born a day" in heading


def test_a_figure_shows_truth_last_value_and_the_first_seed():
    births = [t for t in time_series.trials("default") if t.data.name == "births"]
    rows = [row(t, 2.0 + t.seed) for t in reversed(births) if t.predicts == "change"]
    (figure,) = time_series.figures(rows).values()
    (panel,) = figure.axes
    drawn = {str(line.get_label()).split(",")[0]: line for line in panel.lines}
    points = {
        name: np.array([line.get_xdata(), line.get_ydata()]).tolist()
        for name, line in drawn.items()
    }
    assert points == {
        "last value": [[1, 2], [1.0, 2.0]],
        "lstm": [[0, 1, 2], [1.5, 2.0, 3.0]],
        "truth": [[0, 1, 2], [1.0, 2.0, 4.0]],
    }
