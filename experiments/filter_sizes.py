"""One 5×5 convolution against two 3×3, one 7×7 against three: weights, costs, receptive fields.

Claim: stacked small filters have the receptive field of one large filter, with fewer weights (18
instead of 25) and operations, and with non-linearities in between.

    python launch.py run filter_sizes         seconds; every budget is the same

Protocol: convolutions of C to C channels, ReLU between them, no biases. Weights and multiply-adds
are counted from the traced network. The receptive field is measured: the inputs for which the
gradient of one output is not zero, with random weights.

Source: the deck "Tensorflow day 3", filter 5×5 vs (3×3)×2; for 7×7 (49 C² against 27 C²) Simonyan
and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015,
section 2.3.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from seqlab import results
from seqlab.accounting import account
from seqlab.errors import InputError
from seqlab.tables import Column, Table


@dataclass(frozen=True)
class Trial:
    """`layers` convolutions of `window` × `window` on `channels` channels.

    With few channels all units on the way from a corner can be switched off by ReLU.
    """

    window: int
    layers: int
    channels: int = 16


class Printed(NamedTuple):
    """Weights per pair of channels and extent of what is seen, where they are printed."""

    weights: int
    field: int
    source: str


PRINTED = {  # window, layers
    (5, 1): Printed(25, 5, "deck"),
    (3, 2): Printed(18, 5, "deck"),
    (7, 1): Printed(49, 7, "VGG, 2.3"),
    (3, 3): Printed(27, 7, "VGG, 2.3"),
}


def trials(budget: str) -> list[Trial]:
    """The four stacks, whatever the budget."""
    return [Trial(window, layers) for window, layers in PRINTED]


def check(trial: Trial) -> None:
    """Raise InputError for what is no stack of convolutions with a middle."""
    if trial.window < 1 or trial.window % 2 == 0:
        raise InputError(f"window must be odd and above 0, not {trial.window}")
    for name in ("layers", "channels"):
        if getattr(trial, name) < 1:
            raise InputError(f"{name} must be above 0, not {getattr(trial, name)}")


class Stack(nn.Module):
    """Convolutions with ReLU between them, [B, H, W, C] -> [B, H, W, C]."""

    window: int
    layers: int
    channels: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in range(self.layers):
            x = nn.relu(x) if layer else x
            x = nn.Conv(self.channels, (self.window, self.window), use_bias=False)(x)
        return x


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Count the stack's weights and operations, and measure what it sees."""
    stack = Stack(trial.window, trial.layers, trial.channels)
    size = 2 * trial.layers * (trial.window - 1) + 1  # more than can be seen from the middle
    shape = (1, size, size, trial.channels)
    totals = account(stack, jax.ShapeDtypeStruct(shape, jnp.float32)).totals
    pairs = trial.channels**2
    seen = support(stack, shape)
    rows, columns = np.nonzero(seen)
    return {
        "weights": totals.weights / pairs,
        "macs": totals.macs / size**2 / pairs,
        "height": int(np.ptp(rows)) + 1,
        "width": int(np.ptp(columns)) + 1,
        "seen": int(seen.sum()),
        "nonlinearities": trial.layers - 1,
    }


def support(module: nn.Module, shape: tuple[int, ...]) -> np.ndarray:
    """Where the input moves the first channel of the output in the middle, bool [H, W]."""
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype),
        jax.eval_shape(module.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32)),
    )

    def middle(image: jax.Array) -> jax.Array:
        output = jnp.asarray(module.apply(variables, image))
        return output[0, shape[1] // 2, shape[2] // 2, 0]

    image = rng.normal(size=shape).astype(np.float32)
    return np.any(np.asarray(jax.jit(jax.grad(middle))(image))[0] != 0, axis=-1)


# The table

COLUMNS = (
    Column("section", "section"),
    Column("stack", "stack"),
    Column("channels", "C", "d"),
    Column("printed_weights", "printed: weights", "d"),
    Column("weights", "ours", "d"),
    Column("macs", "multiply-adds", "d"),
    Column("printed_field", "printed: sees"),
    Column("field", "ours"),
    Column("seen", "inputs seen", "d"),
    Column("nonlinearities", "ReLU between", "d"),
    Column("source", "printed in"),
    Column("verdict", "verdict"),
)

NOTES = (
    "Weights and multiply-adds: of one pair of channels, the latter for one position of the "
    "output. To have them for C to C channels, multiply by C².",
)


def table(rows: list[dict[str, Any]]) -> Table:
    """Printed | ours, one section a field of view."""
    lines = []
    for row in sorted(rows, key=_order):
        trial = {key: row["config"][key] for key in ("window", "layers", "channels")}
        lines.append(_line(row, **trial))
    return Table("Large filters and stacks of small ones", COLUMNS, tuple(lines), "section", NOTES)


def _line(row: dict[str, Any], window: int, layers: int, channels: int) -> dict[str, Any]:
    printed = PRINTED.get((window, layers))
    sees = _field(window, layers)
    count = ("one", "two", "three")[layers - 1] if layers <= 3 else str(layers)
    line: dict[str, Any] = {
        "section": f"{sees}×{sees} inputs to an output",
        "stack": f"{count} {window}×{window}",
        "channels": channels,
    }
    if printed:
        line["printed_weights"] = printed.weights
        line["printed_field"] = f"{printed.field}×{printed.field}"
        line["source"] = printed.source
    if row["status"] != results.DONE:
        return line | {"verdict": row["status"]}
    m = row["metrics"]
    line |= {key: m[key] for key in ("weights", "macs", "seen", "nonlinearities")}
    line["field"] = f"{m['height']}×{m['width']}"
    if printed:
        field = printed.field
        ours = (m["weights"], m["height"], m["width"], m["seen"])
        agrees = ours == (printed.weights, field, field, field**2)
        line["verdict"] = "agrees" if agrees else "differs"
    return line


def _field(window: int, layers: int) -> int:
    return layers * (window - 1) + 1


def _order(row: dict[str, Any]) -> tuple[int, ...]:
    config = row["config"]
    size = _field(config["window"], config["layers"])
    return size, config["layers"], config["window"], config["channels"]
