"""An attempt at a pack: its trials are run as one program, and each has a result of its own."""

import contextlib
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seqlab import checkpoint, history, interruption, results
from seqlab.errors import Changed
from seqlab.history import Diverged
from seqlab.launch import claims, outcome, packing, provenance
from seqlab.launch.attempt import Terms, events
from seqlab.launch.claims import Heart
from seqlab.launch.outcome import NO_ROOM
from seqlab.launch.packing import Packable
from seqlab.launch.plan import Plan
from seqlab.trial import trial_id


class Member(NamedTuple):
    """A trial of a pack, its folder, and this worker's attempt at it; None if it is another's."""

    trial: Any
    folder: Path
    attempt: int | None

    @property
    def kept(self) -> Path:
        return self.folder / f"attempt-{self.attempt}"


def attempt(
    plan: Plan,
    experiment: Packable,
    folder: Path,
    trials: Sequence[Any],
    number: int,
    held: Mapping[str, int],
    heart: Heart,
    terms: Terms,
) -> None:
    """Run a pack that this worker has claimed. What goes wrong splits it.

    Args:
        plan: that it belongs to.
        experiment: the plan's.
        folder: of the pack.
        trials: its members.
        number: of this attempt.
        held: those of the attempts at its trials, by identity; a result of others is not ours.
        heart: of the worker.
        terms: how trouble is treated.

    Raises:
        KeyboardInterrupt: after a signal, with the pack saved.
        OSError: the disk is full.
        Changed: it was begun with other code or data.
    """
    members = [Member(trial, plan.folder(trial), held.get(trial_id(trial))) for trial in trials]
    ours = [member for member in members if member.attempt is not None]
    if claims.in_vain(folder, number) >= terms.attempts:
        _split(folder, ours, "its process died")
        return
    kept = claims.adopt(folder, number)
    provenance.begin(kept, plan.source, terms.allow_changes)
    stopped, trouble = False, None
    try:
        with heart.holding(folder, number), contextlib.ExitStack() as shown:
            for member in ours:
                shown.enter_context(_begun(plan, member, terms))
            _run(plan, experiment, members, kept, terms)
    except KeyboardInterrupt:
        if not heart.was_robbed:
            raise
        stopped = True
    except Changed:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
        trouble = error
    if heart.was_robbed or claims.last_attempt(folder) != number:
        if stopped or trouble or folder.exists():  # else others found it finished before us
            print(f"pack {folder.name} was taken over by another worker", file=sys.stderr)
        interruption.withdraw()
    elif trouble is None:
        packing.discard(folder)
    elif isinstance(trouble, checkpoint.CheckpointError):
        for member in ours:
            _commit(plan, member, len(members), kept, trouble, 0.0)
        packing.discard(folder)
    else:
        # None of its trials is known to be the cause.
        _split(folder, ours, f"{type(trouble).__name__}: {trouble}")
    if interruption.requested():  # a signal came when there was nothing left to be saved
        raise KeyboardInterrupt


def _begun(plan: Plan, member: Member, terms: Terms) -> contextlib.AbstractContextManager:
    assert member.attempt is not None
    results.set_aside_damaged(member.folder)
    claims.adopt(member.folder, member.attempt)
    provenance.begin(member.kept, plan.source, terms.allow_changes)
    return events(member.kept, member.trial, terms)


def _run(plan: Plan, experiment: Packable, members: list[Member], kept: Path, terms: Terms) -> None:
    trials = [member.trial for member in members]
    memory = terms.memory or packing.device_memory()
    seconds = dict.fromkeys(range(len(members)), 0.0)  # a share each, for as long as it went on
    anew = True  # what an earlier process has found is told again
    began = time.perf_counter()
    for news in experiment.run_pack(trials, kept, memory):
        since, began = began, time.perf_counter()
        for n, lines in news.lines.items():
            seconds[n] += (began - since) / len(news.lines)
            if members[n].attempt is not None:
                history.write(members[n].kept, lines, anew)
        for n, end in news.ended.items():
            if members[n].attempt is not None:
                _commit(plan, members[n], len(members), kept, end, seconds[n])
        anew = False


def _commit(
    plan: Plan,
    member: Member,
    num_members: int,
    kept: Path,
    end: dict[str, Any] | Diverged | checkpoint.CheckpointError,
    seconds: float,
) -> None:
    def find() -> dict[str, Any]:
        if isinstance(end, Exception):
            raise end
        return end

    result = outcome.judged(plan, member.trial, kept, find, time.perf_counter() - seconds)
    del result["passing"]
    result["provenance"] |= {"pack": kept.parent.name, "pack_members": num_members}
    if claims.last_attempt(member.folder) == member.attempt:  # else it was taken over
        results.commit(member.folder, result | {"attempts": member.attempt})


def _split(folder: Path, ours: list[Member], cause: str) -> None:
    print(f"pack {folder.name} is split in two: {cause.splitlines()[0]}", file=sys.stderr)
    packing.split(folder)
    for member in ours:
        if results.read(member.folder) is None:
            claims.forget(member.folder)  # what befell the pack is not held against its trials
