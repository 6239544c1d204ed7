"""Networks of images trained on shuffled batches: state, step, evaluation, fit.

`fit` is a pure function of its arguments: the same trial on the same CPU gives the same bits,
interrupted and resumed or not. The test split is not touched before the end, and no epoch is
selected: the network reported is the last one.
"""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from seqlab import interruption, losses, metrics, optim
from seqlab.batches import Split, head, on_device, shuffled_rows, take
from seqlab.data.images import ImageDataset
from seqlab.history import Diverged, Log, device_seconds, params_sha256

STEPS_PER_LOOK = 5  # from one check of losses and signals to the next; between them nothing waits


class Objective(NamedTuple):
    """What is minimised and what is reported.

    Attributes:
        loss: of each position, from (logits, labels, where).
        sums: from the same.
        means: the sums of a split, divided.
    """

    loss: Callable[..., jax.Array]
    sums: Callable[..., dict[str, jax.Array]]
    means: Callable[[Mapping[str, jax.Array | np.ndarray | np.generic]], dict[str, Any]]


CLASSES = Objective(losses.class_nll, metrics.class_sums, metrics.means)
MASKS = Objective(losses.class_nll, metrics.mask_sums, metrics.mask_means)


class Program(NamedTuple):
    """All that is static in a compiled training step; what may vary is in `optim.DecaySettings`.

    Attributes:
        model: `apply(variables, images [B, H, W, C], train=…)` gives logits.
        objective: what is minimised.
        optimizer: a name in `optim.DECAYED`.
        schedule: a name in `optim.SCHEDULES`.
        augment: (key, images) to images, in training alone; None for none.
    """

    model: nn.Module
    objective: Objective
    optimizer: str
    schedule: str
    augment: Callable[[jax.Array, jax.Array], jax.Array] | None = None


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How much is trained.

    Attributes:
        batch_size: B, images of a step.
        epochs: how often there is a validation and a checkpoint.
        steps_per_epoch: steps from one to the next, however many images there are.
        scored_train_images: of how many training images the error is taken at the end.
    """

    batch_size: int = 128
    epochs: int = 10
    steps_per_epoch: int = 400
    scored_train_images: int = 10_000

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch


@struct.dataclass
class TrainState:
    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any


class Keys(NamedTuple):
    """One stream of random numbers for each purpose."""

    init: jax.Array
    order: jax.Array
    augment: jax.Array
    dropout: jax.Array


def keys(settings: optim.DecaySettings) -> Keys:
    return Keys(*jax.random.split(jax.random.key(settings.seed), 4))


@functools.partial(jax.jit, static_argnames="program")
def init_state(program: Program, settings: optim.DecaySettings, split: Split) -> TrainState:
    """Weights as the network draws them."""
    images, _ = take(split, jnp.zeros(1, jnp.int32))
    variables = program.model.init(keys(settings).init, images, train=False)
    optimizer = optim.DECAYED[program.optimizer](settings, settings.learning_rate)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(variables["params"]),
    )


def train_step(
    program: Program,
    settings: optim.DecaySettings,
    state: TrainState,
    images: jax.Array,
    labels: jax.Array,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One batch: augment, forward, backward, update. Also returns the sums of the metrics."""
    _, _, augment, dropout = (jax.random.fold_in(key, state.step) for key in keys(settings))
    if program.augment is not None:
        images = program.augment(augment, images)
    where = jnp.ones(labels.shape, bool)

    def mean_loss(params):
        logits, updated = program.model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": dropout},
        )
        loss = program.objective.loss(logits, labels, where).mean()
        return loss, (logits, updated.get("batch_stats", {}))

    grads, (logits, batch_stats) = jax.grad(mean_loss, has_aux=True)(state.params)
    rate = settings.learning_rate * optim.SCHEDULES[program.schedule](state.step, settings.steps)
    optimizer = optim.DECAYED[program.optimizer](settings, rate)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    sums = program.objective.sums(logits, labels, where)
    return TrainState(state.step + 1, params, batch_stats, opt_state), sums


# One step, not many in a scan: inside a loop XLA's CPU compiler does not bring the gradients of a
# convolution into the form that its fast kernels take; ResNet-20 would take 30 times as long.
@functools.partial(jax.jit, static_argnames="program", donate_argnames="state")
def train_next(
    program: Program,
    settings: optim.DecaySettings,
    state: TrainState,
    split: Split,
    order: jax.Array,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """The training step on the row of `order` [steps, B] whose turn it is, cyclically."""
    return train_step(program, settings, state, *take(split, order[state.step % len(order)]))


@functools.partial(jax.jit, static_argnames=("program", "batch_size"))
def evaluate(
    program: Program, state: TrainState, split: Split, batch_size: int
) -> dict[str, jax.Array]:
    """Sums of the metrics over a whole split, the partial last batch included."""
    num_images = len(split.images)
    num_batches = -(-num_images // batch_size)

    def step(_, rows):
        images, labels = take(split, jnp.minimum(rows, num_images - 1))
        there = rows < num_images
        where = there.reshape(-1, *[1] * (labels.ndim - 1))
        return None, program.objective.sums(
            logits_of(program, state, images), labels, jnp.broadcast_to(where, labels.shape)
        )

    rows = jnp.arange(num_batches * batch_size).reshape(num_batches, batch_size)
    _, sums = jax.lax.scan(step, None, rows)
    return jax.tree.map(lambda a: a.sum(axis=0), sums)


def logits_of(program: Program, state: TrainState, images: jax.Array) -> jax.Array:
    """The network's logits for standardised images, with the running statistics."""
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    return program.model.apply(variables, images, train=False)  # pyright: ignore


def train_until_look(
    program: Program,
    settings: optim.DecaySettings,
    state: TrainState,
    split: Split,
    order: jax.Array,
) -> tuple[TrainState, dict[str, Any]]:
    """Up to STEPS_PER_LOOK steps of an epoch; also returns the sums of the metrics over them.

    Raises:
        Diverged: a loss was not finite.
    """
    first, steps = int(state.step), []
    for _ in range(min(STEPS_PER_LOOK, len(order) - first % len(order))):
        state, sums = train_next(program, settings, state, split, order)
        steps.append(sums)
    sums = jax.tree.map(lambda *values: np.stack(values), *jax.device_get(steps))
    finite = np.isfinite(sums["nll"])
    if not finite.all():
        raise Diverged(first + int(np.argmin(finite)))
    return state, {name: values.sum(axis=0) for name, values in sums.items()}


def fit(
    program: Program,
    settings: optim.DecaySettings,
    dataset: ImageDataset,
    config: TrainConfig,
    folder: Path | None = None,
) -> tuple[TrainState, dict[str, Any]]:
    """Train for all epochs of `config`.

    Metrics are named by what they are of: `running_` the batches of the last epoch as they were
    trained on, augmented; `train_`, `valid_` and `test_` the splits, by the last network.

    Args:
        program: what is compiled.
        settings: the values it is run with.
        dataset: the images.
        config: batch size and length.
        folder: where the log and the checkpoints go, one an epoch, and are resumed from; None
            writes nothing.

    Returns:
        The last state, and the metrics.

    Raises:
        Diverged: a training loss was not finite.
        KeyboardInterrupt: after a signal, when the state at the next look is saved.
    """
    train, valid, test = on_device(dataset)
    settings = jax.tree.map(jnp.asarray, settings)
    log = Log(folder)
    state = log.resume(init_state(program, settings, train))
    score = functools.partial(evaluate, program, batch_size=config.batch_size)

    with interruption.at_boundaries() as interrupted:
        while len(log.epochs) < config.epochs:
            order = shuffled_rows(
                keys(settings).order,
                jnp.int32(len(log.epochs) * config.steps_per_epoch),
                len(train.images),
                config.batch_size,
                config.steps_per_epoch,
            )
            end = (len(log.epochs) + 1) * config.steps_per_epoch
            while int(state.step) < end:
                began = time.perf_counter()
                state, sums = train_until_look(program, settings, state, train, order)
                seconds = time.perf_counter() - began
                running = _named("running", program, sums)
                sums = {name: total.tolist() for name, total in sums.items()}
                log.append(step=int(state.step), **running, sums=sums, seconds=seconds)
                if interrupted():
                    log.commit(int(state.step), state)
                    raise KeyboardInterrupt
            epoch = _named("running", program, _total(log.unfinished))
            epoch |= _named("valid", program, score(state, valid))
            if not np.isfinite(epoch["valid_nll"]):
                raise Diverged(int(state.step))
            if len(log.epochs) + 1 == config.epochs:
                seen = head(train, config.scored_train_images)
                epoch |= _named("train", program, score(state, seen))
                epoch |= _named("test", program, score(state, test))
            seconds = statistics.median(line["seconds"] for line in log.unfinished)
            epoch["seconds_per_step"] = seconds / min(STEPS_PER_LOOK, config.steps_per_epoch)
            log.append(step=int(state.step), epoch=len(log.epochs) + 1, **epoch)
            log.commit(int(state.step), state)

    last = {k: v for k, v in log.epochs[-1].items() if k not in ("step", "epoch")}
    return state, last | {
        "steps": int(state.step),
        "seconds_per_step": statistics.median(epoch["seconds_per_step"] for epoch in log.epochs),
        "device_seconds": device_seconds(log.lines),
        "params": sum(p.size for p in jax.tree.leaves(state.params)),
        "params_sha256": params_sha256(state.params),
        "curve": curve(log.epochs),
    }


def _total(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The sums of some looks, added up."""
    return {
        name: np.sum([line["sums"][name] for line in lines], axis=0) for name in lines[0]["sums"]
    }


def _named(split: str, program: Program, sums: dict[str, Any]) -> dict[str, Any]:
    means = program.objective.means(sums)
    return {f"{split}_{name}": value for name, value in means.items()}


def curve(history: list[dict[str, Any]], most: int = 200) -> list[tuple[int, float, float]]:
    """(step, running error, valid error) of at most `most` epochs, evenly spaced, with the last."""
    stride = -(-len(history) // most)
    chosen = history[::-1][::stride][::-1]
    return [(e["step"], e["running_error"], e["valid_error"]) for e in chosen]
