"""Training on many sequences: classification, tagging, translation."""

import dataclasses
import functools
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from seqlab import buckets, epochs, optim, train_buckets
from seqlab.buckets import Batch
from seqlab.data.examples import Examples
from seqlab.train import SYMBOLS, Objective
from seqlab.train_buckets import Learning, TrainState


class Wiring(NamedTuple):
    """How a network is called, what it returns, and what is minimised.

    Attributes:
        arguments: batch -> the arguments that the network is called with.
        logits: the network's output -> logits [B, U, K] of U places; those with a target come
            first.
        objective: what is minimised and what is reported.
        penalty: (output, which places have a target [B, U]) -> what is added to the loss of each
            row, [B], before the mean over places is taken.
    """

    arguments: Callable[[Batch], tuple[jax.Array, ...]]
    logits: Callable[[Any], jax.Array]
    objective: Objective = SYMBOLS
    penalty: Callable[[Any, jax.Array], jax.Array] | None = None


MANY_TO_ONE = Wiring(lambda batch: (batch.inputs, batch.lengths), lambda said: said[:, None])
ALIGNED = Wiring(lambda batch: (batch.inputs, batch.lengths), lambda said: said)
DELAYED = Wiring(
    lambda batch: (batch.inputs, batch.lengths, batch.previous), operator.itemgetter(0)
)


class Program(NamedTuple):
    """All that is static in a compiled training step; what varies is in `optim.Settings`."""

    model: nn.Module
    wiring: Wiring
    optimizer: str


@dataclasses.dataclass(frozen=True)
class SequenceTrainConfig:
    """How examples are batched, and when to stop.

    Attributes:
        batch_size: B.
        num_buckets: shapes that sequences are padded to, each of about as many.
        schedule: learning rate and end; an epoch is once through the training split.
    """

    batch_size: int = 32
    num_buckets: int = 6
    schedule: optim.Schedule = dataclasses.field(default_factory=optim.Schedule)


class Splits(NamedTuple):
    """Of a data set, whatever else it knows."""

    train: Examples
    valid: Examples
    test: Examples


@functools.partial(jax.jit, static_argnames="program")
def init_state(program: Program, settings: optim.Settings, batch: Batch) -> TrainState:
    """Weights as the network draws them, matrices scaled by `init_scale`."""
    one = buckets.take(batch, jnp.zeros(1, jnp.int32))
    params = program.model.init(jax.random.key(settings.seed), *program.wiring.arguments(one))
    return train_buckets.begun(params, program.optimizer, settings)


def answers(program: Program, said: Any, batch: Batch) -> jax.Array:
    """Logits [B, U, K] of the places that have a target in some row; what is said later is free."""
    return program.wiring.logits(said)[:, : batch.targets.shape[1]]


def train_step(
    program: Program, settings: optim.Settings, state: TrainState, batch: Batch
) -> tuple[TrainState, jax.Array]:
    """One batch: forward, backward, clip, update. Also returns the mean loss of what is scored."""
    dropout_key = train_buckets.step_key(settings, state.step)

    def mean_loss(params: Any) -> jax.Array:
        said = program.model.apply(
            params,
            *program.wiring.arguments(batch),
            dropout_rate=settings.dropout_rate,
            rngs={"dropout": dropout_key},
        )
        logits = answers(program, said, batch)
        loss = program.wiring.objective.loss(logits, batch.targets, where=batch.scored).sum()
        if program.wiring.penalty is not None:
            present = batch.scored.any(axis=1)
            loss += jnp.where(present, program.wiring.penalty(said, batch.scored), 0.0).sum()
        return loss / jnp.maximum(batch.scored.sum(), 1).astype(loss.dtype)

    loss, grads = jax.value_and_grad(mean_loss)(state.params)
    return train_buckets.updated(state, grads, program.optimizer, settings), loss


def sums_of(program: Program, params: Any, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
    """Sums of the metrics over what is scored; the key is not used."""
    said = program.model.apply(params, *program.wiring.arguments(batch))
    logits = answers(program, said, batch)
    return program.wiring.objective.sums(logits, batch.targets, where=batch.scored)


LEARNING = Learning(train_step, sums_of)


def fit(
    program: Program,
    settings: optim.Settings,
    splits: Splits,
    config: SequenceTrainConfig,
    folder: Path | None = None,
    begin: int = 0,
    keep_best: bool = False,
    inspect: epochs.Inspect | None = None,
) -> dict[str, Any]:
    """Train on examples until the schedule ends; see `train_buckets.fit`.

    Args:
        program: what is compiled.
        settings: the values it is run with.
        splits: the examples.
        config: batch size, buckets, schedule.
        folder: of the attempt.
        begin: what a decoder is given before its first symbol.
        keep_best: leave the parameters of the best epoch in `folder/best`.
        inspect: looks at them when training has ended.
    """
    padded = {
        name: buckets.padded(examples, config.num_buckets, begin)
        for name, examples in splits._asdict().items()
    }
    return train_buckets.fit(
        LEARNING,
        program,
        settings,
        padded,
        functools.partial(init_state, program),
        batch_size=config.batch_size,
        schedule=config.schedule,
        folder=folder,
        keep_best=keep_best,
        inspect=inspect,
    )


def outputs(
    compute: Callable[[Program, Any, Batch], Any],
    program: Program,
    params: Any,
    examples: Examples,
    batch_size: int = 64,
) -> Any:
    """What is computed of every example, in their order: a tree of arrays [M, …].

    Args:
        compute: (program, params, B rows padded to the longest of all examples) to a tree of arrays
            [B, …]. A function of a module, not a lambda: it is compiled once for all trials of a
            shape.
        program: what has been trained.
        params: of its network.
        examples: M of them.
        batch_size: B.
    """
    whole = buckets.rectangle(examples)
    parts = [
        _outputs(compute, program, params, whole, jnp.asarray(rows))
        for work in buckets.in_order([whole], batch_size, 1)
        for rows in work.rows
    ]
    size = len(whole.lengths)
    return jax.tree.map(lambda *some: np.concatenate(some)[:size], *parts)


@functools.partial(jax.jit, static_argnames=("compute", "program"))
def _outputs(compute: Any, program: Program, params: Any, whole: Batch, rows: jax.Array) -> Any:
    return compute(program, params, buckets.take(whole, rows))
