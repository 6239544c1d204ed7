"""Differences between pairs of trials that have everything else in common."""

from collections.abc import Sequence

from seqlab.errors import InputError, nearest
from seqlab.figures.chart import Chart, Dot, Panel, Series
from seqlab.figures.runs import Run, all_names, by_name, label, sections
from seqlab.intervals import mean_ci

NOTE = (
    "A pair is two finished trials whose configurations differ in {by} alone: the one named, and "
    "{against}. n pairs, each a faint dot; the bar is the 95% interval (Student t) of their mean, "
    "and one that leaves the panel is longer. Left of zero is smaller than {against}."
)


def chart(runs: Sequence[Run], by: str, metric: str, against: str | None = None) -> Chart | None:
    """The mean difference to one of those compared, and its interval; None without a pair.

    Args:
        runs: results.
        by: path of what is compared.
        metric: what differs.
        against: which one is zero; where it is None, the first by name.

    Raises:
        InputError: there is no such one.
    """
    done = [run for run in runs if run.is_done and metric in run.metrics]
    names = all_names(runs, by)
    if against is not None and against not in names:
        raise InputError(f"no result has {by}={against}.{nearest(against, names)}")
    if not done:
        return None
    against = against or all_names(done, by)[0]
    panels = []
    for title, alike in sections(done, by).items():
        groups = by_name(alike, by)
        zero = {_rest(run, by): run for run in groups.pop(against, [])}
        series = []
        for name, group in groups.items():
            pairs = [(run, zero[rest]) for run in group if (rest := _rest(run, by)) in zero]
            if pairs:
                series.append(_series(name, pairs, metric))
        if series:
            axis = f"difference to {against} in {label(metric)}"
            categories = tuple(str(s.x[0]) for s in series)
            panels.append(Panel(title, by, axis, tuple(series), categories=categories))
    if not panels:
        return None
    note = NOTE.format(by=by, against=against)
    title = f"Paired differences to {against}: {metric}"
    return Chart("differences", title, note, "intervals", names, tuple(panels))


def _rest(run: Run, by: str) -> frozenset:
    return frozenset((path, found) for path, found in run.config.items() if path != by)


def _series(name: str, pairs: list[tuple[Run, Run]], metric: str) -> Series:
    found = [run.metrics[metric] - zero.metrics[metric] for run, zero in pairs]
    mean, half_width = mean_ci(found)
    category = f"{name}, n={len(pairs)}"
    dots = tuple(
        Dot(category, difference, f"trial {run.identity} and {zero.identity}")
        for difference, (run, zero) in zip(found, pairs, strict=True)
    )
    told = f"{len(pairs)} pairs" if len(pairs) > 1 else "1 pair: no interval"
    return Series(name, (category,), (mean,), (half_width,), (told,), dots)
