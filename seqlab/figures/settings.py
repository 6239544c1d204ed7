"""A metric against each thing that a search varied."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from seqlab.figures.chart import Chart, Dot, Panel, Series
from seqlab.figures.runs import (
    Run,
    all_names,
    by_name,
    hyperparameters,
    label,
    searched,
    sections,
    value,
)
from seqlab.intervals import mean_ci
from seqlab.tables.table import is_number

NOTE = (
    "A faint dot is a finished trial of the search; the line is their mean, with its 95% interval "
    "(Student t), over all that else was varied."
)
WIDE = 8.0  # the largest over the smallest value of a logarithmic axis, at least


def charts(runs: Sequence[Run], by: str, metric: str) -> list[Chart]:
    """One chart a hyper-parameter, one panel a section that varies it."""
    panels = defaultdict(list)
    for title, alike in sections(runs, by).items():
        done = [run for run in searched(alike) if run.is_done and metric in run.metrics]
        for path in hyperparameters(done, by):
            panels[path].append(_panel(title, done, by, path, metric))
    return [
        Chart(
            "settings_" + path.replace(".", "_"),
            f"{metric} against {path}",
            NOTE,
            "points",
            all_names(runs, by),
            tuple(found),
        )
        for path, found in sorted(panels.items())
    ]


def _panel(title: str, done: list[Run], by: str, path: str, metric: str) -> Panel:
    values: set[Any] = {run.config.get(path) for run in done}
    numeric = all(map(is_number, values))
    positive = sorted(v for v in values if v > 0) if numeric else []
    series = []
    for name, group in by_name(done, by).items():
        found = defaultdict(list)
        for run in group:
            found[run.config[path] if numeric else value(run, path)].append(run)
        xs = sorted(found)
        measured = [[run.metrics[metric] for run in found[x]] for x in xs]
        means, half_widths = zip(*map(mean_ci, measured), strict=True)
        told = tuple(
            f"{path} {x}, {len(v)} trial{'s' * (len(v) > 1)}"
            for x, v in zip(xs, measured, strict=True)
        )
        dots = tuple(
            Dot(x, run.metrics[metric], f"trial {run.identity}, seed {value(run, 'seed')}")
            for x in xs
            for run in found[x]
        )
        series.append(Series(name, tuple(xs), means, half_widths, told, dots))
    return Panel(
        title,
        path,
        label(metric),
        tuple(series),
        logarithmic=len(positive) == len(values) and positive[-1] / positive[0] >= WIDE,
        categories=() if numeric else all_names(done, path),
    )
