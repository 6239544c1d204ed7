"""Results as columns: one row a trial, one column a value of the configuration or a metric.

The types of the columns depend neither on the order of the results nor on how they were split
before joining:

    nothing ≤ true or false ≤ text,   nothing ≤ whole numbers ≤ numbers ≤ text
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from seqlab.errors import InputError, nearest
from seqlab.trial import flatten, split_assignment

# Of every result; of what trials differ in, the configuration comes first.
FIELDS: dict[str, pl.DataType] = {
    "trial_id": pl.String(),
    "status": pl.String(),
    "error": pl.String(),
    "wall_seconds": pl.Float64(),
    "attempts": pl.Int64(),
}
PARTS = ("config.", "metrics.", "provenance.")
LARGEST = 2**53  # up to here a float holds every whole number


def of(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """One row a result.

    Args:
        rows: results, as `seqlab.results.read` gives them.

    Returns:
        The columns FIELDS, then `config.` with dotted paths, `metrics.`, and of `provenance.` what
        is one value. A list, and a metric that is no single value, is its JSON text. So is every
        number in a column that also has text.
    """
    flat = [_flat(row) for row in rows]
    names = dict.fromkeys(name for values in flat for name in values)
    columns = [_column(name, [values.get(name) for values in flat]) for name in names]
    return joined([pl.DataFrame(columns)])


def joined(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """The rows of all, under the columns that any of them has."""
    frames = [pl.DataFrame(schema=FIELDS), *frames]
    types: dict[str, pl.DataType] = {}
    for frame in frames:
        for name, dtype in frame.schema.items():
            types[name] = _above(types.get(name, pl.Null()), dtype)
    alike = [
        pl.DataFrame([_as(frame, name, types[name]) for name in sorted(types, key=order)])
        for frame in frames
    ]
    return pl.concat(alike)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    values = {name: row.get(name) for name in FIELDS}
    values |= flatten(_part(row, "config"), "config.")
    values |= {f"metrics.{name}": value for name, value in _part(row, "metrics").items()}
    origin = _part(row, "provenance")
    scalars = {name: v for name, v in origin.items() if not isinstance(v, dict | list)}
    return values | {f"provenance.{name}": value for name, value in scalars.items()}


def _part(row: dict[str, Any], name: str) -> dict[str, Any]:
    part = row.get(name)
    return part if isinstance(part, dict) else {}  # another program's may be anything


def order(name: str) -> tuple[int, int, str]:
    fields = list(FIELDS)
    if name in fields:
        return 0, fields.index(name), name
    return 1, [name.startswith(part) for part in (*PARTS, "")].index(True), name


def _column(name: str, values: list[Any]) -> pl.Series:
    kinds = {type(value) for value in values} - {type(None)}
    if not kinds:
        return pl.Series(name, values, pl.Null)
    if kinds == {bool}:
        return pl.Series(name, values, pl.Boolean)
    if kinds == {int} and all(v is None or -(2**63) <= v < 2**63 for v in values):
        return pl.Series(name, values, pl.Int64)
    if kinds <= {int, float} and not any(map(_beyond_float, values)):
        return pl.Series(name, [None if v is None else float(v) for v in values], pl.Float64)
    return _texts(name, values)


def _above(one: pl.DataType, other: pl.DataType) -> pl.DataType:
    """The smallest type that holds the values of both."""
    if one == other or other == pl.Null:
        return one
    if one == pl.Null:
        return other
    return pl.Float64() if {one, other} == {pl.Int64(), pl.Float64()} else pl.String()


def _as(frame: pl.DataFrame, name: str, dtype: pl.DataType) -> pl.Series:
    if name not in frame.columns:
        return pl.Series(name, [None], dtype).new_from_index(0, frame.height)
    column = frame[name]
    if column.dtype == dtype:
        return column
    return _texts(name, column.to_list()) if dtype == pl.String else column.cast(dtype)


def _texts(name: str, values: list[Any]) -> pl.Series:
    texts = [None if value is None else _text(value) for value in values]
    try:
        return pl.Series(name, texts, pl.String)
    except UnicodeEncodeError:  # a file name that is no text, in a traceback
        whole = [t and t.encode(errors="backslashreplace").decode() for t in texts]
        return pl.Series(name, whole, pl.String)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(value)
    return json.dumps(value, sort_keys=True)


def _number(value: float) -> str:
    """The same text for 1 and 1.0: a column of numbers does not keep which of them it was."""
    if _beyond_float(value):
        return str(value)
    number = float(value)
    return str(int(number)) if abs(number) < LARGEST and number.is_integer() else json.dumps(number)


def _beyond_float(value: float | None) -> bool:
    return isinstance(value, int) and abs(value) >= 2**1023


# Columns by the names that people use


def find(frame: pl.DataFrame, name: str, numbers: bool = False) -> str:
    """The column that a name means; `config.`, `metrics.` or `provenance.` may be left out.

    Args:
        frame: results in columns.
        name: such as `model.cell`, `test_accuracy` or `status`.
        numbers: it has to be a column of numbers; one of a metric is preferred.

    Raises:
        InputError: there is no such column.
    """
    parts = ("metrics.", "config.", "provenance.") if numbers else PARTS
    meant = [part + name for part in ("", *parts) if part + name in frame.columns]
    right = [column for column in meant if not numbers or frame[column].dtype.is_numeric()]
    if right:
        return right[0]
    if meant:
        raise InputError(f"{name} is not a number in every result")
    valid = [c for c in frame.columns if not numbers or frame[c].dtype.is_numeric()]
    names = {re.sub(f"^({'|'.join(map(re.escape, PARTS))})", "", column) for column in valid}
    raise InputError(f"no column {name!r}.{nearest(name, names)}")


def select(frame: pl.DataFrame, conditions: Sequence[str]) -> pl.DataFrame:
    """The results that have one of the values of each `path=v1,v2`.

    Raises:
        InputError: a condition is not of that form, or a value occurs in no result.
    """
    for condition in conditions:
        path, wanted = split_assignment(condition)
        column = find(frame, path)
        there = {text: value for value in frame[column].unique() for text in _spellings(value)}
        for text in wanted:
            if text not in there:
                raise InputError(f"no result has {path}={text}.{nearest(text, there)}")
        chosen = pl.Series([there[text] for text in wanted], dtype=frame[column].dtype)
        frame = frame.filter(pl.col(column).is_in(chosen.implode(), nulls_equal=True))
    return frame


def _spellings(value: Any) -> set[str]:
    """A whole number in a column of numbers may be written as either."""
    whole = isinstance(value, float) and value.is_integer()
    return {str(value), str(int(value))} if whole else {str(value)}
