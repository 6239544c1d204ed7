"""A table on a terminal, in colour and fitted to its width."""

from rich import box
from rich.console import RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from seqlab.tables.table import Table, cell_text, is_numeric, sections, shown_columns

FIRST_COLUMN = 24  # characters, where the width is scarce
PADDING = 3  # characters from one column to the next


def fitted(table: Table, width: int) -> list[RenderableType]:
    """What stands readably on `width` columns of a terminal: a grid a section, its heading above.

    Columns that are empty are left out, and then the last ones until the rest fits; a line names
    these. The first column is folded.
    """
    shown = [c for c in shown_columns(table) if any(cell_text(row, c) for row in table.rows)]
    needed = {
        c.key: max(
            len(line)
            for text in (c.title, *(cell_text(row, c) for row in table.rows))
            for line in text.splitlines()
        )
        for c in shown
    }
    hidden: list[str] = []
    if shown:
        needed[shown[0].key] = min(needed[shown[0].key], FIRST_COLUMN)
    while len(shown) > 1 and sum(needed[c.key] + PADDING for c in shown) > width:
        hidden.insert(0, shown.pop().title)
    parts: list[RenderableType] = [Text(table.title, style="bold")]
    for heading, rows in sections(table):
        grid = RichTable(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
        for column in shown:
            side = "right" if is_numeric(table, column) else "left"
            first = column is shown[0]
            most = FIRST_COLUMN if first else None
            grid.add_column(column.title, justify=side, no_wrap=not first, max_width=most)
        for row in rows:
            grid.add_row(*(Text(cell_text(row, column)) for column in shown))
        parts += [Text(heading, style="bold cyan"), grid]
    if hidden:
        parts.append(
            Text(f"Hidden for width: {', '.join(hidden)} (--columns chooses)", style="dim")
        )
    return [*parts, *(Text(note, style="dim") for note in table.notes)]
