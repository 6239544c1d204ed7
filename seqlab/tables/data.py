"""A table for a spreadsheet (csv) and for a program (json): full values, every column."""

import csv
import io
import json
import math
from typing import Any

import numpy as np

from seqlab.tables.table import Table


def to_csv(table: Table) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(column.key for column in table.columns)
    for row in table.rows:
        writer.writerow(_csv_value(row.get(column.key)) for column in table.columns)
    return stream.getvalue().removesuffix("\n")


def _csv_value(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return json.dumps(value) if isinstance(value, dict | list | tuple | bool) else value


def to_json(table: Table) -> str:
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
