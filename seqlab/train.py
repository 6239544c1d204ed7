"""Truncated backpropagation through time along a stream: state, step, evaluation, fit.

`fit` is a pure function of its arguments: the same trial on the same CPU gives the same bits,
interrupted and resumed or not. Everything a random search varies is a traced value, so one
compilation serves all settings of a shape.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from seqlab import epochs, losses, metrics, optim
from seqlab.data.stream import Dataset, Stream
from seqlab.schedule import TrainConfig as TrainConfig


class Objective(NamedTuple):
    """What is minimised and what is reported; both take (logits, targets, where)."""

    loss: Callable[..., jax.Array]
    sums: Callable[..., dict[str, jax.Array]]


SYMBOLS = Objective(losses.symbol_nll, metrics.symbol_sums)
FRAMES = Objective(losses.frame_nll, metrics.frame_sums)
MEASUREMENTS = Objective(losses.measurement_nll, metrics.measurement_sums)


class Program(NamedTuple):
    """All that is static in a compiled training step; what varies is in `optim.Settings`."""

    model: nn.Module
    objective: Objective
    optimizer: str


class Windows(NamedTuple):
    """A stream cut for truncated backpropagation: B rows side by side, W windows of T steps.

    Row b of window w+1 continues row b of window w, so the carry is kept from one to the next.
    """

    inputs: jax.Array  # [W, B, T] or [W, B, T, C]
    targets: jax.Array  # the same, one position later
    scored: jax.Array  # [W, B, T]


@struct.dataclass
class TrainState:
    step: jax.Array
    params: Any
    opt_state: Any
    carry: Any


def windows(stream: Stream, start: int, batch_size: int, unroll: int) -> Windows:
    """Cut a stream: every scored position is a target exactly once, padding is not scored."""
    num_windows = -(-len(stream.values) // (batch_size * unroll))
    padding = num_windows * batch_size * unroll - len(stream.values)

    def cut(values: np.ndarray) -> jax.Array:
        values = np.pad(values, [(0, padding)] + [(0, 0)] * (values.ndim - 1))
        rows = values.reshape(batch_size, num_windows, unroll, *values.shape[1:])
        return jnp.asarray(rows.swapaxes(0, 1))

    inputs = np.concatenate([np.full_like(stream.values[:1], start), stream.values[:-1]])
    return Windows(cut(inputs), cut(stream.values), cut(stream.scored))


@functools.partial(jax.jit, static_argnames="program")
def init_state(program: Program, settings: optim.Settings, window: Windows) -> TrainState:
    """Weights U[-s/√n, s/√n]: modules draw with s = 1, and matrices are scaled by s here.

    Vectors stay as they are drawn: biases, and the peepholes of the LSTMs that have them.
    """
    params = program.model.init(jax.random.key(settings.seed), window.inputs[:1, :1])
    params = jax.tree.map(lambda p: p * settings.init_scale if p.ndim > 1 else p, params)
    optimizer = optim.clipped(program.optimizer, settings.learning_rate, settings.clip_norm)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        carry=program.model.initial_carry(len(window.inputs)),  # pyright: ignore
    )


def train_step(
    program: Program, settings: optim.Settings, state: TrainState, window: Windows
) -> tuple[TrainState, jax.Array]:
    """One window: forward, backward through T steps, clip, update. Also returns the mean loss."""
    dropout_key = jax.random.fold_in(jax.random.split(jax.random.key(settings.seed))[1], state.step)

    def mean_loss(params):
        carry, logits = program.model.apply(
            params,
            window.inputs,
            state.carry,
            dropout_rate=settings.dropout_rate,
            rngs={"dropout": dropout_key},
        )
        loss = program.objective.loss(logits, window.targets, where=window.scored).sum()
        return loss / jnp.maximum(window.scored.sum(), 1).astype(loss.dtype), carry

    (loss, carry), grads = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
    optimizer = optim.clipped(program.optimizer, settings.learning_rate, settings.clip_norm)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, opt_state, carry), loss


@functools.partial(jax.jit, static_argnames=("program", "count"), donate_argnames="state")
def train_steps(
    program: Program, settings: optim.Settings, state: TrainState, split: Windows, count: int
) -> tuple[TrainState, jax.Array]:
    """`count` training steps in one dispatch, on the windows that follow, round and round.

    Returns:
        The state, and the loss of each step, [count].
    """
    num_windows, batch_size = split.scored.shape[:2]
    fresh = program.model.initial_carry(batch_size)  # pyright: ignore

    def step(state: TrainState, number: jax.Array) -> tuple[TrainState, jax.Array]:
        begins = number == 0
        carry = jax.tree.map(lambda new, old: jnp.where(begins, new, old), fresh, state.carry)
        window = jax.tree.map(lambda a: a[number], split)
        return train_step(program, settings, dataclasses.replace(state, carry=carry), window)

    numbers = (state.step + jnp.arange(count, dtype=jnp.int32)) % num_windows
    return jax.lax.scan(step, state, numbers)


@functools.partial(jax.jit, static_argnames="program")
def evaluate(program: Program, params: Any, split: Windows) -> dict[str, jax.Array]:
    """Sums of the metrics over a whole split, the carry kept along the stream."""

    def step(carry, window):
        carry, logits = program.model.apply(params, window.inputs, carry)
        return carry, program.objective.sums(logits, window.targets, where=window.scored)

    carry = program.model.initial_carry(split.inputs.shape[1])  # pyright: ignore
    _, sums = jax.lax.scan(step, carry, split)
    return jax.tree.map(lambda a: a.sum(), sums)


def steps_per_dispatch(epoch_steps: int, at_least: int = 50) -> int:
    """The smallest divisor of `epoch_steps` that is ≥ `at_least`: every dispatch of one shape."""
    return next(
        k for k in range(min(at_least, epoch_steps), epoch_steps + 1) if epoch_steps % k == 0
    )


def fit(
    program: Program,
    settings: optim.Settings,
    dataset: Dataset,
    config: TrainConfig,
    folder: Path | None = None,
    keep_best: bool = False,
    inspect: epochs.Inspect | None = None,
) -> dict[str, Any]:
    """Train until the schedule ends; the metrics are those of the epoch with the best validation.

    Args:
        program: what is compiled.
        settings: the values it is run with.
        dataset: the streams.
        config: batch size, unroll, schedule.
        folder: where the log and the checkpoints go, one an epoch, and are resumed from; None
            writes nothing.
        keep_best: leave the parameters of the best epoch in `folder/best`.
        inspect: is given them when training has ended; what it returns is added to the metrics.

    Raises:
        Diverged: a training loss was not finite.
        KeyboardInterrupt: after a signal, when the state at the next boundary is saved.
    """
    cut = functools.partial(
        windows, start=dataset.start, batch_size=config.batch_size, unroll=config.unroll
    )
    train = cut(dataset.train)
    held_out = {"valid": cut(dataset.valid), "test": cut(dataset.test)}
    settings = jax.tree.map(jnp.asarray, settings)
    epoch_steps = config.steps_per_epoch or len(train.scored)
    count = steps_per_dispatch(epoch_steps)

    def dispatch(state: TrainState, rate: jax.Array, epoch: int, number: int) -> Any:
        return train_steps(program, settings._replace(learning_rate=rate), state, train, count)

    def score(split: str, params: Any) -> dict[str, float]:
        return metrics.means(evaluate(program, params, held_out[split]))

    return epochs.fit(
        epochs.Training(epoch_steps // count, dispatch, score),
        init_state(program, settings, jax.tree.map(lambda a: a[0], train)),
        settings.learning_rate,
        config.schedule,
        folder,
        keep_best,
        inspect,
    )
