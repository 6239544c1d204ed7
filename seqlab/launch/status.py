"""How far an experiment is, counted from its results directory."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from seqlab import index, results
from seqlab.launch.claims import Observer
from seqlab.launch.plan import Plan
from seqlab.tables import Column, Table

COUNTS = (*results.STATUSES, "RUNNING", "PENDING")


class Seen(NamedTuple):
    """A plan at one moment.

    Attributes:
        known: every trial and its result or None, by identity.
        running: the worker of each trial that is being run, by identity, in the order of the plan.
    """

    known: dict[str, tuple[Any, dict[str, Any] | None]]
    running: dict[str, str]

    @property
    def missing(self) -> int:
        """How many trials have no result."""
        return sum(result is None for _, result in self.known.values())

    @property
    def counts(self) -> Counter[str]:
        counts = Counter(result["status"] for _, result in self.known.values() if result)
        counts["RUNNING"] = len(self.running)
        counts["PENDING"] = self.missing - len(self.running)
        return +counts  # without those that are 0

    @property
    def begun(self) -> bool:
        return bool(self.running) or self.missing < len(self.known)


def see(plan: Plan, observer: Observer, listed: Set[str] | None = None) -> Seen:
    """Look at a plan. Files are opened only for trials that were begun and have no result yet."""
    listed = plan.listed() if listed is None else listed
    known = plan.known(listed)
    folder = plan.root / plan.name
    begun = [i for i, (_, result) in known.items() if result is None and i in listed]
    holders = {identity: observer.holder(folder / identity) for identity in begun}
    return Seen(known, {identity: worker for identity, worker in holders.items() if worker})


def counts(title: str, seen: Mapping[str, Seen]) -> Table:
    """A row a budget: its trials by status."""
    columns = (Column("budget", "budget"), Column("trials", "trials", "d"))
    return Table(
        title,
        columns + tuple(Column(count, count.lower(), "d") for count in COUNTS),
        tuple({"budget": b, "trials": len(s.known), **s.counts} for b, s in seen.items()),
    )


def title(plan: Plan) -> str:
    """The experiment and its results directory, relative to here where it lies below."""
    root, here = plan.root, Path.cwd()  # so that output can be shown to others
    return f"{plan.name} in {root.relative_to(here) if root.is_relative_to(here) else root}"


def table(plans: dict[str, Plan], everything: bool) -> Table:
    """A row a budget: its trials by status. Below, what went wrong, one line a trial.

    Args:
        plans: by budget.
        everything: count in a row of their own the results that belong to no plan, which `--set`
            has made; leave out the budgets of which nothing has been started.
    """
    plan = next(iter(plans.values()))
    folder, listed = plan.root / plan.name, plan.listed()  # of all budgets, and may be large
    seen = {budget: see(plan, Observer(folder), listed) for budget, plan in plans.items()}
    bad = [
        f"{identity} {result['status']}: {reason(result)}"
        for each in seen.values()
        for identity, (_, result) in each.known.items()
        if result and result.get("error")
    ]
    shown = {budget: each for budget, each in seen.items() if each.begun or not everything}
    counted = counts(title(plan), shown)
    rows = counted.rows
    if everything:
        known = list(set().union(*(each.known for each in seen.values())))
        indexed = index.table(folder, ("trial_id", "status"))
        others = indexed.filter(~pl.col("trial_id").is_in(known))["status"].value_counts()
        if others.height:
            rows += ({"budget": "(--set)", "trials": others["count"].sum(), **dict(others.rows())},)
    return dataclasses.replace(counted, rows=rows, notes=tuple(bad))


def reason(result: dict[str, Any]) -> str:
    """The last line of what went wrong."""
    return (result.get("error") or "").strip().rpartition("\n")[2]
