"""VGG16 line by line: the lecture's table of memory and parameters, judged against an exact count.

Claim (the deck "Tensorflow day 3"): 138M parameters; 24M activations, 96 MB an image forward and
twice that with the backward pass. The rows are right. The total of the memory does not follow from
them: they add up to 15.2M, and no usual way to count gives 24M.

    python launch.py run vgg_accounting      seconds; every budget is the same

Source: the deck's table as printed; Simonyan and Zisserman 2015, Table 1 column D.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqlab import results
from seqlab.accounting import account, of_module, saved
from seqlab.errors import InputError
from seqlab.models.convnets import NETWORKS
from seqlab.tables import Column, Table

# Name, memory and weights as printed; the rows come in the order of the network's layers.
DECK = (
    ("INPUT", "150K", "0"),
    ("CONV3-64", "3.2M", "1,728"),
    ("CONV3-64", "3.2M", "36,864"),
    ("POOL2", "800K", "0"),
    ("CONV3-128", "1.6M", "73,728"),
    ("CONV3-128", "1.6M", "147,456"),
    ("POOL2", "400K", "0"),
    ("CONV3-256", "800K", "294,912"),
    ("CONV3-256", "800K", "589,824"),
    ("CONV3-256", "800K", "589,824"),
    ("POOL2", "200K", "0"),
    ("CONV3-512", "400K", "1,179,648"),
    ("CONV3-512", "400K", "2,359,296"),
    ("CONV3-512", "400K", "2,359,296"),
    ("POOL2", "100K", "0"),
    ("CONV3-512", "100K", "2,359,296"),
    ("CONV3-512", "100K", "2,359,296"),
    ("CONV3-512", "100K", "2,359,296"),
    ("POOL2", "25K", "0"),
    ("FC", "4096", "102,760,448"),
    ("FC", "4096", "16,777,216"),
    ("FC", "1000", "4,096,000"),
)
DECK_MEMORY, DECK_PARAMS = "24M", "138M"


@dataclass(frozen=True)
class Trial:
    """One network whose rows are those of DECK."""

    network: str = "vgg16"
    batch: int = 1


def trials(budget: str) -> list[Trial]:
    return [Trial()]


def check(trial: Trial) -> None:
    """Raise InputError for what cannot be run."""
    if trial != Trial():
        raise InputError("the deck's table is of vgg16 and one image: use account for others")


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """The rows and totals of `python launch.py account vgg16`."""
    network = NETWORKS[trial.network]
    subject = of_module(trial.network, network.module, network.input_shape, trial.batch)
    counted = account(subject)
    return {
        "rows": [row._asdict() for row in counted.rows],
        "totals": counted.totals._asdict(),
        "saved": saved(subject)._asdict(),
    }


COLUMNS = (
    Column("section", "section"),
    Column("layer", "layer"),
    Column("deck_layer", "deck's name"),
    Column("deck_memory", "memory, deck"),
    Column("memory", "ours", ",d"),
    Column("deck_weights", "weights, deck"),
    Column("weights", "ours", ",d"),
    Column("verdict", "verdict"),
)
NOTES = (
    "Memory in elements; MB is 10⁶ bytes of float32. A verdict compares at the digits that the "
    "deck prints.",
    "×2 for backward (deck): JAX keeps for the backward pass what the last line says, and XLA's "
    "peak is higher still: python launch.py account vgg16 --compile",
)


def table(rows: list[dict[str, Any]]) -> Table:
    """Deck | ours | verdict, per row and in all; the total under each way to count."""
    lines: list[dict[str, Any]] = []
    for row in rows:
        if row["status"] != results.DONE:
            lines.append({"section": "not counted", "layer": row["status"]})
            continue
        ours, totals = row["metrics"]["rows"], row["metrics"]["totals"]
        for (name, memory, weights), layer in zip(DECK, ours, strict=True):
            agrees = _agrees(memory, layer["activations"]) and _agrees(weights, layer["weights"])
            line = {"layer": layer["layer"], "deck_layer": name, "deck_memory": memory}
            line |= {"memory": layer["activations"], "deck_weights": weights}
            line |= {"weights": layer["weights"], "verdict": "agrees" if agrees else "differs"}
            lines.append({"section": "layers", **line})
        lines += _totals(totals, row["metrics"]["saved"])
    title = "VGG16, per image: the lecture's table and an exact count"
    return Table(title, COLUMNS, tuple(lines), "section", NOTES)


def _totals(totals: dict[str, int], saved: dict[str, int]) -> list[dict[str, Any]]:
    deck = {"deck_memory": DECK_MEMORY}
    weights = {"deck_weights": DECK_PARAMS, "weights": totals["weights"]}
    definitions = (
        ("the deck's rows, summed", totals["activations"]),
        ("convolution and fully connected outputs alone", totals["outputs"]),
        ("with a copy for each ReLU", totals["with_nonlinearities"]),
    )
    lines = [
        {
            "layer": name,
            **deck,
            "memory": elements,
            "verdict": f"{elements * 4 / 1e6:.1f} MB, deck 96 MB: "
            + ("agrees" if _agrees(DECK_MEMORY, elements) else "does not follow from its rows"),
        }
        for name, elements in definitions
    ]
    lines[0] |= weights
    verdict = "params agree" if _agrees(DECK_PARAMS, totals["params"]) else "params differ"
    lines.append(
        {
            "layer": "params with biases",
            "deck_weights": DECK_PARAMS,
            "weights": totals["params"],
            "verdict": verdict,
        }
    )
    kept = {
        "layer": "saved by JAX for the backward pass",
        "memory": saved["elements"],
        "verdict": f"{saved['bytes'] / 1e6:.1f} MB, some of it booleans",
    }
    return [{"section": "in all", **line} for line in [*lines, kept]]


def _agrees(printed: str, exact: int) -> bool:
    """Whether `exact` rounds to what is printed, at its last digit that is not a zero."""
    number, unit = re.fullmatch(r"([\d.,]+)([KM]?)", printed).groups()  # pyright: ignore
    scale = {"": 1, "K": 1_000, "M": 1_000_000}[unit]
    if not unit:
        return exact == int(number.replace(",", ""))
    digits = number.partition(".")[2]
    step = scale / 10 ** len(digits) if digits else scale * 10 ** _zeros(number)
    return abs(exact - float(number) * scale) <= step / 2


def _zeros(number: str) -> int:
    return len(number) - len(number.rstrip("0"))
