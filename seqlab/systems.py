"""The table of a trained system: the trivial baseline, what others have reached, ours, n seeds."""

import itertools
import json
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from seqlab import results
from seqlab.comparison import Published
from seqlab.intervals import mean_ci
from seqlab.tables import Column, Table
from seqlab.trial import BUDGETS

COLUMNS = (
    Column("section", "section"),
    Column("system", "system"),
    Column("value", "value", ".2f"),
    Column("ci95", "± 95%", ".2f"),
    Column("n", "n", "d"),
    Column("mark", "mark"),
    Column("source", "source"),
    Column("params", "params", ",d"),
    Column("epochs", "epochs", ".1f"),
    Column("minutes", "minutes", ".1f"),
    Column("not_done", "not done"),
    Column("budget", "budget", data_only=True),
    Column("task", "task", data_only=True),
    Column("data", "data", data_only=True),
    Column("wiring", "wiring", data_only=True),
    Column("measure", "measure", data_only=True),
    Column("kind", "kind", data_only=True),
)
TRIVIAL, OTHERS, OURS = "trivial", "others", "ours"  # kinds of rows
NOTES = (
    "ours: on the test split unless another is named, of the epoch with the best validation loss; "
    "mean over n seeds or folds, ± its 95% interval (Student t). baseline: counted here, from the "
    "training split. Of others: mark v: checked against the source; m: from memory; none is of our "
    "protocol.",
    "minutes: of computing, one trial.",
)
SMOKE_NOTE = "smoke: a first sight, one short run."


def table(
    title: str,
    rows: Sequence[dict[str, Any]],
    section: Callable[[Mapping[str, Any]], tuple[str, str]],
    system: Callable[[Mapping[str, Any]], str],
    metric: str,
    published: Mapping[tuple[str, str, str], Published],
    wiring: str,
    measure: str,
    times: float = 1.0,
    notes: tuple[str, ...] = (),
    baseline: str = "baseline",
) -> Table:
    """A section a data set and budget: baseline, others, ours.

    Args:
        title: of the table.
        rows: results.
        section: of a configuration, the name of its task in `published`, and what stands over it.
        system: of a configuration, what it is called; equal configurations but for the seed, and
            for the fold of a cross-validation, are one line.
        metric: what is shown.
        published: of others, by (task, metric, system).
        wiring: which of the five.
        measure: what the metric is called, and its unit.
        times: factor that values are shown with, 100 for percent.
        notes: more of them.
        baseline: the metric that holds the value of the trivial system, or of several by name.
    """
    groups: dict[tuple[str, str, str], dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        config = row["config"]
        alike = json.dumps(_without_repeats(config), sort_keys=True)
        group = groups.setdefault((config["budget"], *section(config)), defaultdict(list))
        group[alike].append(row)
    lines = []
    for (budget, task, heading), alike in sorted(groups.items(), key=_order):
        place = {
            "section": f"{heading}: {measure} · {budget} budget",
            "budget": budget,
            "task": task,
        }
        place |= {"data": heading, "wiring": wiring, "measure": measure}
        found = [row["metrics"] for some in alike.values() for row in some]
        for name, values in _trivial(found, baseline).items():
            value = times * statistics.fmean(values)
            lines.append(place | {"kind": TRIVIAL, "system": name, "value": value})
        for (of_task, of_metric, name), other in published.items():
            if (of_task, of_metric) == (task, metric):
                told = {"value": times * other.value, "mark": other.mark, "source": other.table}
                lines.append(place | {"kind": OTHERS, "system": name} | told)
        for some in alike.values():
            named = {"kind": OURS, "system": system(some[0]["config"]), "source": "ours"}
            lines.append(place | named | _ours(some, metric, times))
    smoke = (SMOKE_NOTE,) * any(row["config"]["budget"] == "smoke" for row in rows)
    return Table(title, COLUMNS, tuple(lines), "section", (*NOTES, *notes, *smoke))


def gaps(
    rows: Iterable[Mapping[str, Any]],
    section: Callable[[Mapping[str, Any]], tuple[str, str]],
    named: Mapping[str, Any],
    field: str,
    metric: str,
    times: float = 1.0,
    besides: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Notes, one a data set and budget: by how much one kind of network is ahead of another.

    Two results are a pair if nothing differs in their configurations, the seed included, but a
    field of `model`. The interval is that of the mean of the differences (Student t).

    Args:
        rows: results.
        section: as for `table`.
        named: the two kinds: what each is called, and its value of the field.
        field: of `model`.
        metric: what is compared.
        times: factor that values are shown with.
        besides: fields of `model` that follow from the first.
    """
    (first, one), (second, other) = named.items()
    kinds: dict[tuple[int, str], dict[str, dict[Any, float]]] = {}
    for row in rows:
        config = row["config"]
        model = {k: v for k, v in config["model"].items() if k not in (field, *besides)}
        value = config["model"][field]
        if row["status"] == results.DONE and value in (one, other):
            place = BUDGETS.index(config["budget"]), section(config)[1]
            pair = json.dumps({**config, "model": model}, sort_keys=True)
            pairs = kinds.setdefault(place, defaultdict(dict))
            pairs[pair][value] = times * row["metrics"][metric]
    notes = []
    for (budget, heading), pairs in sorted(kinds.items()):
        found = [pair[one] - pair[other] for pair in pairs.values() if len(pair) == 2]
        if found:
            mean, ci = mean_ci(found)
            sure = "" if ci is None else f" ± {ci:.2f}"
            where = f"{heading}, {BUDGETS[budget]} budget"
            notes.append(f"{where}: {first} less {second}: {mean:+.2f}{sure}, n = {len(found)}.")
    return tuple(notes)


def layers(model: Mapping[str, Any]) -> str:
    """What recurrent layers are called: bidirectional lstm, 2 × 128.

    Where their width follows from a parameter budget, it is not told.
    """
    ways = "bidirectional " if model.get("bidirectional") else ""
    count = model["num_layers"]
    if "units" in model:
        return f"{ways}{model['cell']}, {count} × {model['units']}"
    return f"{ways}{model['cell']}, {count} layer{'s' * (count > 1)}"


def file_name(*parts: str) -> str:
    """Of letters, digits and "_", for a figure of what these parts name together."""
    return re.sub(r"[^A-Za-z0-9]+", "_", " ".join(parts))


def one_below_the_other(first: Table, *others: Table) -> Table:
    """One table of several, under the title of the first; a note that many have is said once."""
    tables = (first, *others)
    rows = [row for table in tables for row in table.rows]
    notes = dict.fromkeys(note for table in tables for note in table.notes)
    return Table(first.title, COLUMNS, tuple(rows), "section", tuple(notes))


OVERVIEW = (
    Column("experiment", "experiment"),
    Column("data", "data"),
    Column("wiring", "wiring"),
    Column("measure", "measure"),
    Column("baseline", "baseline"),
    Column("system", "system"),
    Column("params", "params", ",d"),
    Column("value", "ours", ".2f"),
    Column("ci95", "± 95%", ".2f"),
    Column("n", "n", "d"),
    Column("published", "published"),
    Column("budget", "budget"),
)


def overview(tables: Mapping[str, Table]) -> Table:
    """A line for each of our systems, with the trivial ones and those of others beside it.

    Args:
        tables: of experiments, by their names; those that `table` has not made are left out.
    """
    lines = []
    for experiment, one in tables.items():
        if one.columns != COLUMNS:
            continue
        for _, rows in itertools.groupby(one.rows, key=lambda row: row["section"]):
            kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
            for row in rows:
                kinds[row["kind"]].append(row)
            beside = {
                "experiment": experiment,
                "baseline": "; ".join(map(_named, kinds[TRIVIAL])),
                "published": "; ".join(f"{_named(r)} ({r['mark']})" for r in kinds[OTHERS]),
            }
            shown = {column.key for column in OVERVIEW}
            for row in kinds[OURS]:
                lines.append(beside | {k: v for k, v in row.items() if k in shown})
    notes = (NOTES[0],) + (SMOKE_NOTE,) * any(line["budget"] == "smoke" for line in lines)
    return Table("Systems", OVERVIEW, tuple(lines), notes=notes)


def _named(row: Mapping[str, Any]) -> str:
    return f"{row['value']:.2f} {row['system'].removeprefix('baseline').lstrip(': ')}".strip()


def _trivial(found: Iterable[Mapping[str, Any]], baseline: str) -> dict[str, list[float]]:
    values: dict[str, list[float]] = defaultdict(list)
    for metrics in found:
        told = metrics.get(baseline, {})
        several = isinstance(told, Mapping)
        named = {f"baseline: {k}": v for k, v in told.items()} if several else {"baseline": told}
        for name, value in named.items():
            values[name].append(value)
    return values


def _order(group: tuple[tuple[str, str, str], Any]) -> tuple[int, str]:
    (budget, task, _), _ = group
    return BUDGETS.index(budget), task


def _without_repeats(config: Mapping[str, Any]) -> dict[str, Any]:
    data = {name: value for name, value in config["data"].items() if name != "fold"}
    return {**config, "seed": None, "data": data}


def _ours(rows: Sequence[Mapping[str, Any]], metric: str, times: float) -> dict[str, Any]:
    found = [row["metrics"] for row in rows if row["status"] == results.DONE]
    others = Counter(row["status"] for row in rows if row["status"] != results.DONE)
    line: dict[str, Any] = {
        "n": len(found),
        "not_done": ", ".join(f"{count} {status}" for status, count in sorted(others.items())),
    }
    if found:
        line["value"], line["ci95"] = mean_ci([times * metrics[metric] for metrics in found])
        line["params"] = found[0]["params"]
        line["epochs"] = statistics.fmean(metrics["epochs"] for metrics in found)
        line["minutes"] = statistics.fmean(metrics["device_seconds"] for metrics in found) / 60
    return line
