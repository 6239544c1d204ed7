"""Results as figures need them: flat, and in sections of what can be compared."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from seqlab import results
from seqlab.errors import InputError, nearest
from seqlab.tables.table import is_number
from seqlab.trial import flatten

SUBJECTS = ("model.cell", "network")  # what experiments compare, unless --by says something else
METRICS = ("test_nll", "valid_nll")
UNITS = {
    "nll": "nats",
    "error": "fraction",
    "accuracy": "fraction",
    "probability": "fraction",
    "seconds": "s",
    "seconds_per_step": "s",
}


@dataclass(frozen=True)
class Run:
    """A result.

    Attributes:
        identity: of the trial.
        status: one of `results.STATUSES`.
        config: values by dotted path; lists as text.
        metrics: those that are numbers.
    """

    identity: str
    status: str
    config: dict[str, Any]
    metrics: dict[str, float]

    @property
    def is_done(self) -> bool:
        return self.status == results.DONE


def flat(rows: Iterable[dict[str, Any]]) -> list[Run]:
    return [
        Run(
            row["trial_id"],
            row["status"],
            {path: _scalar(value) for path, value in flatten(row["config"]).items()},
            {name: value for name, value in row["metrics"].items() if is_number(value)},
        )
        for row in rows
    ]


def _scalar(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


def subject(runs: Sequence[Run], by: str | None) -> str | None:
    """What is compared: the path that was asked for, else the first of SUBJECTS that there is.

    Raises:
        InputError: no configuration has what was asked for.
    """
    paths = {path for run in runs for path in run.config}
    if by is not None and by not in paths:
        raise InputError(f"no result has a field {by!r}.{nearest(by, paths)}")
    return by or next((path for path in SUBJECTS if path in paths), None)


def measure(runs: Sequence[Run], metric: str | None) -> str | None:
    """The metric that is shown: the one that was asked for, else the first of METRICS there is.

    Raises:
        InputError: no finished trial has what was asked for.
    """
    names = {name for run in runs if run.is_done for name in run.metrics}
    if metric is not None and metric not in names:
        raise InputError(f"no finished trial has a metric {metric!r}.{nearest(metric, names)}")
    return metric or next((name for name in METRICS if name in names), None)


def label(metric: str) -> str:
    """The metric with its unit, where it has one."""
    ends = sorted((end for end in UNITS if metric.endswith(end)), key=len)
    return f"{metric}, {UNITS[ends[-1]]}" if ends else metric


def value(run: Run, path: str) -> str:
    """A field as text; "none" also where a configuration has no such field."""
    found = run.config.get(path)
    return "none" if found is None else str(found)


def all_names(runs: Iterable[Run], by: str) -> tuple[str, ...]:
    return tuple(sorted({value(run, by) for run in runs}))


def by_name(runs: Iterable[Run], by: str) -> dict[str, list[Run]]:
    groups = defaultdict(list)
    for run in runs:
        groups[value(run, by)].append(run)
    return dict(sorted(groups.items()))


def searched(runs: Iterable[Run]) -> list[Run]:
    """Without those that only repeat the best setting of a search."""
    return [run for run in runs if run.config.get("stage") != "seeds"]


def sections(runs: Sequence[Run], by: str) -> dict[str, list[Run]]:
    """Runs whose metrics can be compared, under a title: those with the same text in all fields.

    Text names a task, a data set, an optimiser; numbers are what is varied within. A title has
    only as much as tells the sections apart.
    """
    told: list[str] = []
    parts = 1
    for path in _text_paths(runs, by):
        split = len({tuple(value(run, p) for p in (*told, path)) for run in runs})
        if split > parts:
            told, parts = [*told, path], split
    found = defaultdict(list)
    for run in runs:
        found[" · ".join(value(run, p) for p in told if run.config.get(p) is not None)].append(run)
    return dict(sorted(found.items()))


def _text_paths(runs: Sequence[Run], by: str) -> list[str]:
    """The shortest first: `task` says more to a reader than `data.name`."""
    texts = {path for run in runs for path, found in run.config.items() if isinstance(found, str)}
    paths = [p for p in texts if p not in (by, "stage") and p.split(".")[-1] != "kind"]
    return sorted(paths, key=lambda path: (path.count("."), path))


def hyperparameters(runs: Sequence[Run], by: str) -> list[str]:
    """What is varied among these runs, besides what they are compared by, seeds and text."""
    values = defaultdict(set)
    for run in runs:
        for path in run.config:
            values[path].add(run.config[path])
    return sorted(
        path
        for path, found in values.items()
        if len(found) > 1
        and path not in (by, "seed", "setting")
        and not any(isinstance(v, str) for v in found)
    )
