"""How far an experiment is, counted from its results directory."""

from collections import Counter
from pathlib import Path

from seqlab import results
from seqlab.launch.plan import Plan
from seqlab.tables import Column, Table

COUNTS = (*results.STATUSES, "RUNNING", "PENDING")


def table(plans: dict[str, Plan], everything: bool) -> Table:
    """A row a budget: its trials by status. Below, what went wrong, one line a trial.

    Args:
        plans: by budget.
        everything: count in a row of their own the results that belong to no plan, which `--set`
            has made; leave out the budgets of which nothing has been started.
    """
    rows, bad, counted = [], [], set()
    for budget, plan in plans.items():
        known = plan.known()
        counted |= set(known)
        counts = Counter(
            _state(plan.folder(trial), result["status"] if result else None)
            for trial, result in known.values()
        )
        if counts["PENDING"] < len(known) or not everything:
            rows.append({"budget": budget, "trials": len(known), **counts})
        for identity, (_, result) in known.items():
            if result and result.get("error"):
                reason = result["error"].strip().splitlines()[-1]
                bad.append(f"{identity} {result['status']}: {reason}")
    name, root = next((plan.name, plan.root) for plan in plans.values())
    if everything:
        others = [row for row in results.load(root, name) if row["trial_id"] not in counted]
        if others:
            counts = Counter(row["status"] for row in others)
            rows.append({"budget": "(--set)", "trials": len(others), **counts})
    columns = (Column("budget", "budget"), Column("trials", "trials", "d"))
    return Table(
        f"{name} in {_short(root)}",
        columns + tuple(Column(count, count.lower(), "d") for count in COUNTS),
        tuple(rows),
        notes=tuple(bad),
    )


def _state(folder: Path, status: str | None) -> str:
    if status:
        return status
    return "RUNNING" if results.is_running(folder) else "PENDING"


def _short(path: Path) -> str:
    """Relative to here where it lies below, so that output can be shown to others."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
