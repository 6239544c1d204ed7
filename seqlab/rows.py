"""Results that are read as columns, and turned into dicts on demand."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import polars as pl

from seqlab import forms, frame, results
from seqlab.forms import FORM, FOUND, ID
from seqlab.trial import flatten, split_assignment

AT = "at"
AT_ONCE = 16_384


class Part(Protocol):
    """Some of the results, in columns as `seqlab.forms.of` makes them."""

    names: list[str]
    height: int

    def read(self, names: Sequence[str]) -> pl.DataFrame:
        """The identities and these columns."""
        ...


class Rows(Sequence[dict[str, Any]]):
    """Results in some order. What is read of them is the columns that somebody asks for.

    Args:
        parts: that hold them.
        order: which rows of all parts, one part after another. Default: all.
    """

    def __init__(self, parts: Sequence[Part], order: np.ndarray | None = None):
        self._parts = parts
        self._order = order
        self._read: dict[str, pl.Series] = {}
        self.names = list(dict.fromkeys(name for part in parts for name in part.names))

    @classmethod
    def of(cls, rows: Sequence[dict[str, Any]]) -> "Rows":
        """Results that are there as dicts."""
        return rows if isinstance(rows, Rows) else cls([Held(forms.of(rows))])

    def columns(self, names: Collection[str]) -> pl.DataFrame:
        """These columns; of one that no result has, nothing."""
        new = [name for name in names if name not in self._read]
        if new:
            parts = [
                part.read([name for name in new if name in part.names]) for part in self._parts
            ]
            read = self._ordered(frame.joined(parts))
            self._read |= {name: read[name] for name in new if name in read.columns}
        nowhere = pl.Series([None] * len(self), dtype=pl.Null)
        return pl.DataFrame({name: self._read.get(name, nowhere) for name in names})

    def _ordered(self, read: pl.DataFrame) -> pl.DataFrame:
        return read if self._order is None else read[self._order]

    def digest(self) -> str:
        """As `seqlab.results.digest`, of those whose origin is known."""
        whole = hashlib.sha256()
        parts = frame.joined([part.read([FOUND]) for part in self._parts]).select(ID, FOUND)
        texts = self._ordered(parts).sort(ID)[FOUND].drop_nulls()
        for start in range(0, len(texts), AT_ONCE):
            whole.update(texts[start : start + AT_ONCE].str.join().cast(pl.Binary)[0])
        return whole.hexdigest()

    # As a list of dicts

    def take(self, numbers: Sequence[int] | np.ndarray, *fields: str) -> list[dict[str, Any]]:
        """Some of the results as dicts; of the fields of each, these. Default: all."""
        names = [n for n in self.names if n.partition(".")[0] in (fields or (n.partition(".")[0],))]
        read = self.columns(dict.fromkeys([*names, FORM]))
        return forms.dicts(read[np.asarray(numbers, np.int64)], fields)

    def __len__(self) -> int:
        if self._order is not None:
            return len(self._order)
        return sum(part.height for part in self._parts)

    @cached_property
    def _all(self) -> list[dict[str, Any]]:
        return self.take(np.arange(len(self)))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._all)

    def __getitem__(self, at: Any) -> Any:
        return self._all[at]

    # Groups of them

    def select(self, conditions: Sequence[str]) -> "Rows":
        """The results whose configuration has one of the values of each `path=v1,v2`.

        Raises:
            InputError: a condition is not of that form, or a value occurs in no result.
        """
        chosen = self
        for condition in conditions:
            path, values = split_assignment(condition)
            groups = chosen._groups(chosen._configs(lambda name, path=path: _below(name, path)))
            firsts = chosen.take([group[0] for group in groups], "config")
            has = results.having([row["config"] for row in firsts], path, values)
            found = [group for group, wanted in zip(groups, has, strict=True) if wanted]
            chosen = chosen._some(np.sort(np.concatenate(found)))
        return chosen

    def alike(
        self, apart: Collection[str], also: Sequence[Any] | np.ndarray
    ) -> list[tuple[dict[str, Any], np.ndarray]]:
        """The results in groups that agree in their configuration, some values of it apart.

        Args:
            apart: the dotted paths of these values.
            also: one value a result, in which those of a group agree, too.

        Returns:
            The configuration of one of each group, and the numbers of those in it, ascending.
        """
        keys = self._configs(lambda name: not any(_below(name, path) for path in apart))
        groups = self._groups(keys.with_columns(also=pl.Series(np.asarray(also))))
        firsts = self.take([group[0] for group in groups], "config")
        return [(row["config"], group) for row, group in zip(firsts, groups, strict=True)]

    def among(self, configs: Sequence[dict[str, Any]], apart: Collection[str]) -> np.ndarray:
        """Whether each result has one of these configurations, some values of it apart.

        Args:
            configs: nested dicts of JSON values.
            apart: the dotted paths of these values.
        """

        def wanted(name: str) -> bool:
            return not any(_below(name, path) for path in apart)

        theirs = Rows.of([{ID: "", "config": config} for config in configs])
        both = frame.joined([self._configs(wanted), theirs._configs(wanted)])
        both = _differing(both)
        ours, theirs = both[: len(self)].with_row_index(AT), both[len(self) :]
        found = ours.join(theirs, on=theirs.columns, how="semi", nulls_equal=True)[AT]
        return np.isin(np.arange(len(self)), found.to_numpy())

    def different(self, names: Sequence[str], *fields: str) -> list[dict[str, Any]]:
        """One result of each group that agrees in some columns and in all that has no column.

        Args:
            names: of the columns.
            fields: those of each result that are wanted.
        """
        groups = self._groups(self.columns([*names, FORM]))
        return self.take([group[0] for group in groups], *fields)

    def by_form(self, of: Callable[[dict[str, Any]], Any], dtype: Any = None) -> pl.Series:
        """For each result, what a function says of its form."""
        forms, numbers = self._forms
        return pl.Series("by_form", list(map(of, forms)), dtype)[numbers]

    @cached_property
    def _forms(self) -> tuple[list[dict[str, Any]], np.ndarray]:
        """The forms of all results, and which of them each one has."""
        forms = self.columns([FORM])[FORM]
        codes = forms.to_physical().to_numpy()
        _, firsts, numbers = np.unique(codes, return_index=True, return_inverse=True)
        return list(map(json.loads, forms[firsts])), numbers

    def _configs(self, wanted: Callable[[str], bool]) -> pl.DataFrame:
        """The wanted values of the configurations, and of what kind they are."""

        def kinds(form: dict[str, Any]) -> str:
            config = form["config"]
            if not isinstance(config, dict):
                return json.dumps(config)  # all of it stands in the form
            leaves = flatten(config)
            return json.dumps([(path, leaves[path]) for path in sorted(leaves) if wanted(path)])

        names = [name for name in self.names if name.startswith("config.") and wanted(name[7:])]
        return pl.DataFrame([*self.columns(names), self.by_form(kinds, pl.Categorical)])

    @staticmethod
    def _groups(keys: pl.DataFrame) -> list[np.ndarray]:
        """The numbers of rows that agree, ascending; the groups in the order of their first."""
        keys = _differing(keys)
        numbered = keys.with_row_index(AT)
        groups = numbered.group_by(keys.columns, maintain_order=True).agg(AT)
        return [group.to_numpy() for group in groups[AT]]

    def _some(self, numbers: np.ndarray) -> "Rows":
        order = np.arange(len(self)) if self._order is None else self._order
        return Rows(self._parts, order[numbers])


def _differing(keys: pl.DataFrame) -> pl.DataFrame:
    """The columns in which rows differ, which are few of many; at least one."""
    differing = [each.name for each in keys if not each.eq_missing(each.first()).all()]
    return keys.select(differing or keys.columns[:1])


def _below(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path}.")


class Held:
    """Results in memory."""

    def __init__(self, columns: pl.DataFrame):
        self.names = columns.columns
        self.height = columns.height
        self._columns = columns

    def read(self, names: Sequence[str]) -> pl.DataFrame:
        return self._columns.select(list(dict.fromkeys([ID, *names])))
