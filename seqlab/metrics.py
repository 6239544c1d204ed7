"""Metrics as sums over positions, added up over a split and divided once at the end."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from seqlab.errors import InputError
from seqlab.losses import frame_nll, symbol_nll


def symbol_sums(
    logits: Float[Array, "B T V"], targets: Int[Array, "B T"], where: Bool[Array, "B T"]
) -> dict[str, Float[Array, ""]]:
    """Sums of nll (nats), accuracy (is the most probable symbol the target) and its probability."""
    nll = symbol_nll(logits, targets, where)
    return {
        "count": where.sum().astype(jnp.float32),
        "nll": nll.sum(),
        "accuracy": (where & (logits.argmax(axis=-1) == targets)).sum().astype(jnp.float32),
        "probability": jnp.where(where, jnp.exp(-nll), 0.0).sum(),
    }


def frame_sums(
    logits: Float[Array, "B T C"], targets: UInt8[Array, "B T C"], where: Bool[Array, "B T"]
) -> dict[str, Float[Array, ""]]:
    """Sum of nll (nats, summed over the channels of a frame)."""
    return {
        "count": where.sum().astype(jnp.float32),
        "nll": frame_nll(logits, targets, where).sum(),
    }


def means(sums: dict[str, jax.Array]) -> dict[str, float]:
    """Divide each sum by the count.

    Raises:
        InputError: nothing was scored.
    """
    count = float(sums["count"])
    if not count:
        raise InputError("a split has no scored position: it is too short")
    return {name: float(value) / count for name, value in sums.items() if name != "count"}
