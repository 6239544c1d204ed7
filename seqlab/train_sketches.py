"""Training of networks that draw, in batches of drawings of similar length."""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from seqlab import buckets, epochs, optim, train_buckets
from seqlab.buckets import Batch
from seqlab.models.sketch import SketchVAE, Unconditional, first_steps, num_latents
from seqlab.schedule import Schedule
from seqlab.sketch_losses import SketchLoss, annealed, divergence, terms
from seqlab.sketches import END, Drawings
from seqlab.train_buckets import Learning, TrainState


@dataclass(frozen=True)
class SketchTrainConfig:
    """How drawings are batched, what is minimised, and when to stop.

    Attributes:
        batch_size: B.
        num_buckets: shapes that drawings are padded to. The paper has one, of N_max steps; with
            more of them the pens that pad a drawing are counted to the end of its bucket.
        loss: see `SketchLoss`.
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
    one = buckets.take(batch, jnp.zeros(1, jnp.int32))
    return model.init(key, *arguments(one, _noise(model, key, 1)))


@functools.partial(jax.jit, static_argnames="program")
def init_state(program: Program, settings: optim.Settings, batch: Batch) -> TrainState:
    """Weights as the network draws them, matrices scaled by `init_scale`."""
    params = init_params(program.model, jax.random.key(settings.seed), batch)
    return train_buckets.begun(params, program.optimizer, settings)


def train_step(
    program: Program, settings: optim.Settings, state: TrainState, batch: Batch
) -> tuple[TrainState, jax.Array]:
    """One batch: forward, backward, clip, update. Also returns L."""
    of_dropout, of_noise, of_grid = jax.random.split(
        train_buckets.step_key(settings, state.step), 3
    )
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
    return train_buckets.updated(state, grads, program.optimizer, settings), value


def sums_of(program: Program, params: Any, batch: Batch, key: Array) -> dict[str, jax.Array]:
    """Sums over drawings, with the same noise at every evaluation.

    nll is reconstruction + kl, in nats: for a VAE an upper bound, from one z for each drawing.
    """
    of_grid, of_noise = jax.random.split(key)
    batch = dithered(batch, of_grid, program.quantum, scaling=0.0)
    present = batch.scored.any(axis=1)
    noise = _noise(program.model, of_noise, len(present))
    said, posterior = _apply(program, params, arguments(batch, noise))
    costs = terms(said, batch.targets, batch.scored)
    kl = jnp.zeros(len(present)) if posterior is None else divergence(posterior)
    sums = {
        "reconstruction": costs.offsets + costs.pens,
        "kl": kl,
        "points": batch.lengths.astype(jnp.float32),
    }
    sums = {name: jnp.where(present, of, 0.0).sum() for name, of in sums.items()}
    nll = sums["reconstruction"] + sums["kl"]
    return sums | {"nll": nll, "count": present.sum().astype(jnp.float32)}


LEARNING = Learning(train_step, sums_of)


def fit(
    program: Program,
    settings: optim.Settings,
    drawings: Drawings,
    config: SketchTrainConfig,
    folder: Path | None = None,
    keep_best: bool = False,
    inspect: epochs.Inspect | None = None,
) -> dict[str, Any]:
    """Train until the schedule ends; see `train_buckets.fit`.

    Args:
        program: what is compiled.
        settings: the values it is run with.
        drawings: the three splits.
        config: batch size, buckets, schedule.
        folder: of the attempt.
        keep_best: leave the parameters of the best epoch in `folder/best`.
        inspect: looks at them when training has ended.
    """
    splits = {"train": drawings.train, "valid": drawings.valid, "test": drawings.test}
    return train_buckets.fit(
        LEARNING,
        program,
        settings,
        {name: buckets.padded(split, config.num_buckets) for name, split in splits.items()},
        functools.partial(init_state, program),
        batch_size=config.batch_size,
        schedule=config.schedule,
        folder=folder,
        keep_best=keep_best,
        inspect=inspect,
    )


def _noise(model: Unconditional | SketchVAE, key: Array, rows: int) -> Array | None:
    latents = num_latents(model)
    return jax.random.normal(key, (rows, latents)) if latents else None


def _apply(program: Program, params: Any, given: tuple, **how: Any) -> Any:
    return program.model.apply(params, *given, **how)
