"""Losses per position, in nats. The caller sums and divides; positions outside `where` are 0."""

import math

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Integer, UInt8

LOG_2_PI = math.log(2 * math.pi)


def symbol_nll(
    logits: Float[Array, "B T V"], targets: Int[Array, "B T"], where: Bool[Array, "B T"]
) -> Float[Array, "B T"]:
    """-log softmax(logits)[target]."""
    nll = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    return jnp.where(where, nll, 0.0)


def frame_nll(
    logits: Float[Array, "B T C"], targets: UInt8[Array, "B T C"], where: Bool[Array, "B T"]
) -> Float[Array, "B T"]:
    """Σ_c -log p(target_c), each channel a Bernoulli with p = σ(logit_c)."""
    nll = optax.sigmoid_binary_cross_entropy(logits, targets.astype(logits.dtype)).sum(axis=-1)
    return jnp.where(where, nll, 0.0)


def class_nll(
    logits: Float[Array, "*N K"], targets: Integer[Array, "*N"], where: Bool[Array, "*N"]
) -> Float[Array, "*N"]:
    """-log softmax(logits)[target]; N positions are images [B], or their pixels [B, H, W]."""
    # Not picked out by an index: the gradient of that is a scatter, slow to compile and to run.
    nll = optax.softmax_cross_entropy(
        logits, jax.nn.one_hot(targets, logits.shape[-1], dtype=logits.dtype)
    )
    return jnp.where(where, nll, 0.0)


def squared_error(
    predicted: Float[Array, "B U C"], targets: Float[Array, "B U C"], where: Bool[Array, "B U"]
) -> Float[Array, "B U"]:
    """Σ_c (predicted_c - target_c)², in the square of the unit of the targets."""
    error = jnp.square(predicted - targets).sum(axis=-1)
    return jnp.where(where, error, 0.0)


def measurement_nll(
    predicted: Float[Array, "B U C"], targets: Float[Array, "B U C"], where: Bool[Array, "B U"]
) -> Float[Array, "B U"]:
    """Σ_c -log N(target_c; predicted_c, 1) = ½ squared error + ½ C log 2π."""
    nll = 0.5 * squared_error(predicted, targets, where) + 0.5 * targets.shape[-1] * LOG_2_PI
    return jnp.where(where, nll, 0.0)
