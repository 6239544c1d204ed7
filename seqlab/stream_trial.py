"""What the experiments on streams share: the fields of a trial, its network, how it is run.

Tables need the fields alone: what training needs is imported inside the functions that use it.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from seqlab import data, trial_fields
from seqlab.data import DataConfig, Dataset, Music
from seqlab.data.fingerprint import fingerprint
from seqlab.errors import InputError
from seqlab.trial_fields import settings

if TYPE_CHECKING:
    from seqlab.models.sequence import FramePredictor, LanguageModel
    from seqlab.pack_log import News
    from seqlab.packs import Outline
    from seqlab.train import Program


@dataclass(frozen=True)
class Model:
    """Which network: a cell, and what it may cost. Units follow from the parameter budget."""

    cell: str = "gru"
    num_layers: int = 1
    parameter_budget: int = 250_000


class StreamTrial(trial_fields.Trained, Protocol):
    """The fields that are read here."""

    @property
    def data(self) -> DataConfig: ...


# The fields in which the trials of a pack may differ.
VARIES = (
    *("optim.learning_rate", "optim.clip_norm", "optim.init_scale", "optim.dropout_rate"),
    *("seed", "setting", "stage"),
)
# Fields that have little effect on a trial's cost, given its parameter budget.
COST_ALIKE = ("model.cell", "model.num_layers")


def check(trial: StreamTrial) -> None:
    """Raise InputError for what cannot be run."""
    positive = ("model.parameter_budget", "train.unroll", "train.steps_per_epoch")
    trial_fields.check(trial, positive)
    check_data(trial.data)
    source = type(trial.data)
    smallest = num_params(trial.model.cell, trial.model.num_layers, source, 1)
    if smallest > trial.model.parameter_budget:
        raise InputError(
            f"model.parameter_budget={trial.model.parameter_budget:,} is too small: one unit "
            f"of {trial.model.cell} on {source.__name__.lower()} takes {smallest:,} parameters"
        )


check_data = functools.cache(data.check)


@functools.cache
def num_params(cell: str, num_layers: int, source: type, units: int) -> int:
    """Parameters of the network with so many units, embedding and head counted."""
    import jax
    import jax.numpy as jnp

    from seqlab.models.budget import count_params

    one = jax.ShapeDtypeStruct(
        *(((1, 1, 88), jnp.uint8) if source is Music else ((1, 1), jnp.int32))
    )
    return count_params(network(cell, num_layers, source, units), one)


def network(
    cell: str, num_layers: int, source: type, units: int
) -> "LanguageModel | FramePredictor":
    """Embedding as wide as the cells, which MUT1 and MUT2 need; the stack; the head."""
    from seqlab.cells import CELLS
    from seqlab.models.rnn import stack
    from seqlab.models.sequence import FramePredictor, LanguageModel

    layers = stack(CELLS[cell], units, num_layers)
    kind = FramePredictor if source is Music else LanguageModel
    return kind(layers, data.CHANNELS[source], units)


@functools.lru_cache(maxsize=1)
def load(config: DataConfig) -> tuple[Dataset, str]:
    """The data set and its digest."""
    dataset = data.load(config)
    return dataset, fingerprint(dataset)


def compiled(trial: StreamTrial) -> "tuple[Program, int]":
    """What is compiled for a trial and all of its shape, and the units of a layer."""
    from seqlab import train
    from seqlab.models.budget import units_for_budget

    kind = trial.model.cell, trial.model.num_layers, type(trial.data)
    units = units_for_budget(functools.partial(num_params, *kind), trial.model.parameter_budget)
    objective = train.FRAMES if isinstance(trial.data, Music) else train.SYMBOLS
    return train.Program(network(*kind, units), objective, trial.optim.optimizer), units


def run(
    trial: StreamTrial,
    folder: Path | None = None,
    keep_best: bool = False,
    inspect: "Callable[[Program, Any, Dataset], dict[str, Any]] | None" = None,
) -> dict[str, Any]:
    """Train the trial's network on its stream; metrics of the epoch with the best validation.

    Args:
        trial: which.
        folder: of the attempt.
        keep_best: leave the parameters of the best epoch in `folder/best`.
        inspect: looks at what has been trained, (program, parameters of the best epoch, data set);
            what it finds, JSON values by name, is added to the metrics.
    """
    from seqlab import train
    from seqlab.history import same_data

    dataset, sha256 = load(trial.data)
    same_data(folder, sha256)
    program, units = compiled(trial)
    look = None if inspect is None else lambda params: inspect(program, params, dataset)
    metrics = train.fit(program, settings(trial), dataset, trial.train, folder, keep_best, look)
    return metrics | {"units": units, "dataset_sha256": sha256}


def run_pack(
    trials: Sequence[StreamTrial], folder: Path | None = None, memory: int | None = None
) -> "Iterator[News]":
    """As `run`, of all trials of a pack at once."""
    import jax

    from seqlab import packs
    from seqlab.history import same_data

    first = trials[0]
    dataset, sha256 = load(first.data)
    same_data(folder, sha256)
    program, units = compiled(first)
    found: Mapping[str, Any] = {"units": units, "dataset_sha256": sha256}
    devices = jax.local_devices() if jax.local_device_count() > 1 else None
    members = [settings(trial) for trial in trials]
    for news in packs.fit(program, members, dataset, first.train, folder, devices, memory):
        yield news.with_metrics(found)


def outline(trials: Sequence[StreamTrial]) -> "Outline":
    """What a pack of these trials would be."""
    from seqlab import packs

    dataset, _ = load(trials[0].data)
    program, _ = compiled(trials[0])
    return packs.outline(program, [settings(t) for t in trials], dataset, trials[0].train)
