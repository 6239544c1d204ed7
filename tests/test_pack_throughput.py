"""Packs against one run after the other, as an experiment: what is timed, counted and shown."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments import pack_throughput as throughput
from experiments.pack_throughput import BATCH_SIZE, NUM_SYMBOLS, UNROLL, Trial
from seqlab import packs, results, tables, train
from seqlab.benchmark import timing
from seqlab.benchmark.case import Disagreement
from seqlab.errors import InputError
from seqlab.trial import BUDGETS, as_dict, trial_id

TINY = Trial("smoke", "gru", 3, 3, count=2, pairs=2)


# The recipe


@pytest.mark.parametrize("budget", BUDGETS)
def test_trials_are_of_the_budget_distinct_and_can_be_run(budget):
    trials = throughput.trials(budget)
    assert {trial.budget for trial in trials} == {budget}
    assert len({trial_id(trial) for trial in trials}) == len(trials)
    for trial in trials:
        throughput.check(trial)


def test_what_the_budgets_hold():
    def sizes(budget):
        return {(t.cell, t.hidden_dim, t.members) for t in throughput.trials(budget)}

    assert sizes("smoke") == {("lstm", 32, 1), ("lstm", 32, 8)}
    assert len(sizes("default")) == 3 * 3
    assert len(sizes("paper")) == 3 * 3 * 4
    assert sizes("smoke") < sizes("default") < sizes("paper")


def test_the_dispatches_of_the_papers_budget_are_as_long_as_those_of_a_trial():
    counts = {trial.count for trial in throughput.trials("paper")}
    assert counts == {train.steps_per_dispatch(throughput.STEPS_OF_A_TRIAL)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell": "gur"}, "no cell 'gur'. Did you mean 'gru'"),
        ({"members": 0}, "members must be above 0"),
        ({"hidden_dim": -1}, "hidden_dim must be above 0"),
        ({"count": 0}, "count must be above 0"),
        ({"pairs": 0}, "pairs must be above 0"),
    ],
)
def test_check(changes, message):
    with pytest.raises(InputError, match=message):
        throughput.check(replace(TINY, **changes))


def test_a_budget_that_there_is_not():
    with pytest.raises(InputError, match=r"no budget 'papre'\. Did you mean 'paper'"):
        throughput.trials("papre")


# A trial


@pytest.mark.parametrize(("cell", "recurrent"), [("rnn", 1), ("lstm", 4), ("gru", 3)])
def test_flops_by_hand(cell, recurrent):
    hidden, members = 5, 7
    rows = BATCH_SIZE * UNROLL
    of_symbols = NUM_SYMBOLS * hidden * recurrent * hidden  # each symbol's product is made once
    of_carry = rows * hidden * recurrent * hidden
    head = rows * hidden * NUM_SYMBOLS
    multiplications = members * 3 * (of_symbols + of_carry + head)
    assert throughput.step_flops(Trial("smoke", cell, hidden, members)) == 2 * multiplications


@pytest.fixture(scope="module")
def compiled():
    """The settings, a pack of three and one of its members alone."""
    settings = throughput._settings(TINY.members)
    one = jax.tree.map(lambda a: a[0], settings)
    pack = throughput.prepare(TINY, packs.init_states, packs.train_steps, settings)
    alone = throughput.prepare(TINY, train.init_state, train.train_steps, one)
    return settings, pack, alone


@pytest.fixture
def in_no_time(compiled, monkeypatch):
    """A trial whose steps are compiled already, and whose samples are short."""
    _, pack, alone = compiled
    by_steps = {packs.train_steps: pack, train.train_steps: alone}
    monkeypatch.setattr(throughput, "prepare", lambda trial, init, steps, _: by_steps[steps])
    monkeypatch.setattr(timing, "WARM_UP_SECONDS", 0.0)
    monkeypatch.setattr(timing, "SAMPLE_SECONDS", 1e-6)
    monkeypatch.setattr(timing, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(throughput.roofline, "PRODUCT_SIZE", {"cpu": 16})
    monkeypatch.setattr(throughput.roofline, "COPIED_BYTES", 2**12)


def test_what_is_timed_is_training(compiled):
    """Dispatch by dispatch the losses are those of `train.train_steps`, called as `fit` does."""
    settings, pack, alone = compiled
    split = throughput._windows()
    program = train.Program(throughput._model(TINY), train.SYMBOLS, "sgd")
    ours, spent = throughput.timed(pack)
    theirs, _ = throughput.timed(alone)
    states = [
        train.init_state(program, member, jax.tree.map(lambda a: a[0], split))
        for member in (jax.tree.map(lambda a, n=n: a[n], settings) for n in range(TINY.members))
    ]
    for _ in range(3):
        expected = []
        for n, state in enumerate(states):
            member = jax.tree.map(lambda a, n=n: a[n], settings)
            states[n], losses = train.train_steps(program, member, state, split, TINY.count)
            expected.append(losses)
        np.testing.assert_allclose(ours.call(), expected, rtol=1e-5)
        np.testing.assert_allclose(theirs.call(), expected[0], rtol=1e-5)
    assert len(spent) == 3
    assert min(spent) > 0


def test_a_trial_from_beginning_to_end(in_no_time, monkeypatch):
    """By made-up samples: a dispatch of the pack takes 30 ms, one of a member alone 20 ms."""
    samples = timing.Samples(ours=np.full((2, 2), 0.030), theirs=np.full((2, 2), 0.020))
    take_turns = timing.take_turns

    def made_up(ours, theirs, pairs):
        taken, calls = take_turns(ours, theirs, pairs)
        assert taken.ours.shape == taken.theirs.shape == (TINY.pairs, 2)
        return samples, calls

    monkeypatch.setattr(timing, "take_turns", made_up)
    metrics = throughput.run(TINY)
    json.dumps(metrics, allow_nan=False)
    assert metrics["ratio_median"] == pytest.approx(3 * 20 / 30)
    assert metrics["t_ms_median"] == pytest.approx(15)  # two steps a dispatch
    assert metrics["alone_t_ms_median"] == pytest.approx(10)
    assert metrics["trials_per_hour"] == pytest.approx(3 * 3600 / (2400 * 0.015))
    assert metrics["peak_share"] == pytest.approx(
        metrics["flops"] / metrics["peaks"]["flops_per_second"] / 0.015
    )
    assert metrics["parity_err"] < 1e-5
    assert metrics["cpu_ratio"] > 0
    assert metrics["threads"] == timing.num_threads()
    shown = throughput.table([row(TINY, **metrics)]).rows[0]
    assert shown["ratio"] == metrics["ratio_median"]


def test_memory_is_that_of_the_states_once_and_of_what_is_between(compiled):
    settings, pack, alone = compiled
    data = sum(leaf.nbytes for leaf in throughput._windows())
    for steps, given in ((pack, settings), (alone, jax.tree.map(lambda a: a[0], settings))):
        state = steps.init(given)
        leaves = jax.tree.leaves(state)
        assert steps.peak_mem > data + sum(leaf.nbytes for leaf in leaves)
        steps.call(given, state)
        assert all(leaf.is_deleted() for leaf in leaves)  # the next state is where this one was
    assert alone.peak_mem < pack.peak_mem


def test_nothing_is_timed_that_learns_something_else(in_no_time, compiled, monkeypatch):
    _, pack, alone = compiled
    shifted = pack._replace(init=lambda given: pack.init(given._replace(seed=given.seed + 1)))
    by_steps = {packs.train_steps: shifted, train.train_steps: alone}
    monkeypatch.setattr(throughput, "prepare", lambda trial, init, steps, _: by_steps[steps])
    monkeypatch.setattr(timing, "take_turns", lambda *_: pytest.fail("it was timed"))
    with pytest.raises(Disagreement, match=r"member \d of 3 is off by"):
        throughput.run(TINY)


# The table


def row(trial: Trial, status: str = results.DONE, error: str | None = None, **metrics) -> dict:
    config = json.loads(json.dumps(as_dict(trial)))
    return {
        "trial_id": trial_id(trial),
        "config": config,
        "status": status,
        "error": error,
        "metrics": metrics,
    }


def measured(members: int, ratio: float, hidden_dim: int = 32, budget="default", **changes) -> dict:
    metrics = {
        "t_ms_median": members / ratio,
        "alone_t_ms_median": 1.0,
        "ratio_median": ratio,
        "ratio_p10_p90": [ratio - 0.1, ratio + 0.1],
        "cpu_ratio": ratio + 0.5,
        "trials_per_hour": 1500.0 * ratio,
        "peak_share": 0.25,
        "peak_mem": members * 2**20,
        "alone_peak_mem": 2**20,
        "null_ratio": 1.0,
        "null_ok": True,
        "threads": 1,
        "platform": "cpu",
    }
    return row(Trial(budget, "lstm", hidden_dim, members), **metrics | changes)


def test_a_line_is_a_pack():
    (line,) = throughput.table([measured(8, 1.6)]).rows
    assert line["shown"] == "1.60 [1.50-1.70]"
    assert (line["pack_ms"], line["alone_ms"], line["ratio"]) == (5.0, 1.0, 1.6)
    assert (line["cpu_ratio"], line["mib"], line["alone_mib"]) == (2.1, 8.0, 1.0)
    assert line["device"] == "1 core"
    assert line["section"] == "10 steps a dispatch · 7 pairs · default budget"


def test_lines_are_in_order_of_cell_and_size():
    rows = [measured(n, 1.0, h) for h, n in ((128, 1), (32, 32), (32, 8), (128, 128))]
    lines = throughput.table(rows).rows
    assert [(line["hidden_dim"], line["members"]) for line in lines] == [
        (32, 8),
        (32, 32),
        (128, 1),
        (128, 128),
    ]


def test_the_cpu_time_of_an_accelerators_host_says_nothing():
    (line,) = throughput.table([measured(8, 1.6, platform="gpu", threads=16)]).rows
    assert line["cpu_ratio"] is None
    assert line["device"] == "gpu"
    (line,) = throughput.table([measured(8, 1.6, threads=16)]).rows
    assert line["device"] == "16 cores"


def test_a_pack_that_does_not_fit_says_so():
    trial = Trial("paper", "lstm", 256, 128)
    error = "Traceback (most recent call last):\n  File ...\nRESOURCE_EXHAUSTED: Out of memory\n"
    table = throughput.table([measured(8, 1.6), row(trial, results.OOM, error)])
    assert [line["shown"] for line in table.rows] == ["1.60 [1.50-1.70]", "OOM"]
    assert "OOM: 128 × lstm of 256: RESOURCE_EXHAUSTED: Out of memory" in table.notes


def test_a_disturbed_measurement_and_a_first_sight_are_marked():
    table = throughput.table([measured(8, 1.6)])
    assert throughput.NULL_NOTE not in table.notes
    assert throughput.SMOKE_NOTE not in table.notes
    table = throughput.table([measured(8, 1.6, budget="smoke", null_ok=False)])
    assert table.rows[0]["shown"].endswith(" !")
    assert throughput.NULL_NOTE in table.notes
    assert throughput.SMOKE_NOTE in table.notes


@pytest.mark.parametrize("format", tables.FORMATS)
def test_the_table_in_every_format(format):
    assert "lstm" in tables.render(throughput.table([measured(8, 1.6)]), format)
