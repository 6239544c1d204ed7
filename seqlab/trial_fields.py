"""Fields that the trials of recurrent networks share, and what may stand in them.

Tables need the fields alone: what training needs is imported inside the functions that use it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from seqlab.errors import InputError, nearest
from seqlab.trial import get

if TYPE_CHECKING:
    from seqlab.optim import Settings


@dataclass(frozen=True)
class Optim:
    """What a random search varies, and the optimiser."""

    optimizer: str = "sgd"
    learning_rate: float = 1.0
    clip_norm: float = 5.0
    init_scale: float = 1.0
    dropout_rate: float | None = None


class Trained(Protocol):
    """A trial that has the fields above, a cell, a schedule and a seed."""

    @property
    def model(self) -> Any: ...
    @property
    def optim(self) -> Optim: ...
    @property
    def train(self) -> Any: ...
    @property
    def seed(self) -> int: ...


POSITIVE = (
    "model.num_layers",
    "optim.learning_rate",
    "optim.clip_norm",
    "optim.init_scale",
    "train.batch_size",
    "train.schedule.max_epochs",
    "train.schedule.patience",
)


def check(trial: Trained, positive: Iterable[str] = ()) -> None:
    """Raise InputError where a field has a value that cannot be run.

    Args:
        trial: which.
        positive: further fields that have to be above 0, or None.
    """
    from seqlab.cells import CELLS
    from seqlab.optim import OPTIMIZERS

    if not 0 <= trial.seed < 2**31:
        raise InputError(f"seed must be from 0 to {2**31 - 1}, not {trial.seed}")
    if trial.model.cell not in CELLS:
        raise InputError(f"no cell {trial.model.cell!r}.{nearest(trial.model.cell, CELLS)}")
    if trial.optim.optimizer not in OPTIMIZERS:
        raise InputError(
            f"no optimizer {trial.optim.optimizer!r}.{nearest(trial.optim.optimizer, OPTIMIZERS)}"
        )
    for path in (*POSITIVE, *positive):
        value = get(trial, path)
        if value is not None and value <= 0:
            raise InputError(f"{path} must be above 0, not {value}")
    halvings = trial.train.schedule.halvings
    if halvings < 0:
        raise InputError(f"train.schedule.halvings must be from 0, not {halvings}")
    rate = trial.optim.dropout_rate
    if rate is not None and not 0 <= rate < 1:
        raise InputError(f"optim.dropout_rate must be in [0, 1), not {rate}")


def settings(trial: Trained) -> "Settings":
    """What differs between trials of one shape."""
    from seqlab.optim import Settings

    return Settings(
        learning_rate=trial.optim.learning_rate,
        clip_norm=trial.optim.clip_norm,
        init_scale=trial.optim.init_scale,
        dropout_rate=trial.optim.dropout_rate,
        seed=trial.seed,
    )
