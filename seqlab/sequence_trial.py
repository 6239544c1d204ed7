"""What the experiments on many sequences share: the fields of a model, how a trial is run."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from seqlab import data, train_sequences, trial_fields
from seqlab.cells import CELLS
from seqlab.data import ExampleConfig, ExampleDataset
from seqlab.data.fingerprint import fingerprint
from seqlab.history import same_data
from seqlab.models.rnn import Stack, bidirectional_stack, stack
from seqlab.train_sequences import Program, Splits, Wiring
from seqlab.trial_fields import settings


@dataclass(frozen=True)
class Model:
    """The layers: all of one cell and one width, which is also that of the input embedding."""

    cell: str = "lstm"
    units: int = 128
    num_layers: int = 1
    bidirectional: bool = False

    def layers(self) -> Stack:
        kind = bidirectional_stack if self.bidirectional else stack
        return kind(CELLS[self.cell], self.units, self.num_layers)


class OnData(trial_fields.Trained, Protocol):
    """The fields that are checked here."""

    @property
    def data(self) -> data.Config: ...


class SequenceTrial(trial_fields.Trained, Protocol):
    """The fields that are read here."""

    @property
    def data(self) -> ExampleConfig: ...


def check(trial: OnData) -> None:
    """Raise InputError for what cannot be run, ValueError for widths that do not fit."""
    trial_fields.check(trial, ("model.units", "train.num_buckets"))
    if isinstance(trial.model, Model):
        xs = jnp.zeros((1, 1, trial.model.units))
        jax.eval_shape(trial.model.layers().init, jax.random.key(0), xs)
    check_data(trial.data)


check_data = functools.cache(data.check)


@functools.lru_cache(maxsize=1)
def load(config: ExampleConfig) -> tuple[ExampleDataset, str]:
    """The data set and its digest."""
    dataset = data.load(config)
    return dataset, fingerprint(dataset)


def run(
    trial: SequenceTrial,
    network: Callable[[Any, ExampleDataset], nn.Module],
    wiring: Wiring,
    folder: Path | None = None,
    inspect: Callable[[Program, Any, ExampleDataset], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Train a network on examples; metrics of the epoch with the best validation.

    Args:
        trial: which.
        network: what it is for the trial's data.
        wiring: how the network is called.
        folder: of the attempt; the best parameters are left in `folder/best`.
        inspect: looks at what has been trained, (program, parameters of the best epoch, data set);
            what it finds, JSON values by name, is added to the metrics.
    """
    dataset, sha256 = load(trial.data)
    same_data(folder, sha256)
    program = Program(network(trial, dataset), wiring, trial.optim.optimizer)
    splits = Splits(dataset.train, dataset.valid, dataset.test)
    look = None if inspect is None else lambda params: inspect(program, params, dataset)
    metrics = train_sequences.fit(
        program, settings(trial), splits, trial.train, folder, keep_best=True, inspect=look
    )
    return metrics | {"dataset_sha256": sha256}
