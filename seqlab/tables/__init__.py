"""One table, written for a terminal, a page, a spreadsheet, a paper or a program."""

from seqlab.errors import InputError, nearest
from seqlab.tables.data import to_csv, to_json
from seqlab.tables.html import to_html
from seqlab.tables.latex import to_latex
from seqlab.tables.markdown import to_markdown
from seqlab.tables.table import Column, Table, select
from seqlab.tables.text import to_text

FORMATS = {
    "text": to_text,
    "markdown": to_markdown,
    "csv": to_csv,
    "latex": to_latex,
    "json": to_json,
    "html": to_html,
}


def render(table: Table, format: str) -> str:
    """Write `table` in one of FORMATS, without a newline at the end.

    Raises:
        InputError: no such format.
    """
    if format not in FORMATS:
        raise InputError(f"No table format {format!r}.{nearest(format, FORMATS)}")
    return FORMATS[format](table)


__all__ = [
    "FORMATS",
    "Column",
    "Table",
    "render",
    "select",
]
