"""A table for a page, by great_tables: a fragment that a page can hold and a browser can open."""

import hashlib
import html

import polars as pl

from seqlab.errors import InputError
from seqlab.tables.table import Table, cell_text, is_numeric, sections, shown_columns

# In the colours of the page around it; alone in a browser, in those the reader prefers.
STYLE = """\
:root:has(> body > #{0}:only-child) {{ color-scheme: light dark; }}
#{0} .gt_table, #{0} .gt_table * {{ color: inherit; background-color: transparent; }}
#{0} .gt_title {{ font-weight: bold; }}
#{0} .gt_group_heading {{ font-style: italic; }}
#{0} .gt_row {{ vertical-align: top; }}
#{0} .gt_right {{ white-space: nowrap; }}
#{0} .gt_sourcenote > span {{ display: block; max-width: 75ch; }}"""


def to_html(table: Table) -> str:
    """No script, nothing fetched, identifiers of its own: many of these can stand on one page.

    Raises:
        InputError: great_tables is not installed.
    """
    try:
        import great_tables
    except ModuleNotFoundError as error:
        raise InputError("html needs great_tables: pip install -e '.[html]'") from error

    columns = {str(number): column for number, column in enumerate(shown_columns(table))}
    runs = sections(table)
    rows = [row for _, rows in runs for row in rows]
    cells = {n: [_escaped(cell_text(row, c)) for row in rows] for n, c in columns.items()}
    # A heading that comes again begins a section again: great_tables would put the two together.
    cells["run"] = [str(number) for number, (_, rows) in enumerate(runs) for _ in rows]
    frame = pl.DataFrame(cells, schema=dict.fromkeys(cells, pl.String))
    right = [name for name, column in columns.items() if is_numeric(table, column)]

    identity = f"table-{hashlib.sha256(repr(table).encode(errors='replace')).hexdigest()[:8]}"
    if table.section is None:
        shown = great_tables.GT(frame.drop("run"), id=identity)
    else:
        shown = great_tables.GT(frame, groupname_col="run", id=identity)
        shown = shown.fmt(lambda number: _escaped(runs[int(number)][0]), "run")
    shown = (
        shown.tab_header(great_tables.html(_escaped(table.title)))
        .cols_label({n: great_tables.html(_escaped(c.title)) for n, c in columns.items()})
        .cols_align("left", [name for name in columns if name not in right])
        .cols_align("right", right)
        .fmt(str, list(columns))  # escaped already
        .tab_options(
            table_margin_left="0",
            table_font_size="15px",
            heading_align="left",
            column_labels_font_weight="bold",
            data_row_padding="3px",
            row_group_padding="3px",
            table_body_hlines_style="none",
            table_additional_css=STYLE.format(identity),
        )
    )
    for note in table.notes:
        shown = shown.tab_source_note(great_tables.html(_escaped(note)))
    return shown.as_raw_html().strip()


def _escaped(text: str) -> str:
    """Text, never markup; {{…}} would be a unit of measurement."""
    escaped = "<br>".join(html.escape(text).replace("{", "&#123;").split("\n"))
    return escaped.encode("ascii", "xmlcharrefreplace").decode()  # a fragment names no encoding
