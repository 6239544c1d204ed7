"""The experiment that measures what a trial costs besides itself."""

import pytest

from experiments import launch_overhead as overhead
from seqlab.launch import worker
from seqlab.launch.plan import Plan
from seqlab.trial import as_dict, trial_id


def row(trial, pid: int, began: float, status: str = "DONE") -> dict:
    return {
        "trial_id": trial_id(trial),
        "config": as_dict(trial),
        "status": status,
        "metrics": {"began_seconds": began} if status == "DONE" else {},
        "provenance": {"host": "a", "pid": pid},
    }


def test_a_gap_is_between_two_trials_of_one_worker():
    first = overhead.trials("smoke")
    began = {1: [10.0, 10.002, 10.006, 10.016], 2: [50.0, 50.5]}
    times = [(pid, time) for pid, values in began.items() for time in values]
    rows = [row(trial, *what) for trial, what in zip(first, reversed(times), strict=False)]
    rows.append(row(first[-1], 3, 0.0, "FAILED"))
    one, two, both = overhead.table(rows).rows
    assert (one["n"], two["n"], both["n"]) == (4, 2, 6)
    assert one["median"] == pytest.approx(4.0, abs=1e-6)
    assert two["median"] == pytest.approx(500.0, abs=1e-6)
    assert one["per_hour"] == pytest.approx(3600 * 3 / 0.016, rel=1e-6)
    assert both["per_hour"] == pytest.approx(one["per_hour"] + two["per_hour"])


def test_a_worker_runs_them(tmp_path):
    trials = overhead.trials("default")
    assert len({trial_id(t) for t in trials}) == len(trials) == 10_000
    plan = Plan("launch_overhead", overhead, trials[:30], tmp_path)
    worker.work(plan)
    rows = [result for _, result in plan.known().values()]
    (one, _) = overhead.table(rows).rows
    assert one["n"] == 30
    assert 0 < one["median"] <= one["p95"]
