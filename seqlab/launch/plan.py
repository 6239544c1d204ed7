"""What is to be run: an experiment, and the trials that the command line left of it."""

import dataclasses
import os
from collections.abc import Callable, Container, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Protocol

from seqlab import results
from seqlab.launch import claims, provenance
from seqlab.tables import Table
from seqlab.trial import trial_id


class Experiment(Protocol):
    """A file in experiments/: the recipe of one table or figure.

    Three functions are its heart, `check` completes them. It may have more:

        figures(rows) -> {name: matplotlib figure}    drawn by `launch.py plot`
        follow_up(trials, finished) -> [trial]        what the results so far, by identity, call
                                                      for: fresh seeds of the best setting
        ALONE = True                                  one trial a machine at a time, because it
                                                      measures time

    and what `seqlab.launch.packing` names, where its trials can be trained together.
    """

    __name__: str
    trials: Callable[[str], list[Any]]
    """All trials of a budget: 'smoke', 'default' or 'paper'."""
    run: Callable[[Any, Path | None], dict[str, Any]]
    """Run a trial and return its metrics; checkpoints and log go to the folder."""
    table: Callable[[list[dict[str, Any]]], Table]
    """The table of some results."""
    check: Callable[[Any], None]
    """Raise InputError where a trial cannot be run, in a moment and before any work starts."""


@dataclasses.dataclass
class Plan:
    """Trials of an experiment and the directory that holds their results.

    Attributes:
        name: of the experiment.
        experiment: its module.
        first: its trials, before those that results call for.
        root: the results directory.
        source: the experiment's file.
    """

    name: str
    experiment: Experiment
    first: Sequence[Any]
    root: Path
    source: Path | None = None

    def __post_init__(self) -> None:
        self._trials = {trial_id(trial): trial for trial in self.first}
        self._finished: dict[str, dict[str, Any]] = {}
        self._follow_up = getattr(self.experiment, "follow_up", _nothing_more)

    @property
    def alone(self) -> bool:
        """Whether a trial is to have the machine to itself."""
        return getattr(self.experiment, "ALONE", False)

    def folder(self, trial: Any) -> Path:
        return results.trial_folder(self.root, self.name, trial_id(trial))

    def listed(self) -> set[str]:
        """The names in the experiment's folder: of trials that were begun, and of more."""
        folder = self.root / self.name
        return set(os.listdir(folder)) if folder.is_dir() else set()

    def known(self, listed: Set[str] | None = None) -> dict[str, tuple[Any, dict[str, Any] | None]]:
        """Every trial known so far and its result or None, by identity.

        Args:
            listed: what is in the experiment's folder, if somebody has just looked.
        """
        listed = self.listed() if listed is None else listed
        trials = dict(self._trials)
        self._read_new(trials, listed)
        for trial in self._follow_up(list(self.first), self._finished):
            trials.setdefault(trial_id(trial), trial)
        self._read_new(trials, listed)
        return {
            identity: (trial, self._finished.get(identity)) for identity, trial in trials.items()
        }

    def forget(self, trials: Sequence[Any]) -> None:
        """Discard the results of trials and their attempts, so that they are run again."""
        for trial in trials:
            self._finished.pop(trial_id(trial), None)
            try:
                (self.folder(trial) / results.RESULT).unlink()
            except FileNotFoundError:
                continue  # another launcher has, and may be running it by now
            claims.forget(self.folder(trial))
        self._leave_index(map(trial_id, trials))

    def prepare(self) -> None:
        """Before trials are run: those without a result must not be in the index.

        They are, if somebody has deleted a result since, or it was damaged.
        """
        if (self.root / self.name / results.INDEX).is_dir():
            self._leave_index(i for i, (_, result) in self.known().items() if result is None)

    def _leave_index(self, identities: Iterable[str]) -> None:
        from seqlab import index  # here: polars takes time to import

        index.leave(self.root / self.name, identities)

    def changes(self, again: Container[str] = ()) -> str | None:
        """In one line, how the code differs from that of what has been run; None if it does not.

        Nothing differs for a plan of which all is finished: nothing will be run.

        Args:
            again: the statuses that do not count as finished.
        """
        known = self.known()
        if all(result and result["status"] not in again for _, result in known.values()):
            return None
        finished = [result for _, result in known.values() if result]
        origins = [result["provenance"] for result in finished if "provenance" in result]
        begun = (self.folder(trial) for trial, result in known.values() if result is None)
        origins += filter(None, map(provenance.origin, begun))
        return provenance.difference(origins, self.source)

    def _read_new(self, trials: Mapping[str, Any], listed: Set[str]) -> None:
        """A result is written once, so that it has to be read only once."""
        for identity in trials:
            if identity in listed and identity not in self._finished:
                result = results.read(self.root / self.name / identity)
                if result is not None:
                    self._finished[identity] = result


def _nothing_more(trials: Sequence[Any], finished: Mapping[str, dict[str, Any]]) -> list[Any]:
    """The trials of most experiments are known from the beginning."""
    return []
