"""A worker claims a trial, runs it, commits its result, and goes on until nothing is left."""

import contextlib
import errno
import json
import os
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from seqlab import checkpoint, interruption, results
from seqlab.errors import Changed, InputError
from seqlab.history import Diverged
from seqlab.launch import claims, provenance
from seqlab.launch.claims import Heart, Observer
from seqlab.launch.plan import Plan
from seqlab.trial import as_dict, trial_id

IDLE_SECONDS = 2.0
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
DISK_FULL = "disk full"


class DiskFull(Exception):
    """There is no room for results."""


@dataclass(frozen=True)
class Terms:
    """How a worker treats trouble, and what it writes besides results.

    Attributes:
        attempts: how often a trial is tried that comes to nothing: whose process dies, or that
            fails for the device or the file system. What else a trial raises, it would raise again.
        allow_changes: go on with what other code or other data have begun.
        tensorboard: write event files.
    """

    attempts: int = 3
    allow_changes: bool = False
    tensorboard: bool = False


def work(plan: Plan, start: float = 0.0, terms: Terms | None = None) -> None:
    """Run what is missing of a plan, together with any other workers on the same directory.

    Args:
        plan: the trials and their directory.
        start: where in the list to begin, as a fraction of it. Workers that begin apart seldom
            compile the same program twice, because neighbours in the list often share theirs.
        terms: how trouble is treated.

    Raises:
        KeyboardInterrupt: after a signal, with the trial saved and given back.
        DiskFull: there is no room; the trial that met it is FAILED, or given back.
        Changed: a trial was begun with other code or data.
    """
    terms = terms or Terms()
    provenance.here(plan.source)  # now, while the code on disk is the code that was imported
    try:
        with Heart(plan.root / plan.name).beating() as heart:
            _run_missing(plan, start, heart, terms)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DiskFull(f"{DISK_FULL}: no room for results in {plan.root}") from error
        raise


def _run_missing(plan: Plan, start: float, heart: Heart, terms: Terms) -> None:
    launcher = os.environ.get("SEQLAB_LAUNCHER")
    observer = Observer(plan.root / plan.name)
    position = None
    while True:
        known = plan.known()
        position = int(start * len(known)) if position is None else 0
        ids = list(known)
        missing = [i for i in ids[position:] + ids[:position] if known[i][1] is None]
        if not missing:
            return
        ran = False
        for identity in missing:
            if launcher is not None and int(launcher) != os.getppid():
                return
            ran |= _try(plan, known[identity][0], heart, observer, terms)
        if not ran:
            time.sleep(IDLE_SECONDS)  # all that is missing is being run by others


def _try(plan: Plan, trial: Any, heart: Heart, observer: Observer, terms: Terms) -> bool:
    """Run a trial if nobody else does; whether it was run."""
    folder = plan.folder(trial)
    if (folder / results.RESULT).exists() and results.read(folder) is not None:
        return False
    attempt = None
    try:
        attempt = claims.claim(folder, heart, observer)
        if attempt is None:
            return False
        if results.read(folder) is None:
            _attempt(plan, trial, folder, attempt, heart, terms)
    except (KeyboardInterrupt, Changed, OSError):
        _give_back(folder, attempt)
        raise
    return True


def _give_back(folder: Path, attempt: int | None) -> None:
    if attempt is not None and claims.last_attempt(folder) == attempt:
        claims.release(folder, attempt)


def _attempt(
    plan: Plan, trial: Any, folder: Path, attempt: int, heart: Heart, terms: Terms
) -> None:
    results.set_aside_damaged(folder)
    in_vain = claims.in_vain(folder, attempt)
    if in_vain >= terms.attempts:  # whoever was to say so has died
        cause = claims.failure(folder, attempt - 1) or "its process died"
        results.commit(folder, _failed(plan, trial, attempt - 1, in_vain, cause))
        return
    kept = claims.adopt(folder, attempt)
    provenance.begin(kept, plan.source, terms.allow_changes)
    try:
        with heart.holding(folder, attempt), _events(kept, trial, terms):
            result = run_trial(plan, trial, kept)
    except KeyboardInterrupt:
        if not heart.was_robbed:
            raise
        result = None
    if heart.was_robbed or claims.last_attempt(folder) > attempt:
        print(f"{trial_id(trial)} was taken over by another worker", file=sys.stderr)
        interruption.withdraw()
        if interruption.requested():  # a signal has come as well
            raise KeyboardInterrupt
        return
    assert result is not None
    if result.pop("passing") and claims.in_vain(folder, attempt + 1) < terms.attempts:
        claims.fail(folder, attempt, result["error"])
        return
    results.commit(folder, result | {"attempts": attempt})
    if result["status"] in (results.DONE, results.DIVERGED):  # others may be tried again
        checkpoint.discard(kept / "checkpoints")
    if result["error"] == DISK_FULL:
        raise DiskFull(f"{DISK_FULL}: no room for checkpoints in {plan.root}")
    if interruption.requested():  # a signal came when there was nothing left to be saved
        raise KeyboardInterrupt


def _events(kept: Path, trial: Any, terms: Terms) -> contextlib.AbstractContextManager:
    if not terms.tensorboard:
        return contextlib.nullcontext()
    from seqlab.launch import tensorboard

    return tensorboard.following(kept, as_dict(trial))


def run_trial(plan: Plan, trial: Any, folder: Path) -> dict[str, Any]:
    """Run one trial. Whatever goes wrong in it becomes a status, so that the grid goes on.

    Returns:
        Its result; `passing` in it says whether the trouble may be gone another time.
    """
    began = time.perf_counter()
    metrics, error, passing = {}, None, False
    try:
        metrics = _checked(plan.experiment.run(trial, folder))
        status = results.DONE
    except Diverged as divergence:
        status, error = results.DIVERGED, str(divergence)
        metrics = {"diverged_at_step": divergence.step}
    except Changed:
        raise
    except InputError as bad_input:
        status, error = results.FAILED, str(bad_input)
    except checkpoint.CheckpointError as damage:
        checkpoint.set_aside(folder / "checkpoints")
        status, error = results.FAILED, f"{damage}; --retry-failed begins anew"
    except MemoryError as memory_error:
        status, error = results.OOM, _told(memory_error)
    except OSError as os_error:
        full = os_error.errno in NO_ROOM
        status, error = results.FAILED, DISK_FULL if full else _told(os_error)
        passing = not full
    except jax.errors.JaxRuntimeError as device_error:
        no_memory = "RESOURCE_EXHAUSTED" in str(device_error)
        status, error = results.OOM if no_memory else results.FAILED, _told(device_error)
        passing = not no_memory
    except Exception as any_error:
        status, error = results.FAILED, _told(any_error)
    if error is not None:
        print(f"{trial_id(trial)} {status}: {error.strip().splitlines()[-1]}", file=sys.stderr)
    seconds = time.perf_counter() - began
    return _result(plan, trial, status, metrics, seconds, error) | {"passing": passing}


def _told(error: BaseException) -> str:
    """The traceback, which ends with the error: JAX adds a note on its own frames below it."""
    told = traceback.TracebackException.from_exception(error)
    told.__notes__ = None  # pyright: ignore  # typeshed has no such attribute
    return "".join(told.format())


def _checked(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics, if they can be committed; a result holds no nan and no arrays."""
    for name, value in metrics.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"metric {name} is {value!r}, which JSON cannot hold") from error
    return metrics


def _failed(plan: Plan, trial: Any, attempts: int, in_vain: int, cause: str) -> dict[str, Any]:
    error = f"{cause.rstrip()}\nFAILED after {in_vain} attempts without a checkpoint between them"
    result = _result(plan, trial, results.FAILED, {}, 0.0, error)
    return result | {"attempts": attempts}


def _result(
    plan: Plan,
    trial: Any,
    status: str,
    metrics: dict[str, Any],
    seconds: float,
    error: str | None,
) -> dict[str, Any]:
    return {
        "trial_id": trial_id(trial),
        "experiment": plan.name,
        "config": as_dict(trial),
        "status": status,
        "metrics": metrics,
        "error": error,
        "wall_seconds": round(seconds, 3),
        "provenance": provenance.provenance(plan.source),
    }
