"""What a run would take, said before it: trials, packs, compilations, memory, time, disk.

Nothing is trained, and no device is used: memory and FLOP are those of the traced training step of
one pack a line, the largest. Time is that of earlier results where there are any of the same kind.
For an accelerator there is only a lower bound, from its peak arithmetic.
"""

import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.interpreters.partial_eval import dce_jaxpr

from seqlab import results
from seqlab.accounting.memory import predicted_peak
from seqlab.accounting.products import dot_flops
from seqlab.launch import packing
from seqlab.launch.packing import Packable
from seqlab.launch.plan import Plan
from seqlab.tables import Column, Table
from seqlab.trial import as_dict, flatten, trial_id

# FLOP per second in float32, as the vendor's data sheet has it.
ACCELERATOR, PEAK = "NVIDIA H200", 67e12
# Bytes on disk: a result with its claim and origin; the line of a dispatch; that of an epoch.
RESULT_BYTES, DISPATCH_BYTES, EPOCH_BYTES = 3000, 90, 400

COLUMNS = (
    Column("what", "trials of"),
    Column("trials", "trials", ",d"),
    Column("missing", "missing", ",d"),
    Column("shapes", "compilations", ",d"),
    Column("packs", "packs", ",d"),
    Column("members", "trials a pack"),
    Column("memory_mib", "memory, MiB", ",.0f"),
    Column("steps", "steps ≤", ",d"),
    Column("pflop", "PFLOP ≤", ",.1f"),
    Column("least_hours", "hours ≥", ",.2f"),
    Column("hours", "hours here ≤", ",.1f"),
    Column("disk_mib", "disk, MiB", ",.0f"),
)
SUMS = ("trials", "missing", "shapes", "packs", "steps", "pflop", "least_hours", "disk_mib")
NOTES = (
    "compilations: of the training step; a pack whose members end early compiles smaller ones, no "
    "more than the logarithm of its size. memory: of the training step of the largest pack, as the "
    "accounting predicts it; of the cells with as many parameters, the first.",
    "steps: if every trial goes on to its last epoch; most end earlier. PFLOP: of the matrix "
    "products of as many. hours ≥: at the peak of one {accelerator}, {peak:.0f} TFLOP/s in float32 "
    "by its data sheet, from which small products are far. hours here ≤: by the median seconds of "
    "a step in those trials of the same kind that are done, where there are any.",
)


def table(plan: Plan, size: Callable[[list[Any]], int], num_workers: int) -> Table:
    """A line for each kind of trials, and one for all of them.

    Args:
        plan: the experiment and its directory.
        size: how many trials, all of one shape, make a pack at most.
        num_workers: that would run it.
    """
    known = plan.known()
    experiment = packing.packable(plan.experiment)
    title = f"{plan.name}, {num_workers} worker{'s' * (num_workers > 1)}: nothing was started"
    if experiment is None:
        missing = sum(row is None for _, row in known.values())
        line = {"what": "all", "trials": len(known), "missing": missing}
        return Table(title, COLUMNS[:3], (line,))
    lines = []
    for kind, trials in _kinds([each for each, _ in known.values()], experiment).items():
        ours = [each for each in trials if known[trial_id(each)][1] is None]
        line = {"what": kind, "trials": len(trials), "missing": len(ours)}
        if ours:
            line |= _cost(experiment, ours, size, num_workers)
            line |= _hours(line["steps"], [known[trial_id(t)][1] for t in trials], num_workers)
        lines.append(line)
    return Table(title, COLUMNS, (*lines, _total(lines)), notes=_notes())


def _kinds(trials: Sequence[Any], experiment: Packable) -> dict[str, list[Any]]:
    """The trials that cost about the same, by the values that tell one kind from another."""
    alike = {*experiment.VARIES, *experiment.COST_ALIKE}
    kinds: dict[str, list[Any]] = defaultdict(list)
    fields: dict[str, dict[str, Any]] = {}
    for each in trials:
        own = {k: v for k, v in flatten(as_dict(each)).items() if k not in alike}
        key = json.dumps(own, sort_keys=True)
        fields[key] = own
        kinds[key].append(each)
    names = dict.fromkeys(kinds, "")
    for path in dict.fromkeys(path for own in fields.values() for path in own):
        longer = {k: f"{names[k]} {_text(fields[k].get(path))}".strip() for k in kinds}
        if len(set(longer.values())) > len(set(names.values())):
            names = longer
    return {names[key] or "one kind": trials for key, trials in kinds.items()}


def _text(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _cost(
    experiment: Packable, missing: list[Any], size: Callable[[list[Any]], int], num_workers: int
) -> dict[str, Any]:
    packs = [pack.trials for pack in packing.formed(missing, experiment.VARIES, size)]
    largest = max(packs, key=len)
    outline = experiment.outline(largest)
    dispatch = outline.dispatch
    traced = jax.make_jaxpr(dispatch.function)(*dispatch.arguments).jaxpr
    # A traced gradient contains products that nothing reads; the compiler drops them as well.
    needed, _ = dce_jaxpr(traced, [True] * len(traced.outvars))
    flops = dot_flops(needed) / (len(largest) * outline.dispatch_steps)
    steps = outline.epoch_steps * outline.most_epochs
    lines = steps / outline.dispatch_steps * DISPATCH_BYTES + outline.most_epochs * EPOCH_BYTES
    sizes = sorted({len(pack) for pack in packs})
    running = 2 * min(num_workers, len(packs)) * outline.state_bytes  # two checkpoints each
    return {
        "shapes": len(packing.by_shape(missing, experiment.VARIES)),
        "packs": len(packs),
        "members": "-".join(str(n) for n in sizes[:: max(1, len(sizes) - 1)]),
        "memory_mib": predicted_peak(dispatch) / 2**20,
        "steps": steps * len(missing),
        "pflop": flops * steps * len(missing) / 1e15,
        "least_hours": flops * steps * len(missing) / PEAK / 3600,
        "disk_mib": ((RESULT_BYTES + lines) * len(missing) + running) / 2**20,
    }


def _hours(
    steps: int, rows: Sequence[Mapping[str, Any] | None], num_workers: int
) -> dict[str, float]:
    done = [row["metrics"] for row in rows if row and row["status"] == results.DONE]
    seconds = [found["seconds_per_step"] for found in done if "seconds_per_step" in found]
    return {"hours": steps * statistics.median(seconds) / num_workers / 3600} if seconds else {}


def _total(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    open_ = [line for line in lines if line["missing"]]
    total = {"what": "all"} | {name: sum(line.get(name, 0) for line in lines) for name in SUMS}
    total["memory_mib"] = max((line["memory_mib"] for line in open_), default=0)
    if all("hours" in line for line in open_):
        total["hours"] = sum(line["hours"] for line in open_)
    return total


def _notes() -> tuple[str, ...]:
    return tuple(n.format(accelerator=ACCELERATOR, peak=PEAK / 1e12) for n in NOTES)
