"""Results in columns are the results: against lists of dicts, and JSON texts of configurations."""

import json
import random
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from seqlab import forms, results
from seqlab.errors import InputError
from seqlab.rows import Held, Rows
from seqlab.trial import flatten

VALUES = (
    *(None, True, False, 0, 1, 1.0, 0.0, -0.0, -1, 0.5, 1e-5, 1e300, 2.5e15, float("inf")),
    *(
        2**53,
        2**53 + 1,
        -(2**63),
        2**70,
        float(2**53),
        "",
        "1",
        "1.0",
        "true",
        "None",
        "é",
        "\udcff",
    ),
    *([], [1, 1.0, None], {}, {"b": 1, "a": 2}, {"deep": {"er": 1}}, {"dotted.name": 1}),
)
METRICS = (*VALUES[:17], [0.5, None], {"z": [1], "a": {}}, {"a": 1, "b": "x"})


def made(draw: random.Random, name: str) -> dict:
    """A result of any kinds of values in any order, and not all of the same."""
    config: dict[str, Any] = {
        k: draw.choice(VALUES) for k in draw.sample("abcd", draw.randrange(5))
    }
    if draw.random() < 0.5:
        config["model"] = {key: draw.choice(VALUES) for key in ("cell", "size")}
    metrics = {key: draw.choice(METRICS) for key in draw.sample("xyz", draw.randrange(4))}
    row = {"trial_id": name, "config": config, "status": draw.choice(results.STATUSES)}
    row |= {"metrics": metrics, "attempts": draw.choice((1, None, "often"))}
    row |= {"error": draw.choice((None, "a\nb", "\udcff")), "wall_seconds": draw.choice((1, 1.5))}
    if draw.random() < 0.1:
        row |= {"config": draw.choice((None, [1], "x", {"dotted.name": 1, "dotted": {"name": 2}}))}
    if draw.random() < 0.5:
        row |= {"sha256": draw.choice(("abc", "", None, 1, "\udcff")), "more": [{"of": 1}]}
    return row


def held(rows: list[dict], draw: random.Random) -> Rows:
    """In parts, in which the columns have other types than in all of them, and in another order."""
    parts, order = defaultdict(list), []
    whose = [draw.randrange(3) for _ in rows]
    for part, row in zip(whose, rows, strict=True):
        parts[part].append(row)
    begins = np.cumsum([0, *(len(parts[part]) for part in range(3))])
    seen = [0, 0, 0]
    for part in whose:
        order.append(begins[part] + seen[part])
        seen[part] += 1
    return Rows([Held(forms.of(parts[part])) for part in range(3)], np.array(order, np.int64))


def text(value) -> str:
    """1 is not 1.0, nor True; names in their order."""
    return json.dumps(value)


@pytest.fixture(params=range(8))
def both(request) -> tuple[list[dict], Rows]:
    draw = random.Random(request.param)
    rows = [made(draw, f"t{number:02}") for number in range(40)]
    return rows, held(rows, draw)


def test_they_are_the_results_as_they_were(both):
    rows, found = both
    assert len(found) == len(rows)
    assert [text(row) for row in found] == [text(row) for row in rows]
    numbers = [5, 3, 30, 3]
    assert text(found.take(numbers)) == text([rows[number] for number in numbers])
    some = [{k: v for k, v in rows[n].items() if k in ("config", "status")} for n in numbers]
    assert text(found.take(numbers, "config", "status")) == text(some)
    assert [text(row) for row in Rows.of(rows)] == [text(row) for row in rows]


def without(config, paths) -> str:
    """The configuration as text, some values apart and names in order."""

    def cut(part, prefix):
        return {
            name: cut(value, f"{prefix}{name}.") if isinstance(value, dict) else value
            for name, value in part.items()
            if f"{prefix}{name}" not in paths
        }

    return json.dumps(cut(config, "") if isinstance(config, dict) else config, sort_keys=True)


def is_plain(config) -> bool:
    """Whether its names have no dots, which make it stand apart as a whole."""
    return isinstance(config, dict) and "dotted.name" not in json.dumps(config)


APART = [(), ("a",), ("a", "model.cell"), ("a", "b", "c", "d", "model")]


@pytest.mark.parametrize("apart", APART)
def test_alike_are_those_whose_configurations_are_the_same_text(both, apart):
    rows, found = both
    also = [number % 2 for number in range(len(rows))]
    groups = found.alike(apart, also)
    assert sorted(number for _, group in groups for number in group) == list(range(len(rows)))
    wanted = defaultdict(list)
    for number, row in enumerate(rows):
        cut = apart if is_plain(row["config"]) else ()
        wanted[without(row["config"], cut), is_plain(row["config"]), also[number]].append(number)
    assert sorted(list(group) for _, group in groups) == sorted(wanted.values())
    assert all(text(config) == text(rows[group[0]]["config"]) for config, group in groups)


@pytest.mark.parametrize("apart", APART)
def test_among_are_those_whose_configuration_is_one_of_some(both, apart):
    rows, found = both
    plain = [row["config"] for row in rows if is_plain(row["config"])]
    some = [*plain[::3], {"a": 1}, {"a": None, "e": 5}]
    texts = {without(config, apart) for config in some}
    wanted = [is_plain(r["config"]) and without(r["config"], apart) in texts for r in rows]
    assert found.among(some, apart).tolist() == wanted


def test_selected_are_the_same_as_of_dicts(both):
    rows, found = both
    paths = {"a", "model", "model.cell", "nowhere", "a.deep", "a.deep.er"}
    for path in paths:
        values = {str(flatten({"v": r["config"]}).get(f"v.{path}")) for r in rows} | {"gur"}
        for value in values:
            conditions = [f"{path}={value}"]
            assert outcome(found.select, conditions) == outcome(
                lambda wanted: results.select(rows, wanted), conditions
            )


def outcome(select, conditions: list[str]) -> str:
    try:
        return text(list(select(conditions)))
    except InputError as error:
        return str(error)


def test_different_results_stand_for_all(both):
    rows, found = both
    shown = {text(row["metrics"]) for row in found.different(["metrics.x", "metrics.y"], "metrics")}
    kept = {"x", "y"}
    assert {text({k: v for k, v in json.loads(each).items() if k in kept}) for each in shown} == {
        text({k: v for k, v in row["metrics"].items() if k in kept}) for row in rows
    }


def test_the_digest_is_that_of_dicts():
    draw = random.Random(0)
    rows = [made(draw, f"t{number:02}") for number in range(30)]
    for row in rows:
        row["metrics"] = {"nll": draw.random(), "seconds_per_step": draw.random(), "n": [1, 2]}
        row["provenance"] = {"git": None}
    draw.shuffle(rows)
    assert held(rows, draw).digest() == Rows.of(rows).digest() == results.digest(rows)
