"""All networks in one picture: published accuracy, multiply-adds, parameters, memory.

Claim (the deck "Tensorflow day 3", after Canziani et al. 2016): VGG takes the most parameters and
operations; GoogLeNet is the thriftiest; ResNet is the most accurate for its operations. And
GoogLeNet has 5M parameters, a twelfth of AlexNet's, which an exact count does not bear out.

    python launch.py run complexity      a minute; every budget is the same
    python launch.py plot complexity

Counts are ours, of the network that infers, for one image. Accuracies are of others, on ImageNet:
`published/imagenet.csv` says whose.

Source: Canziani, Culurciello and Paszke, An Analysis of Deep Neural Network Models for Practical
Applications, 2016.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab import results
from seqlab.accounting import account, of_module
from seqlab.accounting.compiled import training_step
from seqlab.accounting.memory import predicted_peak
from seqlab.comparison import read_published
from seqlab.errors import InputError, nearest
from seqlab.models.convnets import NETWORKS
from seqlab.tables import Column, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRAINING_BATCH = 32
DECK_GOOGLENET = 5_000_000  # "5M parameters, 1/12 of AlexNet"


@dataclass(frozen=True)
class Trial:
    """One network at the size of image it is meant for."""

    network: str


def trials(budget: str) -> list[Trial]:
    return [Trial(name) for name in NETWORKS]


def check(trial: Trial) -> None:
    """Raise InputError for what cannot be run."""
    if trial.network not in NETWORKS:
        raise InputError(f"no network {trial.network!r}.{nearest(trial.network, NETWORKS)}")


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Count; nothing is trained or allocated."""
    module, input_shape = NETWORKS[trial.network]
    totals = account(of_module(trial.network, module, input_shape)).totals
    batch = of_module(trial.network, module, input_shape, TRAINING_BATCH)
    return {
        "input_shape": list(input_shape),
        **totals._asdict(),
        "training_bytes": predicted_peak(training_step(batch, "momentum")),
    }


PUBLISHED = read_published(Path(__file__).parent / "published" / "imagenet.csv")

COLUMNS = (
    Column("network", "network"),
    Column("input", "input"),
    Column("accuracy", "top-1 accuracy, %", ".1f"),
    Column("mark", "mark"),
    Column("gmacs", "GMACs", ",.3f"),
    Column("params_millions", "params, M", ",.2f"),
    Column("activations_mib", "activations, MiB", ",.1f"),
    Column("training_mib", f"training at batch {TRAINING_BATCH}, MiB", ",.0f"),
    Column("source", "accuracy from"),
    Column("macs", "macs", data_only=True),
    Column("params", "params", data_only=True),
)
NOTES = (
    "Accuracy on ImageNet's validation images as published, mark m: from memory. torchvision's "
    "AlexNet (64-192-384-256-256) and GoogLeNet are near relatives of ours, not the same.",
    "Activations: input and outputs of convolutions, pools and fully connected layers of one "
    "image, float32. Training: peak memory predicted for one step with momentum.",
)


def table(rows: list[dict[str, Any]]) -> Table:
    """Published accuracy | ours, in the order of the networks."""
    names = list(NETWORKS)
    rows = sorted(rows, key=lambda row: names.index(row["config"]["network"]))
    done = {row["config"]["network"]: row for row in rows if row["status"] == results.DONE}
    lines = [_line(row) for row in rows]
    notes: list[str] = list(NOTES)
    if {"googlenet", "alexnet"} <= done.keys():
        ours, alexnet = (done[name]["metrics"]["params"] for name in ("googlenet", "alexnet"))
        notes.append(
            f"GoogLeNet: the deck says {DECK_GOOGLENET / 1e6:.0f}M parameters and 1/12 of AlexNet; "
            f"the paper's table gives {ours:,}, 1/{alexnet / ours:.1f} of it."
        )
    title = "Networks by what they cost and what they achieve"
    return Table(title, COLUMNS, tuple(lines), None, tuple(notes))


def _line(row: dict[str, Any]) -> dict[str, Any]:
    name = row["config"]["network"]
    line: dict[str, Any] = {"network": name}
    if (paper := PUBLISHED.get(("imagenet", "top1_error", name))) is not None:
        accuracy = 100 * (1 - paper.value)
        line |= {"accuracy": accuracy, "mark": paper.mark, "source": paper.table}
    if row["status"] != results.DONE:
        return line | {"input": row["status"]}
    metrics = row["metrics"]
    return line | {
        "input": "×".join(map(str, metrics["input_shape"])),
        "gmacs": metrics["macs"] / 1e9,
        "params_millions": metrics["params"] / 1e6,
        "activations_mib": metrics["activation_bytes"] / 2**20,
        "training_mib": metrics["training_bytes"] / 2**20,
        "macs": metrics["macs"],
        "params": metrics["params"],
    }


# Where the names of a family stand beside their discs: points to the right and upwards.
FAMILIES = {
    "alexnet": (0, 0),
    "vgg": (0, 0),
    "googlenet": (0, -9),
    "inception": (20, -9),
    "resnet": (0, 9),
}


def figures(rows: list[dict[str, Any]]) -> "dict[str, Figure]":
    """Accuracy against multiply-adds and against memory; a disc's area is its parameters."""
    from seqlab import plots

    figure, axes = plots.panels(1, 2)
    lines = [line for line in table(rows).rows if "accuracy" in line and "macs" in line]
    for number, (family, offset) in enumerate(FAMILIES.items()):
        members = [line for line in lines if line["network"].startswith(family)]
        for panel, key in zip(axes[0], ("gmacs", "activations_mib"), strict=True):
            panel.scatter(
                [line[key] for line in members],
                [line["accuracy"] for line in members],
                s=[4 * line["params_millions"] for line in members],
                color=plots.COLOURS[number],
                alpha=0.55,
                linewidths=0,
            )
            for line in members:
                panel.annotate(
                    line["network"],
                    (line[key], line["accuracy"]),
                    offset,
                    textcoords="offset points",
                    fontsize=6,
                    ha="center",
                    va="center",
                )
    plots.label(axes[0, 0], "Operations", "multiply-adds of one image, 10⁹", "top-1 accuracy, %")
    plots.label(axes[0, 1], "Memory", "activations of one image, MiB", "top-1 accuracy, %")
    for panel in axes[0]:
        panel.set_xscale("log")
        panel.margins(0.15)
    figure.suptitle("Published ImageNet accuracy and cost; area: parameters")
    return {"complexity": figure}
