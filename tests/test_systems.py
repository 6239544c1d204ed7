"""The table of a trained system says what its results say."""

import json
import math
import statistics
from dataclasses import replace

import numpy as np
import pytest

from experiments import pos_tagging, sentiment
from seqlab import cli, results, sequence_trial, systems
from seqlab.comparison import Published
from seqlab.data import ExampleDataset, Examples, MovieReviews, Ragged
from seqlab.data.examples import decode
from seqlab.errors import InputError
from seqlab.tables import Column, Table
from seqlab.trial import BUDGETS, as_dict, trial_id


def row(trial, accuracy, status="DONE", **more):
    metrics = {"test_accuracy": accuracy, "baseline": 0.5, "params": 1234, "epochs": 4}
    metrics |= {"device_seconds": 90.0, **more}
    return {
        "trial_id": trial_id(trial),
        "config": as_dict(trial),
        "status": status,
        "metrics": metrics if status == "DONE" else {},
    }


def lines(rows):
    return sentiment.table(rows).rows


def test_seeds_are_one_line_with_its_interval():
    found = [0.80, 0.82, 0.81]
    planned = sentiment.trials("default")[:3]
    ours = lines([row(t, value) for t, value in zip(planned, found, strict=True)])[-1]
    assert ours["n"] == 3
    assert ours["value"] == pytest.approx(81.0)
    t_975 = 4.302652729911275  # of two degrees of freedom, from a table
    assert ours["ci95"] == pytest.approx(t_975 * 100 * statistics.stdev(found) / math.sqrt(3))
    assert (ours["params"], ours["epochs"], ours["minutes"]) == (1234, 4, 1.5)


def test_what_differs_in_more_is_another_line_and_failures_are_counted():
    planned = sentiment.trials("default")
    rows = [row(t, 0.7, "DIVERGED" if n % 2 else "DONE") for n, t in enumerate(planned)]
    ours = [line for line in lines(rows) if line.get("source") == "ours"]
    repeated = {trial_id(replace(t, seed=0, data=_first_fold(t.data))) for t in planned}
    assert len(ours) == len(repeated)
    lost = [line["not_done"] for line in ours]
    counted = sum(int(text.split()[0]) for text in lost if text)
    assert counted == sum(row["status"] == "DIVERGED" for row in rows)
    assert sum(line["n"] for line in ours) == sum(row["status"] == "DONE" for row in rows)
    assert len({(line["task"], line["system"]) for line in ours}) == len(ours)


def test_a_gap_is_of_results_that_differ_in_nothing_else():
    planned = pos_tagging.trials("default")
    planned += [replace(t, model=replace(t.model, cell="gru")) for t in planned[:1]]  # no partner
    both = [t for t in planned if t.model.bidirectional and t.model.cell == "lstm"]
    one = [t for t in planned if not t.model.bidirectional]
    rows = [row(t, 0.90 + 0.01 * t.seed, by_place=[]) for t in both]
    rows += [row(t, 0.88 + 0.02 * t.seed, by_place=[]) for t in one]
    rows += [row(t, 0.1, by_place=[]) for t in planned if t.model.cell == "gru"]
    differences = [2.0, 1.0, 0.0]
    half = 4.302652729911275 * statistics.stdev(differences) / math.sqrt(3)
    said = "UD English EWT, universal tags, default budget: both directions less one: "
    assert f"{said}+1.00 ± {half:.2f}, n = 3." in pos_tagging.table(rows).notes
    lost = [*rows[:-2], {**rows[-2], "status": "DIVERGED", "metrics": {}}]
    assert f"{said}+1.50 ± 6.35, n = 2." in pos_tagging.table(lost).notes
    assert not any("less one" in note for note in pos_tagging.table(rows[:3]).notes)


def _first_fold(data):
    return replace(data, fold=0) if isinstance(data, MovieReviews) else data


def test_others_stand_beside_ours_with_their_source():
    first = sentiment.trials("default")[0]
    table = lines([row(first, 0.8)])
    others = [line for line in table if line.get("source") not in (None, "ours")]
    expected = {
        name: paper for (task, _, name), paper in sentiment.PUBLISHED.items() if task == "sst2"
    }
    assert {line["system"] for line in others} == set(expected)
    for line in others:
        paper: Published = expected[line["system"]]
        assert line["value"] == pytest.approx(100 * paper.value)
        assert (line["mark"], line["source"]) == (paper.mark, paper.table)
    (trivial,) = [line for line in table if line["system"] == "baseline"]
    assert trivial["value"] == 50.0


@pytest.mark.parametrize("experiment", [sentiment, pos_tagging])
def test_the_plans_are_good_and_different(experiment):
    for budget in BUDGETS:
        planned = experiment.trials(budget)
        assert len({trial_id(trial) for trial in planned}) == len(planned) > 0
        assert all(trial.budget == budget for trial in planned)
    with pytest.raises(InputError, match="Did you mean 'smoke'"):
        experiment.trials("smok")


def test_a_pooling_that_is_none_is_one_line(monkeypatch):
    monkeypatch.setattr(sequence_trial, "check_data", lambda config: None)
    trial = sentiment.trials("smoke")[0]
    sentiment.check(trial)
    with pytest.raises(InputError, match=r"no pooling 'lst'\. Did you mean 'last'"):
        sentiment.check(replace(trial, pooling="lst"))


def test_the_most_frequent_tag_of_a_word():
    """By hand: a is X twice and Y once; b is Y; c is not in train, where X and Y are 2 and 2."""

    def tagged(words, tags):
        lengths = np.array([len(words)], np.int32)
        numbers = ({"a": 0, "b": 1, "c": 2}[w] for w in words), ({"X": 0, "Y": 1}[t] for t in tags)
        values = [np.array(list(n), np.int32) for n in numbers]
        return Examples(*(Ragged(value, lengths) for value in values))

    train, test = tagged("aaab", "XXYY"), tagged("aabbc", "XYYXX")
    dataset = ExampleDataset(train, train, test, ("a", "b", "c"), ("X", "Y"))
    assert decode(test.inputs, dataset.symbols) == [list("aabbc")]
    # a -> X: right, wrong; b -> Y: right, wrong; c -> X, of two as frequent the first: right
    assert pos_tagging.most_frequent_tag(dataset) == pytest.approx(3 / 5)


# All systems in one table


def test_the_overview_has_a_line_for_each_of_ours_and_what_is_beside_it():
    planned = sentiment.trials("default")
    same = [row(trial, 0.8) for trial in planned[:3]]
    one = sentiment.table([*same, row(planned[-1], 0.75)])
    two = pos_tagging.table([row(trial, 0.9) for trial in pos_tagging.trials("default")])
    other = Table("of something else", (Column("a", "a"),), ({"a": 1},))
    table = systems.overview({"sentiment": one, "something": other, "pos_tagging": two})
    ours = [line for part in (one, two) for line in part.rows if line["kind"] == systems.OURS]
    assert len(table.rows) == len(ours) == 4
    for line, mine in zip(table.rows, ours, strict=True):
        for key in ("value", "n", "params", "system", "data", "wiring", "measure", "budget"):
            assert line[key] == mine[key]
        assert line["baseline"] == "50.00"
    assert [line["experiment"] for line in table.rows] == ["sentiment"] * 2 + ["pos_tagging"] * 2
    by_data = {line["data"]: line["published"] for line in table.rows}
    assert by_data["SST-2"].startswith("84.90 LSTM, pretrained vectors (m); ")
    assert "76.10 CNN, random vectors (m)" in by_data["Movie reviews, ten folds"]
    assert not any("smoke" in note for note in table.notes)


def test_the_overview_says_which_baseline_is_which_and_what_is_smoke():
    trial = sentiment.trials("smoke")[0]
    found = row(trial, 0.8, baseline={"last word": 0.6, "coin": 0.5})
    table = systems.overview({"sentiment": sentiment.table([found])})
    assert table.rows[0]["baseline"] == "60.00 last word; 50.00 coin"
    assert systems.SMOKE_NOTE in table.notes


def kept(root, name, found):
    folder = results.trial_folder(root, name, found["trial_id"])
    folder.mkdir(parents=True)
    assert results.commit(folder, found)


def test_the_command_has_every_experiment_that_has_results_of_the_budget(tmp_path, capsys):
    kept(tmp_path, "sentiment", row(sentiment.trials("smoke")[0], 0.8))
    kept(tmp_path, "pos_tagging", row(pos_tagging.trials("default")[0], 0.9))
    (tmp_path / "word_lm").mkdir()
    expected = {
        "smoke": ["sentiment"],
        "default": ["pos_tagging"],
        "paper": [],
        None: ["pos_tagging", "sentiment"],
    }
    for budget, names in expected.items():
        asked = ["systems", "--format", "json", "--results-dir", str(tmp_path)]
        assert cli.main(asked + ["--budget", budget] * (budget is not None)) == 0
        lines = json.loads(capsys.readouterr().out)["rows"]
        assert [line["experiment"] for line in lines] == names


def test_the_command_hides_no_fault_of_a_table(tmp_path, capsys, monkeypatch):
    def damaged(rows):
        raise InputError("published values that are none")

    kept(tmp_path, "sentiment", row(sentiment.trials("smoke")[0], 0.8))
    monkeypatch.setattr(sentiment, "table", damaged)
    for budget in ([], ["--budget", "smoke"]):
        assert cli.main(["systems", "--results-dir", str(tmp_path), *budget]) == 2
        assert capsys.readouterr() == ("", "error: published values that are none\n")
    assert cli.main(["systems", "--results-dir", str(tmp_path), "--budget", "paper"]) == 0
