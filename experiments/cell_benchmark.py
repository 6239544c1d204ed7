"""How fast a cell is, next to the same cell of Flax, PyTorch and a plain scan.

Claim: a cell that is written as one equation is as fast as what others have written by hand.

    python launch.py run cell_benchmark --budget smoke     three cells, one shape; two minutes
    python launch.py run cell_benchmark                    four shapes; half an hour on two cores
    python launch.py run cell_benchmark --budget paper     all that there is; many hours on a GPU

Protocol: same weights, same input. Before it is timed, a program's outputs are checked against the
plain scan in float32; a program that disagrees is not timed. One column is a floor, not a
competitor: the matrix products of our program alone, whose ratio is their share of our time. The
two programs take turns in one process, A, B, B, A, in samples of 20 ms or more; a ratio is the
median over these. The whole call is timed, input product included. One trial at a time, with all
cores: other load on the machine shows in the ratio of our samples to each other, and is marked.
Results of another machine belong in another --results-dir.

Source: ours.
"""

import functools
import math
import os
import statistics
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqlab import results
from seqlab.benchmark import jax_programs, peers, roofline, timing
from seqlab.benchmark.case import (
    PRECISIONS,
    WORKLOADS,
    Case,
    Program,
    Shape,
    checked_error,
    draw,
    param_shapes,
)
from seqlab.benchmark.peers import PEERS, RIVALS
from seqlab.cells import CELLS
from seqlab.errors import InputError, nearest
from seqlab.launch.local import platform
from seqlab.tables import Column, Table
from seqlab.trial import BUDGETS

ALONE = True

BENCHMARKED = ("rnn", "lstm", "gru", "gru_reset_after", "mut1", "mut2", "mut3")

SMALL = Shape(20, 35, 128, 128)
CPU_SHAPES = (
    Shape(20, 35, 200, 200),
    Shape(32, 100, 256, 256),
    Shape(64, 35, 512, 512),
    Shape(20, 128, 128, 128),
)
ACCELERATOR_SHAPES = (
    Shape(20, 35, 650, 650),
    Shape(64, 1024, 512, 512),
    Shape(128, 100, 1024, 1024),
    Shape(16, 1024, 768, 768),
)


@dataclass(frozen=True)
class Trial:
    """Ours against one peer. For `workload` and `precision` see `seqlab.benchmark.case`."""

    budget: str
    cell: str
    shape: Shape
    workload: str = "forward+backward"
    precision: str = "float32"
    peer: str = "plain"
    pairs: int = 15


def trials(budget: str) -> list[Trial]:
    """Every cell × shape × workload × precision against every peer that is to be had here.

    The floor is in the default budget alone.
    """
    if budget == "smoke":
        planned = _product(budget, ("lstm", "gru", "mut3"), (SMALL,), ("plain", "torch"), pairs=5)
    elif budget == "default":
        planned = _product(budget, BENCHMARKED, CPU_SHAPES, tuple(PEERS))
    elif budget == "paper":
        others = tuple(cell for cell in CELLS if cell not in BENCHMARKED)
        planned = [
            trial
            for workload in WORKLOADS
            for precision in PRECISIONS
            for cells, against in ((BENCHMARKED, RIVALS), (others, ("plain",)))
            for trial in _product(
                budget,
                cells,
                CPU_SHAPES + ACCELERATOR_SHAPES,
                against,
                workload=workload,
                precision=precision,
            )
        ]
    else:
        raise InputError(f"no budget {budget!r}.{nearest(budget, BUDGETS)}")
    return [trial for trial in planned if _why_not(trial) is None]


def _product(
    budget: str,
    cells: tuple[str, ...],
    shapes: tuple[Shape, ...],
    against: tuple[str, ...],
    **changes: Any,
) -> list[Trial]:
    """The peers of a case follow one another, because ours is compiled once for all of them."""
    return [
        Trial(budget, cell, shape, peer=peer, **changes)
        for shape in shapes
        for cell in cells
        for peer in against
    ]


def _why_not(trial: Trial) -> str | None:
    if trial.precision == "tf32" and platform() != "gpu":
        return "tf32 is the arithmetic of GPUs"
    if not peers.has_cell(trial.peer, trial.cell, trial.shape, trial.precision):
        return f"{trial.peer} has no {trial.cell} of {trial.shape} in {trial.precision}"
    return peers.missing(trial.peer, platform())


def check(trial: Trial) -> None:
    """Raise InputError for what cannot be run."""
    for name, value, valid in (
        ("cell", trial.cell, CELLS),
        ("workload", trial.workload, WORKLOADS),
        ("precision", trial.precision, PRECISIONS),
        ("peer", trial.peer, PEERS),
    ):
        if value not in valid:
            raise InputError(f"no {name} {value!r}.{nearest(value, valid)}")
    sizes = {**vars(trial.shape), "pairs": trial.pairs}
    for name, size in sizes.items():
        if size < 1:
            raise InputError(f"{name} must be above 0, not {size}")
    param_shapes(trial.cell, trial.shape)  # raises where the cell does not take D and H
    if reason := _why_not(trial):
        raise InputError(reason)


@functools.lru_cache(maxsize=1)
def prepare_ours(
    cell: str, shape: Shape, workload: str, precision: str
) -> tuple[Case, Program, dict[str, np.ndarray]]:
    """A case, ours compiled, and what everybody's outputs are held to."""
    case = draw(cell, shape, precision, workload)
    return case, jax_programs.prepare(case, jax_programs.seqlab(case)), jax_programs.reference(case)


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Compare the outputs, then the times. Nothing is kept in the folder.

    Raises:
        Disagreement: ours or the peer's outputs are wrong.
    """
    load = os.getloadavg()
    case, ours, reference = prepare_ours(trial.cell, trial.shape, trial.workload, trial.precision)
    theirs = peers.prepare(case, trial.peer)
    error = checked_error(case, ours, reference)
    is_floor = PEERS[trial.peer].is_floor
    peer_error = None if is_floor else checked_error(case, theirs, reference)
    samples, (inner, peer_inner) = timing.take_turns(ours, theirs, trial.pairs)
    peaks = roofline.measure(trial.precision)

    times = timing.summary(samples)
    flops, steps = roofline.work(trial.cell, trial.shape, trial.workload)
    floor = roofline.floor(peaks, flops, ours.facts["bytes"], steps)
    return {
        **times,
        "inner": inner,
        "peer_inner": peer_inner,
        "us_per_step": 1000 * times["t_ms_median"] / trial.shape.time,
        "flops": flops,
        "peaks": peaks._asdict(),
        "floor_ms": {name: 1000 * seconds for name, seconds in floor._asdict().items()},
        "roofline_frac": 1000 * max(floor) / times["t_ms_median"],
        "parity_err": error,
        "peer_parity_err": peer_error,
        "matmul_precision": PRECISIONS[trial.precision].matmul,
        "threads": timing.num_threads(),
        "loadavg": load,
        **ours.facts,
        **{f"peer_{name}": value for name, value in theirs.facts.items()},
    }


# The table

NOTES = (
    "Ratios are the peer's time divided by ours, median over pairs [10-90 % of pairs]: above 1, "
    "ours is faster. Peers are measured separately, each against its own run of ours.",
    "ms: one call of ours, median. µs/step: the same divided by T. roofline: the least time that "
    "the machine's peaks, measured in the same run, allow, divided by ours.",
)
NULL_NOTE = (
    "!: our own samples of a pair differ by more than 3 % in the median; something disturbed them."
)
SMOKE_NOTE = "SMOKE: a first sight, few pairs of one small shape."


def table(rows: list[dict[str, Any]]) -> Table:
    """Ours | ratio to each peer, one section a workload and precision."""
    present = [peer for peer in PEERS if any(row["config"]["peer"] == peer for row in rows)]
    sections = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        config = row["config"]
        section = config["budget"], config["workload"], config["precision"], config["pairs"]
        case = config["cell"], _shape(config)
        sections[section][case][config["peer"]] = row
    lines = []
    for section in sorted(sections, key=_section_order):
        budget, workload, precision, pairs = section
        about = {"budget": budget, "workload": workload, "precision": precision, "pairs": pairs}
        heading = f"{workload} · {precision} · {pairs} pairs · {budget} budget"
        ordered = sorted(sections[section].items(), key=_case_order)
        found = [
            {"section": heading, **about, **_line(cell, shape, precision, present, by_peer)}
            for (cell, shape), by_peer in ordered
        ]
        lines += found
        for cell in dict.fromkeys(line["cell"] for line in found):
            of_cell = [line for line in found if line["cell"] == cell]
            if len(of_cell) > 1:
                lines.append({"section": heading, **about, **_mean_line(cell, present, of_cell)})
    notes = [*NOTES, *(f"{PEERS[p].title}: {PEERS[p].what}." for p in present)]
    if any(row["status"] == results.DONE and not row["metrics"]["null_ok"] for row in rows):
        notes.append(NULL_NOTE)
    notes += _failures(rows)
    if any(row["config"]["budget"] == "smoke" for row in rows):
        notes.append(SMOKE_NOTE)
    return Table("Cells next to their peers", _columns(present), tuple(lines), "section", (*notes,))


def _columns(present: list[str]) -> tuple[Column, ...]:
    return (
        Column("section", "section"),
        Column("cell", "cell"),
        Column("shape", "B×T, D → H"),
        Column("ms", "ms", ".2f"),
        Column("us_per_step", "µs/step", ".1f"),
        Column("roofline", "roofline", ".2f"),
        *(Column(peer, PEERS[peer].title) for peer in present),
        *(
            Column(f"{peer}_{name}", f"{peer} {name}", data_only=True)
            for peer in present
            for name in ("ratio", "p10", "p90", "null_ratio", "ms")
        ),
        *(
            Column(name, name, data_only=True)
            for name in ("budget", "workload", "precision", "pairs")
        ),
    )


def _line(
    cell: str, shape: Shape, precision: str, present: list[str], by_peer: dict[str, Any]
) -> dict[str, Any]:
    done = [row["metrics"] for row in by_peer.values() if row["status"] == results.DONE]
    line: dict[str, Any] = {"cell": cell, "shape": str(shape)}
    if done:
        line["ms"] = statistics.median(metrics["t_ms_median"] for metrics in done)
        line["us_per_step"] = 1000 * line["ms"] / shape.time
        line["roofline"] = statistics.median(metrics["roofline_frac"] for metrics in done)
    for peer in present:
        row = by_peer.get(peer)
        if row is None:
            is_possible = peers.has_cell(peer, cell, shape, precision)
            line[peer] = "not run" if is_possible else "-"
        elif row["status"] != results.DONE:
            line[peer] = row["status"]
        else:
            metrics = row["metrics"]
            low, high = metrics["ratio_p10_p90"]
            mark = "" if metrics["null_ok"] else " !"
            line[peer] = f"{metrics['ratio_median']:.2f} [{low:.2f}-{high:.2f}]{mark}"
            line[f"{peer}_ratio"] = metrics["ratio_median"]
            line |= {f"{peer}_p10": low, f"{peer}_p90": high}
            line[f"{peer}_null_ratio"] = metrics["null_ratio"]
            line[f"{peer}_ms"] = metrics["peer_t_ms_median"]
    return line


def _mean_line(cell: str, present: list[str], lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The geometric mean over the shapes of a cell."""
    mean: dict[str, Any] = {"cell": cell, "shape": f"geometric mean of {len(lines)}"}
    for peer in present:
        ratios = [line[f"{peer}_ratio"] for line in lines if f"{peer}_ratio" in line]
        if not ratios:
            mean[peer] = "-"
            continue
        mean[f"{peer}_ratio"] = math.exp(statistics.fmean(map(math.log, ratios)))
        fewer = f" of {len(ratios)}" if len(ratios) < len(lines) else ""
        mark = " !" if any(str(line[peer]).endswith("!") for line in lines) else ""
        mean[peer] = f"{mean[f'{peer}_ratio']:.2f}{fewer}{mark}"
    return mean


def _failures(rows: list[dict[str, Any]]) -> list[str]:
    """Why there is a status in place of a ratio: the last line of each error."""
    notes = []
    for row in rows:
        if row["status"] != results.DONE:
            config, lines = row["config"], (row["error"] or "").strip().splitlines()
            what = f"{config['cell']} {_shape(config)} against {config['peer']}"
            notes.append(f"{row['status']}: {what}: {lines[-1] if lines else 'no reason known'}")
    return notes


def _shape(config: dict[str, Any]) -> Shape:
    return Shape(**{name: size for name, size in config["shape"].items() if name != "kind"})


def _section_order(section: tuple[str, str, str, int]) -> tuple[int, int, int, int]:
    budget, workload, precision, pairs = section
    return (
        BUDGETS.index(budget),
        WORKLOADS.index(workload),
        list(PRECISIONS).index(precision),
        pairs,
    )


def _case_order(case: tuple[tuple[str, Shape], Any]) -> tuple[int, int, int, int, int]:
    (cell, shape), _ = case
    cells = [*CELLS, cell]
    return cells.index(cell), shape.hidden_dim, shape.time, shape.batch_size, shape.input_dim
