"""One table, written for a terminal, a project page, a spreadsheet, a paper or a program."""

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from seqlab.errors import InputError, nearest


@dataclass(frozen=True)
class Column:
    """What stands under one heading.

    Attributes:
        key: the name in rows, csv and json.
        title: the heading for people.
        format: how people see numbers, as in `format(value, ".3f")`; json and csv keep full values.
        data_only: only in json and csv; people read it in the heading of the section.
    """

    key: str
    title: str
    format: str = ""
    data_only: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of JSON values under columns.

    Attributes:
        title: one line.
        columns: from left to right.
        rows: values by column key; a missing key or None is an empty cell.
        section: key of the column whose change starts a new section. For people it becomes a
            heading over its rows; in csv and json it stays a column.
        notes: footnotes, one line each.

    Raises:
        ValueError: two columns with one key, a key that no column has, or no columns.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[dict[str, Any], ...]
    section: str | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        keys = [column.key for column in self.columns]
        if len(set(keys)) < len(keys):
            raise ValueError(f"table {self.title!r}: two columns have the same key in {keys}")
        sections = [] if self.section is None else [self.section]
        for key in [*sections, *(key for row in self.rows for key in row)]:
            if key not in keys:
                raise ValueError(f"table {self.title!r}: no column {key!r} in {keys}")
        if len(keys) == len(sections):
            raise ValueError(f"table {self.title!r}: no columns")


def select(table: Table, keys: Sequence[str]) -> Table:
    """The table with these columns alone, in this order, and its sections.

    Raises:
        InputError: no such column.
    """
    columns = {column.key: column for column in table.columns}
    for key in keys:
        if key not in columns:
            raise InputError(f"no column {key!r}.{nearest(key, columns)}")
    sections = [] if table.section is None else [table.section]
    kept = [*sections, *(key for key in keys if key not in sections)]
    rows = tuple({key: row[key] for key in kept if key in row} for row in table.rows)
    return replace(table, columns=tuple(columns[key] for key in kept), rows=rows)


def render(table: Table, format: str) -> str:
    """Write `table` in one of FORMATS, without a newline at the end.

    Raises:
        InputError: no such format.
    """
    if format not in FORMATS:
        raise InputError(f"No table format {format!r}.{nearest(format, FORMATS)}")
    return FORMATS[format](table)


def for_terminal(table: Table) -> RenderableType:
    """One grid, its headings among the rows, folded to the width of what it is printed on."""
    grid = RichTable(box=box.HORIZONTALS, header_style="bold")
    columns = _shown_columns(table)
    for column in columns:
        side = "right" if _is_numeric(table, column) else "left"
        grid.add_column(Text(column.title), justify=side, overflow="fold")
    for heading, rows in _sections(table):
        grid.add_section()
        if heading:
            grid.add_row(Text(heading, style="bold cyan"))
        for row in rows:
            grid.add_row(*(Text(_shown(row, column)) for column in columns))
    notes = [Text(note, style="dim") for note in table.notes]
    return Group(Text(table.title, style="bold"), grid, *notes)


def fitted(table: Table, width: int) -> list[RenderableType]:
    """What stands readably on `width` columns of a terminal: a grid a section, its heading above.

    Columns that are empty are left out, and then the last ones until the rest fits; a line names
    these. The first column is folded.
    """
    shown = [c for c in _shown_columns(table) if any(_shown(row, c) for row in table.rows)]
    needed = {c.key: max(len(c.title), *(len(_shown(row, c)) for row in table.rows)) for c in shown}
    hidden: list[str] = []
    if shown:
        needed[shown[0].key] = min(needed[shown[0].key], FIRST_COLUMN)
    while len(shown) > 1 and sum(needed[c.key] + PADDING for c in shown) > width:
        hidden.insert(0, shown.pop().title)
    parts: list[RenderableType] = [Text(table.title, style="bold")]
    for heading, rows in _sections(table):
        grid = RichTable(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
        for column in shown:
            side = "right" if _is_numeric(table, column) else "left"
            first = column is shown[0]
            most = FIRST_COLUMN if first else None
            grid.add_column(column.title, justify=side, no_wrap=not first, max_width=most)
        for row in rows:
            grid.add_row(*(Text(_shown(row, column)) for column in shown))
        parts += [Text(heading, style="bold cyan"), grid]
    if hidden:
        parts.append(
            Text(f"Hidden for width: {', '.join(hidden)} (--columns chooses)", style="dim")
        )
    return [*parts, *(Text(note, style="dim") for note in table.notes)]


# What people see

FIRST_COLUMN = 24  # characters, where the width is scarce
PADDING = 3  # characters from one column to the next


def _shown_columns(table: Table) -> list[Column]:
    return [c for c in table.columns if c.key != table.section and not c.data_only]


def _sections(table: Table) -> list[tuple[str, list[dict[str, Any]]]]:
    """Runs of rows with one section value, each under its heading; "" without sections."""
    column = {column.key: column for column in table.columns}.get(table.section or "")
    headings = [_shown(row, column) if column else "" for row in table.rows]
    runs = groupby(zip(headings, table.rows, strict=True), key=lambda pair: pair[0])
    return [(heading, [row for _, row in pairs]) for heading, pairs in runs]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _is_numeric(table: Table, column: Column) -> bool:
    values = [row.get(column.key) for row in table.rows]
    present = [value for value in values if value is not None]
    return bool(column.format) or (bool(present) and all(_is_number(v) for v in present))


def _shown(row: dict[str, Any], column: Column) -> str:
    value = row.get(column.key)
    if value is None:
        return ""
    if not _is_number(value):
        return str(value)
    if not column.format.endswith("d"):
        return format(value, column.format)
    whole = math.isfinite(value) and value == int(value)
    return format(int(value), column.format) if whole else str(value)  # "d" cannot show 0.5 or nan


# Formats


def _text(table: Table) -> str:
    # wider than any table: what is piped into a file is not folded to somebody's terminal
    console = Console(file=io.StringIO(), width=100_000, color_system=None)
    with console.capture() as capture:
        console.print(for_terminal(table))
    return "\n".join(line.rstrip() for line in capture.get().rstrip().split("\n"))


def _markdown(table: Table) -> str:
    columns = _shown_columns(table)
    right = [_is_numeric(table, column) for column in columns]
    lines = [[_markdown_escape(column.title) for column in columns]]
    for heading, rows in _sections(table):
        if heading:
            lines.append([f"**{_markdown_escape(heading)}**"] + [""] * (len(columns) - 1))
        lines += [[_markdown_escape(_shown(row, column)) for column in columns] for row in rows]
    widths = [max(3, *map(len, cells)) for cells in zip(*lines, strict=True)]
    rule = [("-" * (w - 1) + ":") if r else "-" * w for w, r in zip(widths, right, strict=True)]
    lines.insert(1, rule)
    padded = [
        [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True)]
        for cells in lines
    ]
    body = "\n".join(f"| {' | '.join(cells)} |" for cells in padded)
    title = f"**{_markdown_escape(table.title)}**"
    return "\n\n".join([title, body, *map(_markdown_paragraph, table.notes)])


def _markdown_escape(text: str) -> str:
    return "<br>".join(re.sub(r"([\\`*_\[\]<>|~$&#])", r"\\\1", text.strip()).splitlines())


def _markdown_paragraph(text: str) -> str:
    # where a paragraph starts these make a list, a rule or a heading
    return re.sub(r"^(\d*)([-+=.)])(?=\s|$|[-=])", r"\1\\\2", _markdown_escape(text))


def _csv(table: Table) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(column.key for column in table.columns)
    for row in table.rows:
        writer.writerow(_csv_value(row.get(column.key)) for column in table.columns)
    return stream.getvalue().removesuffix("\n")


def _csv_value(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return json.dumps(value) if isinstance(value, dict | list | tuple | bool) else value


def _latex(table: Table) -> str:
    """Needs `\\usepackage{booktabs}`."""
    columns = _shown_columns(table)
    right = [_is_numeric(table, column) for column in columns]
    headings = " & ".join(_latex_escape(column.title) for column in columns)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex_escape(table.title)}}}",
        rf"\begin{{tabular}}{{{''.join('r' if r else 'l' for r in right)}}}",
        r"\toprule",
        rf"{headings} \\",
    ]
    for heading, rows in _sections(table):
        lines.append(r"\midrule")
        if heading:
            lines.append(
                rf"\multicolumn{{{len(columns)}}}{{l}}{{\textit{{{_latex_escape(heading)}}}}} \\"
            )
        for row in rows:
            lines.append(" & ".join(_latex_cell(row, column) for column in columns) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    if table.notes:
        notes = "\n".join(rf"{_latex_escape(note)}\par" for note in table.notes)
        lines += [r"\par\smallskip", rf"{{\footnotesize {notes}}}"]
    return "\n".join([*lines, r"\end{table}"])


LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "`": r"\textasciigrave{}",
        "[": "{[}",  # \\ and \midrule take [ and * after them for an argument
        "*": "{*}",
        "\n": " ",
        "±": r"$\pm$",
        "−": "$-$",
        "×": r"$\times$",
        "·": r"$\cdot$",
        "⊙": r"$\odot$",
        "≤": r"$\leq$",
        "≥": r"$\geq$",
        "≈": r"$\approx$",
        "→": r"$\rightarrow$",
        "√": r"$\surd$",
        "∞": r"$\infty$",
        "α": r"$\alpha$",
        "β": r"$\beta$",
        "γ": r"$\gamma$",
        "ε": r"$\varepsilon$",
        "θ": r"$\theta$",
        "λ": r"$\lambda$",
        "μ": r"$\mu$",
        "σ": r"$\sigma$",
        "²": r"$^2$",
        "³": r"$^3$",
    }
)


def _latex_escape(text: str) -> str:
    # two hyphens would be set as one dash: --set
    return re.sub("-(?=-)", "-{}", text.translate(LATEX))


def _latex_cell(row: dict[str, Any], column: Column) -> str:
    text = _latex_escape(_shown(row, column))
    # a hyphen is no minus sign
    return f"$-${text[1:]}" if _is_number(row.get(column.key)) and text.startswith("-") else text


def _json(table: Table) -> str:
    keys = [column.key for column in table.columns]
    rows = [{key: _json_value(row.get(key)) for key in keys} for row in table.rows]
    return json.dumps(
        {"title": table.title, "columns": keys, "rows": rows, "notes": list(table.notes)},
        indent=1,
        allow_nan=False,
    )


def _json_value(value: Any) -> Any:
    """JSON has no nan and no infinity: they become null."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict):
        return {key: _json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


FORMATS = {
    "text": _text,
    "markdown": _markdown,
    "csv": _csv,
    "latex": _latex,
    "json": _json,
}
