"""A trial is one resolved configuration, a frozen dataclass; its identity is the hash of it."""

import dataclasses
import functools
import hashlib
import json
import math
import types
import typing
from typing import Any, TypeVar

from seqlab.errors import InputError, nearest

KIND = "kind"  # stands in a configuration beside the fields of each part
BUDGETS = ("smoke", "default", "paper")
SCALARS = (bool, int, float, str, types.NoneType)

T = TypeVar("T")


def as_dict(trial: Any) -> dict[str, Any]:
    """The configuration as nested dicts of JSON values; every part names its kind."""

    def convert(value: Any) -> Any:
        if isinstance(value, SCALARS):
            return value
        if dataclasses.is_dataclass(value):
            fields = {name: convert(getattr(value, name)) for name in _names(type(value))}
            return {KIND: type(value).__name__, **fields}
        return list(value) if isinstance(value, tuple) else value

    return convert(trial)


@functools.cache  # a grid has many trials, of few kinds
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


def from_dict(kind: type[T], config: dict[str, Any]) -> T:
    """The trial, or the part of one, that `as_dict` has made a configuration of.

    Raises:
        InputError: the fields are not those that it has now.
    """
    hints = typing.get_type_hints(kind)
    if not _is_of(kind, config):
        raise InputError(
            f"{config[KIND]} had other fields or another name than {kind.__name__} has"
        )

    def convert(value: Any, annotation: Any) -> Any:
        if isinstance(value, list):
            return tuple(value)
        if not isinstance(value, dict):
            return value
        kinds = typing.get_args(annotation) or (annotation,)
        return from_dict(next((k for k in kinds if _is_of(k, value)), kinds[0]), value)

    return kind(**{name: convert(config[name], hints[name]) for name in config if name != KIND})


def _is_of(kind: type, config: dict[str, Any]) -> bool:
    if not dataclasses.is_dataclass(kind) or kind.__name__ != config[KIND]:
        return False
    return {field.name for field in dataclasses.fields(kind)} == set(config) - {KIND}


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, by dotted path."""
    flat = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def trial_id(trial: Any) -> str:
    """16 hex digits of the sha256 of the resolved configuration; the same in every process."""
    text = json.dumps(as_dict(trial), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def get(trial: Any, path: str) -> Any:
    """The value of a dotted path such as `optim.learning_rate`; of `data.kind`, which it is."""
    for name in path.split("."):
        is_kind = name == KIND and dataclasses.is_dataclass(trial)
        trial = type(trial).__name__ if is_kind else getattr(trial, _field(trial, name, path).name)
    return trial


def replace(trial: T, values: dict[str, Any]) -> T:
    """A copy with the value of each dotted path replaced."""
    for path, value in values.items():
        trial = _replace(trial, path.split("."), value, path)
    return trial


def _replace(part: Any, names: list[str], value: Any, path: str) -> Any:
    field = _field(part, names[0], path)
    if len(names) > 1:
        value = _replace(getattr(part, field.name), names[1:], value, path)
    return dataclasses.replace(part, **{field.name: value})


def _field(part: Any, name: str, path: str) -> dataclasses.Field:
    fields = {f.name: f for f in dataclasses.fields(part)} if dataclasses.is_dataclass(part) else {}
    if name not in fields:
        raise InputError(f"no field {path!r} ({name!r}).{nearest(name, fields) if fields else ''}")
    return fields[name]


def parse(trial: Any, path: str, text: str) -> Any:
    """Read the text of one value as the type that the field at `path` is annotated with.

    Raises:
        InputError: no such field, or the text is not of its type.
    """
    *parents, name = path.split(".")
    owner = trial
    for parent in parents:
        owner = getattr(owner, _field(owner, parent, path).name)
    field = _field(owner, name, path)
    annotation = typing.get_type_hints(type(owner))[field.name]
    kinds = (
        typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    )
    for kind in kinds:
        if kind is types.NoneType and text == "none":
            return None
        if kind is bool and text in ("true", "false"):
            return text == "true"
        if kind is str:
            return text
        if kind in (int, float):
            try:
                value = kind(text)
            except ValueError:
                continue
            if kind is int or math.isfinite(value):  # an identity is made of JSON: it has no nan
                return value
    names = " or ".join("none" if k is types.NoneType else k.__name__ for k in kinds)
    raise InputError(f"{path} takes {names}, not {text!r}")


def set_values(trials: list[T], assignments: list[str]) -> list[T]:
    """`path=v1,v2` for every trial and every value; trials that become equal are one trial.

    Raises:
        InputError: an assignment is not of that form, or does not fit a trial.
    """
    for assignment in assignments:
        path, values = split_assignment(assignment)
        trials = [replace(t, {path: parse(t, path, v)}) for t in trials for v in values]
        trials = list({trial_id(t): t for t in trials}.values())
    return trials


def only(trials: list[T], conditions: list[str]) -> list[T]:
    """The trials whose value at `path` is one of those in `path=v1,v2`.

    Raises:
        InputError: a condition is not of that form, or a value occurs in no trial.
    """
    for condition in conditions:
        path, values = split_assignment(condition)
        having = [t for t in trials if _has(t, path)]
        if trials and not having:
            get(trials[0], path)  # raises: no trial has such a field
        present = {str(get(t, path)) for t in having}
        chosen = set()
        for value in values:
            found = [t for t in having if get(t, path) == _asked(t, path, value)]
            if not found:
                raise InputError(f"no trial has {path}={value}.{nearest(value, present)}")
            chosen |= set(map(id, found))
        trials = [t for t in trials if id(t) in chosen]
    return trials


def _asked(trial: Any, path: str, text: str) -> Any:
    return text if path.split(".")[-1] == KIND else parse(trial, path, text)


def _has(trial: Any, path: str) -> bool:
    try:
        get(trial, path)
    except InputError:
        return False
    return True


def split_assignment(assignment: str) -> tuple[str, list[str]]:
    """`path=v1,v2` as the path and its values."""
    path, equals, values = assignment.partition("=")
    if not (path and equals and values and all(values.split(","))):
        raise InputError(f"{assignment!r} is not of the form path=value or path=value,value")
    return path, values.split(",")
