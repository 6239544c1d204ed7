"""A table as plain text, whole: for a pipe and for a file."""

from itertools import zip_longest

from rich.cells import cell_len  # some characters take two places

from seqlab.tables.table import Table, cell_text, is_numeric, sections, shown_columns

MARGIN = "  "
GAP = "   "


def to_text(table: Table) -> str:
    """Under each rule a section, its heading first; no line is folded to somebody's terminal."""
    columns = shown_columns(table)
    headings = [column.title for column in columns]
    runs = [
        (heading, [[cell_text(row, column) for column in columns] for row in rows])
        for heading, rows in sections(table)
    ]
    cells = zip(headings, *(row for _, rows in runs for row in rows), strict=True)
    widths = [max(_width(text) for text in column) for column in cells]
    right = [is_numeric(table, column) for column in columns]

    def drawn(row: list[str]) -> list[str]:
        lines = zip_longest(*(text.splitlines() for text in row), fillvalue="")
        return [
            MARGIN + GAP.join(map(_padded, line, widths, right)).rstrip() for line in lines
        ] or [""]  # nothing but empty cells

    blocks = [drawn(headings)]
    for heading, rows in runs:
        above = [MARGIN + line for line in heading.splitlines()]
        blocks.append([*above, *(line for row in rows for line in drawn(row))])
    rule = " " + "─" * (sum(widths) + len(GAP) * (len(widths) - 1) + 2)
    body = [line for block in blocks for line in (rule, *block)]
    return "\n".join([table.title, *body, rule, *table.notes]).rstrip()


def _width(text: str) -> int:
    return max(map(cell_len, text.splitlines()), default=0)


def _padded(text: str, width: int, right: bool) -> str:
    padding = " " * (width - cell_len(text))
    return padding + text if right else text + padding
