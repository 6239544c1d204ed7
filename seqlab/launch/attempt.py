"""An attempt at a trial: it is run, and its result committed, or it is left for the next."""

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqlab import checkpoint, interruption, results
from seqlab.launch import claims, outcome, provenance
from seqlab.launch.claims import Heart
from seqlab.launch.outcome import DISK_FULL
from seqlab.launch.plan import Plan
from seqlab.trial import as_dict, trial_id


class DiskFull(Exception):
    """There is no room for results."""


@dataclass(frozen=True)
class Terms:
    """How a worker treats trouble, and what it writes besides results.

    Attributes:
        attempts: how often a trial is tried whose process dies, or that fails because of the device
            or the file system. Any other error would only be raised again.
        allow_changes: continue trials that were begun with other code or other data.
        tensorboard: write event files.
        pack: how many trials of one shape are trained as one program; None: as many as fit.
        memory: bytes of a device that a pack may take; None: what there is.
    """

    attempts: int = 3
    allow_changes: bool = False
    tensorboard: bool = False
    pack: int | None = 1
    memory: int | None = None


def attempt(plan: Plan, trial: Any, folder: Path, number: int, heart: Heart, terms: Terms) -> None:
    """Run a trial that this worker has claimed.

    Raises:
        KeyboardInterrupt: after a signal, with the trial saved.
        DiskFull: there was no room for its checkpoints; it is FAILED.
        Changed: it was begun with other code or data.
    """
    results.set_aside_damaged(folder)
    in_vain = claims.in_vain(folder, number)
    if in_vain >= terms.attempts:  # whoever was to say so has died
        cause = claims.failure(folder, number - 1) or "its process died"
        results.commit(folder, outcome.failed(plan, trial, number - 1, in_vain, cause))
        return
    kept = claims.adopt(folder, number)
    provenance.begin(kept, plan.source, terms.allow_changes)
    try:
        with heart.holding(folder, number), events(kept, trial, terms):
            result = outcome.run_trial(plan, trial, kept)
    except KeyboardInterrupt:
        if not heart.was_robbed:
            raise
        result = None
    if heart.was_robbed or claims.last_attempt(folder) > number:
        print(f"{trial_id(trial)} was taken over by another worker", file=sys.stderr)
        interruption.withdraw()
        if interruption.requested():  # a signal has come as well
            raise KeyboardInterrupt
        return
    assert result is not None
    if result.pop("passing") and claims.in_vain(folder, number + 1) < terms.attempts:
        claims.fail(folder, number, result["error"])
        return
    results.commit(folder, result | {"attempts": number})
    if result["status"] in (results.DONE, results.DIVERGED):  # others may be tried again
        checkpoint.discard(kept / "checkpoints")
    if result["error"] == DISK_FULL:
        raise DiskFull(f"{DISK_FULL}: no room for checkpoints in {plan.root}")
    if interruption.requested():  # a signal came when there was nothing left to be saved
        raise KeyboardInterrupt


def events(kept: Path, trial: Any, terms: Terms) -> contextlib.AbstractContextManager:
    """In this block event files are written, if they were asked for."""
    if not terms.tensorboard:
        return contextlib.nullcontext()
    from seqlab.launch import tensorboard

    return tensorboard.following(kept, as_dict(trial))
