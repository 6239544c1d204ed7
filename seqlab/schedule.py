"""How long to train, and on how much at a time: plain data, which needs no jax."""

from collections.abc import Sequence
from dataclasses import dataclass, field


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


@dataclass(frozen=True)
class TrainConfig:
    """How a stream is cut, and when to stop.

    Attributes:
        batch_size: B, rows of the stream read side by side.
        unroll: T, steps of backpropagation.
        steps_per_epoch: steps between two validations; None means once through the stream. A
            generated stream may be longer than that, so that no epoch sees what another has seen.
        schedule: learning rate and end.
    """

    batch_size: int = 20
    unroll: int = 35
    steps_per_epoch: int | None = None
    schedule: Schedule = field(default_factory=Schedule)
