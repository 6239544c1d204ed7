"""Many trials of one shape, trained as one program: `seqlab.train` by `vmap` over their settings.

The members of a pack share the stream and the step. Each has its own learning rate, clip norm, init
scale, dropout rate and seed, its own schedule, and its own end. Who has ended or diverged leaves
the program at once, and its place goes to a copy of one that goes on; as soon as those that go on
fit into a program of half the size, they go on in that.

What a member finds depends neither on the others nor on its place, but for the last bits of a
float: a product of a stack of matrices may be added up in another order than that of one matrix.
"""

import functools
import itertools
import math
import operator
import statistics
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from seqlab import interruption, metrics, train
from seqlab.data.stream import Dataset, Stream
from seqlab.errors import InputError
from seqlab.history import Diverged, Log, device_seconds, params_sha256
from seqlab.optim import Schedule, Settings
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
    """Who is where in the program: those that go on, and from the first again until it is full.

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
) -> list[dict[str, Any] | Diverged]:
    """Train every member until its schedule ends.

    As `train.fit`, a function of its arguments: on the same CPU to the last bit, interrupted and
    resumed or not.

    Args:
        program: what is compiled.
        settings: of each member.
        dataset: the streams.
        config: batch size, unroll, schedule.
        folder: where the log and the checkpoints go, one an epoch, and are resumed from; None
            writes nothing.
        devices: what the members are spread over; None means the default device.

    Returns:
        For each member what `train.fit` returns, or the `Diverged` that it raises. As to times,
        `seconds_per_step` is of a step of the program, which is one of all that are in it;
        `device_seconds` is a member's equal share, so that the shares add up to what was taken.

    Raises:
        InputError: there are no members, or some have a dropout rate and some have none.
        KeyboardInterrupt: after a signal, when the states at the next boundary are saved.
    """
    if len({member.dropout_rate is None for member in settings}) != 1:
        raise InputError("a pack has members, and a dropout rate in all of them or in none")
    size, schedule, where = len(settings), config.schedule, _Where(devices)

    def cut(stream: Stream) -> Windows:
        split = train.windows(stream, dataset.start, config.batch_size, config.unroll)
        return jax.device_put(split, where.on_each)

    train_split, valid, test = cut(dataset.train), cut(dataset.valid), cut(dataset.test)
    arrays = [jax.tree.map(jnp.asarray, member) for member in settings]
    stacked = jax.tree.map(lambda *members: np.asarray(jnp.stack(members)), *arrays)
    epoch_steps = config.steps_per_epoch or len(train_split.scored)
    count = train.steps_per_dispatch(epoch_steps)

    log, rows = Log(folder), places(range(size), size, where.num_devices)
    window = jax.tree.map(lambda a: a[0], train_split)
    states = init_states(program, where.placed(stacked, rows), window)
    # N rows whatever the size of the program, as the checkpoints have. Nobody reads the row of a
    # member that has ended.
    every = log.resume(jax.tree.map(lambda a: np.array(a[:size] if a.ndim else a), states))
    states = where.placed(every, rows)

    with interruption.at_boundaries() as interrupted:
        while halvings := next_halvings(log.lines, schedule, size):
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
                began = time.perf_counter()
                states, losses = train_steps(program, given, states, train_split, count)
                losses = np.asarray(losses)
                seconds = time.perf_counter() - began
                found = {n: _trained(losses[place], step) for place, n in enumerate(halvings)}
                took = {"members": len(halvings), "seconds": seconds}
                log.append(step=step + count, **_by_member(found, size), **took)
                if interrupted():
                    log.commit(step + count, _written(every, states, rows))
                    raise KeyboardInterrupt
                continue

            sums = evaluate(program, states.params, valid)
            found = {n: _means("valid", sums, place) for place, n in enumerate(halvings)}
            nlls = {n: _valid_nlls(log.lines, n) for n in halvings}
            better = {n for n in found if found[n]["valid_nll"] < min(nlls[n], default=math.inf)}
            sums = evaluate(program, states.params, test) if better else {}
            params = jax.device_get(states.params)
            for place, n in enumerate(halvings):
                if not math.isfinite(nll := found[n]["valid_nll"]):
                    found[n] = {"train_loss": None, "valid_nll": None, "diverged": step}
                    continue
                if n in better:
                    found[n] |= _means("test", sums, place)
                losses = [line["train_loss"][n] for line in log.unfinished]
                loss, rate = statistics.fmean(losses), float(rates[n])
                found[n] |= {"train_loss": loss, "learning_rate": rate}
                if schedule.next_halving([*nlls[n], nll]) is None:
                    own = jax.tree.map(operator.itemgetter(place), params)
                    found[n] |= {"params_sha256": params_sha256(own)}
            epoch = {"step": step, "epoch": len(log.epochs) + 1, **_by_member(found, size)}
            seconds = statistics.median(line["seconds"] for line in log.unfinished)
            log.append(**epoch, seconds_per_step=seconds / count)
            log.commit(step, _written(every, states, rows))

    diverged = _diverged(log.lines)
    num_params = sum(leaf[0].size for leaf in jax.tree.leaves(every.params))
    return [
        Diverged(diverged[n]) if n in diverged else _result(log.lines, n, num_params)
        for n in range(size)
    ]


def member_lines(lines: Sequence[Mapping[str, Any]], n: int) -> list[dict[str, Any]]:
    """The lines that `train.fit` would have logged for member n, but for the times.

    Args:
        lines: the log of a pack, in which a list has an entry a member, None where it has none.
        n: 0 … N-1.

    Returns:
        Up to its end. `seconds` is an equal share of the dispatch.
    """
    own = []
    for line in lines:
        if line["train_loss"][n] is None:
            break
        values = {k: v[n] if isinstance(v, list) else v for k, v in line.items()}
        if members := values.pop("members", None):
            values["seconds"] /= members
        values["params_sha256"] = None
        own.append({name: value for name, value in values.items() if value is not None})
    return own


def next_halvings(
    lines: Sequence[Mapping[str, Any]], schedule: Schedule, num_members: int
) -> dict[int, int]:
    """How often the rate is halved now, for each member that goes on: a function of the log."""
    diverged = _diverged(lines)
    others = [n for n in range(num_members) if n not in diverged]
    halvings = {n: schedule.next_halving(_valid_nlls(lines, n)) for n in others}
    return {n: halving for n, halving in halvings.items() if halving is not None}


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
    """The states of all members, those in the program as they are there."""
    members = list(dict.fromkeys(rows))  # the copies stand behind them

    def write(whole: np.ndarray, part: jax.Array) -> np.ndarray:
        if not whole.ndim:
            return np.array(part)
        whole = whole.copy()
        whole[members] = np.asarray(part)[: len(members)]
        return whole

    return jax.tree.map(write, every, states)


def _trained(losses: np.ndarray, step: int) -> dict[str, Any]:
    finite = np.isfinite(losses)
    if not finite.all():
        return {"train_loss": None, "diverged": step + int(np.argmin(finite))}
    return {"train_loss": float(losses.mean())}


def _by_member(found: Mapping[int, Mapping[str, Any]], num_members: int) -> dict[str, list]:
    """What each member has found, as one list by member of each name."""
    names = dict.fromkeys(name for of_one in found.values() for name in of_one)
    return {name: [found.get(n, {}).get(name) for n in range(num_members)] for name in names}


def _means(split: str, sums: Mapping[str, jax.Array], place: int) -> dict[str, Any]:
    means = metrics.means({name: np.asarray(value)[place] for name, value in sums.items()})
    return {f"{split}_{name}": value for name, value in means.items()}


def _valid_nlls(lines: Sequence[Mapping[str, Any]], n: int) -> list[float]:
    nlls = [line["valid_nll"][n] for line in lines if "epoch" in line]
    return [nll for nll in nlls if nll is not None]


def _diverged(lines: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """The step at which each member diverged that did."""
    steps = [line["diverged"] for line in lines if "diverged" in line]
    return {n: step for of_all in steps for n, step in enumerate(of_all) if step is not None}


def _result(lines: Sequence[Mapping[str, Any]], n: int, num_params: int) -> dict[str, Any]:
    own = member_lines(lines, n)
    epochs = [line for line in own if "epoch" in line]
    best = min(epochs, key=lambda epoch: epoch["valid_nll"])
    shas = [line["params_sha256"][n] for line in lines if "params_sha256" in line]
    return {
        **{k: v for k, v in best.items() if k.startswith(("valid_", "test_"))},
        "best_epoch": best["epoch"],
        "epochs": len(epochs),
        "steps": epochs[-1]["step"],
        "seconds_per_step": statistics.median(epoch["seconds_per_step"] for epoch in epochs),
        "device_seconds": device_seconds(own),
        "params": num_params,
        "params_sha256": next(sha for sha in shas if sha is not None),
    }
