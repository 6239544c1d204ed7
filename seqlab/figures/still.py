"""Charts for paper: drawn with matplotlib, in the style of `seqlab.plots`."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from seqlab import plots
from seqlab.figures.chart import Chart, Panel, Series, columns, is_lowest, limits, ticks

DASHES = ("-", "--", ":", "-.")
PANEL_HEIGHT = 1.9  # inches
LEGEND_WIDTH = 1.3


def figure(chart: Chart) -> Figure:
    """The chart; its legend stands to the right of all panels."""
    across = columns(chart)
    down = -(-len(chart.panels) // across)
    shown = {series.name for panel in chart.panels for series in panel.series}
    tallest = max([PANEL_HEIGHT, *(0.16 * len(p.categories) + 0.6 for p in chart.panels)])
    drawn, axes = plots.panels(down, across, height=down * tallest + 0.4)
    drawn.suptitle(_plain(chart.title), x=0.01, ha="left", fontsize=10)
    for number, (panel, ax) in enumerate(zip(chart.panels, axes.flat, strict=False)):
        _draw(ax, chart, panel, is_lowest(chart, number), number % across == 0)
    for ax in axes.flat[len(chart.panels) :]:
        ax.set_visible(False)
    if chart.form == "intervals":
        drawn.supxlabel(_plain(chart.panels[0].y), fontsize=8)
    elif len(shown) > 1:
        names = [name for name in chart.names if name in shown]
        handles = [Line2D([], [], **look(chart, name)) for name in names]
        drawn.legend(handles, list(map(_plain, names)), loc="outside right center")
    return drawn


def look(chart: Chart, name: str) -> dict:
    """Colour and marker together, then a dash, tell any two names apart."""
    place = chart.names.index(name)
    turn, number = divmod(place, len(plots.COLOURS))
    marker = plots.MARKERS[(number + turn) % len(plots.MARKERS)]
    style = {"color": plots.COLOURS[number], "linestyle": DASHES[turn % len(DASHES)]}
    return style | ({} if chart.form == "curves" else {"marker": marker})


def _draw(ax: Axes, chart: Chart, panel: Panel, is_lowest: bool, is_first: bool) -> None:
    if panel.categories:
        _category_axis(ax, chart, panel)
    else:
        _number_axis(ax, panel)
    for series in panel.series:
        style = look(chart, series.name)
        if chart.form == "intervals":
            _interval(ax, panel, series, style)
        else:
            _line(ax, chart, panel, series, style)
    if chart.form == "intervals":
        ax.axvline(0, color="#444444", linewidth=0.8, zorder=0)
        ax.set(title=_plain(panel.title), xlim=limits(chart, panel))
    else:
        ax.set_ylim(limits(chart, panel))
        ax.set(title=_plain(panel.title), xlabel=_plain(panel.x) if is_lowest else "")
        ax.set_ylabel(_plain(panel.y) if is_first else "")


def _category_axis(ax: Axes, chart: Chart, panel: Panel) -> None:
    places, names = range(len(panel.categories)), list(map(_plain, panel.categories))
    if chart.form == "intervals":
        ax.set_yticks(places, names)
        ax.set_ylim(len(names) - 0.5, -0.5)
    else:
        ax.set_xticks(places, names)
        ax.margins(x=0.15)


def _number_axis(ax: Axes, panel: Panel) -> None:
    if panel.logarithmic:
        ax.set_xscale("log")
        ax.tick_params(axis="x", which="minor", length=0)
        ax.xaxis.set_minor_formatter(NullFormatter())
    if (values := ticks(panel)) is not None:
        ax.set_xticks(values, [f"{value:g}" for value in values])


def _line(ax: Axes, chart: Chart, panel: Panel, series: Series, style: dict) -> None:
    def place(x):
        return panel.categories.index(x) if panel.categories else x

    xs = [place(x) for x in series.x]
    dots = [(place(dot.x), dot.y) for dot in series.dots]
    if dots:
        ax.scatter(*zip(*dots, strict=True), s=5, color=style["color"], alpha=0.3, linewidths=0)
    if chart.form == "curves":
        ax.plot(xs, series.y, **style)
        known = [h is not None for h in series.half_widths]
        low, high = _ends(series)
        ax.fill_between(xs, low, high, where=known, color=style["color"], alpha=0.15, linewidth=0)
    else:
        bars = [h or 0.0 for h in series.half_widths]
        ax.errorbar(xs, series.y, bars, capsize=2, elinewidth=0.8, **style)


def _interval(ax: Axes, panel: Panel, series: Series, style: dict) -> None:
    place = panel.categories.index(str(series.x[0]))
    half_width = series.half_widths[0]
    dots = [dot.y for dot in series.dots]
    ax.scatter(dots, [place] * len(dots), s=5, color=style["color"], alpha=0.35, linewidths=0)
    ax.errorbar(
        series.y,
        [place],
        xerr=None if half_width is None else [half_width],
        capsize=2.5,
        color=style["color"],
        marker=style["marker"],
    )


def _ends(series: Series) -> tuple[list[float], list[float]]:
    pairs = [(y, h or 0.0) for y, h in zip(series.y, series.half_widths, strict=True)]
    return [y - h for y, h in pairs], [y + h for y, h in pairs]


def _plain(text: str) -> str:
    """Two dollars would make a formula of what is between them."""
    return text.replace("$", r"\$")
