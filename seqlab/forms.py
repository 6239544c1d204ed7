"""Forms: what the columns of results do not hold, so that results can be restored exactly.

    a result = its form and its values in the columns of `seqlab.frame`

A form is the JSON text of a result, with every value that has a column replaced by its kind. A
value that no column keeps exactly stays in the form, in a list of one. Many results share a form,
and two that agree in form and in a column have the same value there: 1 is not 1.0, and a missing
value is not None.
"""

import json
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import polars as pl

from seqlab import frame, results

ID = "trial_id"
FORM = "form"
FOUND = "found"  # what of it the digest of all results takes
SHA256 = "sha256"  # of its file
HIDDEN = (FORM, FOUND, SHA256)
AT = "at"

# How a value is read that stands in a column of its kind, or of a kind above.
KINDS: dict[str, Callable[[Any], Any]] = {
    "bool": lambda value: value in (True, "true"),
    "int": int,
    "float": float,
    "str": str,
    "json": json.loads,
}


def of(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Results in the columns of `seqlab.frame` and the hidden ones."""
    return frame.of(rows).with_columns(
        pl.Series(FORM, [json.dumps(_form(row)) for row in rows], pl.Categorical),
        pl.Series(FOUND, [_found(row) for row in rows], pl.String),
        pl.Series(SHA256, [_sha256(row) for row in rows], pl.String),
    )


def _found(row: dict[str, Any]) -> str | None:
    ours = "provenance" in row and isinstance(row["metrics"], dict)
    return results.found(row) if ours else None


def _sha256(row: dict[str, Any]) -> str | None:
    sha256 = row.get(SHA256)
    return sha256 if isinstance(sha256, str) and sha256.isascii() else None


def dicts(columns: pl.DataFrame, fields: Collection[str] = ()) -> list[dict[str, Any]]:
    """The results as they were.

    Args:
        columns: as `of` makes them.
        fields: of each result. Default: all.
    """
    found: list[dict[str, Any]] = [{}] * columns.height
    for (form,), alike in columns.with_row_index(AT).group_by(FORM):
        asked = {k: part for k, part in json.loads(str(form)).items() if not fields or k in fields}
        for at, row in zip(alike[AT], _filled(asked, "", alike), strict=True):
            found[at] = row
    return found


def _filled(form: Any, name: str, columns: pl.DataFrame) -> list[Any]:
    """The values that a part of the form stands for, one a row."""
    if isinstance(form, dict):
        prefix = name and f"{name}."
        parts = [_filled(part, prefix + key, columns) for key, part in form.items()]
        rows = zip(*parts, strict=True) if parts else [()] * columns.height
        return [dict(zip(form, row, strict=True)) for row in rows]
    if isinstance(form, str):
        return list(map(KINDS[form], columns[name]))
    return [form and form[0]] * columns.height


def _form(row: dict[str, Any]) -> dict[str, Any]:
    kept = {*frame.FIELDS} | ({SHA256} if _sha256(row) else set())
    form: dict[str, Any] = {n: _kind(v) if n in kept else [v] for n, v in row.items()}
    config, metrics, origin = (row.get(part) for part in ("config", "metrics", "provenance"))
    if isinstance(config, dict) and not any("." in name for name in _names(config)):
        form["config"] = _nested(config)
    if isinstance(metrics, dict):
        form["metrics"] = {name: _kind(value) for name, value in metrics.items()}
    if isinstance(origin, dict):
        form["provenance"] = {
            name: [value] if isinstance(value, dict | list) else _kind(value)
            for name, value in origin.items()
        }
    return form


def _nested(part: dict[str, Any]) -> dict[str, Any]:
    form = {}
    for name, value in part.items():
        if isinstance(value, dict):
            form[name] = _nested(value) if value else [value]
        else:
            form[name] = _kind(value)
    return form


def _names(part: dict[str, Any]) -> Iterator[str]:
    for name, value in part.items():
        yield name
        if isinstance(value, dict):
            yield from _names(value)


def _kind(value: Any) -> str | list[Any] | None:
    """Its name in KINDS, if a column keeps the value even among others; else the value itself."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if abs(value) < frame.LARGEST else [value]
    if isinstance(value, float):
        return [value] if value == 0 and math.copysign(1, value) < 0 else "float"
    if isinstance(value, str):
        return "str" if _is_text(value) else [value]
    return "json" if json.dumps(value) == json.dumps(value, sort_keys=True) else [value]


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # a file name that is no text, in a traceback
        return False
    return True
