"""The counts of a plan, whatever its trials have come to, and what counting costs."""

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from seqlab import results
from seqlab.launch import claims, status
from seqlab.launch.claims import Heart, Observer
from seqlab.launch.plan import Plan
from seqlab.trial import as_dict, trial_id


@dataclass(frozen=True)
class Trial:
    name: str
    seed: int = 0


class Fake:
    __name__ = "fake"

    def follow_up(self, trials, finished):
        return [Trial("called for", 1)] if len(finished) == len(trials) else []


def plan_of(root: Path, names: list[str]) -> Plan:
    return Plan("fake", Fake(), [Trial(name) for name in names], root)


def commit(root: Path, trial: Trial, outcome: str, error: str | None = None) -> None:
    identity = trial_id(trial)
    folder = root / "fake" / identity
    folder.mkdir(parents=True, exist_ok=True)
    result = {"trial_id": identity, "config": as_dict(trial), "status": outcome, "metrics": {}}
    results.commit(folder, result | {"error": error})


def begin(folder: Path, worker: str) -> None:
    folder.mkdir(parents=True)
    (folder / "claim-1").write_text(json.dumps({"worker": worker, "step": None}))


@pytest.fixture
def heart(tmp_path):
    with Heart(tmp_path / "fake").beating() as heart:
        yield heart


def commits(outcome: str, error: str | None = None):
    return lambda folder, trial, heart: commit(folder.parents[1], trial, outcome, error)


# what befell a trial, and what it counts as
FATES = {
    "done": ("DONE", commits("DONE")),
    "bug": ("FAILED", commits("FAILED", "x")),
    "nan": ("DIVERGED", commits("DIVERGED")),
    "big": ("OOM", commits("OOM", "a\nb\n")),
    "held": ("RUNNING", lambda folder, trial, heart: begin(folder, heart.name)),
    "abandoned": ("PENDING", lambda folder, trial, heart: begin(folder, "gone-1-00000000")),
    "given back": ("PENDING", lambda folder, trial, heart: folder.mkdir(parents=True)),
    "failed once": ("PENDING", lambda folder, trial, heart: fail_once(folder, heart)),
    "untouched": ("PENDING", lambda folder, trial, heart: None),
}


def fail_once(folder: Path, heart: Heart) -> None:
    begin(folder, heart.name)
    claims.fail(folder, 1, "INTERNAL: lost")


def befall(plan: Plan, heart: Heart) -> None:
    for trial in plan.first:
        FATES[trial.name][1](plan.folder(trial), trial, heart)


def test_every_fate_counts_as_what_it_is(tmp_path, heart):
    plan = plan_of(tmp_path, list(FATES))
    befall(plan, heart)
    (row,) = status.table({"smoke": plan}, everything=False).rows
    counts = Counter(expected for expected, _ in FATES.values())
    assert {k: v for k, v in row.items() if k in status.COUNTS} == counts
    assert (row["budget"], row["trials"]) == ("smoke", len(FATES))


def test_the_running_are_named_with_their_worker_in_the_order_of_the_plan(tmp_path, heart):
    names = [f"t{n}" for n in range(20)]
    plan = plan_of(tmp_path, names)
    for name in reversed(names[3:17]):
        begin(plan.folder(Trial(name)), heart.name)
    seen = status.see(plan, Observer(tmp_path / "fake"))
    assert list(seen.running) == [trial_id(Trial(name)) for name in names[3:17]]
    assert set(seen.running.values()) == {heart.name}
    assert seen.missing == 20


def test_notes_say_the_last_line_of_what_went_wrong(tmp_path, heart):
    plan = plan_of(tmp_path, list(FATES))
    befall(plan, heart)
    notes = status.table({"smoke": plan}, everything=False).notes
    assert notes == (f"{trial_id(Trial('bug'))} FAILED: x", f"{trial_id(Trial('big'))} OOM: b")


def test_budgets_of_which_nothing_was_begun_are_shown_only_when_asked_for(tmp_path, heart):
    plans = {b: plan_of(tmp_path, [b, "other " + b]) for b in ("smoke", "default", "paper")}
    commit(tmp_path, Trial("smoke"), "DONE")
    begin(plans["paper"].folder(Trial("paper")), heart.name)
    begin(plans["default"].folder(Trial("default")), "gone-1-00000000")
    shown = [row["budget"] for row in status.table(plans, everything=True).rows]
    assert shown == ["smoke", "paper"]
    (row,) = status.table({"default": plans["default"]}, everything=False).rows
    assert (row["trials"], row["PENDING"]) == (2, 2)


def test_results_of_no_plan_have_a_row_of_their_own(tmp_path):
    plan = plan_of(tmp_path, ["a", "b"])
    commit(tmp_path, Trial("a"), "DONE")
    for seed, outcome in enumerate(("DONE", "DIVERGED", "DONE"), start=7):
        commit(tmp_path, Trial("a", seed), outcome)
    rows = status.table({"smoke": plan}, everything=True).rows
    assert rows == (
        {"budget": "smoke", "trials": 2, "DONE": 1, "PENDING": 1},
        {"budget": "(--set)", "trials": 3, "DONE": 2, "DIVERGED": 1},
    )


def test_trials_that_results_call_for_are_counted(tmp_path):
    plan = plan_of(tmp_path, ["a", "b"])
    commit(tmp_path, Trial("a"), "DONE")
    assert status.see(plan, Observer(tmp_path / "fake")).missing == 1
    commit(tmp_path, Trial("b"), "DONE")
    (row,) = status.table({"smoke": plan}, everything=False).rows
    assert row == {"budget": "smoke", "trials": 3, "DONE": 2, "PENDING": 1}


def test_another_look_asks_only_after_what_was_begun_and_is_not_finished(tmp_path, monkeypatch):
    plan = plan_of(tmp_path, [f"t{n}" for n in range(60)])
    for n in range(40):
        commit(tmp_path, Trial(f"t{n}"), "DONE")
    for n in range(40, 43):
        begin(plan.folder(Trial(f"t{n}")), "gone-1-00000000")
    observer = Observer(tmp_path / "fake")
    first = status.see(plan, observer)
    listed, read = [], []
    monkeypatch.setattr(os, "listdir", counting(os.listdir, listed))
    monkeypatch.setattr(results, "read", counting(results.read, read))
    assert status.see(plan, observer) == first
    begun = {plan.folder(Trial(f"t{n}")) for n in range(40, 43)}
    assert set(listed) == {tmp_path / "fake", *begun}
    assert set(read) == begun


def counting(function, calls: list):
    def call(*arguments, **options):
        calls.append(arguments[0])
        return function(*arguments, **options)

    return call


def test_the_directory_is_named_from_here(tmp_path, monkeypatch):
    plan = plan_of(tmp_path / "results", ["a"])
    assert status.title(plan) == f"fake in {tmp_path / 'results'}"
    monkeypatch.chdir(tmp_path)
    assert status.title(plan) == "fake in results"
