"""Packs in the results directory: which trials make one, how many, and what becomes of it.

    DIR/EXPERIMENT/.packs/PACK_ID/members.json   its trials
                                  claim-1 …      who tried it, as of a trial
                                  attempt-1/     log and checkpoints of all its members
                                  split          two halves take its place

A pack is claimed, given back and taken over as a trial is, and whoever runs it claims its trials as
well, so that nobody runs them beside it. What was begun as a pack goes on as a pack. What goes
wrong in one is not known to be any trial's doing: it is split in two, down to packs of one trial,
which are run as trials are.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import jax

from seqlab import results
from seqlab.accounting.batches import largest_batch
from seqlab.accounting.memory import predicted_peak
from seqlab.launch.plan import Experiment, Plan
from seqlab.pack_log import News
from seqlab.packs import Outline
from seqlab.trial import as_dict, flatten, trial_id

PACKS = ".packs"
MEMBERS = "members.json"
SPLIT = "split"
LARGEST = 128
# The prediction is within a quarter of the compiler's figure, which is asked before a pack is run.
PREDICTED_SHARE = 0.75
DEVICE_SHARE = 0.9  # the rest is for data, and for what is not the training step

log = logging.getLogger(__name__)


class Packable(Experiment, Protocol):
    """An experiment whose trials can be trained together."""

    VARIES: tuple[str, ...]
    """The fields in which the trials of a pack may differ, by dotted path."""
    run_pack: Callable[[Sequence[Any], Path | None, int | None], Iterator[News]]
    """Run the trials of a pack, in a folder, on the devices of this process, in so many bytes of
    each (`seqlab.packs.fit`)."""
    outline: Callable[[Sequence[Any]], Outline]
    """What a pack of these trials would be."""
    COST_ALIKE: tuple[str, ...]
    """Other fields that change little of what a trial costs."""


class Pack(NamedTuple):
    """Trials that are run together; the folder is None as long as nobody has begun."""

    folder: Path | None
    trials: list[Any]


def packable(experiment: Experiment) -> Packable | None:
    """The experiment, if its trials can be packed."""
    return cast(Packable, experiment) if hasattr(experiment, "run_pack") else None


# Which trials


def by_shape(trials: Sequence[Any], varies: Sequence[str]) -> list[list[Any]]:
    """The trials that one program can train together, in their order.

    They are equal in all fields but those that vary, and these are there for all or for none.
    """
    groups: dict[str, list[Any]] = {}
    for trial in trials:
        fields = flatten(as_dict(trial))
        shape = {k: (v is None) if k in varies else v for k, v in fields.items()}
        groups.setdefault(json.dumps(shape, sort_keys=True), []).append(trial)
    return list(groups.values())


def formed(
    trials: Sequence[Any], varies: Sequence[str], size: Callable[[list[Any]], int]
) -> Iterator[Pack]:
    """The trials in packs.

    Args:
        trials: that nobody has begun.
        varies: see `Packable`.
        size: the most members, for trials of one shape.
    """
    for group in by_shape(trials, varies):
        most = size(group)
        for start in range(0, len(group), most):
            yield Pack(None, group[start : start + most])


def predicted_size(experiment: Packable, trials: Sequence[Any], memory: int) -> int:
    """How many of these trials, all of one shape, fit into the memory, by the accounting.

    Args:
        experiment: that they belong to.
        trials: in their order.
        memory: bytes of all devices together.
    """
    most = min(len(trials), LARGEST)

    def peak(members: int) -> int:
        several = [trials[n % len(trials)] for n in range(members)]
        return predicted_peak(experiment.outline(several).dispatch)

    limit = int(PREDICTED_SHARE * memory)
    if most == 1 or peak(most) <= limit:
        return most
    return max(1, largest_batch(peak, limit, most // 2))


def device_memory() -> int:
    """Bytes of one device that a program may take; of a CPU the share of one core."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(DEVICE_SHARE * stats["bytes_limit"])
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(DEVICE_SHARE * physical / len(os.sched_getaffinity(0)))


# In the results directory


def begun(plan: Plan, known: Mapping[str, tuple[Any, dict[str, Any] | None]]) -> list[Pack]:
    """The packs that this plan can go on with. Those that are finished are removed.

    Args:
        plan: the experiment and its directory.
        known: its trials and their results.
    """
    there = plan.root / plan.name / PACKS
    if not there.is_dir():
        return []
    for marker in there.glob(f"[!.]*/{SPLIT}"):
        split(marker.parent)  # whoever began to do it has died
    packs = []
    for folder in sorted(there.glob("[!.]*")):
        members = _members(folder)
        if members is None:
            log.warning("%s is not what was written: its trials begin anew", folder / MEMBERS)
            discard(folder)
        elif known.keys() >= set(members):
            if all(known[identity][1] for identity in members):
                discard(folder)
            else:
                packs.append(Pack(folder, [known[identity][0] for identity in members]))
    return packs


def begin(plan: Plan, trials: Sequence[Any]) -> Path:
    """The folder of a pack of these trials, made if need be."""
    return _make(plan.root / plan.name / PACKS, [trial_id(trial) for trial in trials])


def is_there(folder: Path) -> bool:
    """Whether a pack can still be continued."""
    return (folder / MEMBERS).exists() and not (folder / SPLIT).exists()


def split(folder: Path) -> None:
    """Put two halves into the place of a pack; a pack of one stays."""
    members = _members(folder)
    if members is None or len(members) == 1:
        return
    with contextlib.suppress(FileNotFoundError):  # somebody else has
        results.create(folder / SPLIT, "")
        half = len(members) // 2
        _make(folder.parent, members[:half])
        _make(folder.parent, members[half:])
        discard(folder)


def discard(folder: Path) -> None:
    """Remove a pack; it disappears in one step, before its files are deleted."""
    gone = folder.with_name(f".{folder.name}-{os.getpid()}.gone")
    with contextlib.suppress(FileNotFoundError):  # somebody else was first
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def _make(there: Path, members: Sequence[str]) -> Path:
    text = json.dumps(list(members))
    folder = there / _name(text)
    made = there / f".{folder.name}-{socket.gethostname()}-{os.getpid()}.tmp"
    made.mkdir(parents=True, exist_ok=True)
    try:
        results.create(made / MEMBERS, text)
        with contextlib.suppress(FileExistsError):
            made.rename(folder)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:  # there is one already
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def _members(folder: Path) -> list[str] | None:
    """The identities of a pack's trials; None where that is not what was written."""
    try:
        text = (folder / MEMBERS).read_text()
    except (OSError, ValueError):
        return None
    return json.loads(text) if _name(text) == folder.name else None


def _name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
