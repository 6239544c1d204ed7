"""Epochs of a training: dispatches, validation, checkpoint, and again until the schedule ends.

What is trained is a pure function that the caller hands in; here is all that happens around it.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from seqlab import checkpoint, interruption
from seqlab.history import Diverged, Log, device_seconds, params_sha256
from seqlab.optim import Schedule

BEST = "best"

Inspect = Callable[[Any], dict[str, Any]]
"""(parameters of the best epoch) -> what is added to the metrics: JSON values by name."""


class State(Protocol):
    """What is trained: its step is a scalar that counts the updates."""

    step: Any
    params: Any


class Training(NamedTuple):
    """What an epoch is made of.

    Attributes:
        dispatches: number of them in an epoch.
        dispatch: (state, learning rate, epoch from 0, dispatch from 0) to the next state and the
            losses of the steps that were made. The same arguments, the same bits.
        score: (split, params) to the metrics of the split, without its name; `nll` among them.
    """

    dispatches: int
    dispatch: Callable[[Any, jax.Array, int, int], tuple[Any, jax.Array | np.ndarray]]
    score: Callable[[str, Any], dict[str, float]]


def fit(
    training: Training,
    state: State,
    learning_rate: jax.Array | float,
    schedule: Schedule,
    folder: Path | None = None,
    keep_best: bool = False,
    inspect: Inspect | None = None,
) -> dict[str, Any]:
    """Train until the schedule ends; the metrics are those of the epoch with the best validation.

    Args:
        training: what an epoch is made of.
        state: to begin with.
        learning_rate: before any halving.
        schedule: when it is halved, and the end.
        folder: where the log and the checkpoints go, one an epoch, and are resumed from; None
            writes nothing.
        keep_best: leave the parameters of the best epoch in `folder/best`, for whoever wants to
            use them (`checkpoint.restore`).
        inspect: looks at the parameters of the best epoch when training has ended. With a folder
            they are those in `folder/best`, so that a resumed run sees the same.

    Raises:
        Diverged: a training loss was not finite.
        CheckpointError: what is to be inspected is damaged.
        KeyboardInterrupt: after a signal, when the state at the next boundary is saved.
    """
    log = Log(folder)
    state = log.resume(state)
    keep_best = keep_best or inspect is not None
    best_params = None
    with interruption.at_boundaries() as interrupted:
        while (halving := schedule.next_halving(_valid_nlls(log))) is not None:
            rate = jnp.asarray(learning_rate * 0.5**halving)
            for number in range(len(log.unfinished), training.dispatches):
                began, step = time.perf_counter(), int(state.step)
                state, losses = training.dispatch(state, rate, len(log.epochs), number)
                losses = np.asarray(losses)
                seconds = time.perf_counter() - began
                if not np.isfinite(losses).all():
                    raise Diverged(step + int(np.argmin(np.isfinite(losses))))
                loss = float(losses.mean())
                log.append(step=int(state.step), train_loss=loss, seconds=seconds)
                if interrupted():
                    log.commit(int(state.step), state)
                    raise KeyboardInterrupt
            epoch = _of("valid", training.score("valid", state.params))
            if not np.isfinite(epoch["valid_nll"]):
                raise Diverged(int(state.step))
            if all(epoch["valid_nll"] < nll for nll in _valid_nlls(log)):
                epoch |= _of("test", training.score("test", state.params))
                if keep_best and folder is not None:
                    checkpoint.save(folder / BEST, int(state.step), state.params, keep=1)
                elif keep_best:
                    # A copy: the next step is given the state to write over.
                    best_params = jax.tree.map(jnp.copy, state.params)
            log.append(
                step=int(state.step),
                epoch=len(log.epochs) + 1,
                train_loss=statistics.fmean(line["train_loss"] for line in log.unfinished),
                learning_rate=float(rate),
                **epoch,
                seconds_per_step=_seconds_per_step(log),
            )
            log.commit(int(state.step), state)

    best = min(log.epochs, key=lambda epoch: epoch["valid_nll"])
    metrics = {
        **{k: v for k, v in best.items() if k.startswith(("valid_", "test_"))},
        "best_epoch": best["epoch"],
        "epochs": len(log.epochs),
        "steps": int(state.step),
        "seconds_per_step": statistics.median(epoch["seconds_per_step"] for epoch in log.epochs),
        "device_seconds": device_seconds(log.lines),
        "params": sum(p.size for p in jax.tree.leaves(state.params)),
        "params_sha256": params_sha256(state.params),
    }
    if inspect is None:
        return metrics
    if folder is not None:
        best_params = restore_best(folder, state.params)
    return metrics | inspect(best_params)


def restore_best(folder: Path, like: Any) -> Any:
    """The parameters that a run has left in `folder/best`.

    Raises:
        CheckpointError: there are none, they are damaged, or they are not of the form of `like`.
    """
    found = checkpoint.restore(folder / BEST, like)
    if found is None:
        raise checkpoint.CheckpointError(f"no checkpoint in {folder / BEST}")
    return found[1]


def _of(split: str, found: dict[str, float]) -> dict[str, float]:
    return {f"{split}_{name}": value for name, value in found.items()}


def _valid_nlls(log: Log) -> list[float]:
    return [epoch["valid_nll"] for epoch in log.epochs]


def _seconds_per_step(log: Log) -> float:
    """The median over the dispatches of the epoch, which may be of unequal numbers of steps."""
    before = log.epochs[-1]["step"] if log.epochs else 0
    times = []
    for line in log.unfinished:
        times.append(line["seconds"] / (line["step"] - before))
        before = line["step"]
    return statistics.median(times)
