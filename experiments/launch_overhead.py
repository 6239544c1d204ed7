"""The overhead of a trial: claim, result, provenance, measured on trials that do nothing.

Claim: the results directory suffices as a queue; a trial of one second loses less than 1% to it.

    python launch.py run launch_overhead --budget smoke                  200 trials; seconds
    python launch.py run launch_overhead                                 10,000; half a minute
    python launch.py run launch_overhead --budget paper --on slurm       230,000, as many as in 2015

Protocol: a trial records the time at which it begins. Its cost is the time until the same worker
begins the next one. Each is claimed by exclusive create and committed with two fsyncs, as all
trials are.

Source: ours; the number of settings of `paper` is that of Jozefowicz et al. 2015.
"""

import itertools
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqlab import results
from seqlab.errors import InputError
from seqlab.tables import Column, Table

NUM_TRIALS = {"smoke": 200, "default": 10_000, "paper": 230_000}


@dataclass(frozen=True)
class Trial:
    """One of many that do nothing."""

    budget: str
    number: int


def trials(budget: str) -> list[Trial]:
    """As many as the budget has."""
    return [Trial(budget, number) for number in range(NUM_TRIALS[budget])]


def check(trial: Trial) -> None:
    """Raise InputError for what is no trial."""
    if trial.budget not in NUM_TRIALS:
        raise InputError(f"no budget {trial.budget!r}")


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Note the time."""
    return {"began_seconds": time.time()}


COLUMNS = (
    Column("budget", "budget"),
    Column("worker", "worker"),
    Column("n", "trials", ",d"),
    Column("median", "ms a trial, median", ".2f"),
    Column("p95", "95% below", ".2f"),
    Column("per_hour", "trials an hour", ",.0f"),
)


def table(rows: list[dict[str, Any]]) -> Table:
    """A row a worker, and all of them together."""
    sections = []
    for budget in NUM_TRIALS:
        began = defaultdict(list)
        for row in rows:
            if row["config"]["budget"] == budget and row["status"] == results.DONE:
                origin = row["provenance"]
                began[f"{origin['host']} {origin['pid']}"].append(row["metrics"]["began_seconds"])
        lines = [_line(worker, sorted(times)) for worker, times in began.items() if len(times) > 1]
        if not lines:
            continue
        total = {
            "worker": f"all {len(lines)}",
            "n": sum(line["n"] for line in lines),
            "per_hour": sum(line["per_hour"] for line in lines),
        }
        lines = [*sorted(lines, key=lambda line: line["worker"]), total]
        sections += [{"budget": f"{budget} budget"} | line for line in lines]
    return Table("What a trial costs besides itself", COLUMNS, tuple(sections), "budget", NOTES)


NOTES = (
    "From the beginning of a trial that does nothing to that of the worker's next: claim, result, "
    "two fsyncs. trials an hour: from a worker's first to its last.",
)


def _line(worker: str, times: list[float]) -> dict[str, Any]:
    gaps = [1000 * (after - before) for before, after in itertools.pairwise(times)]
    return {
        "worker": worker,
        "n": len(times),
        "median": statistics.median(gaps),
        "p95": float(np.percentile(gaps, 95)),
        "per_hour": 3600 * (len(times) - 1) / (times[-1] - times[0]),
    }
