"""Ours beside the paper's: the best of a search, fresh seeds that confirm it, one line of a table.

A searched trial says `stage="search"`, a confirming one `stage="seeds"`. The best is always chosen
by validation loss; what is shown is another metric, on the test split.
"""

import csv
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import polars as pl

from seqlab import results
from seqlab.intervals import mean_ci
from seqlab.rows import Rows
from seqlab.tables import Column
from seqlab.trial import replace, trial_id

T = TypeVar("T")


class Published(NamedTuple):
    """A value of a paper, the table it stands in, and how sure it is."""

    value: float
    table: str
    mark: str


def read_published(path: Path) -> dict[tuple[str, str, str], Published]:
    """Published values by (task, metric, cell), from a csv file."""
    with open(path, newline="") as file:
        return {
            (row["task"], row["metric"], row["cell"]): Published(
                float(row["value"]), row["table"], row["mark"]
            )
            for row in csv.DictReader(file)
        }


def confirmation(
    search: Sequence[T], finished: dict[str, dict[str, Any]], num_seeds: int
) -> list[T]:
    """The best trial of a search again with seeds 1 … num_seeds, once all of it has been tried.

    The seed that the search used is not among them: it was chosen for being good.

    Args:
        search: trials with the fields `stage` and `seed`.
        finished: results by identity.
        num_seeds: how often the best one is repeated.
    """
    rows = [finished.get(trial_id(trial)) for trial in search]
    if None in rows:
        return []
    done = [
        (row["metrics"]["valid_nll"], index)
        for index, row in enumerate(rows)
        if row is not None and row["status"] == results.DONE
    ]
    if not done:
        return []
    best = search[min(done)[1]]
    return [replace(best, {"stage": "seeds", "seed": seed}) for seed in range(1, num_seeds + 1)]


COLUMNS = (
    Column("paper", "paper", ".4g"),
    Column("mark", "mark"),
    Column("best", "best", ".4g"),
    Column("settings", "of", "d"),
    Column("mean", "mean", ".4g"),
    Column("ci95", "± 95%", ".2g"),
    Column("n", "n", "d"),
    Column("units", "units", "d"),
    Column("params", "params", ",d"),
    Column("ms_per_step", "ms/step", ".1f"),
    Column("per_second", "inputs/s", ",.0f"),
    Column("not_done", "not done"),
)

NOTES = (
    "paper: best of its settings, one run each. Mark v: checked against the paper's text; m: from "
    "memory; exact: computed from the rule of the task; simulated: from that rule, by simulation.",
    "best: test metric of the setting with the best validation loss, seed 0. mean ± 95% CI "
    "(Student t): that setting again with n fresh seeds, which change the initial weights and not "
    "the data.",
    "ms/step: one update on batch × unroll inputs, median over dispatches. not done: trials by "
    "status that are in neither best nor mean.",
)


class Outcome(NamedTuple):
    """What has come of the trials of one cell on one task.

    Attributes:
        best: the searched one with the best validation loss, if any is done.
        seeds: the same with fresh seeds; all there are while nothing searched is done.
        settings: how many searched ones are done.
        others: those that are not done, by status.
    """

    best: dict[str, Any] | None
    seeds: list[dict[str, Any]]
    settings: int
    others: Counter[str]


def outcomes(rows: Rows, groups: dict[T, np.ndarray]) -> dict[T, Outcome]:
    """The outcome of each group of results, of which only the best and the seeds become dicts.

    Args:
        rows: results.
        groups: the numbers of those of a cell on a task, ascending.
    """
    seen = rows.columns(("status", "config.stage", "metrics.valid_nll"))
    status, stage = seen["status"], seen["config.stage"]
    done = (status == results.DONE).to_numpy()
    searched = done & stage.eq_missing("search").to_numpy()
    confirming = done & stage.eq_missing("seeds").to_numpy()
    losses = seen["metrics.valid_nll"].cast(pl.Float64).to_numpy()

    search = {key: numbers[searched[numbers]] for key, numbers in groups.items()}
    best = {key: n[np.argmin(losses[n])] for key, n in search.items() if len(n)}
    seeds = {key: numbers[confirming[numbers]] for key, numbers in groups.items()}
    shown = np.unique(np.concatenate([[*best.values()], *seeds.values()]))
    whole = dict(zip(shown, rows.take(shown, "config", "metrics"), strict=True))
    return {
        key: Outcome(
            best=(chosen := whole.get(best.get(key))),
            seeds=[whole[n] for n in seeds[key] if _confirms(whole[n], chosen)],
            settings=len(search[key]),
            others=Counter(status[numbers[~done[numbers]]]),
        )
        for key, numbers in groups.items()
    }


def line(
    outcome: Outcome,
    value: Callable[[dict[str, Any]], float],
    paper: Published | None,
) -> dict[str, Any]:
    """The values under COLUMNS for one cell on one task.

    Args:
        outcome: of its trials.
        value: the metric that is shown, of a result.
        paper: None where nothing is published.
    """
    best, seeds = outcome.best, outcome.seeds
    cells: dict[str, Any] = {
        "settings": outcome.settings,
        "n": len(seeds),
        "not_done": ", ".join(f"{n} {status}" for status, n in sorted(outcome.others.items())),
    }
    if paper is not None:
        cells |= {"paper": paper.value, "mark": paper.mark}
    if best is not None:
        inputs = best["config"]["train"]["batch_size"] * best["config"]["train"]["unroll"]
        seconds = statistics.median(row["metrics"]["seconds_per_step"] for row in [best, *seeds])
        cells |= {
            "best": value(best),
            "units": best["metrics"]["units"],
            "params": best["metrics"]["params"],
            "ms_per_step": 1000 * seconds,
            "per_second": inputs / seconds,
        }
    if seeds:
        cells["mean"], cells["ci95"] = mean_ci([value(row) for row in seeds])
    return cells


def _confirms(row: dict[str, Any], best: dict[str, Any] | None) -> bool:
    """Whether the two differ in stage and seed alone; an earlier best may have left seeds, too."""
    leave_out = {"stage": None, "seed": None}
    return best is None or row["config"] | leave_out == best["config"] | leave_out
