"""Tables that a reader can sort and filter, by itables (DataTables).

Columns are sorted by their headings and filtered by the glasses beside these: text, or numbers
above, below and between.
"""

import html
from typing import Any

import polars as pl
from itables import options, to_html_datatable
from itables.javascript import generate_init_offline_itables_html

from seqlab.tables import Table
from seqlab.tables.table import cell_text, sections, shown_columns

GLASS = ["searchDropdown"]
NUMBER, SECTION = "section number", "section"

options.warn_on_undocumented_option = False  # itables does not list orderFixed, DataTables has it


def library() -> str:
    """What all of them need to work without a network; once on a page, before them."""
    return generate_init_offline_itables_html(options.dt_bundle)


def many_rows(rows: pl.DataFrame, table_id: str) -> str:
    """A page of the rows at a time."""
    paged = {"topStart": "pageLength", "bottomStart": "info", "bottomEnd": "paging"}
    lengths = {"pageLength": 10, "lengthMenu": [10, 25, 100]}
    layout = paged | {"topEnd": "search"}
    return _sortable(rows, table_id, layout=layout, columnControl=GLASS, **lengths)


def in_sections(table: Table, table_id: str) -> str:
    """A table as people read it; its sections stay where they are, and are sorted within."""
    columns = shown_columns(table)
    runs = list(enumerate(sections(table)))
    lines = [
        {NUMBER: number, SECTION: html.escape(heading)}
        | {column.title: cell_text(row, column) for column in columns}
        for number, (heading, rows) in runs
        for row in rows
    ]
    texts = dict.fromkeys((column.title for column in columns), pl.String)
    sortable = _sortable(
        pl.DataFrame(lines, {NUMBER: pl.Int64, SECTION: pl.String} | texts),
        table_id,
        paging=False,
        order=[],
        orderFixed=[[0, "asc"]],
        columnDefs=[{"targets": [0, 1], "visible": False}],
        columnControl=[{"target": 0, "content": []}, {"target": 1, "content": GLASS}],
        layout={"topStart": None, "topEnd": "search", "bottomStart": None, "bottomEnd": None},
        **({"rowGroup": {"dataSrc": 1}} if table.section else {}),
    )
    return "\n".join([sortable, *(f"<p>{html.escape(note)}</p>" for note in table.notes)])


def _sortable(rows: pl.DataFrame, table_id: str, **shown: Any) -> str:
    return to_html_datatable(
        rows,
        connected=False,
        table_id=table_id,
        maxBytes=0,
        maxColumns=0,
        show_dtypes=False,
        display_logo_when_loading=False,
        text_in_header_can_be_selected=False,
        style="table-layout:auto;width:auto;margin:0",
        scrollX=True,
        **shown,
    )
