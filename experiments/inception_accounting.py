"""What an inception module costs, naive and with 1×1 reductions: the deck's sums, counted.

Claim: on 28×28×256 the naive module takes 854M multiply-adds and leaves 672 channels; 1×1
convolutions before the large filters and after the pool bring it to 358M and 480 channels.

    python launch.py run inception_accounting         seconds; every budget is the same

Protocol: multiply-adds are counted from the traced network; nothing is computed. The deck prints a
product for each convolution and a total; its products are multiplied and summed here.

Source: the deck "Tensorflow day 3", naive inception module; Szegedy et al., Going Deeper with
Convolutions, CVPR 2015, Figure 2.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from seqlab import results
from seqlab.accounting import account
from seqlab.errors import InputError, nearest
from seqlab.models.convnets.googlenet import Inception
from seqlab.models.convnets.layers import MaxPool
from seqlab.tables import Column, Table

INPUT = (1, 28, 28, 256)


class NaiveInception(nn.Module):
    """1×1, 3×3, 5×5 and a pool side by side on one input, [B, H, W, C] -> [B, H, W, D].

    Szegedy et al. 2015, Figure 2 (a); the widths of the three convolutions are fields.
    """

    width1: int
    width3: int
    width5: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        branches = [
            nn.relu(nn.Conv(self.width1, (1, 1), name="conv1x1")(x)),
            nn.relu(nn.Conv(self.width3, (3, 3), name="conv3x3")(x)),
            nn.relu(nn.Conv(self.width5, (5, 5), name="conv5x5")(x)),
            MaxPool(3, 1, padding=1, name="pool")(x),
        ]
        return jnp.concatenate(branches, axis=-1)


class Convolution(NamedTuple):
    """A row of the deck: its name and product, and the layer of ours that it is."""

    printed: str
    product: tuple[int, ...]  # height, width, output channels, window, window, input channels
    layer: str


class Printed(NamedTuple):
    """What the deck prints of a module."""

    title: str
    convolutions: tuple[Convolution, ...]
    total: int  # millions
    depth: int


MODULES = {
    "naive": NaiveInception(width1=128, width3=192, width5=96),
    "reduced": Inception(width1=128, reduce3=64, width3=192, reduce5=64, width5=96, pool=64),
}

PRINTED = {
    "naive": Printed(
        "naive",
        (
            Convolution("1×1 conv, 128", (28, 28, 128, 1, 1, 256), "conv1x1"),
            Convolution("3×3 conv, 192", (28, 28, 192, 3, 3, 256), "conv3x3"),
            Convolution("5×5 conv, 96", (28, 28, 96, 5, 5, 256), "conv5x5"),
        ),
        total=854,
        depth=672,
    ),
    "reduced": Printed(
        "with 1×1 reductions",
        (
            Convolution("1×1 conv, 64", (28, 28, 64, 1, 1, 256), "reduce3x3"),
            Convolution("1×1 conv, 64", (28, 28, 64, 1, 1, 256), "reduce5x5"),
            Convolution("1×1 conv, 128", (28, 28, 128, 1, 1, 256), "conv1x1"),
            Convolution("3×3 conv, 192", (28, 28, 192, 3, 3, 64), "conv3x3"),
            Convolution("5×5 conv, 96", (28, 28, 96, 5, 5, 64), "conv5x5"),
            Convolution("1×1 conv, 64", (28, 28, 64, 1, 1, 256), "pool_proj"),
        ),
        total=358,
        depth=480,
    ),
}


@dataclass(frozen=True)
class Trial:
    """One of the two modules."""

    module: str


def trials(budget: str) -> list[Trial]:
    """Both modules, whatever the budget."""
    return [Trial(name) for name in MODULES]


def check(trial: Trial) -> None:
    """Raise InputError for a module that there is not."""
    if trial.module not in MODULES:
        raise InputError(f"no module {trial.module!r}.{nearest(trial.module, MODULES)}")


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Count the module's multiply-adds. Nothing is kept in the folder."""
    module, image = MODULES[trial.module], jax.ShapeDtypeStruct(INPUT, jnp.float32)
    accounting = account(module, image)
    output, _ = jax.eval_shape(module.init_with_output, jax.random.key(0), image)
    return {
        "macs": accounting.totals.macs,
        "weights": accounting.totals.weights,
        "depth": output.shape[-1],
        "layers": {
            row.layer: {"macs": row.macs, "weights": row.weights, "shape": row.output_shape}
            for row in accounting.rows
        },
    }


# The table

COLUMNS = (
    Column("section", "section"),
    Column("layer", "layer"),
    Column("printed", "deck, as printed"),
    Column("deck", "deck", ",d"),
    Column("ours", "ours", ",d"),
    Column("weights", "weights", ",d"),
    Column("verdict", "verdict"),
    Column("module", "module", data_only=True),
)

NOTES = (
    "Multiply-adds of one image; biases, non-linearities and the pool have none. Weights are those "
    "of the convolutions, without biases. deck, as printed: a product; deck: its value.",
)


def table(rows: list[dict[str, Any]]) -> Table:
    """Deck | ours, a section a module, and which total follows from its rows."""
    by_module = {row["config"]["module"]: row for row in rows}
    lines, notes = [], list(NOTES)
    for name, printed in PRINTED.items():
        if name not in by_module:
            continue
        row = by_module[name]
        section = {"section": f"{printed.title} · 28×28×256", "module": name}
        if row["status"] == results.DONE:
            lines += [section | line for line in _lines(printed, row["metrics"])]
            notes += _why(printed)
        else:
            lines.append(section | {"layer": "all", "verdict": row["status"]})
    title = "Multiply-adds of an inception module"
    return Table(title, COLUMNS, tuple(lines), "section", tuple(notes))


def _lines(printed: Printed, metrics: dict[str, Any]) -> list[dict[str, Any]]:
    lines = []
    for convolution in printed.convolutions:
        ours = metrics["layers"].get(convolution.layer, {"macs": None, "weights": None})
        lines.append(
            {
                "layer": convolution.layer,
                "printed": f"{convolution.printed}: {'·'.join(map(str, convolution.product))}",
                "deck": math.prod(convolution.product),
                "ours": ours["macs"],
                "weights": ours["weights"],
            }
        )
    total = _total(printed)
    counts = [
        {"layer": "sum of the rows", "deck": total, "ours": metrics["macs"]},
        {"layer": "depth", "deck": printed.depth, "ours": metrics["depth"]},
    ]
    counts[0]["weights"] = metrics["weights"]
    for line in lines + counts:
        line["verdict"] = "agrees" if line["deck"] == line["ours"] else "differs"
    follows = _millions(metrics["macs"]) == printed.total
    stated = {
        "layer": "total",
        "printed": f"{printed.total}M ops",
        "ours": metrics["macs"],
        "verdict": "agrees" if follows else "differs",
    }
    return [*lines, counts[0], stated, counts[1]]


def _why(printed: Printed) -> list[str]:
    """What the printed total is the sum of, where it is not that of its rows."""
    total = _total(printed)
    if _millions(total) == printed.total:
        return []
    twice = [
        f"{convolution.printed} ({math.prod(convolution.product):,}) counted twice: {more:,}"
        for convolution in printed.convolutions
        if _millions(more := total + math.prod(convolution.product)) == printed.total
    ]
    said = f"The deck's {printed.total}M does not follow from its rows, which sum to {total:,}"
    return [f"{said}; it is their sum with {' or '.join(twice)}." if twice else f"{said}."]


def _total(printed: Printed) -> int:
    return sum(math.prod(convolution.product) for convolution in printed.convolutions)


def _millions(count: int) -> int:
    return round(count / 1e6)
