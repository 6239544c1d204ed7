"""Training on many sequences: classes, tags or translations of them, in batches of similar length.

`fit` is a pure function of its arguments: the same trial on the same CPU gives the same bits,
interrupted and resumed or not.
"""

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
import optax
from flax import struct

from seqlab import buckets, epochs, metrics, optim
from seqlab.buckets import ABSENT, Batch
from seqlab.data.examples import Examples
from seqlab.train import SYMBOLS, Objective

STEPS_PER_DISPATCH = 8  # of one bucket; what its last dispatch lacks is computed in vain


class Wiring(NamedTuple):
    """What goes into a network, what comes out, and what is wanted.

    Attributes:
        arguments: of a batch, those that the network is called with.
        logits: of what it returns, [B, U, K], U places of which each has a target.
        objective: what is minimised and what is reported.
    """

    arguments: Callable[[Batch], tuple[jax.Array, ...]]
    logits: Callable[[Any], jax.Array]
    objective: Objective = SYMBOLS


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


@struct.dataclass
class TrainState:
    step: jax.Array
    params: Any
    opt_state: Any


@functools.partial(jax.jit, static_argnames="program")
def init_state(program: Program, settings: optim.Settings, batch: Batch) -> TrainState:
    """Weights as the network draws them, matrices scaled by `init_scale`."""
    one = jax.tree.map(lambda leaf: leaf[:1], batch)
    params = program.model.init(jax.random.key(settings.seed), *program.wiring.arguments(one))
    params = jax.tree.map(lambda p: p * settings.init_scale if p.ndim > 1 else p, params)
    optimizer = optim.clipped(program.optimizer, settings.learning_rate, settings.clip_norm)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def train_step(
    program: Program, settings: optim.Settings, state: TrainState, batch: Batch
) -> tuple[TrainState, jax.Array]:
    """One batch: forward, backward, clip, update. Also returns the mean loss of what is scored."""
    dropout_key = jax.random.fold_in(jax.random.split(jax.random.key(settings.seed))[1], state.step)

    def mean_loss(params: Any) -> jax.Array:
        said = program.model.apply(
            params,
            *program.wiring.arguments(batch),
            dropout_rate=settings.dropout_rate,
            rngs={"dropout": dropout_key},
        )
        logits = program.wiring.logits(said)
        loss = program.wiring.objective.loss(logits, batch.targets, where=batch.scored).sum()
        return loss / jnp.maximum(batch.scored.sum(), 1).astype(loss.dtype)

    loss, grads = jax.value_and_grad(mean_loss)(state.params)
    optimizer = optim.clipped(program.optimizer, settings.learning_rate, settings.clip_norm)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, opt_state), loss


@functools.partial(jax.jit, static_argnames="program", donate_argnames="state")
def train_steps(
    program: Program, settings: optim.Settings, state: TrainState, bucket: Batch, rows: jax.Array
) -> tuple[TrainState, jax.Array]:
    """A step for each batch of rows [count, B] that has any; losses [count]."""

    def step(state: TrainState, rows: jax.Array) -> tuple[TrainState, jax.Array]:
        after, loss = train_step(program, settings, state, buckets.take(bucket, rows))
        any_present = (rows != ABSENT).any()
        after = jax.tree.map(lambda new, old: jnp.where(any_present, new, old), after, state)
        return after, loss

    return jax.lax.scan(step, state, rows)


@functools.partial(jax.jit, static_argnames="program")
def evaluate(program: Program, params: Any, bucket: Batch, rows: jax.Array) -> dict[str, jax.Array]:
    """Sums of the metrics over batches of rows [count, B]."""

    def step(_: None, rows: jax.Array) -> tuple[None, dict[str, jax.Array]]:
        batch = buckets.take(bucket, rows)
        said = program.model.apply(params, *program.wiring.arguments(batch))
        logits = program.wiring.logits(said)
        return None, program.wiring.objective.sums(logits, batch.targets, where=batch.scored)

    _, sums = jax.lax.scan(step, None, rows)
    return jax.tree.map(lambda a: a.sum(), sums)


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
    """Train until the schedule ends; the metrics are those of the epoch with the best validation.

    Args:
        program: what is compiled.
        settings: the values it is run with.
        splits: the examples.
        config: batch size, buckets, schedule.
        folder: where the log and the checkpoints go, one an epoch, and are resumed from; None
            writes nothing.
        begin: what a decoder is given before its first symbol.
        keep_best: leave the parameters of the best epoch in `folder/best`.
        inspect: looks at them when training has ended; what it finds is added to the metrics.

    Raises:
        Diverged: a training loss was not finite.
        KeyboardInterrupt: after a signal, when the state at the next boundary is saved.
    """
    train = buckets.padded(splits.train, config.num_buckets, begin)
    held_out = {
        name: buckets.padded(examples, config.num_buckets, begin)
        for name, examples in (("valid", splits.valid), ("test", splits.test))
    }
    seed = int(settings.seed)
    settings = jax.tree.map(jnp.asarray, settings)
    cut = functools.partial(buckets.shuffled, train, config.batch_size, STEPS_PER_DISPATCH, seed)
    order = functools.lru_cache(maxsize=1)(cut)

    def dispatch(state: TrainState, rate: jax.Array, epoch: int, number: int) -> Any:
        work = order(epoch)[number]
        given = settings._replace(learning_rate=rate)
        bucket = train[work.bucket]
        state, losses = train_steps(program, given, state, bucket, jnp.asarray(work.rows))
        return state, np.asarray(losses)[(work.rows != ABSENT).any(axis=1)]

    def score(split: str, params: Any) -> dict[str, float]:
        return metrics.means(sums(program, params, held_out[split], config.batch_size))

    return epochs.fit(
        epochs.Training(len(order(0)), dispatch, score),
        init_state(program, settings, train[0]),
        settings.learning_rate,
        config.schedule,
        folder,
        keep_best,
        inspect,
    )


def sums(
    program: Program, params: Any, split: list[Batch], batch_size: int
) -> dict[str, jax.Array]:
    """Of the metrics over a whole split."""
    parts = [
        evaluate(program, params, split[work.bucket], jnp.asarray(work.rows))
        for work in buckets.in_order(split, batch_size, STEPS_PER_DISPATCH)
    ]
    return jax.tree.map(lambda *values: sum(values), *parts)


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
