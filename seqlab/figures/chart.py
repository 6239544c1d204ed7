"""A chart as data: all that a figure says, for whatever draws it."""

import itertools
from dataclasses import dataclass
from typing import Any, Literal

Form = Literal["curves", "points", "intervals"]


@dataclass(frozen=True)
class Dot:
    """One trial, or one pair of them."""

    x: float | str
    y: float
    told: str


@dataclass(frozen=True)
class Series:
    """Means of something, from left to right.

    Attributes:
        name: whose; the same name has the same colour in all panels.
        x: numbers, or categories.
        y: a mean for each.
        half_widths: of its 95% confidence interval; None where one value has none.
        told: a line for each, seen under the pointer.
        dots: what the means are of, where that is shown.
    """

    name: str
    x: tuple[float | str, ...]
    y: tuple[float, ...]
    half_widths: tuple[float | None, ...]
    told: tuple[str, ...]
    dots: tuple[Dot, ...] = ()


@dataclass(frozen=True)
class Panel:
    """A pair of axes, with units in their labels.

    Attributes:
        title: what is common to its series.
        x: label.
        y: label.
        series: from the front to the back of the legend.
        logarithmic: the horizontal axis.
        categories: of the horizontal axis, in order; empty where it has numbers.
    """

    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    logarithmic: bool = False
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chart:
    """Panels with one legend.

    Attributes:
        name: of its files.
        title: one line.
        note: how it was made, for who reads it.
        form: "curves" have bands, "points" have bars, "intervals" lie on their side: categories
            from top to bottom, and zero marked.
        names: all that a series can be of, in the order of their colours.
        panels: of different data, one after another.
    """

    name: str
    title: str
    note: str
    form: Form
    names: tuple[str, ...]
    panels: tuple[Panel, ...]


def columns(chart: Chart) -> int:
    """How many panels stand side by side."""
    wide = chart.form == "intervals" or len(chart.panels) <= 4
    return min(len(chart.panels), 2 if wide else 3)


def limits(chart: Chart, panel: Panel) -> tuple[float, float]:
    """Of the axis of values: all means and dots; an interval that is much wider is cut off."""
    shown = [y for series in panel.series for y in series.y]
    shown += [dot.y for series in panel.series for dot in series.dots]
    shown += [0.0] * (chart.form == "intervals")
    room = (0.6 if chart.form == "intervals" else 0.15) * (max(shown) - min(shown))
    room = room or 0.05 * abs(shown[0]) or 1.0
    return min(shown) - room, max(shown) + room


def ticks(panel: Panel) -> list[float] | None:
    """Of a horizontal axis of numbers: the values that there are, where these are few.

    Between them there is nothing. None: any will do.
    """
    values: list[Any] = sorted({x for series in panel.series for x in series.x})
    few = len(values) <= 7 and (panel.logarithmic or len(values) < 3 or _even(values))
    return values if few else None


def _even(values: list[float]) -> bool:
    steps = [after - before for before, after in itertools.pairwise(values)]
    return max(steps) < 1.5 * min(steps)


def is_lowest(chart: Chart, number: int) -> bool:
    """Whether no panel is below this one, or the one below has another horizontal axis."""
    below = number + columns(chart)
    return below >= len(chart.panels) or chart.panels[below].x != chart.panels[number].x
