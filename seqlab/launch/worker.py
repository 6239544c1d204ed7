"""A worker claims a trial, runs it, commits its result, and goes on until nothing is left."""

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from seqlab import results
from seqlab.errors import Changed
from seqlab.launch import attempt, claims, pack_attempt, packing, provenance
from seqlab.launch.attempt import DiskFull, Terms
from seqlab.launch.claims import Heart, Observer
from seqlab.launch.outcome import DISK_FULL, NO_ROOM
from seqlab.launch.packing import Pack, Packable
from seqlab.launch.plan import Plan
from seqlab.launch.programs import Programs
from seqlab.trial import trial_id

IDLE_SECONDS = 2.0


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
    experiment = packing.packable(plan.experiment)
    programs = Programs()
    while True:
        known = plan.known()
        begun = packing.begun(plan, known) if experiment else []
        ids, position = list(known), int(start * len(known))
        missing = [i for i in ids[position:] + ids[:position] if known[i][1] is None]
        if not missing:
            return
        ran = False
        trials = [known[identity][0] for identity in missing]
        for pack in _packs(plan, experiment, begun, trials, terms):
            if launcher is not None and int(launcher) != os.getppid():
                return
            programs.after_a_trial()
            if experiment is None or len(pack.trials) == 1:
                ran |= _try(plan, pack.trials[0], heart, observer, terms)
            elif _try_pack(plan, experiment, pack, heart, observer, terms):
                ran = True
                break  # it took its time: others may have begun packs that are cut otherwise
        if not ran:
            time.sleep(IDLE_SECONDS)  # all that is missing is being run by others


def _packs(
    plan: Plan,
    experiment: Packable | None,
    begun: Sequence[Pack],
    missing: Sequence[Any],
    terms: Terms,
) -> Iterator[Pack]:
    """What was begun as a pack, then the other trials, packed where that is possible and wanted."""
    yield from begun
    packed = {trial_id(trial) for pack in begun for trial in pack.trials}
    left = [trial for trial in missing if trial_id(trial) not in packed]
    if experiment is None or terms.pack == 1:
        yield from (Pack(None, [trial]) for trial in left)
        return
    alone = [trial for trial in left if claims.saved_step(plan.folder(trial)) is not None]
    yield from (Pack(None, [trial]) for trial in alone)  # they go on from where they are
    ids = {trial_id(trial) for trial in alone}
    yield from packing.formed(
        [trial for trial in left if trial_id(trial) not in ids],
        experiment.VARIES,
        lambda trials: terms.pack or _fitting(experiment, trials, terms),
    )


def _fitting(experiment: Packable, trials: list[Any], terms: Terms) -> int:
    memory = terms.memory or packing.device_memory()
    return packing.predicted_size(experiment, trials, memory * jax.local_device_count())


def _try(plan: Plan, trial: Any, heart: Heart, observer: Observer, terms: Terms) -> bool:
    """Run a trial if nobody else does; whether it was run."""
    folder, number = plan.folder(trial), None
    if _is_finished(plan, trial):
        return False
    try:
        number = claims.claim(folder, heart, observer)
        if number is None:
            return False
        if results.read(folder) is None:
            attempt.attempt(plan, trial, folder, number, heart, terms)
    except (KeyboardInterrupt, Changed, OSError):
        claims.give_back(folder, number)
        raise
    return True


def _try_pack(
    plan: Plan, experiment: Packable, pack: Pack, heart: Heart, observer: Observer, terms: Terms
) -> bool:
    """Run a pack if nobody else runs it or its trials; whether it was run."""
    folder, trials, number, held = pack.folder, pack.trials, None, {}
    ran = False
    try:
        if folder is not None:
            if not packing.is_there(folder):  # others have ended or split it since it was listed
                return False
            number = claims.claim(folder, heart, observer)
            if number is None:
                return False
        for trial in trials:
            if not _is_finished(plan, trial):
                claimed = claims.claim(plan.folder(trial), heart, observer)
                held |= {} if claimed is None else {trial_id(trial): claimed}
        if folder is None and len(held) > 1:
            trials = [trial for trial in trials if trial_id(trial) in held]
            folder = packing.begin(plan, trials)
            number = claims.claim(folder, heart, observer)
        if folder is not None and number is not None and held:
            ran = True
            pack_attempt.attempt(plan, experiment, folder, trials, number, held, heart, terms)
    finally:
        for trial in trials:
            # Of a pack that was split they were free before, and may be others' by now.
            ours = observer.holder(plan.folder(trial)) == heart.name
            if ours and not _is_finished(plan, trial):
                claims.give_back(plan.folder(trial), held.get(trial_id(trial)))
        if folder is not None:
            claims.give_back(folder, number)
    if folder is None:  # all but one, or all, are others' by now
        left = [trial for trial in trials if trial_id(trial) in held]
        return any(_try(plan, trial, heart, observer, terms) for trial in left)
    return ran


def _is_finished(plan: Plan, trial: Any) -> bool:
    folder = plan.folder(trial)
    return (folder / results.RESULT).exists() and results.read(folder) is not None
