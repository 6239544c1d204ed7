"""A trial's identity, and how the command line changes and selects trials."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from experiments import mut_vs_lstm_gru as mut
from seqlab.errors import InputError
from seqlab.trial import as_dict, get, only, parse, replace, set_values, split_assignment, trial_id


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    limit: float | None = None
    count: int | None = 3
    size: int | float = 2


@dataclass(frozen=True)
class Other:
    rate: float = 0.5
    limit: float | None = None
    count: int | None = 3
    size: int | float = 2


@dataclass(frozen=True)
class Sample:
    name: str = "gru"
    number: int = 1
    flag: bool = False
    axes: tuple[int, ...] = (1, 2)
    inner: Inner | Other = field(default_factory=Inner)


def leaves(part, prefix: str = "") -> dict[str, object]:
    """The value of every dotted path of a configuration."""
    found = {}
    for f in dataclasses.fields(part):
        value = getattr(part, f.name)
        below = dataclasses.is_dataclass(value)
        found |= leaves(value, f"{prefix}{f.name}.") if below else {prefix + f.name: value}
    return found


def another(value):
    if isinstance(value, bool):
        return not value
    if value is None:
        return 7
    return value + ("x" if isinstance(value, str) else 1)


def one_trial_a_task() -> dict[str, mut.Trial]:
    return {t.task: t for budget in ("paper", "default", "smoke") for t in mut.trials(budget)}


# Identity


def test_identity_is_the_hash_of_the_sorted_json():
    text = (
        '{"axes":[1,2],"flag":false,'
        '"inner":{"count":3,"kind":"Inner","limit":null,"rate":0.5,"size":2},'
        '"kind":"Sample","name":"gru","number":1}'
    )
    assert trial_id(Sample()) == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_identity_is_the_same_in_another_process_and_for_another_order_of_fields():
    script = (
        "from dataclasses import dataclass\n"
        "from seqlab.trial import trial_id\n"
        "@dataclass(frozen=True)\n"
        "class Inner:\n"
        "    size: int = 2\n    count: int = 3\n    limit: None = None\n    rate: float = 0.5\n"
        "@dataclass(frozen=True)\n"
        "class Sample:\n"
        "    inner: Inner = Inner()\n    axes: tuple = (1, 2)\n    flag: bool = False\n"
        "    number: int = 1\n    name: str = 'gru'\n"
        "print(trial_id(Sample()))\n"
    )
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == trial_id(Sample())


@pytest.mark.parametrize("task", mut.MEASURES)
def test_every_leaf_of_a_trial_is_part_of_its_identity(task):
    trial = one_trial_a_task()[task]
    changed = {path: replace(trial, {path: another(v)}) for path, v in leaves(trial).items()}
    assert len(changed) > 15
    assert len({trial_id(t) for t in [trial, *changed.values()]}) == len(changed) + 1
    for path, t in changed.items():
        differing = {p for p, v in leaves(t).items() if v != get(trial, p)}
        assert differing == {path}


def test_the_kind_of_a_part_is_part_of_the_identity():
    assert trial_id(Sample(inner=Inner())) != trial_id(Sample(inner=Other()))


def test_a_configuration_survives_json():
    for trial in [Sample(), *one_trial_a_task().values()]:
        config = as_dict(trial)
        assert json.loads(json.dumps(config, allow_nan=False)) == config
        assert {p: _at(config, p) for p in leaves(trial)} == {
            p: list(v) if isinstance(v, tuple) else v for p, v in leaves(trial).items()
        }


def _at(config: dict, path: str):
    for name in path.split("."):
        config = config[name]
    return config


# Overrides


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("name", "3", "3"),
        ("name", "none", "none"),
        ("number", "-4", -4),
        ("flag", "true", True),
        ("flag", "false", False),
        ("inner.rate", "2", 2.0),
        ("inner.rate", "1e-3", 0.001),
        ("inner.limit", "none", None),
        ("inner.limit", "5", 5.0),
        ("inner.count", "none", None),
        ("inner.count", "8", 8),
        ("inner.size", "8", 8),
        ("inner.size", "8.5", 8.5),
    ],
)
def test_text_is_read_as_the_type_of_its_field(path, text, value):
    parsed = parse(Sample(), path, text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("path", "text", "types"),
    [
        ("number", "1.5", "int"),
        ("number", "true", "int"),
        ("flag", "1", "bool"),
        ("flag", "True", "bool"),
        ("inner.rate", "fast", "float"),
        ("inner.rate", "none", "float"),
        ("inner.rate", "nan", "float"),
        ("inner.rate", "-inf", "float"),
        ("inner.limit", "x", "float or none"),
        ("inner.count", "1e3", "int or none"),
        ("axes", "3", "tuple"),
        ("inner", "x", "Inner or Other"),
    ],
)
def test_text_of_another_type_is_refused_by_path_and_type(path, text, types):
    with pytest.raises(InputError) as caught:
        parse(Sample(), path, text)
    assert str(caught.value) == f"{path} takes {types}, not {text!r}"


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("nmae", "'name'"),
        ("iner.rate", "'inner'"),
        ("inner.rte", "'rate'"),
        ("inner.zzz", "count, limit, rate, size"),
        ("inner.rate.x", ""),
        ("", "axes, flag, inner, name, number"),
        ("inner..rate", "count, limit, rate, size"),
        ("__class__", ""),
    ],
)
def test_an_unknown_field_is_refused_with_the_nearest(path, hint):
    for refused in (
        lambda: parse(Sample(), path, "1"),
        lambda: replace(Sample(), {path: 1}),
        lambda: get(Sample(), path),
    ):
        with pytest.raises(InputError, match="no field") as caught:
            refused()
        assert repr(path) in str(caught.value)
        assert hint in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "=", "a", "a=", "=1", "a=1,", "a=,1", "a=1,,2"])
def test_a_malformed_assignment_is_refused(text):
    for refused in (
        lambda: split_assignment(text),
        lambda: set_values([Sample()], [text]),
        lambda: only([Sample()], [text]),
    ):
        with pytest.raises(InputError, match="is not of the form") as caught:
            refused()
        assert repr(text) in str(caught.value)


def test_set_gives_every_trial_every_value():
    trials = set_values([Sample(name="a"), Sample(name="b")], ["number=1,2", "inner.rate=0.1,0.2"])
    assert [(t.name, t.number, t.inner.rate) for t in trials] == [
        (name, number, rate) for name in "ab" for number in (1, 2) for rate in (0.1, 0.2)
    ]


def test_trials_that_become_equal_are_one():
    trials = [Sample(number=n, name=name) for n in range(3) for name in "ab"]
    assert set_values(trials, ["number=5"]) == [
        Sample(number=5, name="a"),
        Sample(number=5, name="b"),
    ]
    assert set_values([Sample()], ["inner.rate=1,1.0,1e0"]) == [Sample(inner=Inner(rate=1.0))]
    assert set_values([Sample()], ["name==x"]) == [Sample(name="=x")]


def test_only_keeps_what_meets_every_condition():
    trials = [Sample(name=n, inner=Inner(rate=r)) for n in ("a", "b", "c") for r in (0.1, 0.2)]
    kept = only(trials, ["name=a,c", "inner.rate=0.2"])
    assert [(t.name, t.inner.rate) for t in kept] == [("a", 0.2), ("c", 0.2)]
    assert only(trials, []) == trials


def test_only_refuses_a_value_that_no_trial_has():
    trials = [Sample(name="lstm"), Sample(name="gru")]
    with pytest.raises(InputError, match=r"no trial has name=lstn. Did you mean 'lstm'?"):
        only(trials, ["name=gru,lstn"])
    with pytest.raises(InputError, match="no trial has name=gru"):
        only(trials, ["name=lstm", "name=gru"])
