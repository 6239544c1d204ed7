"""The table as data, and what of it people see."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

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


def shown_columns(table: Table) -> list[Column]:
    return [c for c in table.columns if c.key != table.section and not c.data_only]


def sections(table: Table) -> list[tuple[str, list[dict[str, Any]]]]:
    """Runs of rows with one section value, each under its heading; "" without sections."""
    column = {column.key: column for column in table.columns}.get(table.section or "")
    headings = [cell_text(row, column) if column else "" for row in table.rows]
    runs = groupby(zip(headings, table.rows, strict=True), key=lambda pair: pair[0])
    return [(heading, [row for _, row in pairs]) for heading, pairs in runs]


def is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def is_numeric(table: Table, column: Column) -> bool:
    values = [row.get(column.key) for row in table.rows]
    present = [value for value in values if value is not None]
    return bool(column.format) or (bool(present) and all(is_number(v) for v in present))


def cell_text(row: dict[str, Any], column: Column) -> str:
    value = row.get(column.key)
    if value is None:
        return ""
    if not is_number(value):
        return str(value)
    if not column.format.endswith("d"):
        return format(value, column.format)
    whole = math.isfinite(value) and value == int(value)
    return format(int(value), column.format) if whole else str(value)  # "d" cannot show 0.5 or nan
