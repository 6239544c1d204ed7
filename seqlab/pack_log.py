"""The log of a pack, and what it says of each member.

A line of it is a line of `train.fit`'s log in which a number is a list by member, None where a
member has none: it has ended, or did not do better than before.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from seqlab import metrics
from seqlab.history import Diverged, device_seconds
from seqlab.optim import Schedule


class News(NamedTuple):
    """What has come of the members of a pack since the last news.

    Attributes:
        lines: by member, those that `train.fit` would have logged.
        ended: by member, what `train.fit` would have returned, or raised.
    """

    lines: dict[int, list[dict[str, Any]]]
    ended: dict[int, dict[str, Any] | Diverged]

    def with_metrics(self, found: Mapping[str, Any]) -> "News":
        """The same, with what else is known of every member that has not diverged."""
        ended = {
            n: end if isinstance(end, Diverged) else {**end, **found}
            for n, end in self.ended.items()
        }
        return News(self.lines, ended)


def news(
    lines: Sequence[Mapping[str, Any]],
    told: int,
    schedule: Schedule,
    num_members: int,
    num_params: int,
) -> News:
    """What a log says beyond its first lines.

    Args:
        lines: the log, which ends with an epoch.
        told: how many of its lines are known already; 0 or an epoch ends with them.
        schedule: of every member.
        num_members: N.
        num_params: of one member.
    """
    before = next_halvings(lines[:told], schedule, num_members)
    after = next_halvings(lines, schedule, num_members)
    lost = diverged(lines)
    return News(
        {n: member_lines(lines[told:], n) for n in before},
        {
            n: Diverged(lost[n]) if n in lost else _result(lines, n, num_params)
            for n in before
            if n not in after
        },
    )


def member_lines(lines: Sequence[Mapping[str, Any]], n: int) -> list[dict[str, Any]]:
    """The lines that `train.fit` would have logged for member n, but for the times.

    Args:
        lines: the log of a pack, in which a list has an entry a member, None where it has none.
        n: 0 … N-1.

    Returns:
        Up to its end. `seconds` is an equal share of the dispatch.
    """
    own = []
    for line in lines:
        if line["train_loss"][n] is None:
            break
        values = {k: v[n] if isinstance(v, list) else v for k, v in line.items()}
        if members := values.pop("members", None):
            values["seconds"] /= members
        values["params_sha256"] = None
        own.append({name: value for name, value in values.items() if value is not None})
    return own


def next_halvings(
    lines: Sequence[Mapping[str, Any]], schedule: Schedule, num_members: int
) -> dict[int, int]:
    """How often the rate is halved now, for each member that goes on: a function of the log."""
    lost = diverged(lines)
    others = [n for n in range(num_members) if n not in lost]
    halvings = {n: schedule.next_halving(valid_nlls(lines, n)) for n in others}
    return {n: halving for n, halving in halvings.items() if halving is not None}


def trained(losses: np.ndarray, step: int) -> dict[str, Any]:
    """A member's log entry for a dispatch that began at `step`."""
    finite = np.isfinite(losses)
    if not finite.all():
        return {"train_loss": None, "diverged": step + int(np.argmin(finite))}
    return {"train_loss": float(losses.mean())}


def by_member(found: Mapping[int, Mapping[str, Any]], num_members: int) -> dict[str, list]:
    """What each member has found, as one list by member of each name."""
    names = dict.fromkeys(name for of_one in found.values() for name in of_one)
    return {name: [found.get(n, {}).get(name) for n in range(num_members)] for name in names}


def means(split: str, sums: Mapping[str, jax.Array], place: int) -> dict[str, Any]:
    """The metrics of the member at a place of the program."""
    own = metrics.means({name: np.asarray(value)[place] for name, value in sums.items()})
    return {f"{split}_{name}": value for name, value in own.items()}


def valid_nlls(lines: Sequence[Mapping[str, Any]], n: int) -> list[float]:
    """The validation losses of member n, one an epoch."""
    nlls = [line["valid_nll"][n] for line in lines if "epoch" in line]
    return [nll for nll in nlls if nll is not None]


def diverged(lines: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """The step at which each member diverged that did."""
    steps = [line["diverged"] for line in lines if "diverged" in line]
    return {n: step for of_all in steps for n, step in enumerate(of_all) if step is not None}


def _result(lines: Sequence[Mapping[str, Any]], n: int, num_params: int) -> dict[str, Any]:
    own = member_lines(lines, n)
    epochs = [line for line in own if "epoch" in line]
    best = min(epochs, key=lambda epoch: epoch["valid_nll"])
    shas = [line["params_sha256"][n] for line in lines if "params_sha256" in line]
    return {
        **{k: v for k, v in best.items() if k.startswith(("valid_", "test_"))},
        "best_epoch": best["epoch"],
        "epochs": len(epochs),
        "steps": epochs[-1]["step"],
        "seconds_per_step": statistics.median(epoch["seconds_per_step"] for epoch in epochs),
        "device_seconds": device_seconds(own),
        "params": num_params,
        "params_sha256": next(sha for sha in shas if sha is not None),
    }
