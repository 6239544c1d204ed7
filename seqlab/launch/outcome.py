"""What a trial comes to: whatever goes wrong in it becomes a status, so that the grid goes on."""

import errno
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from seqlab import checkpoint, results
from seqlab.errors import Changed, InputError
from seqlab.history import Diverged
from seqlab.launch import provenance
from seqlab.launch.plan import Plan
from seqlab.trial import as_dict, trial_id

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
DISK_FULL = "disk full"


def run_trial(plan: Plan, trial: Any, folder: Path) -> dict[str, Any]:
    """Run one trial.

    Returns:
        Its result; `passing` in it says whether the trouble may be gone another time.
    """
    return judged(plan, trial, folder, lambda: plan.experiment.run(trial, folder))


def judged(
    plan: Plan,
    trial: Any,
    folder: Path,
    find: Callable[[], dict[str, Any]],
    began: float | None = None,
) -> dict[str, Any]:
    """The result of a trial: the metrics that `find` returns, or what goes wrong in it.

    Args:
        plan: that it belongs to.
        trial: which.
        folder: of the attempt; its checkpoints are set aside where they are damaged.
        find: returns the metrics or raises.
        began: when, by `time.perf_counter`; default: now.

    Returns:
        The result; `passing` in it says whether the trouble may be gone another time.
    """
    began = time.perf_counter() if began is None else began
    metrics, error, passing = {}, None, False
    try:
        metrics = _checked(find())
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


def failed(plan: Plan, trial: Any, attempts: int, in_vain: int, cause: str) -> dict[str, Any]:
    """The result of a trial that is not tried again.

    Args:
        plan: that it belongs to.
        trial: which.
        attempts: at it, in all.
        in_vain: those since its last checkpoint.
        cause: what the last one ended with.
    """
    error = f"{cause.rstrip()}\nFAILED after {in_vain} attempts without a checkpoint between them"
    return _result(plan, trial, results.FAILED, {}, 0.0, error) | {"attempts": attempts}


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
