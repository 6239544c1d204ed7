"""A metric over groups: against loops over the files, and scipy's bootstrap."""

import csv
import io
import json
import math
import random
import statistics
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import scipy.stats

from seqlab import aggregate, cli, frame, results
from seqlab.errors import InputError

NAME = "mut_vs_lstm_gru"
CELLS = ("gru", "lstm", "mut1")


def put(root: Path, number: int, config: dict, status: str, metrics: dict) -> None:
    folder = root / NAME / f"t{number:04}"
    folder.mkdir(parents=True)
    row = {"trial_id": folder.name, "config": config, "status": status, "metrics": metrics}
    assert results.commit(folder, row)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Groups of all sizes from none done, some with equal values, some without the metric."""
    root = tmp_path_factory.mktemp("results")
    draw = random.Random(0)
    number = 0
    for cell in CELLS:
        for task, size in (("xml", 7), ("ptb", 2), ("music", 1), ("none", 0), ("equal", 4)):
            for _ in range(size):
                value = 0.25 if task == "equal" else draw.gauss(0, 1)
                metrics = {"test_accuracy": value, "valid_nll": draw.choice([0.1, 0.2, 0.3])}
                config = {"model": {"cell": cell, "width": draw.choice([1, 2])}, "task": task}
                put(root, number, config | {"budget": "smoke"}, "DONE", metrics)
                number += 1
            for status in ("FAILED", "OOM", "DIVERGED", "FAILED"):
                metrics = {"test_accuracy": 99.0} if status == "DIVERGED" else {}
                config = {"model": {"cell": cell, "width": None}, "task": task, "budget": "paper"}
                if draw.random() < 0.7 or task == "none":
                    put(root, number, config, status, metrics)
                    number += 1
    put(root, number, config | {"task": "xml"}, "DONE", {"other": "text", "valid_nll": 0.0})
    return root


def groups(root: Path, *by: str) -> dict[tuple, list[dict]]:
    found = defaultdict(list)
    for path in sorted((root / NAME).glob("t*/result.json")):
        row = json.loads(path.read_text())
        key = []
        for name in by:
            value = row["config"]
            for part in name.split("."):
                value = value.get(part) if value else None
            key.append(value)
        found[tuple(key)].append(row)
    return found


def interval(values: list[float]) -> tuple[float | None, float | None]:
    if len(values) < 2:
        return None, None
    if len(set(values)) == 1:
        return values[0], values[0]
    found = scipy.stats.bootstrap(
        [np.sort(values)], np.mean, n_resamples=9999, method="percentile", rng=0
    )
    return tuple(found.confidence_interval)  # pyright: ignore


def oracle(rows: list[dict], metric: str = "test_accuracy") -> dict:
    done = [row for row in rows if row["status"] == "DONE"]
    values = [row["metrics"][metric] for row in done if metric in row["metrics"]]
    ranked = sorted(done, key=lambda row: (row["metrics"]["valid_nll"], row["trial_id"]))
    low, high = interval(values)
    found = {
        "n": len(values),
        "mean": statistics.fmean(values) if values else None,
        "median": statistics.median(values) if values else None,
        "iqm": float(scipy.stats.trim_mean(values, 0.25)) if values else None,
        "min": min(values, default=None),
        "max": max(values, default=None),
        "low": low,
        "high": high,
        "best": ranked[0]["metrics"].get(metric) if ranked else None,
        "best_trial": ranked[0]["trial_id"] if ranked else None,
    }
    return found | {s: sum(r["status"] == s for r in rows) for s in results.STATUSES[1:]}


def assert_same(row: dict, truth: dict) -> None:
    for name, value in truth.items():
        if isinstance(value, float):
            assert row[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name
        else:
            assert row[name] == value, name


def load(root: Path) -> pl.DataFrame:
    return results.load(NAME, str(root))


BY = (("model.cell", "task"), ("task",), ("model.width",), ("budget", "model.cell"))


@pytest.mark.parametrize("by", BY, ids=",".join)
def test_every_statistic_is_that_of_a_loop_over_the_files(root, by):
    table = aggregate.table(load(root), "title", by, "test_accuracy", best=True)
    truth = groups(root, *by)
    keys = [tuple(row[name] for name in by) for row in table.rows]
    assert keys == sorted(truth, key=lambda key: [(part is None, part) for part in key])
    for key, row in zip(keys, table.rows, strict=True):
        assert_same(row, oracle(truth[key]))


def test_without_best_there_is_none(root):
    table = aggregate.table(load(root), "title", ["task"], "test_accuracy")
    assert not {"best", "best_trial"} & {column.key for column in table.columns}
    for row in table.rows:
        truth = oracle(groups(root, "task")[(row["task"],)])
        assert_same(row, {k: v for k, v in truth.items() if not k.startswith("best")})


@pytest.mark.parametrize("size", [2, 3, 10, aggregate.MOST_RESAMPLED])
def test_the_interval_is_scipys_and_knows_no_order_and_no_neighbours(size):
    draw = np.random.default_rng(size)
    values = [draw.gamma(1, size=size), draw.normal(size=size), draw.normal(size=size + 1)]
    found = aggregate._intervals([np.sort(x) for x in values])
    for x, ends in zip(values, found, strict=True):
        if len(x) <= aggregate.MOST_RESAMPLED:
            assert ends == pytest.approx(interval(list(x)), rel=1e-9)
        assert aggregate._intervals([np.sort(x)]) == [pytest.approx(ends, rel=1e-12)]


def test_where_students_interval_begins_the_two_agree_within_their_noise(monkeypatch):
    draw = np.random.default_rng(0)
    for x in (draw.normal(size=301), draw.gamma(4, size=301)):  # of skewness 0 and 1
        student = np.array(aggregate._intervals([np.sort(x)])[0])
        bootstrap = np.array(interval(list(x)))
        error = np.std(x) / math.sqrt(len(x))
        assert np.all(np.abs(student - bootstrap) < 0.1 * error)
        assert not np.array_equal(student, bootstrap)


def test_what_is_not_finite_stays_visible():
    rows = [
        {"trial_id": f"{i}", "config": {"a": i % 2}, "status": "DONE", "metrics": {"x": x}}
        for i, x in enumerate([1.0, 2.0, 3.0, math.inf, 4.0, math.nan])
    ]
    odd, even = reversed(aggregate.table(frame.of(rows), "title", ["a"], "x").rows)
    assert (even["n"], even["mean"]) == (3, pytest.approx(8 / 3))
    assert odd["n"] == 3
    assert all(math.isnan(odd[name]) for name in ("mean", "low", "high"))


# On the command line


@pytest.fixture
def command(root, capsys):
    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(["table", NAME, "--results-dir", str(root), *arguments])
        return code, *capsys.readouterr()

    return run


GROUPED = ("--by", "model.cell,task", "--metric", "test_accuracy")


def rows_of(done: tuple[int, str, str]) -> list[dict]:
    assert (done[0], done[2]) == (0, "")
    return json.loads(done[1])["rows"]


def test_the_command_prints_it_in_every_format(command, root):
    rows = rows_of(command(*GROUPED, "--best", "--format", "json"))
    truth = groups(root, "model.cell", "task")
    assert len(rows) == len(truth)
    for row in rows:
        assert_same(row, oracle(truth[row["model.cell"], row["task"]]))
    code, out, err = command(*GROUPED, "--format", "csv")
    assert (code, err) == (0, "")
    assert [row["mean"] for row in csv.DictReader(io.StringIO(out))] == [
        "" if row["mean"] is None else repr(row["mean"]) for row in rows
    ]
    for format in ("text", "markdown", "latex", "html"):
        code, out, err = command(*GROUPED, "--format", format)
        assert (code, err) == (0, "")
        assert f"{rows[0]['mean']:.4g}".lstrip("-") in out


def test_conditions_and_budget_choose_the_trials(command, root):
    only = ("--only", "model.cell=gru,mut1", "--only", "model.width=2,None", "--format", "json")
    truth = groups(root, "model.cell", "task", "model.width", "budget")
    for budget in ((), ("--budget", "smoke")):
        expected = defaultdict(list)
        for (cell, task, width, of), rows in truth.items():
            if cell != "lstm" and width in (2, None) and (of == "smoke" or not budget):
                expected[cell, task] += rows
        if budget:  # no trial of that budget is without a width
            with_width = ("--only", "model.cell=gru,mut1", "--only", "model.width=2")
            rows = rows_of(command(*GROUPED, *budget, *with_width, "--format", "json"))
        else:
            rows = rows_of(command(*GROUPED, *only))
        assert {(row["model.cell"], row["task"]) for row in rows} == set(expected)
        for row in rows:
            truth_here = oracle(expected[row["model.cell"], row["task"]])
            assert_same(row, {k: v for k, v in truth_here.items() if not k.startswith("best")})


@pytest.mark.parametrize("key", ["mean", "FAILED", "task"])
def test_rows_come_in_the_order_that_is_asked_for_the_empty_last(command, key):
    for sign in ("", "-"):
        rows = rows_of(command(*GROUPED, f"--sort={sign}{key}", "--format", "json"))
        values = [row[key] for row in rows]
        there = [value for value in values if value is not None]
        assert there == sorted(there, reverse=bool(sign))
        assert values[len(there) :] == [None] * (len(values) - len(there))
        assert len(there) > 1


def test_columns_can_be_chosen(command):
    rows = rows_of(command(*GROUPED, "--columns", "task,mean", "--format", "json"))
    assert {tuple(row) for row in rows} == {("task", "mean")}


BAD = {
    "column": (["--by", "model.cel", "--metric", "test_accuracy"], "Did you mean 'model.cell'?"),
    "metric": (["--by", "task", "--metric", "test_acuracy"], "Did you mean 'test_accuracy'?"),
    "text": (["--by", "task", "--metric", "other"], "other is not a number"),
    "twice": (["--by", "task,config.task", "--metric", "test_accuracy"], "names a column twice"),
    "value": ([*GROUPED, "--only", "model.cell=gur"], "no result has model.cell=gur. Did you mean"),
    "path": ([*GROUPED, "--only", "model.cel=gru"], "Did you mean 'model.cell'?"),
    "order": ([*GROUPED, "--sort=-men"], "no column 'men'. Did you mean 'mean'?"),
    "chosen": ([*GROUPED, "--columns", "medan"], "no column 'medan'. Did you mean 'median'?"),
    "no metric": (["--by", "task"], "--by and --metric go together"),
    "no groups": (["--metric", "test_accuracy"], "--by and --metric go together"),
    "best alone": (["--best"], "--best and --sort need --by"),
    "budget": ([*GROUPED, "--budget", "default"], "no result has budget=default"),
}


@pytest.mark.parametrize(("arguments", "said"), BAD.values(), ids=BAD.keys())
def test_a_mistake_is_one_line(command, arguments, said):
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err


def test_the_best_is_by_validation_loss_or_not_at_all(tmp_path, capsys):
    put(tmp_path, 0, {"task": "xml"}, "DONE", {"x": 1})
    arguments = ["table", NAME, "--results-dir", str(tmp_path), "--by", "task", "--metric", "x"]
    assert cli.main([*arguments, "--best"]) == 2
    assert "valid_nll, which no result has" in capsys.readouterr().err
    assert cli.main(arguments) == 0


def test_nothing_there_is_one_line(tmp_path, capsys):
    assert cli.main(["table", NAME, "--results-dir", str(tmp_path), *GROUPED]) == 2
    assert "no results of" in capsys.readouterr().err


def test_a_column_that_is_called_like_a_statistic_keeps_its_whole_name():
    rows = [
        {"trial_id": f"{i}", "config": {"n": i % 2}, "status": "DONE", "metrics": {"x": i}}
        for i in range(4)
    ]
    table = aggregate.table(frame.of(rows), "title", ["n"], "x")
    assert [(row["config.n"], row["n"], row["mean"]) for row in table.rows] == [
        (0, 2, 1),
        (1, 2, 2),
    ]


# Names of columns


@pytest.mark.parametrize("name", ["a", "b", "status", "c"])
def test_a_name_means_the_configuration_or_where_numbers_are_asked_a_metric(name):
    row = {
        "trial_id": "t",
        "config": {"a": 1, "b": "x"},
        "status": "DONE",
        "metrics": {"a": 2.0, "b": 3},
        "provenance": {"c": "y"},
    }
    one = frame.of([row])
    plain = {"a": "config.a", "b": "config.b", "status": "status", "c": "provenance.c"}
    assert frame.find(one, name) == plain[name]
    numbers = {"a": "metrics.a", "b": "metrics.b"}
    if name in numbers:
        assert frame.find(one, name, numbers=True) == numbers[name]
    else:
        with pytest.raises(InputError, match="is not a number"):
            frame.find(one, name, numbers=True)
