"""A report: everything about an experiment's results on one page that opens from a disk.

The page holds its own scripts, plotly's and that of itables, and a policy that forbids it to fetch
anything. It is light or dark as the reader's system is, or as its switch says. All that comes from
results is escaped: a name or an error that looks like HTML is shown as it is written.
"""

import base64
import html
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqlab import results, tables
from seqlab.figures import interactive
from seqlab.figures.chart import Chart
from seqlab.figures.runs import flat
from seqlab.report import sortable
from seqlab.report.origins import origins
from seqlab.report.style import POLICY, STYLE, SWITCH
from seqlab.report.trials import trials_table
from seqlab.tables import Table

Row = dict[str, Any]


def page(
    table: Table, rows: Sequence[Row], charts: Sequence[Chart], pictures: Sequence[Path]
) -> str:
    """The whole page.

    Args:
        table: of the experiment, the paper's values beside ours.
        rows: its results.
        charts: figures with values under the pointer.
        pictures: figures that the experiment itself has drawn, as svg.
    """
    failed = [row for row in rows if row["status"] != results.DONE]
    trials, common = trials_table(rows)
    parts = {
        "Table": f"{sortable.library()}\n{sortable.in_sections(table, 'comparison')}",
        "Figures of the experiment": "\n".join(map(_picture, pictures)),
        "Curves and comparisons": "\n".join(
            _chart(chart, number == 0) for number, chart in enumerate(charts)
        ),
        "Trials": f"{sortable.many_rows(trials, 'trials')}\n<p>{html.escape(common)}</p>",
        "What went wrong": "\n".join(map(_failure, failed)),
        "Where these results come from": tables.to_html(origins(rows)),
    }
    sections = [
        f"<section><h2>{title}</h2>\n{content}\n</section>"
        for title, content in parts.items()
        if content
    ]
    title = html.escape(table.title)
    count = Counter(row["status"] for row in rows)
    statuses = ", ".join(f"{count[name]} {name}" for name in results.STATUSES if count[name])
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>",
            STYLE,
            "</head><body>",
            f"<header>{SWITCH}<h1>{title}</h1><p>Trials: {statuses}</p></header>",
            *sections,
            "</body></html>\n",
        ]
    )


def _picture(path: Path) -> str:
    # as a picture and not as a part of the page: an SVG may hold scripts, a picture runs none
    content = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{html.escape(path.stem)}" src="data:image/svg+xml;base64,{content}">'


def _chart(chart: Chart, with_library: bool) -> str:
    title, note = html.escape(chart.title), html.escape(chart.note)
    return f"<h3>{title}</h3>\n<p>{note}</p>\n{interactive.fragment(chart, with_library)}"


def _failure(row: Row) -> str:
    error = (row.get("error") or "nothing is known of the cause").strip()
    summary = f"{row['trial_id']} {row['status']}: {error.splitlines()[-1]}"
    config = flat([row])[0].config
    told = ", ".join(f"{path}={value}" for path, value in sorted(config.items()))
    return (
        f"<details><summary>{html.escape(summary)}</summary>"
        f"<p>{html.escape(told)}</p><pre>{html.escape(error)}</pre></details>"
    )
