"""Optimisers whose settings are values of the program, not constants, and the rate schedule."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import optax


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


@dataclass(frozen=True)
class Schedule:
    """Halve the rate each epoch for `halvings` epochs, then stop (Jozefowicz et al. 2015).

    The halving begins after `patience` epochs without a better validation loss, and in any case in
    time to end with `max_epochs`; the first epoch is always at the full rate.
    """

    max_epochs: int = 100
    patience: int = 3
    halvings: int = 4

    def next_halving(self, valid_losses: Sequence[float]) -> int | None:
        """How often the rate is halved in the next epoch, given all validation losses so far.

        A pure function of the history, so that a resumed trial goes on exactly as an unbroken one.

        Returns:
            0 before the halving begins, then 1 … `halvings`; None when training is over.
        """
        last_constant = max(self.max_epochs - self.halvings, 1)
        best, waited, constant = float("inf"), 0, 0
        for loss in valid_losses[:last_constant]:
            constant += 1
            waited = 0 if loss < best else waited + 1
            best = min(best, loss)
            if waited == self.patience:
                break
        if constant == len(valid_losses) and constant < last_constant and waited < self.patience:
            return 0
        halving = len(valid_losses) - constant + 1
        done = halving > self.halvings or len(valid_losses) >= self.max_epochs
        return None if done else halving
