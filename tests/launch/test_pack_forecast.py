"""What packs would take, said before anything starts, and how packs are asked for."""

import json
import math
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from tiny_trials import ASKED, NAME, plan_of, tiny

from experiments import mut_vs_lstm_gru as mut
from seqlab import results, stream_trial
from seqlab.accounting.memory import predicted_peak
from seqlab.launch import forecast, packing, worker
from seqlab.trial import as_dict, trial_id

PLAN = [
    tiny(cell, model__parameter_budget=budget, seed=seed)
    for cell in ("rnn", "gru")
    for budget in (3000, 4000)
    for seed in range(5)
]


def put(root: Path, trial, seconds: float, status: str = "DONE") -> None:
    folder = results.trial_folder(root, NAME, trial_id(trial))
    folder.mkdir(parents=True)
    metrics = {"seconds_per_step": seconds, "valid_nll": 1.0} if status == "DONE" else {}
    result = {"trial_id": trial_id(trial), "config": as_dict(trial), "metrics": metrics}
    assert results.commit(folder, result | {"status": status, "error": None})


def lines_of(root: Path, size: int, num_workers: int = 1, trials=PLAN) -> dict[str, dict]:
    table = forecast.table(plan_of(trials, root), lambda group: size, num_workers)
    assert len({row["what"] for row in table.rows}) == len(table.rows)
    return {row["what"]: row for row in table.rows}


@pytest.mark.parametrize(("size", "members"), [(1, "1"), (2, "1-2"), (5, "5"), (99, "5")])
def test_a_forecast_counts_trials_shapes_and_packs(tmp_path, size, members):
    lines = lines_of(tmp_path / "none", size)
    assert list(lines) == ["3,000", "4,000", "all"]
    for line in (lines["3,000"], lines["4,000"]):
        assert (line["trials"], line["missing"], line["shapes"]) == (10, 10, 2)
        assert line["packs"] == 2 * math.ceil(5 / size)
        assert line["members"] == members
        assert line["steps"] == 10 * 4 * 100
    for name in forecast.SUMS:
        added = sum(line[name] for what, line in lines.items() if what != "all")
        assert lines["all"][name] == pytest.approx(added)
    assert lines["all"]["memory_mib"] == max(lines[w]["memory_mib"] for w in ("3,000", "4,000"))
    assert lines["all"]["trials"] == len(PLAN)
    assert not (tmp_path / "none").exists()


def test_a_forecast_is_of_what_is_missing(tmp_path):
    """Three of a shape are finished; times are those of the trials that are done."""
    rnn = [t for t in PLAN if (t.model.cell, t.model.parameter_budget) == ("rnn", 3000)]
    for trial, seconds in zip(rnn, (0.01, 0.03, 0.02), strict=False):
        put(tmp_path, trial, seconds)
    lines = lines_of(tmp_path, 2, num_workers=4)
    line = lines["3,000"]
    assert (line["trials"], line["missing"], line["shapes"]) == (10, 7, 2)
    assert (line["packs"], line["members"]) == (1 + 3, "1-2")
    assert line["steps"] == 7 * 400
    assert line["hours"] == pytest.approx(7 * 400 * 0.02 / 4 / 3600)
    assert lines["4,000"].get("hours") is None
    assert lines["all"].get("hours") is None, "of some nothing is known"
    others = [t for t in PLAN if t.model.parameter_budget == 4000]
    put(tmp_path, others[0], 0.05, "FAILED")
    put(tmp_path, others[1], 0.5)
    lines = lines_of(tmp_path, 2, num_workers=4)
    assert lines["4,000"]["hours"] == pytest.approx(8 * 400 * 0.5 / 4 / 3600)
    assert lines["all"]["hours"] == pytest.approx(lines["4,000"]["hours"] + line["hours"])


def test_a_forecast_of_what_is_finished_is_nothing(tmp_path):
    trials = PLAN[:2]
    for trial in trials:
        put(tmp_path, trial, 0.1)
    (line, total) = lines_of(tmp_path, 2, trials=trials).values()
    assert (line["trials"], line["missing"]) == (2, 0)
    assert (total["missing"], total["steps"], total["packs"], total["pflop"]) == (0, 0, 0, 0)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("cell", ["rnn", "gru"])
def test_flop_are_those_of_the_weights_three_times_a_position(tmp_path, cell, size):
    """Forward, and backward to inputs and to weights; of an embedding rows are taken."""
    trials = [tiny(cell, seed=seed, optim__dropout_rate=0.2) for seed in range(3)]
    line = lines_of(tmp_path, size, trials=trials)["all"]
    model = stream_trial.compiled(trials[0])[0].model
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 1), jnp.int32)))
    named = jax.tree_util.tree_leaves_with_path(shapes)
    weights = sum(
        math.prod(leaf.shape)
        for path, leaf in named
        if leaf.ndim == 2 and "embedding" not in jax.tree_util.keystr(path)
    )
    flop = 3 * 2 * weights * (10 * 7) * line["steps"]
    assert line["steps"] == 3 * 400
    assert line["pflop"] * 1e15 == pytest.approx(flop)
    assert line["least_hours"] * 3600 * forecast.PEAK == pytest.approx(flop)


def test_a_dry_run_prints_the_forecast_and_writes_nothing(command, tmp_path):
    dry = ["run", NAME, *ASKED, "--dry-run", "--workers", "3"]
    done = command(*dry, "--pack", "2", "--format", "json")
    assert (done[0], done[2]) == (0, "")
    table = json.loads(done[1])
    trials = [tiny(seed=seed) for seed in range(3)]
    expected = lines_of(tmp_path / "none", 2, num_workers=3, trials=trials)
    for row, line in zip(table["rows"], expected.values(), strict=True):
        assert row == {name: line.get(name) for name in table["columns"]}
    assert (table["rows"][0]["packs"], table["rows"][0]["missing"]) == (2, 3)
    for pack, packs_of in (([], 3), (["--pack", "auto"], 1), (["--pack", "3"], 1)):
        (row, _) = json.loads(command(*dry, *pack, "--format", "json")[1])["rows"]
        assert row["packs"] == packs_of
    memory = int(predicted_peak(mut.outline(trials[:2]).dispatch) / packing.PREDICTED_SHARE) + 1
    asked = ["--pack", "auto", "--memory", f"{memory}B", "--format", "json"]
    (row, _) = json.loads(command(*dry, *asked)[1])["rows"]
    assert (row["packs"], row["members"]) == (2, "1-2")
    assert "3 workers: nothing was started" in command(*dry)[1]
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_trials_that_are_not_packed_counts_them(command, tmp_path):
    done = command("run", "filters", "--budget", "smoke", "--dry-run", "--format", "json")
    assert (done[0], done[2]) == (0, "")
    (row,) = json.loads(done[1])["rows"]
    from experiments import filters

    count = len(filters.trials("smoke"))
    assert row == {"what": "all", "trials": count, "missing": count}
    assert list(tmp_path.iterdir()) == []


# The command line


@pytest.mark.parametrize("verb", ["run", "work"])
@pytest.mark.parametrize(
    ("name", "pack", "said"),
    [
        ("filters", "2", "the trials of filters are not trained in packs"),
        ("filters", "auto", "the trials of filters are not trained in packs"),
        (NAME, "0", "'0' is neither auto nor a whole number from 1"),
        (NAME, "-1", "'-1' is neither auto nor a whole number from 1"),
        (NAME, "x", "'x' is neither auto nor a whole number from 1"),
    ],
)
def test_packs_that_cannot_be_are_refused_in_one_line(command, tmp_path, verb, name, pack, said):
    code, out, err = command(verb, name, "--budget", "smoke", f"--pack={pack}")
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert said in line
    assert not list(tmp_path.rglob("claim-*"))


@pytest.mark.parametrize(
    ("asked", "platform", "pack"),
    [
        ([], "cpu", 1),
        ([], "gpu", None),
        ([], "tpu", None),
        (["--pack", "auto"], "cpu", None),
        (["--pack", "1"], "gpu", 1),
        (["--pack", "7"], "cpu", 7),
    ],
)
def test_a_worker_packs_as_it_is_told_or_as_its_device_asks_for(
    command, monkeypatch, asked, platform, pack
):
    terms = []
    monkeypatch.setattr(worker, "work", lambda plan, start, given: terms.append(given))
    monkeypatch.setattr("seqlab.launch.local.platform", lambda: platform)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    code, _, err = command("work", NAME, *ASKED, *asked, "--memory", "3MiB")
    assert (code, err) == (0, "")
    assert [(given.pack, given.memory) for given in terms] == [(pack, 3 * 2**20)]
