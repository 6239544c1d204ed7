"""A table for a project page."""

import re

from seqlab.tables.table import Table, cell_text, is_numeric, sections, shown_columns


def to_markdown(table: Table) -> str:
    columns = shown_columns(table)
    right = [is_numeric(table, column) for column in columns]
    lines = [[_markdown_escape(column.title) for column in columns]]
    for heading, rows in sections(table):
        if heading:
            lines.append([f"**{_markdown_escape(heading)}**"] + [""] * (len(columns) - 1))
        lines += [[_markdown_escape(cell_text(row, column)) for column in columns] for row in rows]
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
