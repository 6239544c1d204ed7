"""All trials as a table: what differs among them, and what they found."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from seqlab import frame
from seqlab.figures.runs import SUBJECTS


def trials_table(rows: Sequence[dict[str, Any]]) -> tuple[pl.DataFrame, str]:
    """One row a trial: what differs among them, and all metrics that are numbers.

    Returns:
        The table, and in a line what all trials have in common.
    """
    found = frame.of(rows)
    config = sorted((name for name in found.columns if name.startswith("config.")), key=_order)
    varied = [name for name in config if found[name].n_unique() > 1]
    metrics = [name for name in found.columns if name.startswith("metrics.")]
    metrics = [name for name in metrics if found[name].dtype.is_numeric()]
    shown = ["trial_id", "status", *varied, *metrics, "wall_seconds", "attempts"]
    same = [n for n in config if n not in varied and not n.endswith("kind")]
    titles = {name: _short(name) for name in shown}
    common = ", ".join(f"{_short(name)}={found[name][0]}" for name in same)
    told = f"The same in all: {common}." if common else ""
    return found.select(shown).rename(titles), told


def _short(column: str) -> str:
    return column.removeprefix("config.").removeprefix("metrics.")


def _order(column: str) -> tuple[bool, int, str]:
    """What is compared, then the shortest paths: they say most."""
    path = _short(column)
    return path not in SUBJECTS, path.count("."), path
