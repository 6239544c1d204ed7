"""Training of networks that draw, in batches of drawings of similar length.

`fit` is a pure function of its arguments: the same trial on the same CPU gives the same bits,
interrupted and resumed or not.
"""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from seqlab import buckets, epochs, metrics, optim
from seqlab.buckets import ABSENT, Batch
from seqlab.models.sketch import SketchVAE, Unconditional, first_steps, num_latents
from seqlab.schedule import Schedule
from seqlab.sketch_losses import SketchLoss, annealed, divergence, terms
from seqlab.sketches import END, Drawings
from seqlab.train_sequences import STEPS_PER_DISPATCH, TrainState


@dataclass(frozen=True)
class SketchTrainConfig:
    """How drawings are batched, what is minimised, and when to stop.

    Attributes:
        batch_size: B.
        num_buckets: shapes that drawings are padded to. The paper has one, of N_max steps; with
            more of them the pens that pad a drawing are counted to the end of its bucket.
        loss: see there.
        schedule: learning rate and end; an epoch is once through the training split.
    """

    batch_size: int = 100
    num_buckets: int = 6
    loss: SketchLoss = field(default_factory=SketchLoss)
    schedule: Schedule = field(default_factory=Schedule)


class Program(NamedTuple):
    """All that is static in a compiled training step.

    Attributes:
        model: what draws.
        optimizer: of `seqlab.optim`.
        loss: its numbers.
        quantum: width of the noise on the grid.
        longest: N_max.
    """

    model: Unconditional | SketchVAE
    optimizer: str
    loss: SketchLoss
    quantum: float
    longest: int


def arguments(batch: Batch, noise: Array | None) -> tuple[Any, ...]:
    """What a network is called with: what it is given before each step, what it is to encode."""
    wanted = batch.targets
    given = jnp.concatenate([first_steps(len(wanted))[:, None], wanted[:, :-1]], axis=1)
    return given, batch.inputs, batch.lengths, noise


def dithered(batch: Batch, key: Array, quantum: float, scaling: float) -> Batch:
    """Off the grid by U[-½, ½] quanta, and each axis scaled by U[1 - s, 1 + s]."""
    of_noise, of_scale = jax.random.split(key)
    rows, _, _ = batch.targets.shape
    shape = (*batch.targets.shape[:2], 2)
    noise = quantum * jax.random.uniform(of_noise, shape, minval=-0.5, maxval=0.5)
    drawn = (batch.scored & (batch.targets[..., 2 + END] == 0))[..., None]
    scale = jax.random.uniform(of_scale, (rows, 1, 2), minval=1 - scaling, maxval=1 + scaling)
    offsets = jnp.where(drawn, scale * (batch.targets[..., :2] + noise), 0.0)
    targets = batch.targets.at[..., :2].set(offsets)
    inside = batch.inputs.at[..., :2].set(offsets[:, : batch.inputs.shape[1]])
    return batch._replace(inputs=inside, targets=targets)


@functools.partial(jax.jit, static_argnames="model")
def init_params(model: Unconditional | SketchVAE, key: Array, batch: Batch) -> Any:
    """Weights as the network draws them."""
    one = jax.tree.map(lambda leaf: leaf[:1], batch)
    return model.init(key, *arguments(one, _noise(model, key, 1)))


@functools.partial(jax.jit, static_argnames="program")
def init_state(program: Program, settings: optim.Settings, batch: Batch) -> TrainState:
    """Weights as the network draws them, matrices scaled by `init_scale`."""
    params = init_params(program.model, jax.random.key(settings.seed), batch)
    params = jax.tree.map(lambda p: p * settings.init_scale if p.ndim > 1 else p, params)
    optimizer = optim.clipped(program.optimizer, settings.learning_rate, settings.clip_norm)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def train_step(
    program: Program, settings: optim.Settings, state: TrainState, batch: Batch
) -> tuple[TrainState, jax.Array]:
    """One batch: forward, backward, clip, update. Also returns L."""
    now = jax.random.fold_in(jax.random.split(jax.random.key(settings.seed))[1], state.step)
    of_dropout, of_noise, of_grid = jax.random.split(now, 3)
    batch = dithered(batch, of_grid, program.quantum, program.loss.scaling)
    present = batch.scored.any(axis=1)
    noise = _noise(program.model, of_noise, len(present))

    def mean_loss(params: Any) -> jax.Array:
        said, posterior = _apply(
            program,
            params,
            arguments(batch, noise),
            dropout_rate=settings.dropout_rate,
            rngs={"dropout": of_dropout},
        )
        drawings = jnp.maximum(present.sum(), 1).astype(jnp.float32)
        costs = terms(said, batch.targets, batch.scored)
        total = costs.offsets + costs.pens + costs.padding
        reconstruction = jnp.where(present, total, 0.0).sum() / drawings / program.longest
        if posterior is None:
            return reconstruction
        latents = num_latents(program.model)
        mean_kl = jnp.where(present, divergence(posterior), 0.0).sum() / drawings / latents
        weight = program.loss.kl_weight * annealed(program.loss, state.step)
        return reconstruction + weight * jnp.maximum(mean_kl, program.loss.kl_min)

    value, grads = jax.value_and_grad(mean_loss)(state.params)
    optimizer = optim.clipped(program.optimizer, settings.learning_rate, settings.clip_norm)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, opt_state), value


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
    """Sums over drawings, over batches of rows [count, B], the same noise whenever it is asked.

    nll is reconstruction + kl, in nats: of a VAE a bound from above, with one z for each drawing.
    """

    def step(_: None, rows: jax.Array) -> tuple[None, dict[str, jax.Array]]:
        of_grid, of_noise = jax.random.split(jax.random.fold_in(jax.random.key(0), rows[0]))
        batch = dithered(buckets.take(bucket, rows), of_grid, program.quantum, scaling=0.0)
        noise = _noise(program.model, of_noise, len(rows))
        said, posterior = _apply(program, params, arguments(batch, noise))
        costs = terms(said, batch.targets, batch.scored)
        present = batch.scored.any(axis=1)
        kl = jnp.zeros(len(rows)) if posterior is None else divergence(posterior)
        sums = {
            "reconstruction": costs.offsets + costs.pens,
            "kl": kl,
            "points": batch.lengths.astype(jnp.float32),
        }
        sums = {name: jnp.where(present, of, 0.0).sum() for name, of in sums.items()}
        nll = sums["reconstruction"] + sums["kl"]
        return None, sums | {"nll": nll, "count": present.sum().astype(jnp.float32)}

    _, sums = jax.lax.scan(step, None, rows)
    return jax.tree.map(lambda a: a.sum(), sums)


def fit(
    program: Program,
    settings: optim.Settings,
    drawings: Drawings,
    config: SketchTrainConfig,
    folder: Path | None = None,
    keep_best: bool = False,
    inspect: epochs.Inspect | None = None,
) -> dict[str, Any]:
    """Train until the schedule ends; the metrics are those of the epoch with the best validation.

    Args:
        program: what is compiled.
        settings: the values it is run with.
        drawings: the three splits.
        config: batch size, buckets, schedule.
        folder: where the log and the checkpoints go, one an epoch, and are resumed from; None
            writes nothing.
        keep_best: leave the parameters of the best epoch in `folder/best`.
        inspect: looks at them when training has ended; what it finds is added to the metrics.

    Raises:
        Diverged: a training loss was not finite.
        KeyboardInterrupt: after a signal, when the state at the next boundary is saved.
    """
    train = buckets.padded(drawings.train, config.num_buckets)
    held_out = {
        name: buckets.padded(examples, config.num_buckets)
        for name, examples in (("valid", drawings.valid), ("test", drawings.test))
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
        whole = held_out[split]
        parts = [
            evaluate(program, params, whole[work.bucket], jnp.asarray(work.rows))
            for work in buckets.in_order(whole, config.batch_size, STEPS_PER_DISPATCH)
        ]
        return metrics.means(jax.tree.map(lambda *values: sum(values), *parts))

    return epochs.fit(
        epochs.Training(len(order(0)), dispatch, score),
        init_state(program, settings, train[0]),
        settings.learning_rate,
        config.schedule,
        folder,
        keep_best,
        inspect,
    )


def _noise(model: Unconditional | SketchVAE, key: Array, rows: int) -> Array | None:
    latents = num_latents(model)
    return jax.random.normal(key, (rows, latents)) if latents else None


def _apply(program: Program, params: Any, given: tuple, **how: Any) -> Any:
    return program.model.apply(params, *given, **how)
