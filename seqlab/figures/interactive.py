"""Charts for a page: drawn by plotly, with what is under the pointer told."""

import html
from typing import Any

from plotly import graph_objects
from plotly.subplots import make_subplots

from seqlab.figures.chart import Chart, Panel, Series, columns, is_lowest, limits, ticks

# Okabe and Ito 2008; grey for their black, and the darker of their blues lighter: on light and dark
COLOURS = ("#2086CE", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A8A8A")
SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x")
DASHES = ("solid", "dash", "dot", "dashdot")
PANEL_HEIGHT = 250  # pixels
CONFIG = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d"],
    "responsive": True,
    "showSendToCloud": False,  # plotly's default is a button that uploads the chart
    "toImageButtonOptions": {"format": "svg"},
}


def fragment(chart: Chart, with_library: bool) -> str:
    """The chart as a part of a page, transparent: the page's style gives text and grid a colour.

    Args:
        chart: what is drawn.
        with_library: put plotly's own script before it; once on a page is enough.
    """
    return figure(chart).to_html(
        full_html=False,
        include_plotlyjs=with_library,
        div_id=f"chart-{chart.name}",
        config=CONFIG,
    )


def figure(chart: Chart) -> graph_objects.Figure:
    across = columns(chart)
    down = -(-len(chart.panels) // across)
    categories = max(len(panel.categories) for panel in chart.panels)
    longest = max((len(name) for p in chart.panels for name in p.categories), default=0)
    lying = chart.form == "intervals"
    height = max(PANEL_HEIGHT, 22 * categories + 90 if lying else 0)
    drawn = make_subplots(
        down,
        across,
        subplot_titles=[_text(panel.title) for panel in chart.panels],
        vertical_spacing=min(0.18, 70 / (height * down)),
        horizontal_spacing=min(0.4 / across, 0.02 + 0.006 * longest) if lying else 0.06,
    )
    shown_names = {series.name for panel in chart.panels for series in panel.series}
    in_legend = set()
    for number, panel in enumerate(chart.panels):
        row, column = number // across + 1, number % across + 1
        for series in panel.series:
            shown = not lying and series.name not in in_legend
            in_legend.add(series.name)
            for trace in _traces(chart, panel, series, shown):
                drawn.add_trace(trace, row=row, col=column)
        horizontal, vertical = _axes(chart, panel, is_lowest(chart, number), column == 1)
        drawn.update_xaxes(horizontal, row=row, col=column)
        drawn.update_yaxes(vertical, row=row, col=column)
    drawn.update_layout(
        template="none",
        height=max(height * down + 60, 0 if lying else 29 * len(shown_names) + 110),
        margin={"l": 60, "r": 10, "t": 40, "b": 50},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12},
        hovermode="closest",
        hoverlabel={"align": "left"},
        showlegend=len(shown_names) > 1 and not lying,
        legend={"groupclick": "togglegroup"},
    )
    drawn.update_annotations(font_size=13)
    return drawn


def _axes(
    chart: Chart, panel: Panel, is_lowest: bool, is_first: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The horizontal and the vertical one."""
    line = {
        "showline": True,
        "linewidth": 1,
        "ticks": "outside",
        "ticklen": 3,
        "automargin": True,
        "title_standoff": 8,
    }
    horizontal: dict[str, Any] = line | {"zeroline": False}
    vertical = horizontal | {}
    names = {"type": "category", "categoryarray": list(map(_text, panel.categories))}
    if chart.form == "intervals":
        vertical |= names | {"autorange": "reversed"}
        horizontal |= {"range": limits(chart, panel)}
        horizontal |= {"zeroline": True, "zerolinewidth": 1.5}
        horizontal |= {"title_text": _text(panel.y) if is_lowest else None}
    else:
        horizontal |= names if panel.categories else {}
        horizontal |= {"title_text": _text(panel.x) if is_lowest else None}
        vertical |= {"title_text": _text(panel.y) if is_first else None}
        vertical |= {"range": limits(chart, panel)}
    horizontal |= {"type": "log"} if panel.logarithmic else {}
    if not panel.categories and (values := ticks(panel)) is not None:
        horizontal |= {"tickvals": values, "ticktext": [f"{value:g}" for value in values]}
    return horizontal, vertical


def _traces(
    chart: Chart, panel: Panel, series: Series, in_legend: bool
) -> list[graph_objects.Scatter]:
    turn, number = divmod(chart.names.index(series.name), len(COLOURS))
    colour = COLOURS[number]
    symbol = SYMBOLS[(number + turn) % len(SYMBOLS)]
    name = _text(series.name)
    common: dict[str, Any] = {"name": name, "legendgroup": name}
    hidden = common | {"showlegend": False}
    xs = [_text(x) if isinstance(x, str) else x for x in series.x]
    told = [
        f"{name}: {y:.5g}{f' ± {h:.2g}' if h is not None else ''}<br>{_text(what)}"
        for y, h, what in zip(series.y, series.half_widths, series.told, strict=True)
    ]
    mean = common | {"showlegend": in_legend, "text": told}
    bars = {"array": list(series.half_widths), "thickness": 1.2, "width": 4}
    marker = {"color": colour, "symbol": symbol, "size": 7}
    line = {"color": colour, "dash": DASHES[turn % len(DASHES)], "width": 2}
    dots = graph_objects.Scatter(
        hidden,
        x=[_text(dot.x) if isinstance(dot.x, str) else dot.x for dot in series.dots],
        y=[dot.y for dot in series.dots],
        mode="markers",
        marker={"color": colour, "size": 4, "opacity": 0.45},
        text=[f"{name}: {dot.y:.5g}<br>{_text(dot.told)}" for dot in series.dots],
        hoverinfo="text",
    )
    if chart.form == "intervals":
        return [
            dots.update(x=dots.y, y=dots.x),
            graph_objects.Scatter(
                mean,
                x=series.y,
                y=xs,
                error_x=bars,
                mode="markers",
                marker=marker,
                hoverinfo="text",
            ),
        ]
    if chart.form == "points":
        return [
            dots,
            graph_objects.Scatter(
                mean,
                x=xs,
                y=series.y,
                error_y=bars,
                marker=marker,
                line=line,
                mode="lines+markers",
                hoverinfo="text",
            ),
        ]
    curve = graph_objects.Scatter(mean, x=xs, y=series.y, mode="lines", line=line, hoverinfo="text")
    return [*_band(series, hidden, colour), curve]


def _band(series: Series, common: dict[str, Any], colour: str) -> list[graph_objects.Scatter]:
    known = [
        (x, y, h)
        for x, y, h in zip(series.x, series.y, series.half_widths, strict=True)
        if h is not None
    ]
    if not known:
        return []
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    around = [(x, y + h) for x, y, h in known] + [(x, y - h) for x, y, h in reversed(known)]
    xs, ys = zip(*around, strict=True)
    return [
        graph_objects.Scatter(
            common,
            x=xs,
            y=ys,
            mode="lines",
            line={"width": 0},
            fill="toself",
            fillcolor=f"rgba({red},{green},{blue},0.16)",
            hoverinfo="skip",
        )
    ]


def _text(text: str) -> str:
    """Plotly reads a little HTML in every text: what comes from results is shown as it is."""
    return html.escape(text, quote=False)
