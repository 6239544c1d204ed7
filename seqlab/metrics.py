"""Metrics as sums over positions, added up over a split and divided once at the end."""

import statistics
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer, Shaped, UInt8

from seqlab.errors import InputError
from seqlab.losses import class_nll, frame_nll, measurement_nll, squared_error, symbol_nll


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


def measurement_sums(
    predicted: Float[Array, "B U C"], targets: Float[Array, "B U C"], where: Bool[Array, "B U"]
) -> dict[str, Float[Array, ""]]:
    """Sums of nll (nats, of a Gaussian of unit variance) and squared error, over all channels."""
    return {
        "count": where.sum().astype(jnp.float32),
        "nll": measurement_nll(predicted, targets, where).sum(),
        "squared_error": squared_error(predicted, targets, where).sum(),
    }


def class_sums(
    logits: Float[Array, "*N K"], targets: Integer[Array, "*N"], where: Bool[Array, "*N"]
) -> dict[str, Shaped[Array, ""]]:
    """Sums of nll (nats) and error (is the most probable class another than the target).

    What is counted is counted in int32, so that no pixel of a large split is lost.
    """
    wrong = logits.argmax(axis=-1) != targets.astype(jnp.int32)
    return {
        "count": where.sum(dtype=jnp.int32),
        "nll": class_nll(logits, targets, where).sum(),
        "error": (where & wrong).sum(dtype=jnp.int32),
    }


def mask_sums(
    logits: Float[Array, "*N K"], targets: Integer[Array, "*N"], where: Bool[Array, "*N"]
) -> dict[str, Shaped[Array, "..."]]:
    """`class_sums` over pixels; of each class the pixels in both masks and those in either."""
    num_classes = logits.shape[-1]
    guess = jax.nn.one_hot(logits.argmax(axis=-1), num_classes, dtype=bool) & where[..., None]
    truth = jax.nn.one_hot(targets, num_classes, dtype=bool) & where[..., None]
    pixels = tuple(range(targets.ndim))
    return class_sums(logits, targets, where) | {
        "intersection": (guess & truth).sum(axis=pixels, dtype=jnp.int32),
        "union": (guess | truth).sum(axis=pixels, dtype=jnp.int32),
    }


def means(sums: Mapping[str, jax.Array | np.ndarray | np.generic]) -> dict[str, float]:
    """Divide each sum by the count.

    Raises:
        InputError: nothing was scored.
    """
    count = float(sums["count"])
    if not count:
        raise InputError("a split has no scored position: it is too short")
    return {name: float(value) / count for name, value in sums.items() if name != "count"}


def mask_means(sums: Mapping[str, jax.Array | np.ndarray | np.generic]) -> dict[str, Any]:
    """Divide what `mask_sums` added up: nll, error, the IoU of each class, and their mean.

        IoU_k = |guess_k ∩ truth_k| / |guess_k ∪ truth_k|

    over all pixels of a split at once. The IoU of a class that is in neither is None, and the mean
    leaves it out.

    Raises:
        InputError: nothing was scored.
    """
    areas = {"intersection", "union"}
    scalars = means({name: value for name, value in sums.items() if name not in areas})
    pairs = zip(np.asarray(sums["intersection"]), np.asarray(sums["union"]), strict=True)
    iou = [float(both) / float(either) if either else None for both, either in pairs]
    present = [value for value in iou if value is not None]
    return scalars | {"iou": iou, "mean_iou": statistics.fmean(present)}
