"""Figures that any experiment can have, made of its results and the logs of its trials."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqlab.figures import best_of, curves, differences, runs, settings
from seqlab.figures.chart import Chart


def charts(
    rows: Sequence[dict[str, Any]],
    experiment_folder: Path,
    by: str | None = None,
    metric: str | None = None,
    against: str | None = None,
) -> list[Chart]:
    """All charts that there is something for.

    Args:
        rows: results.
        experiment_folder: where the trials' folders are, for their logs.
        by: path of what is compared, such as `model.cell`.
        metric: such as `test_nll`.
        against: one of those compared; the others are shown as differences to it.

    Raises:
        InputError: no result has such a field, metric or value.
    """
    found = runs.flat(rows)
    path, name = runs.subject(found, by), runs.measure(found, metric)
    if path is None or name is None:
        return []
    drawn = [
        curves.chart(found, experiment_folder, path, name),
        *settings.charts(found, path, name),
        differences.chart(found, path, name, against),
        best_of.chart(found, path, name),
    ]
    return [chart for chart in drawn if chart is not None]
