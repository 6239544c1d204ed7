"""What a search finds when it tries k settings: the statistic behind "the best of 20"."""

import math
from collections.abc import Sequence

import numpy as np

from seqlab.figures.chart import Chart, Panel, Series
from seqlab.figures.runs import Run, all_names, by_name, label, searched, sections

SELECTED_BY = "valid_nll"
NOTE = (
    f"The metric of the trial with the smallest {SELECTED_BY} among k trials of the search, "
    "expected over all choices of k of them without replacement. Exact. Trials that diverged or "
    "failed are tried and never chosen. A curve that still falls at its end has not found its best."
)


def expected_best(selected_by: Sequence[float | None], shown: Sequence[float]) -> list[float]:
    """The expected metric of the best of k trials, for each k, chosen without replacement.

        E_k = Σ_i p_i · shown_i / Σ_i p_i,    p_i = C(n - rank_i, k - 1) / C(n, k)

    rank_i, from 1, is the place of trial i by `selected_by`; p_i is how probably it is the best.

    Args:
        selected_by: of n trials; None for one that came to nothing, which is never the best.
        shown: of the same trials; that of a trial that came to nothing is not looked at.

    Returns:
        E_1 … E_n, given that one of the k came to something.

    Raises:
        ValueError: all came to nothing.

    Source: Dodge et al. 2019, Show Your Work, who draw with replacement.
    """
    done = [(chosen, i) for i, chosen in enumerate(selected_by) if chosen is not None]
    if not done:
        raise ValueError("the best of no finished trial is not defined")
    n = len(selected_by)
    ranked = np.array([shown[i] for _, i in sorted(done)])
    rank = np.arange(1, len(ranked))
    found = []
    for k in range(1, n + 1):
        # p of one rank over that of the rank before it: the binomials' large numbers cancel
        ratios = np.maximum(n - rank - k + 1, 0) / (n - rank)
        weights = np.cumprod(np.concatenate([[1.0], ratios]))
        found.append(float(weights @ ranked / weights.sum()))
    return found


def chart(runs: Sequence[Run], by: str, metric: str) -> Chart | None:
    """The expected best of k trials against k; None where nothing was searched."""
    panels = []
    for title, alike in sections(runs, by).items():
        series = []
        for name, group in by_name(searched(alike), by).items():
            needed = {SELECTED_BY, metric}
            tried = [run for run in group if not run.is_done or needed <= set(run.metrics)]
            if len(tried) < 2 or not any(run.is_done for run in tried):
                continue
            found = expected_best(
                [run.metrics[SELECTED_BY] if run.is_done else None for run in tried],
                [run.metrics.get(metric, math.nan) for run in tried],
            )
            ks = tuple(range(1, len(tried) + 1))
            told = tuple(f"best of {k} of {len(tried)} trials" for k in ks)
            series.append(Series(name, ks, tuple(found), (None,) * len(ks), told))
        if series:
            panels.append(Panel(title, "k, trials", label(metric), tuple(series)))
    title = f"Expected best of k trials: {metric}"
    names = all_names(runs, by)
    return Chart("best_of", title, NOTE, "curves", names, tuple(panels)) if panels else None
