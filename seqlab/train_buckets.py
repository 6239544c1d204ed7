"""Training on bucketed batches, whatever the network: steps, evaluation, epochs.

The caller supplies one training step and the metrics of one batch, as pure functions of a program;
this module repeats them over a split. The same trial on the same CPU gives the same bits,
interrupted and resumed or not.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from seqlab import buckets, epochs, metrics, optim
from seqlab.buckets import ABSENT, Batch
from seqlab.schedule import Schedule

STEPS_PER_DISPATCH = 8  # of one bucket; a short last dispatch is padded with steps of no effect


@struct.dataclass
class TrainState:
    step: jax.Array
    params: Any
    opt_state: Any


class Learning(NamedTuple):
    """How a program is trained and how it is evaluated: pure functions, with the program static.

    Attributes:
        step: (program, settings, state, batch) to the next state and the loss.
        sums: (program, params, batch, key) to the sums of the metrics over the scored positions of
            the batch, `count` and `nll` among them; the key, for losses with noise, depends only on
            the batch's place in its bucket.
    """

    step: Callable[[Any, optim.Settings, TrainState, Batch], tuple[TrainState, jax.Array]]
    sums: Callable[[Any, Any, Batch, jax.Array], dict[str, jax.Array]]


def begun(params: Any, optimizer: str, settings: optim.Settings) -> TrainState:
    """The state before the first step; matrices are scaled by `init_scale`."""
    params = jax.tree.map(lambda p: p * settings.init_scale if p.ndim > 1 else p, params)
    rule = optim.clipped(optimizer, settings.learning_rate, settings.clip_norm)
    return TrainState(jnp.zeros((), jnp.int32), params, rule.init(params))


def updated(state: TrainState, grads: Any, optimizer: str, settings: optim.Settings) -> TrainState:
    """After one step: clip, update."""
    rule = optim.clipped(optimizer, settings.learning_rate, settings.clip_norm)
    updates, opt_state = rule.update(grads, state.opt_state, state.params)
    return TrainState(state.step + 1, optax.apply_updates(state.params, updates), opt_state)


def step_key(settings: optim.Settings, step: jax.Array) -> jax.Array:
    """The key for a step's dropout and noise; the weights are drawn from the seed's own key."""
    return jax.random.fold_in(jax.random.split(jax.random.key(settings.seed))[1], step)


@functools.partial(jax.jit, static_argnames=("learning", "program"), donate_argnames="state")
def train_steps(
    learning: Learning,
    program: Any,
    settings: optim.Settings,
    state: TrainState,
    bucket: Batch,
    rows: jax.Array,
) -> tuple[TrainState, jax.Array]:
    """A step for each batch of rows [count, B] that has any; losses [count]."""

    def step(state: TrainState, rows: jax.Array) -> tuple[TrainState, jax.Array]:
        after, loss = learning.step(program, settings, state, buckets.take(bucket, rows))
        any_present = (rows != ABSENT).any()
        after = jax.tree.map(lambda new, old: jnp.where(any_present, new, old), after, state)
        return after, loss

    return jax.lax.scan(step, state, rows)


@functools.partial(jax.jit, static_argnames=("learning", "program"))
def evaluate(
    learning: Learning, program: Any, params: Any, bucket: Batch, rows: jax.Array
) -> dict[str, jax.Array]:
    """Sums of the metrics over batches of rows [count, B]."""

    def step(_: None, rows: jax.Array) -> tuple[None, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.key(0), rows[0])
        return None, learning.sums(program, params, buckets.take(bucket, rows), key)

    _, sums = jax.lax.scan(step, None, rows)
    return jax.tree.map(lambda a: a.sum(), sums)


def sums(
    learning: Learning, program: Any, params: Any, split: list[Batch], batch_size: int
) -> dict[str, jax.Array]:
    """Of the metrics over a whole split."""
    parts = [
        evaluate(learning, program, params, split[work.bucket], jnp.asarray(work.rows))
        for work in buckets.in_order(split, batch_size, STEPS_PER_DISPATCH)
    ]
    return jax.tree.map(lambda *values: sum(values), *parts)


def fit(
    learning: Learning,
    program: Any,
    settings: optim.Settings,
    splits: Mapping[str, list[Batch]],
    init_state: Callable[[optim.Settings, Batch], TrainState],
    batch_size: int,
    schedule: Schedule,
    folder: Path | None = None,
    keep_best: bool = False,
    inspect: epochs.Inspect | None = None,
) -> dict[str, Any]:
    """Train until the schedule ends; the metrics are those of the epoch with the best validation.

    Args:
        learning: what a step is, and what is counted.
        program: all that is static in it.
        settings: the values it is run with.
        splits: the buckets of train, valid and test.
        init_state: of the settings and any bucket, the state before the first step.
        batch_size: B.
        schedule: learning rate and end; an epoch is once through train.
        folder: where the log and the checkpoints go, one an epoch, and are resumed from; None
            writes nothing.
        keep_best: leave the parameters of the best epoch in `folder/best`.
        inspect: looks at them when training has ended; what it finds is added to the metrics.

    Raises:
        Diverged: a training loss was not finite.
        KeyboardInterrupt: after a signal, when the state at the next boundary is saved.
    """
    train = splits["train"]
    cut = functools.partial(
        buckets.shuffled, train, batch_size, STEPS_PER_DISPATCH, int(settings.seed)
    )
    order = functools.lru_cache(maxsize=1)(cut)
    settings = jax.tree.map(jnp.asarray, settings)

    def dispatch(state: TrainState, rate: jax.Array, epoch: int, number: int) -> Any:
        work = order(epoch)[number]
        given = settings._replace(learning_rate=rate)
        bucket, rows = train[work.bucket], jnp.asarray(work.rows)
        state, losses = train_steps(learning, program, given, state, bucket, rows)
        return state, np.asarray(losses)[(work.rows != ABSENT).any(axis=1)]

    def score(split: str, params: Any) -> dict[str, float]:
        return metrics.means(sums(learning, program, params, splits[split], batch_size))

    return epochs.fit(
        epochs.Training(len(order(0)), dispatch, score),
        init_state(settings, train[0]),
        settings.learning_rate,
        schedule,
        folder,
        keep_best,
        inspect,
    )
