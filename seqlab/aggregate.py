"""A metric over groups of results: how many, how large, how sure, and what went wrong."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl

from seqlab import frame, results
from seqlab.errors import InputError, nearest
from seqlab.intervals import mean_ci
from seqlab.tables import Column, Table

RESAMPLES = 9999
# For more values Student's interval is as good: the ends of the bootstrap's differ from its by no
# more than from one another when other samples are drawn, 0.03 standard errors at a skewness of 1.
MOST_RESAMPLED = 300
GROUPS_AT_ONCE = 1000
LOSS = "metrics.valid_nll"
NOT_DONE = tuple(status for status in results.STATUSES if status != results.DONE)

STATISTICS = (
    Column("n", "n", ",d"),
    Column("mean", "mean", ".4g"),
    Column("low", "95% from", ".4g"),
    Column("high", "to", ".4g"),
    Column("median", "median", ".4g"),
    Column("iqm", "IQM", ".4g"),
    Column("min", "min", ".4g"),
    Column("max", "max", ".4g"),
    *(Column(status, status.lower(), ",d") for status in NOT_DONE),
)
BEST = (Column("best", "best", ".4g"), Column("best_trial", "best trial"))


def table(
    rows: pl.DataFrame, title: str, by: Sequence[str], metric: str, best: bool = False
) -> Table:
    """A row a group of trials that agree in some columns: a metric over those that are done.

    Args:
        rows: results, as `seqlab.results.load` gives them.
        title: of the table.
        by: columns whose values make the groups, as `seqlab.frame.find` takes them.
        metric: a column of numbers, likewise.
        best: show also the trial with the lowest validation loss of each group, as papers do.

    Returns:
        n, mean, median, interquartile mean, min and max of the n values; the 95% interval of the
        mean, by bootstrap; the trials that are not done, by status.

    Raises:
        InputError: no such column, a metric that is no number, or `best` without validation loss.
    """
    keys = [frame.find(rows, name) for name in by]
    value = frame.find(rows, metric, numbers=True)
    if len(set(keys)) < len(keys):
        raise InputError(f"--by {','.join(by)} names a column twice")
    if best and LOSS not in rows.columns:
        raise InputError(f"--best is the trial with the lowest {LOSS}, which no result has")
    columns = (*(BEST if best else ()), *STATISTICS)
    # what is called like a statistic keeps its whole name
    taken = {column.key for column in columns}
    names = [key if name in taken else name for key, name in zip(keys, by, strict=True)]
    groups = rows.group_by(keys).agg(_what_is_asked(value, best)).sort(keys, nulls_last=True)
    described = _describe([np.sort(values.to_numpy()) for values in groups["values"]])
    counted = groups.select(column.key for column in columns if column.key in groups.columns)
    shown = tuple(
        dict(zip(names, group, strict=True)) | counts | statistics
        for group, counts, statistics in zip(
            groups.select(keys).rows(), counted.to_dicts(), described, strict=True
        )
    )
    lacking = int(groups["lacking"].sum())
    return Table(
        title,
        (*(Column(name, name) for name in names), *columns),
        shown,
        notes=tuple(_notes(metric, best, lacking)),
    )


def ordered(table: Table, by: str) -> Table:
    """The rows by the values in a column, `-` before its key for the largest first; empty last.

    Raises:
        InputError: no such column.
    """
    key = by.removeprefix("-")
    keys = [column.key for column in table.columns]
    if key not in keys:
        raise InputError(f"no column {key!r}.{nearest(key, keys)}")
    there = [row for row in table.rows if row[key] is not None]
    empty = [row for row in table.rows if row[key] is None]
    there.sort(key=lambda row: row[key], reverse=by.startswith("-"))
    return dataclasses.replace(table, rows=(*there, *empty))


def _what_is_asked(value: str, best: bool) -> Iterable[pl.Expr]:
    done = pl.col("status") == results.DONE
    yield pl.col(value).filter(done).drop_nulls().cast(pl.Float64).alias("values")
    yield pl.col(value).filter(done).null_count().alias("lacking")
    for status in NOT_DONE:
        yield (pl.col("status") == status).sum().alias(status)
    if best:
        ranked = done & pl.col(LOSS).is_not_null()
        for name, shown in (("best", value), ("best_trial", "trial_id")):
            by = [pl.col(order).filter(ranked) for order in (LOSS, "trial_id")]
            yield pl.col(shown).filter(ranked).sort_by(by).first().alias(name)


def _describe(groups: list[np.ndarray]) -> list[dict[str, Any]]:
    """The statistics of each group of sorted values."""
    intervals = _intervals(groups)
    return [
        {"n": len(x)}
        | {
            name: float(of(x)) if len(x) else None
            for name, of in (
                ("mean", np.mean),
                ("median", np.median),
                ("iqm", _middle),
                ("min", np.min),
                ("max", np.max),
            )
        }
        | {"low": intervals[index][0], "high": intervals[index][1]}
        for index, x in enumerate(groups)
    ]


def _middle(x: np.ndarray) -> np.floating:
    """Mean of the middle half of sorted values: a quarter of them, rounded down, off each end."""
    cut = len(x) // 4
    return np.mean(x[cut : len(x) - cut])


# Intervals


def _intervals(groups: list[np.ndarray]) -> list[tuple[float | None, float | None]]:
    """The 95% interval of the mean of each group."""
    found: list[tuple[float | None, float | None]] = [(None, None)] * len(groups)
    of_size: dict[int, list[int]] = defaultdict(list)
    for index, x in enumerate(groups):
        if len(x) and not np.isfinite(x).all():
            found[index] = float("nan"), float("nan")
        elif len(x) > MOST_RESAMPLED:
            mean, half = mean_ci(x)
            assert half is not None
            found[index] = mean - half, mean + half
        elif len(x) > 1:
            of_size[len(x)].append(index)
    for size, indices in of_size.items():
        drawn = _draws(size)
        for start in range(0, len(indices), GROUPS_AT_ONCE):
            some = indices[start : start + GROUPS_AT_ONCE]
            means = np.stack([groups[index] for index in some]) @ drawn.T / size
            ends = np.quantile(means, (0.025, 0.975), axis=1)
            found_here = zip(some, *ends.tolist(), strict=True)
            for index, low, high in found_here:
                found[index] = low, high
    return found


def _draws(size: int) -> np.ndarray:
    """[RESAMPLES, size]: how often each value is in each sample, drawn with replacement.

    The same for all groups of a size, so that what is said of one does not depend on the others,
    and so that all their means are one product.
    """
    rng = np.random.default_rng(0)
    counts = np.empty((RESAMPLES, size))
    for some in np.array_split(counts, 33):  # so many as a cache holds
        drawn = rng.integers(0, size, some.shape) + size * np.arange(len(some))[:, None]
        some[:] = np.bincount(drawn.ravel(), minlength=some.size).reshape(some.shape)
    return counts


def _notes(metric: str, best: bool, lacking: int) -> Iterable[str]:
    if best:
        yield f"best: {metric} of the trial with the lowest {LOSS}."
    yield (
        f"n: trials that are DONE and have {metric}. 95%: of the mean, from {RESAMPLES:,} samples "
        f"drawn with replacement; Student's t above {MOST_RESAMPLED:,} values. "
        "IQM: mean of the middle half."
    )
    if lacking:
        yield f"{lacking:,} trials are DONE and have no {metric}."
