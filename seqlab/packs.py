"""Many trials of one shape, trained as one program: `seqlab.train` by `vmap` over their settings.

The members of a pack share the stream and the step. Each has its own learning rate, clip norm, init
scale, dropout rate and seed, its own schedule, and its own end. A member that has ended or diverged
leaves the program at once, and a copy of a running one takes its place; as soon as the running
members fit into a program of half the size, they move to that.

A member's results depend neither on the others nor on its place, but for the last bits of a float:
a batched matrix product may sum in another order than a single one.
"""

import functools
import itertools
import math
import operator
import statistics
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from seqlab import interruption, pack_log, train
from seqlab.accounting.compiled import Step
from seqlab.data.stream import Dataset, Stream
from seqlab.errors import InputError
from seqlab.history import Log, params_sha256
from seqlab.optim import Settings
from seqlab.pack_log import News, next_halvings
from seqlab.train import Program, TrainConfig, TrainState, Windows

AXIS = "pack"

# Where the members' axis is. They are all at the same step, so that they share the windows too.
_AXES = TrainState(step=None, params=0, opt_state=0, carry=0)  # pyright: ignore


@functools.partial(jax.jit, static_argnames="program")
def init_states(program: Program, settings: Settings, window: Windows) -> TrainState:
    """`train.init_state` of N members: one step, all other leaves [N, …]."""

    def init(settings: Settings) -> TrainState:
        return train.init_state(program, settings, window)

    return jax.vmap(init, out_axes=_AXES)(settings)


@functools.partial(jax.jit, static_argnames=("program", "count"), donate_argnames="states")
def train_steps(
    program: Program, settings: Settings, states: TrainState, split: Windows, count: int
) -> tuple[TrainState, jax.Array]:
    """`train.train_steps` of N members; losses [N, count]."""

    def steps(settings: Settings, state: TrainState) -> tuple[TrainState, jax.Array]:
        return train.train_steps(program, settings, state, split, count)

    return jax.vmap(steps, in_axes=(0, _AXES), out_axes=(_AXES, 0))(settings, states)


@functools.partial(jax.jit, static_argnames="program")
def evaluate(program: Program, params: Any, split: Windows) -> dict[str, jax.Array]:
    """`train.evaluate` of N members; sums [N]."""
    return jax.vmap(lambda params: train.evaluate(program, params, split))(params)


def places(going: Collection[int], num_members: int, num_devices: int = 1) -> list[int]:
    """The member at each place of the program: the running ones, in turn until it is full.

    Its size is the smallest of N, ⌈N/2⌉, ⌈N/4⌉, … that holds them, rounded up to a multiple of the
    number of devices: a pack compiles no more than ⌈log₂ N⌉ + 1 programs.
    """
    size = num_members
    while len(going) <= -(-size // 2) < size:
        size = -(-size // 2)
    size = -(-size // num_devices) * num_devices
    return list(itertools.islice(itertools.cycle(going), size))


def fit(
    program: Program,
    settings: Sequence[Settings],
    dataset: Dataset,
    config: TrainConfig,
    folder: Path | None = None,
    devices: Sequence[jax.Device] | None = None,  # pyright: ignore
    memory: int | None = None,
) -> Iterator[News]:
    """Train every member until its schedule ends.

    As `train.fit`, a function of its arguments: on the same CPU to the last bit, interrupted and
    resumed or not. Seconds are a member's equal share of what the program took, so that the shares
    of all add up to it.

    Args:
        program: what is compiled.
        settings: of each member.
        dataset: the streams.
        config: batch size, unroll, schedule.
        folder: where the log and the checkpoints go, one an epoch, and are resumed from; None
            writes nothing.
        devices: what the members are spread over; None means the default device.
        memory: limit on a program's bytes on a device, by the compiler's figure; None: no limit.

    Yields:
        The news of all members after each epoch; first, what an earlier process has found.

    Raises:
        InputError: there are no members, or some have a dropout rate and some have none.
        MemoryError: the program would take more than `memory`; it was not run.
        KeyboardInterrupt: after a signal, when the states at the next boundary are saved.
    """
    if len({member.dropout_rate is None for member in settings}) != 1:
        raise InputError("a pack needs members, and a dropout rate in all of them or in none")
    size, schedule, where = len(settings), config.schedule, _Where(devices)

    def cut(stream: Stream) -> Windows:
        split = train.windows(stream, dataset.start, config.batch_size, config.unroll)
        return jax.device_put(split, where.on_each)

    train_split, valid, test = cut(dataset.train), cut(dataset.valid), cut(dataset.test)
    stacked = jax.tree.map(np.asarray, _stacked(settings))
    epoch_steps = config.steps_per_epoch or len(train_split.scored)
    count = train.steps_per_dispatch(epoch_steps)

    log, rows, told = Log(folder), places(range(size), size, where.num_devices), 0
    window = jax.tree.map(lambda a: a[0], train_split)
    states = init_states(program, where.placed(stacked, rows), window)
    num_params = sum(leaf[0].size for leaf in jax.tree.leaves(states.params))
    # N rows whatever the size of the program, as the checkpoints have. Nobody reads the row of a
    # member that has ended.
    every = log.resume(jax.tree.map(lambda a: np.array(a[:size] if a.ndim else a), states))
    states = where.placed(every, rows)

    with interruption.at_boundaries() as interrupted:
        while halvings := next_halvings(log.lines, schedule, size):
            if log.lines[told:] and not log.unfinished:
                yield pack_log.news(log.lines, told, schedule, size, num_params)
                told = len(log.lines)
            if rows != places(halvings, size, where.num_devices):
                every = _written(every, states, rows)
                rows = places(halvings, size, where.num_devices)
                states = where.placed(every, rows)
            step = int(states.step)
            rates = stacked.learning_rate.copy()
            for n, halving in halvings.items():
                rates[n] *= 0.5**halving

            if len(log.unfinished) < epoch_steps // count:
                given = where.placed(stacked._replace(learning_rate=rates), rows)
                if memory is not None:
                    _check_memory(memory, len(rows), program, given, states, train_split, count)
                    memory = None  # what is compiled from now on is no larger
                began = time.perf_counter()
                states, losses = train_steps(program, given, states, train_split, count)
                losses = np.asarray(losses)
                seconds = time.perf_counter() - began
                found = {n: pack_log.trained(losses[p], step) for p, n in enumerate(halvings)}
                took = {"members": len(halvings), "seconds": seconds}
                log.append(step=step + count, **pack_log.by_member(found, size), **took)
                if interrupted():
                    log.commit(step + count, _written(every, states, rows))
                    raise KeyboardInterrupt
                continue

            sums = evaluate(program, states.params, valid)
            found = {n: pack_log.means("valid", sums, place) for place, n in enumerate(halvings)}
            nlls = {n: pack_log.valid_nlls(log.lines, n) for n in halvings}
            better = {n for n in found if found[n]["valid_nll"] < min(nlls[n], default=math.inf)}
            sums = evaluate(program, states.params, test) if better else {}
            params = jax.device_get(states.params)
            for place, n in enumerate(halvings):
                if not math.isfinite(nll := found[n]["valid_nll"]):
                    found[n] = {"train_loss": None, "valid_nll": None, "diverged": step}
                    continue
                if n in better:
                    found[n] |= pack_log.means("test", sums, place)
                losses = [line["train_loss"][n] for line in log.unfinished]
                loss, rate = statistics.fmean(losses), float(rates[n])
                found[n] |= {"train_loss": loss, "learning_rate": rate}
                if schedule.next_halving([*nlls[n], nll]) is None:
                    own = jax.tree.map(operator.itemgetter(place), params)
                    found[n] |= {"params_sha256": params_sha256(own)}
            epoch = {"step": step, "epoch": len(log.epochs) + 1}
            shares = [line["seconds"] / line["members"] for line in log.unfinished]
            own = {"seconds_per_step": statistics.median(shares) / count}
            log.append(**epoch, **pack_log.by_member(found, size), **own)
            log.commit(step, _written(every, states, rows))
        yield pack_log.news(log.lines, told, schedule, size, num_params)


class Outline(NamedTuple):
    """What `fit` would do for some members; nothing is allocated for it.

    Attributes:
        dispatch: its training program, with the shapes of the arguments, for the accounting.
        dispatch_steps: steps in one call of it.
        epoch_steps: steps between two validations.
        most_epochs: if no member ends early.
        state_bytes: of a checkpoint.
    """

    dispatch: Step
    dispatch_steps: int
    epoch_steps: int
    most_epochs: int
    state_bytes: int


def outline(
    program: Program, settings: Sequence[Settings], dataset: Dataset, config: TrainConfig
) -> Outline:
    """The arguments are those of `fit`."""
    split = jax.eval_shape(
        lambda: train.windows(dataset.train, dataset.start, config.batch_size, config.unroll)
    )
    epoch_steps = config.steps_per_epoch or len(split.scored)
    count = train.steps_per_dispatch(epoch_steps)
    stacked = jax.eval_shape(lambda: _stacked(settings))
    window = jax.eval_shape(lambda split: jax.tree.map(lambda a: a[0], split), split)
    states = jax.eval_shape(lambda *given: init_states(program, *given), stacked, window)

    def steps(settings: Settings, states: TrainState, split: Windows) -> Any:
        return train_steps(program, settings, states, split, count)

    return Outline(
        Step(steps, (stacked, states, split), donated=(1,)),
        count,
        epoch_steps,
        config.schedule.max_epochs,
        sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(states)),
    )


def _stacked(settings: Sequence[Settings]) -> Settings:
    arrays = [jax.tree.map(jnp.asarray, member) for member in settings]
    return jax.tree.map(lambda *members: jnp.stack(members), *arrays)


class _Where:
    """The devices that the members are spread over; all else is on each of them."""

    def __init__(self, devices: Sequence[jax.Device] | None):  # pyright: ignore
        self.num_devices = len(devices or [None])
        self.by_member = self.on_each = None  # wherever JAX puts things
        if devices:
            mesh = Mesh(np.asarray(devices), (AXIS,))
            self.by_member = NamedSharding(mesh, PartitionSpec(AXIS))
            self.on_each = NamedSharding(mesh, PartitionSpec())

    def placed(self, tree: Any, rows: Sequence[int]) -> Any:
        """Those rows of leaves [N, …]; the step, a scalar, is everybody's."""

        def place(leaf: np.ndarray) -> jax.Array:
            if not leaf.ndim:
                return jax.device_put(leaf, self.on_each)
            return jax.device_put(leaf[np.asarray(rows)], self.by_member)

        return jax.tree.map(place, tree)


def _written(every: TrainState, states: TrainState, rows: Sequence[int]) -> TrainState:
    """The states of all members, with those in the program brought up to date."""
    members = list(dict.fromkeys(rows))  # the copies stand behind them

    def write(whole: np.ndarray, part: jax.Array) -> np.ndarray:
        if not whole.ndim:
            return np.array(part)
        whole = whole.copy()
        whole[members] = np.asarray(part)[: len(members)]
        return whole

    return jax.tree.map(write, every, states)


def _check_memory(memory: int, num_members: int, *arguments: Any) -> None:
    """Ask the compiler about the very program that runs next, which is compiled only once."""
    analysis = train_steps.lower(*arguments).compile().memory_analysis()
    if analysis is None:
        return
    kept = analysis.argument_size_in_bytes + analysis.output_size_in_bytes
    takes = kept - analysis.alias_size_in_bytes + analysis.temp_size_in_bytes
    if takes > memory:
        raise MemoryError(f"{num_members} members take {takes:,} bytes of {memory:,}")
