"""The recipe and the table of the MUT comparison, on results made up for the purpose."""

import json
import math
import random
import re
from collections import Counter

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from experiments import mut_vs_lstm_gru as mut
from seqlab import data, forms, results, stream_trial
from seqlab.cells import CELLS, Cell, symbols, uniform, zeros_h
from seqlab.data import Arithmetic, Memorisation, Music, Ptb, Xml
from seqlab.data.stream import Dataset, Stream
from seqlab.errors import InputError
from seqlab.rows import Held, Rows
from seqlab.trial import as_dict, get, replace, set_values, trial_id

BUDGETS = ("smoke", "default", "paper")
TRIALS = {budget: mut.trials(budget) for budget in BUDGETS}
METRICS = {
    "valid_nll": 1.0,
    "test_nll": 1.0,
    "test_accuracy": 0.5,
    "test_probability": 0.5,
    "units": 10,
    "params": 100,
    "seconds_per_step": 0.01,
}
# Transcribed from the paper's tables, apart from the experiment's own transcription.
PAPER = [
    ("arithmetic", "test_accuracy", {"rnn": 0.29493, "lstm_jzs": 0.89228, "mut1": 0.92135}),
    ("xml", "test_accuracy", {"lstm_jzs_no_forget": 0.23356, "gru": 0.45963, "mut3": 0.46478}),
    ("nottingham", "test_nll", {"rnn": 3.612, "mut1": 3.254}),
    ("nottingham_dropout", "test_nll", {"lstm_jzs_no_input": 3.252, "mut3": 3.505}),
    ("piano_midi", "test_nll", {"lstm_jzs_no_output": 6.870, "mut1": 6.792}),
    ("ptb", "test_nll", {"gru": 4.684, "mut2": 4.707}),
    ("ptb", "test_accuracy", {"lstm_jzs_bias": 0.08952, "mut3": 0.09161}),
    ("ptb_10m", "valid_nll", {"lstm_jzs_bias": 4.437, "lstm_jzs": 4.511}),
    ("ptb_20m", "test_nll", {"lstm_jzs_bias": 4.380, "rnn": 4.582}),
    ("ptb_20m", "test_perplexity", {"lstm_jzs_bias": 79.83, "gru": 91.7, "mut1": 94.6}),
]


def trial_of(task: str, cell: str = "gru", budget: str = "paper", **changes) -> mut.Trial:
    first = next(t for t in TRIALS[budget] if (t.task, t.model.cell) == (task, cell))
    return replace(first, changes)


def row(trial, status: str = results.DONE, **metrics) -> dict:
    done = METRICS | metrics if status == results.DONE else metrics
    config = json.loads(json.dumps(as_dict(trial)))
    return {"trial_id": trial_id(trial), "config": config, "status": status, "metrics": done}


def seeds_of(trial, values: list[float], key: str = "test_accuracy") -> list[dict]:
    return [
        row(replace(trial, {"stage": "seeds", "seed": seed}), **{key: value})
        for seed, value in enumerate(values, start=1)
    ]


def line(rows: list[dict], task: str, cell: str, key: str = "test_accuracy", **where) -> dict:
    """The table's only line of a cell under one measure."""
    wanted = {"task": task, "cell": cell, "measure": key} | where
    found = [r for r in mut.table(rows).rows if all(r.get(k) == v for k, v in wanted.items())]
    assert len(found) == 1
    return found[0]


# The recipe


@pytest.mark.parametrize("budget", BUDGETS)
def test_every_cell_gets_the_same_settings_of_every_task(budget):
    trials = TRIALS[budget]
    assert len({trial_id(t) for t in trials}) == len(trials)
    by_cell = {
        cell: [replace(t, {"model.cell": ""}) for t in trials if t.model.cell == cell]
        for cell in mut.ARCHITECTURES
    }
    assert list(by_cell) == list(dict.fromkeys(t.model.cell for t in trials))
    assert all(settings == by_cell["gru"] for settings in by_cell.values())
    counts = Counter(t.task for t in by_cell["gru"])
    for task, recipe in mut.recipes(budget).items():
        assert counts.pop(task) == recipe.num_settings
        for trial in (t for t in trials if t.task == task):
            assert (trial.budget, trial.stage, trial.seed) == (budget, "search", 0)
            assert all(get(trial, path) in values for path, values in recipe.space.items())
            kept = {path: get(recipe.base, path) for path in recipe.space}
            back = {"model.cell": recipe.base.model.cell, "setting": 0}
            assert replace(trial, kept | back) == recipe.base
    assert not counts


def test_the_cells_are_the_ten_of_the_paper_under_its_names():
    names = ["Tanh", "LSTM", "LSTM-f", "LSTM-i", "LSTM-o", "LSTM-b", "GRU", "MUT1", "MUT2", "MUT3"]
    assert list(mut.ARCHITECTURES.values()) == names
    assert set(mut.ARCHITECTURES) <= set(CELLS)
    assert not {"lstm", "lstm_peephole"} & set(mut.ARCHITECTURES)


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_trial_is_of_its_task(budget):
    kinds = {
        "memorisation": Memorisation,
        "xml": Xml,
        "arithmetic": Arithmetic,
        "nottingham": Music,
        "piano_midi": Music,
        "ptb": Ptb,
    }
    for trial in TRIALS[budget]:
        task = re.sub("_dropout|_10m|_20m", "", trial.task)
        assert type(trial.data) is kinds[task]
        assert not isinstance(trial.data, Music) or trial.data.name == task
        assert trial.task in mut.MEASURES


def test_a_larger_budget_has_the_tasks_of_the_smaller():
    smoke, default, paper = (set(mut.recipes(budget)) for budget in BUDGETS)
    assert smoke < default < paper == set(mut.MEASURES)
    assert default == {"memorisation", "xml", "arithmetic", "nottingham", "piano_midi", "ptb"}


def test_the_paper_budget_is_the_published_protocol():
    grid = {
        "optim.learning_rate": {0.1, 0.2, 0.3, 0.5, 1, 2, 5},
        "optim.clip_norm": {1, 2.5, 5, 10, 20},
        "optim.init_scale": {0.3, 0.7, 1, 1.4, 2, 2.8},
        "model.num_layers": {1, 2, 3, 4},
    }
    budgets = {
        "xml": {250_000, 1_000_000},
        "arithmetic": {250_000, 1_000_000},
        "nottingham": {100_000, 1_000_000},
        "nottingham_dropout": {100_000, 1_000_000},
        "piano_midi": {100_000, 1_000_000},
        "ptb": {5_000_000},
        "ptb_10m": {10_000_000},
        "ptb_20m": {20_000_000},
    }
    with_dropout = {"nottingham_dropout", "ptb_10m", "ptb_20m"}
    trials = TRIALS["paper"]
    for task, recipe in mut.recipes("paper").items():
        assert recipe.num_settings == 20
        assert recipe.num_seeds >= 5
        drawn = [t for t in trials if t.task == task and t.model.cell == "gru"]
        assert {t.optim.optimizer for t in drawn} == {"sgd"}
        assert {(t.train.batch_size, t.train.unroll) for t in drawn} == {(20, 35)}
        assert {t.optim.dropout_rate is not None for t in drawn} == {task in with_dropout}
        assert {t.train.schedule.patience for t in drawn} == {3}
        assert {t.train.schedule.halvings for t in drawn} == {4}
        if task != "memorisation":  # the screen before the comparison
            assert {t.model.parameter_budget for t in drawn} == budgets[task]
            assert {p: set(v) for p, v in recipe.space.items() if p in grid} == grid


@pytest.mark.parametrize("budget", BUDGETS)
def test_numbers_have_the_type_that_set_would_give_them(budget):
    """Otherwise --set with a trial's own value would make another identity of it."""
    for trial in TRIALS[budget]:
        for path in ("learning_rate", "clip_norm", "init_scale", "dropout_rate"):
            assert type(get(trial, f"optim.{path}")) in (float, type(None))
        text = f"optim.learning_rate={trial.optim.learning_rate}"
        assert set_values([trial], [text]) == [trial]


@pytest.mark.parametrize("budget", BUDGETS)
def test_every_trial_can_be_run_where_its_data_is_there(budget, monkeypatch):
    monkeypatch.setattr(stream_trial, "check_data", lambda config: None)
    for trial in TRIALS[budget]:
        if trial.model.cell == "mut1" or trial.setting == 0:
            mut.check(trial)
        size = getattr(trial.data, "train_size", None)
        if size is not None and trial.train.steps_per_epoch is not None:
            num_windows = math.ceil(size / (trial.train.batch_size * trial.train.unroll))
            assert num_windows % trial.train.steps_per_epoch == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.cell": "mut9"}, "no cell 'mut9'. Did you mean 'mut"),
        ({"optim.optimizer": "adan"}, "no optimizer 'adan'. Did you mean 'adam'?"),
        ({"task": "xlm"}, "no task 'xlm'."),
        ({"optim.learning_rate": -0.1}, "optim.learning_rate must be above 0, not -0.1"),
        ({"optim.clip_norm": 0.0}, "optim.clip_norm must be above 0"),
        ({"model.num_layers": 0}, "model.num_layers must be above 0"),
        ({"train.batch_size": 0}, "train.batch_size must be above 0"),
        ({"train.steps_per_epoch": -1}, "train.steps_per_epoch must be above 0"),
        ({"optim.dropout_rate": 1.0}, "optim.dropout_rate must be in [0, 1), not 1.0"),
        ({"model.parameter_budget": 50}, "model.parameter_budget=50 is too small"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(changes, message):
    with pytest.raises(InputError) as caught:
        mut.check(replace(trial_of("xml", budget="smoke"), changes))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cell", mut.ARCHITECTURES)
def test_one_unit_is_the_smallest_budget_that_passes(cell):
    trial = trial_of("xml", cell, "smoke")
    smallest = stream_trial.num_params(cell, 1, Xml, 1)
    mut.check(replace(trial, {"model.parameter_budget": smallest}))
    with pytest.raises(InputError, match=f"takes {smallest:,} parameters"):
        mut.check(replace(trial, {"model.parameter_budget": smallest - 1}))


@pytest.mark.parametrize(
    "config",
    [Xml(900, 90, 90), Arithmetic(900, 90, 90), Memorisation(900, 90, 90)],
    ids=lambda config: type(config).__name__,
)
def test_channels_are_those_of_the_data(config):
    dataset = data.load(config)
    assert data.CHANNELS[type(config)] == dataset.channels == len(dataset.symbols)
    streams = (dataset.train, dataset.valid, dataset.test)
    assert all(s.values.min() >= 0 and s.values.max() < dataset.channels for s in streams)


def test_channels_of_the_files_are_those_of_the_data(original_files, tmp_path, monkeypatch):
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path))
    dataset = data.load(Music("piano_midi"))
    assert data.CHANNELS[Music] == dataset.channels == dataset.train.values.shape[1]
    assert data.CHANNELS[Ptb] == 10_000
    assert set(data.CHANNELS) == set(data.KINDS) > {Xml, Arithmetic, Memorisation, Music, Ptb}


# The follow-up


def finished(rows: list[dict]) -> dict[str, dict]:
    return {r["trial_id"]: r for r in rows}


def searched(task: str = "xml", cell: str = "gru", budget: str = "paper") -> list[mut.Trial]:
    return [t for t in TRIALS[budget] if (t.task, t.model.cell) == (task, cell)]


def test_the_best_setting_by_validation_is_run_with_fresh_seeds():
    trials = searched()
    losses = [2.0 + (7 * n) % 20 for n in range(len(trials))]
    losses[13] = 1.5
    rows = [
        row(t, valid_nll=loss, test_nll=9.0 - loss) for t, loss in zip(trials, losses, strict=True)
    ]
    chosen = mut.follow_up(trials, finished(rows))
    assert len(chosen) == mut.recipes("paper")["xml"].num_seeds
    assert {t.stage for t in chosen} == {"seeds"}
    fresh = [t.seed for t in chosen]
    assert len(set(fresh)) == len(fresh)
    assert 0 not in fresh
    assert {replace(t, {"stage": "search", "seed": 0}) for t in chosen} == {trials[13]}
    assert not {trial_id(t) for t in chosen} & {trial_id(t) for t in trials}


def test_nothing_follows_while_a_setting_is_missing():
    trials = searched()
    for missing in range(0, len(trials), 7):
        rows = [row(t) for n, t in enumerate(trials) if n != missing]
        assert mut.follow_up(trials, finished(rows)) == []
    assert mut.follow_up(trials, {}) == []


@pytest.mark.parametrize("status", ["DIVERGED", "FAILED", "OOM"])
def test_settings_that_came_to_nothing_are_not_chosen(status):
    trials = searched()
    rows = [
        row(t, status, diverged_at_step=1) if n % 2 == 0 else row(t, valid_nll=3.0 - 0.1 * n)
        for n, t in enumerate(trials)
    ]
    chosen = mut.follow_up(trials, finished(rows))
    assert {t.setting for t in chosen} == {trials[19].setting}
    assert mut.follow_up(trials, finished([row(t, status) for t in trials])) == []


def test_every_cell_and_task_is_followed_up_by_itself():
    trials = [*searched("xml", "gru"), *searched("xml", "mut1"), *searched("piano_midi", "gru")]
    rows = [
        row(t, valid_nll=1.0 + abs(t.setting - {"gru": 4, "mut1": 9}[t.model.cell])) for t in trials
    ]
    rows.pop()
    chosen = mut.follow_up(trials, finished(rows))
    assert {(t.task, t.model.cell, t.setting) for t in chosen} == {
        ("xml", "gru", 4),
        ("xml", "mut1", 9),
    }


# The table


@pytest.mark.parametrize(("task", "key", "values"), PAPER)
def test_the_papers_values_stand_beside_ours(task, key, values):
    rows = [row(trial_of(task, cell)) for cell in mut.ARCHITECTURES]
    for cell, value in values.items():
        found = line(rows, task, cell, key)
        assert found["paper"] == value
        assert found["mark"] in ("v", "v*", "m")
        assert found["architecture"] == mut.ARCHITECTURES[cell]


def test_a_measure_the_paper_does_not_give_has_no_paper_value():
    found = line([row(trial_of("ptb"))], "ptb", "gru", "test_probability")
    assert not found.get("paper")
    assert not found.get("mark")


def test_best_is_the_test_value_of_the_best_validation():
    first, second, third = searched()[:3]
    rows = [
        row(first, valid_nll=1.2, test_accuracy=0.9, units=1),
        row(second, valid_nll=1.1, test_accuracy=0.3, units=2, params=77),
        row(third, valid_nll=1.3, test_accuracy=0.8, units=3),
    ]
    found = line(rows, "xml", "gru")
    assert (found["best"], found["units"], found["params"]) == (0.3, 2, 77)
    assert (found["settings"], found["n"]) == (3, 0)
    assert found.get("mean") is None


def test_the_interval_is_students_over_the_fresh_seeds_alone():
    trial = trial_of("xml")
    values = [0.41, 0.44, 0.43, 0.47, 0.40]
    rows = [row(trial, test_accuracy=0.99), *seeds_of(trial, values)]
    rows.append(row(replace(trial, {"stage": "seeds", "seed": 9}), "DIVERGED"))
    found = line(rows, "xml", "gru")
    low, high = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert found["n"] == 5
    assert found["best"] == 0.99
    assert found["mean"] == pytest.approx(np.mean(values), rel=1e-12)
    assert found["ci95"] == pytest.approx((high - low) / 2, rel=1e-9)
    one = line([row(trial), *seeds_of(trial, [0.5])], "xml", "gru")
    assert (one["mean"], one["ci95"], one["n"]) == (0.5, None, 1)


def test_seeds_of_a_setting_that_is_no_longer_the_best_are_left_out():
    old, new = searched()[:2]
    rows = [row(old, valid_nll=1.2), *seeds_of(old, [0.1, 0.2])]
    assert line(rows, "xml", "gru")["mean"] == pytest.approx(0.15)
    rows += [row(new, valid_nll=1.1), *seeds_of(new, [0.7, 0.9])]
    found = line(rows, "xml", "gru")
    assert (found["mean"], found["n"]) == (pytest.approx(0.8), 2)


def test_perplexity_is_the_exponential_of_each_trials_nll():
    trial = trial_of("ptb")
    rows = [row(trial, test_nll=4.5), *seeds_of(trial, [4.0, 5.0], "test_nll")]
    found = line(rows, "ptb", "gru", "test_perplexity")
    assert found["best"] == pytest.approx(math.exp(4.5), rel=1e-12)
    assert found["mean"] == pytest.approx((math.exp(4) + math.exp(5)) / 2, rel=1e-12)


def test_trials_without_a_result_to_average_are_counted_by_status():
    trials = searched()
    statuses = ["DIVERGED", "DIVERGED", "FAILED", "OOM"]
    rows = [row(t, s, diverged_at_step=3) for t, s in zip(trials, statuses, strict=False)]
    alone = line(rows, "xml", "gru")
    assert alone.get("best") is alone.get("mean") is None
    found = line([*rows, row(trials[10], test_accuracy=0.4)], "xml", "gru")
    for shown in (alone, found):
        counts = dict(part.split()[::-1] for part in shown["not_done"].split(", "))
        assert counts == {"DIVERGED": "2", "FAILED": "1", "OOM": "1"}
    assert (found["best"], found["settings"]) == (0.4, 1)
    assert line([row(trials[0])], "xml", "gru")["not_done"] == ""


def test_speed_is_the_median_over_search_and_seeds():
    trial = trial_of("xml")
    rows = [row(trial, seconds_per_step=0.010), *seeds_of(trial, [0.5, 0.5])]
    for r, seconds in zip(rows, (0.010, 0.020, 0.900), strict=True):
        r["metrics"]["seconds_per_step"] = seconds
    found = line(rows, "xml", "gru")
    assert found["ms_per_step"] == pytest.approx(20.0)
    assert found["per_second"] == pytest.approx(20 * 35 / 0.020)


def test_what_memoryless_and_perfect_predictors_score_stands_below():
    exact = {
        task: [
            r["best"]
            for r in mut.table([row(trial_of(task))]).rows
            if r.get("mark") in ("exact", "simulated")
        ]
        for task in mut.MEASURES
    }
    assert min(exact["xml"]) == pytest.approx(0.301, abs=1e-3)
    assert max(exact["xml"]) == pytest.approx(0.650, abs=1e-3)
    assert any(abs(value - 0.478) < 1e-3 for value in exact["xml"])
    assert exact["arithmetic"] == [pytest.approx(0.235, abs=2e-3)]
    assert all(not values for task, values in exact.items() if task not in ("xml", "arithmetic"))


def test_a_section_is_one_task_budget_and_measure_in_the_papers_order():
    rows = [
        row(trial_of(task, cell, budget))
        for cell in reversed(mut.ARCHITECTURES)
        for task, budget in (("xml", "smoke"), ("ptb", "paper"), ("xml", "paper"))
    ]
    lines = [r for r in mut.table(rows).rows if r.get("mark") != "exact"]
    sections = list(dict.fromkeys((r["section"], r["budget"], r["task"]) for r in lines))
    assert len(sections) == 2 + len(mut.MEASURES["ptb"])
    assert len({section for section, _, _ in sections}) == len(sections)
    assert sections[0][1:] == ("smoke", "xml")
    for section, _, _ in sections:
        cells = [r["cell"] for r in lines if r["section"] == section]
        assert cells == list(mut.ARCHITECTURES)


def test_notes_say_what_applies_and_no_more():
    def notes(*rows: dict) -> str:
        return "\n".join(mut.table(list(rows)).notes)

    smoke, paper, ptb = trial_of("xml", budget="smoke"), trial_of("xml"), trial_of("ptb")
    assert mut.SMOKE_NOTE in notes(row(smoke), row(paper))
    assert mut.SMOKE_NOTE not in notes(row(paper))
    assert mut.PTB_NOTE in notes(row(paper), row(ptb))
    assert mut.PTB_NOTE not in notes(row(paper))
    adam = replace(paper, {"optim.optimizer": "adam"})
    assert mut.ADAM_NOTE in notes(row(paper), row(adam))
    assert mut.ADAM_NOTE not in notes(row(paper))


def test_results_in_columns_have_the_table_of_dicts():
    """Of parts in which columns have different types; 35 is 35.0, and shown as it is."""
    draw = random.Random(0)
    pool = [t for trials in TRIALS.values() for t in trials[:: len(trials) // 30 or 1]]
    rows = []
    for trial in draw.choices(pool, k=300):
        changes = draw.choice([{}, {"stage": "seeds", "seed": 2}, {"train.unroll": 70}])
        status = draw.choice(["DONE", "DONE", "FAILED"])
        rows.append(row(replace(trial, changes), status, valid_nll=draw.choice([1, 1.0, 0.5])))
        if draw.random() < 0.2:
            rows[-1]["config"]["train"]["unroll"] = float(trial.train.unroll)
        if draw.random() < 0.2:
            del rows[-1]["config"]["optim"]["dropout_rate"]
    parts = [Held(forms.of(rows[:100])), Held(forms.of(rows[100:]))]
    assert mut.table(Rows(parts)) == mut.table(rows)


def test_a_cell_that_no_longer_exists_stays_in_the_table():
    gone = replace(trial_of("xml"), {"model.cell": "gone"})
    shown = [r.get("cell") for r in mut.table([row(gone), row(trial_of("xml"))]).rows]
    assert shown[:2] == ["gru", "gone"]


# A run


@pytest.fixture
def fresh_data():
    stream_trial.load.cache_clear()
    yield
    stream_trial.load.cache_clear()


def small(trial, **changes):
    changes = {
        "optim": mut.Optim("sgd"),  # optax's adam mixes dtypes, which the tests forbid
        "train.batch_size": 4,
        "train.unroll": 10,
        "train.steps_per_epoch": 5,
        "train.schedule.max_epochs": 2,
        "model.parameter_budget": 2000,
    } | changes
    return replace(trial, changes)


def test_a_cell_of_ones_own_needs_one_line(monkeypatch, fresh_data):
    def step(params, h, x):
        p = symbols(params)
        h = jnp.tanh(x @ p.w_xh + p.w_diagonal * h)
        return h, h

    mine = Cell(uniform(w_xh="DH", w_diagonal="H"), zeros_h, step)
    monkeypatch.setitem(CELLS, "mine", mine)
    (trial,) = set_values(TRIALS["smoke"], ["model.cell=mine"])
    trial = small(trial, data=Xml(400, 200, 200))
    mut.check(trial)
    metrics = mut.run(trial)
    channels, units = data.CHANNELS[Xml], metrics["units"]
    embedding, cell, head = channels * units, units * units + units, (units + 1) * channels
    assert metrics["params"] == embedding + cell + head <= 2000
    assert stream_trial.num_params("mine", 1, Xml, units + 1) > 2000
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    found = line([row(trial, **metrics)], "xml", "mine")
    assert found["architecture"] == "mine"
    assert not found.get("paper")
    assert found["best"] == metrics["test_accuracy"]


def test_music_is_run_on_frames(monkeypatch, fresh_data):
    rng = np.random.default_rng(0)

    def stream(size: int) -> Stream:
        return Stream(rng.integers(2, size=(size, 88), dtype=np.uint8), np.ones(size, bool))

    frames = Dataset(stream(200), stream(60), stream(60), None, 88, 0)
    monkeypatch.setattr(data, "load", lambda config: frames)
    optim = mut.Optim("sgd", learning_rate=0.1, dropout_rate=0.3)
    trial = trial_of("nottingham_dropout", "mut2", **{"model.num_layers": 2})
    metrics = mut.run(small(trial, optim=optim))
    fair_coins = 88 * math.log(2)
    assert metrics["test_nll"] == pytest.approx(fair_coins, rel=0.2)
    assert metrics["steps"] == 10
    assert metrics["dataset_sha256"] == stream_trial.fingerprint(frames)
