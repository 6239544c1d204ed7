"""A table for a page: a fragment that a page can hold and a browser can open alone."""

import html

from seqlab.tables.table import Table, cell_text, is_numeric, sections, shown_columns

STYLE = """\
<style>
.seqlab-table { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
.seqlab-table { margin: 1em; overflow-x: auto; }
:root:has(> body > .seqlab-table:only-child) { color-scheme: light dark; }
.seqlab-table table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.seqlab-table caption { font-weight: bold; padding: 0.5em 0; text-align: left; }
.seqlab-table :is(th, td) { padding: 0.15em 0.75em; text-align: left; vertical-align: top; }
.seqlab-table .number { text-align: right; white-space: nowrap; }
.seqlab-table :is(thead, tbody) { border-block: 1px solid; }
.seqlab-table tbody th { font-style: italic; font-weight: normal; }
.seqlab-table p { font-size: 0.85em; margin: 0.5em 0; max-width: 75ch; }
</style>"""


def to_html(table: Table) -> str:
    """No script, nothing fetched, no identifiers: any number of these can stand on one page."""
    columns = shown_columns(table)
    sides = [' class="number"' if is_numeric(table, column) else "" for column in columns]
    headings = [
        f'<th scope="col"{side}>{_escaped(column.title)}</th>'
        for column, side in zip(columns, sides, strict=True)
    ]
    lines = [
        STYLE,
        '<div class="seqlab-table">',
        "<table>",
        f"<caption>{_escaped(table.title)}</caption>",
        f"<thead><tr>{''.join(headings)}</tr></thead>",
    ]
    for heading, rows in sections(table):
        lines.append("<tbody>")
        if heading:
            span = f'<th scope="rowgroup" colspan="{len(columns)}">{_escaped(heading)}</th>'
            lines.append(f"<tr>{span}</tr>")
        for row in rows:
            cells = [
                f"<td{side}>{_escaped(cell_text(row, column))}</td>"
                for column, side in zip(columns, sides, strict=True)
            ]
            lines.append(f"<tr>{''.join(cells)}</tr>")
        lines.append("</tbody>")
    lines += ["</table>", *(f"<p>{_escaped(note)}</p>" for note in table.notes), "</div>"]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    escaped = "<br>".join(html.escape(text).split("\n"))
    return escaped.encode("ascii", "xmlcharrefreplace").decode()  # a fragment names no encoding
