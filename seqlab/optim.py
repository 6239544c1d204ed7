"""Optimisers whose settings are values of the program, not constants, and the rate schedules."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from seqlab.schedule import Schedule as Schedule


class Settings(NamedTuple):
    """What a random search varies. Every field is a traced scalar: one compilation serves them all.

    Attributes:
        learning_rate: before any halving.
        clip_norm: the largest L2 norm of the whole gradient.
        init_scale: s in U[-s/√n, s/√n].
        dropout_rate: None where the network has no dropout.
        seed: of the initial weights and of dropout.
    """

    learning_rate: jax.Array | float
    clip_norm: jax.Array | float
    init_scale: jax.Array | float
    dropout_rate: jax.Array | float | None
    seed: jax.Array | int


OPTIMIZERS = {"sgd": optax.sgd, "adam": optax.adam}


def clipped(
    optimizer: str, learning_rate: jax.Array | float, clip_norm: jax.Array | float
) -> optax.GradientTransformation:
    """The optimiser on gradients scaled down to a global L2 norm of at most `clip_norm`."""
    return optax.chain(
        optax.clip_by_global_norm(clip_norm),  # pyright: ignore[reportArgumentType]
        OPTIMIZERS[optimizer](learning_rate),
    )


# Networks of images: weight decay, and a rate that is a function of the step


class DecaySettings(NamedTuple):
    """What may vary when a network of images is trained; every field is a traced scalar.

    Attributes:
        learning_rate: before the schedule lowers it.
        momentum: μ of SGD; β₁ of Adam.
        weight_decay: λ.
        steps: of the whole training; the schedule ends with them.
        seed: of the initial weights, the order of the images, augmentation and dropout.
    """

    learning_rate: jax.Array | float
    momentum: jax.Array | float
    weight_decay: jax.Array | float
    steps: jax.Array | int
    seed: jax.Array | int


def kernels(params: Any) -> Any:
    """What decays: True for kernels; False for biases, and scale and shift of a normalisation."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def sgd_momentum(settings: DecaySettings, rate: jax.Array | float) -> optax.GradientTransformation:
    """g ← ∇ + λw,  v ← μv + g,  w ← w - rate·v: the decay is the gradient of λ/2 ‖w‖²."""
    return optax.chain(
        optax.add_decayed_weights(settings.weight_decay, kernels),
        optax.trace(settings.momentum),  # pyright: ignore[reportArgumentType]
        optax.scale_by_learning_rate(rate),
    )


def adamw(settings: DecaySettings, rate: jax.Array | float) -> optax.GradientTransformation:
    """w ← w - rate·(Adam(∇) + λw), β₂ = 0.999, ε = 1e-8; Adam where λ = 0.

    Source: Loshchilov and Hutter 2019, Algorithm 2.
    """
    return optax.chain(
        optax.scale_by_adam(settings.momentum),  # pyright: ignore[reportArgumentType]
        optax.add_decayed_weights(settings.weight_decay, kernels),
        optax.scale_by_learning_rate(rate),
    )


DECAYED = {"sgd_momentum": sgd_momentum, "adamw": adamw}


def constant(step: jax.Array | int, steps: jax.Array | int) -> jax.Array:
    """The full rate throughout."""
    return jnp.ones((), jnp.float32)


def staircase(step: jax.Array | int, steps: jax.Array | int) -> jax.Array:
    """A tenth from the half on, a hundredth from three quarters on.

    With 64,000 steps: at 32,000 and 48,000, as He et al. 2015, section 4.2.
    """
    lower = jnp.where(step >= steps - steps // 4, 0.01, 0.1)
    return jnp.where(step >= steps // 2, lower, 1.0)


def cosine(step: jax.Array | int, steps: jax.Array | int) -> jax.Array:
    """(1 + cos(π step/steps)) / 2 (Loshchilov and Hutter 2017, without restarts)."""
    progress = jnp.asarray(step, jnp.float32) / jnp.asarray(steps, jnp.float32)
    return (1 + jnp.cos(jnp.pi * progress)) / 2


SCHEDULES: dict[str, Callable[[jax.Array | int, jax.Array | int], jax.Array]] = {
    "constant": constant,
    "staircase": staircase,
    "cosine": cosine,
}
"""The share of the learning rate that step 0 … steps - 1 is made with."""
