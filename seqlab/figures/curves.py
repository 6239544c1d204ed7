"""Learning curves: validation as training goes, the mean over seeds and its interval."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from seqlab import history
from seqlab.figures.chart import Chart, Panel, Series
from seqlab.figures.runs import Run, all_names, by_name, label, sections
from seqlab.intervals import mean_ci
from seqlab.launch import claims
from seqlab.launch.tail import Tail, numbers

Curve = dict[int, float]

NOTE = (
    "Mean and 95% interval (Student t) over the seeds of one setting: of the settings of each, the "
    "one with the most seeds, and of these the one with the best validation at its end. As far "
    "as all its seeds go; without seeds there is no interval."
)


def chart(runs: Sequence[Run], experiment_folder: Path, by: str, metric: str) -> Chart | None:
    """Validation against steps, from the logs of finished trials; None where there are no logs.

    Args:
        runs: results.
        experiment_folder: where the trials' folders are.
        by: path of what is compared.
        metric: of the results; a `test_` metric stands for its `valid_` counterpart here.
    """
    metric = of_validation(metric)
    panels = []
    for title, alike in sections(runs, by).items():
        series = []
        for name, group in by_name(alike, by).items():
            done = [run for run in group if run.is_done]
            curves = [curve(experiment_folder / run.identity, metric) for run in done]
            found = _series(name, [pair for pair in zip(done, curves, strict=True) if pair[1]])
            series += [found] if found else []
        if series:
            panels.append(Panel(title, "step", label(metric), tuple(series)))
    title = f"Learning curves: {metric}"
    names = all_names(runs, by)
    return Chart("curves", title, NOTE, "curves", names, tuple(panels)) if panels else None


def of_validation(metric: str) -> str:
    return "valid_" + metric.removeprefix("test_") if metric.startswith("test_") else metric


def curve(folder: Path, metric: str) -> Curve:
    """The metric at the end of each epoch, by step, of the trial in `folder`."""
    kept = claims.work_folder(folder)
    if kept is None:
        return {}
    _, lines = Tail(kept / history.FILE).read()
    epochs = [numbers(line) for line in lines if "epoch" in line]
    return {int(e["step"]): e[metric] for e in epochs if {"step", metric} <= set(e)}


def _series(name: str, curves: list[tuple[Run, Curve]]) -> Series | None:
    settings = defaultdict(list)
    for run, found in curves:
        rest = frozenset((path, v) for path, v in run.config.items() if path != "seed")
        settings[rest].append(found)
    if not settings:
        return None

    def merit(alike: list[Curve]) -> tuple[int, float]:
        return -len(alike), sum(min(found.values()) for found in alike) / len(alike)

    best = min(settings.values(), key=merit)
    steps = sorted(set.intersection(*(set(found) for found in best)))
    if not steps:
        return None
    means, half_widths = zip(*(mean_ci([f[s] for f in best]) for s in steps), strict=True)
    told = tuple(f"step {step}, {len(best)} seed{'s' * (len(best) > 1)}" for step in steps)
    return Series(name, tuple(steps), means, half_widths, told)
