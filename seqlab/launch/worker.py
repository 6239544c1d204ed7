"""A worker claims a trial, runs it, commits its result, and goes on until nothing is left."""

import errno
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import jax

from seqlab import checkpoint, results
from seqlab.errors import InputError
from seqlab.history import Diverged
from seqlab.launch.plan import Plan
from seqlab.launch.provenance import provenance
from seqlab.trial import as_dict, trial_id

MAX_ATTEMPTS = 3


def work(plan: Plan, start: float = 0.0) -> None:
    """Run what is missing of a plan, together with any other workers on the same directory.

    Args:
        plan: the trials and their directory.
        start: where in the list to begin, as a fraction of it. Workers that begin apart seldom
            compile the same program twice, because neighbours in the list often share theirs.
    """
    provenance()  # now, while the code on disk is the code that was imported
    launcher = os.environ.get("SEQLAB_LAUNCHER")
    position = None
    while launcher is None or int(launcher) == os.getppid():
        known = plan.known()
        if position is None:
            position = int(start * len(known))
        ids = list(known)
        missing = [i for i in ids[position:] + ids[:position] if known[i][1] is None]
        if not missing:
            return
        for identity in missing:
            trial = known[identity][0]
            folder = plan.folder(trial)
            attempt = results.claim(folder)
            if attempt is not None:
                if results.read(folder) is None:
                    _attempt(plan, trial, folder, attempt)
                position = ids.index(identity)
                break
        else:
            time.sleep(2)  # all that is missing is being run by others


def _attempt(plan: Plan, trial: Any, folder: Path, attempt: int) -> None:
    results.set_aside_damaged(folder)
    if attempt > MAX_ATTEMPTS and not results.has_moved(folder, since=attempt - MAX_ATTEMPTS):
        died = f"its process died {MAX_ATTEMPTS} times without finishing an epoch"
        results.commit(folder, _result(plan, trial, results.FAILED, {}, 0.0, died))
        return
    try:
        result = run_trial(plan, trial, folder)
    except KeyboardInterrupt:
        results.release(folder, attempt)
        raise
    results.commit(folder, result)
    if result["status"] in (results.DONE, results.DIVERGED):  # others may be tried again
        checkpoint.discard(folder / "checkpoints")


def run_trial(plan: Plan, trial: Any, folder: Path) -> dict[str, Any]:
    """Run one trial. Whatever goes wrong in it becomes a status, so that the grid goes on."""
    began = time.perf_counter()
    metrics, error = {}, None
    try:
        metrics = _checked(plan.experiment.run(trial, folder))
        status = results.DONE
    except Diverged as divergence:
        status, error = results.DIVERGED, str(divergence)
        metrics = {"diverged_at_step": divergence.step}
    except InputError as bad_input:
        status, error = results.FAILED, str(bad_input)
    except MemoryError:
        status, error = results.OOM, traceback.format_exc()
    except OSError as os_error:
        full = os_error.errno == errno.ENOSPC
        status, error = results.FAILED, "disk full" if full else traceback.format_exc()
    except jax.errors.JaxRuntimeError as device_error:
        no_memory = "RESOURCE_EXHAUSTED" in str(device_error)
        status, error = results.OOM if no_memory else results.FAILED, traceback.format_exc()
    except Exception:
        status, error = results.FAILED, traceback.format_exc()
    if error is not None:
        print(f"{trial_id(trial)} {status}: {error.strip().splitlines()[-1]}", file=sys.stderr)
    return _result(plan, trial, status, metrics, time.perf_counter() - began, error)


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
        "provenance": provenance(),
    }
