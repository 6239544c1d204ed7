"""Peak memory of a training step: predicted from the traced program, and by the compiler.

Claim: the memory that training a network takes can be predicted without compiling it or allocating
anything, to within about a tenth of what XLA on CPUs then takes; for a recurrence over T steps,
less well, to within a third.

    python launch.py run training_memory --budget smoke     three networks and a cell; a minute
    python launch.py run training_memory                    all; ten minutes on two cores
    python launch.py run training_memory --budget paper     and each with momentum and Adam

Definition: arguments, outputs that overwrite no argument, and temporaries of one update, float32,
parameters and the optimiser's state donated; XLA's memory analysis for the machine that ran it.

Source: ours.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from seqlab import results
from seqlab.accounting import Subject, account, of_cell, of_module
from seqlab.accounting.compiled import OPTIMIZERS, figures, training_step
from seqlab.accounting.memory import predicted_peak
from seqlab.cells import CELLS
from seqlab.errors import InputError, nearest
from seqlab.models.convnets import NETWORKS
from seqlab.tables import Column, Table
from seqlab.trial import BUDGETS

BATCHES = (1, 8, 32)
RECURRENT = ("rnn", "lstm", "gru", "mut1", "mut3")
STEPS = (35, 350)
SAVES = ("products", "carries", "segments")


@dataclass(frozen=True)
class Trial:
    """One training step; `hidden`, `steps` and `save` are of cells, D = H."""

    budget: str
    name: str
    batch: int
    optimizer: str = "sgd"
    hidden: int | None = None
    steps: int | None = None
    save: str | None = None


def trials(budget: str) -> list[Trial]:
    """Networks × batches × optimisers; cells × steps × what is saved."""
    if budget == "smoke":
        networks = [Trial(budget, name, 8) for name in ("lenet5", "vgg16", "resnet18")]
        return [*networks, Trial(budget, "mut1", 20, "sgd", 200, 35, "products")]
    if budget not in BUDGETS:
        raise InputError(f"no budget {budget!r}.{nearest(budget, BUDGETS)}")
    optimizers = tuple(OPTIMIZERS) if budget == "paper" else ("sgd",)
    networks = [
        Trial(budget, name, batch, optimizer)
        for optimizer in optimizers
        for name in NETWORKS
        for batch in BATCHES
    ]
    cells = [
        Trial(budget, cell, 20, optimizer, 200, steps, save)
        for optimizer in optimizers
        for cell in RECURRENT
        for save in SAVES
        for steps in STEPS
    ]
    return networks + cells


def check(trial: Trial) -> None:
    """Raise InputError for what cannot be run."""
    valid = NETWORKS if trial.steps is None else CELLS
    for kind, value, names in (
        ("network" if trial.steps is None else "cell", trial.name, valid),
        ("optimizer", trial.optimizer, OPTIMIZERS),
        ("save", trial.save or "products", SAVES),
    ):
        if value not in names:
            raise InputError(f"no {kind} {value!r}.{nearest(value, names)}")
    for size in (trial.batch, trial.hidden or 1, trial.steps or 1):
        if size < 1:
            raise InputError(f"batch, hidden and steps must be above 0, not {size}")


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Predict, then compile. Nothing is trained."""
    subject = _subject(trial)
    step = training_step(subject, trial.optimizer)
    began = time.perf_counter()
    predicted = predicted_peak(step)
    predicted_after = time.perf_counter()
    compiled = figures(step)
    return {
        "predicted": predicted,
        "compiled": compiled.peak,
        "temporaries": compiled.temporaries,
        "ratio": predicted / compiled.peak,
        "params": account(subject).totals.params,
        "seconds_predicting": predicted_after - began,
        "seconds_compiling": time.perf_counter() - predicted_after,
    }


def _subject(trial: Trial) -> Subject:
    if trial.steps is None:
        network = NETWORKS[trial.name]
        return of_module(trial.name, network.module, network.input_shape, trial.batch)
    hidden = trial.hidden or 1
    return of_cell(
        trial.name,
        CELLS[trial.name],
        hidden,
        hidden,
        trial.steps,
        trial.batch,
        jnp.float32,
        trial.save or "products",
    )


COLUMNS = (
    Column("section", "section"),
    Column("name", "name"),
    Column("batch", "batch", "d"),
    Column("steps", "T", "d"),
    Column("save", "save"),
    Column("predicted_mib", "predicted, MiB", ",.1f"),
    Column("compiled_mib", "compiler, MiB", ",.1f"),
    Column("error", "error, %", "+.1f"),
    Column("seconds_predicting", "predicting, s", ".1f"),
    Column("seconds_compiling", "compiling, s", ".1f"),
)
NOTES = (
    "Peak memory of one update: arguments, outputs that overwrite none, temporaries; float32; "
    "parameters and the optimiser's state donated. error: relative to the compiler's figure.",
)


def table(rows: list[dict[str, Any]]) -> Table:
    """Predicted | compiler | error, a section an optimiser; the largest error at the end."""
    names = [*NETWORKS, *CELLS]

    def order(row: dict[str, Any]) -> tuple[Any, ...]:
        config = row["config"]
        budget = BUDGETS.index(config["budget"])
        saves = [None, *SAVES]
        return (
            budget,
            list(OPTIMIZERS).index(config["optimizer"]),
            config["steps"] is not None,
            names.index(config["name"]),
            saves.index(config["save"]),
            config["steps"] or 0,
            config["batch"],
        )

    lines = [_line(row) for row in sorted(rows, key=order)]
    errors = [abs(line["error"]) for line in lines if "error" in line]
    within = sum(error <= 10 for error in errors)
    count = f"{within} of {len(errors)} within 10%."
    largest = f" The largest error is {max(errors):.1f}%." if errors else ""
    title = "Memory of a training step, predicted and by the compiler"
    return Table(title, COLUMNS, tuple(lines), "section", (count + largest, *NOTES))


def _line(row: dict[str, Any]) -> dict[str, Any]:
    config, metrics = row["config"], row["metrics"] or {}
    kind = "networks" if config["steps"] is None else f"cells over T steps, H = {config['hidden']}"
    line = {"section": f"{kind} · {config['optimizer']} · {config['budget']} budget"}
    line |= {key: config[key] for key in ("name", "batch", "steps", "save")}
    if row["status"] != results.DONE:
        return line | {"save": row["status"]}
    return line | {
        "predicted_mib": metrics["predicted"] / 2**20,
        "compiled_mib": metrics["compiled"] / 2**20,
        "error": 100 * (metrics["ratio"] - 1),
        "seconds_predicting": metrics["seconds_predicting"],
        "seconds_compiling": metrics["seconds_compiling"],
    }
