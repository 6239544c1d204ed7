"""What is to be run: an experiment, and the trials that the command line left of it."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from seqlab import results
from seqlab.tables import Table
from seqlab.trial import trial_id


class Experiment(Protocol):
    """A file in experiments/: the recipe of one table or figure.

    Three functions are its heart; `check` and `follow_up` complete them. It may have a fourth,
    figures(rows) -> {name: matplotlib figure}, which `launch.py plot` calls.
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
    follow_up: Callable[[list[Any], dict[str, dict[str, Any]]], list[Any]]
    """The trials that the results so far (by identity) call for: seeds of the best setting."""
    ALONE: bool
    """Whether a trial is to have the machine to itself, because it measures time."""


@dataclasses.dataclass
class Plan:
    """Trials of an experiment and the directory that holds their results."""

    name: str
    experiment: Experiment
    first: Sequence[Any]
    root: Path
    _finished: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    def folder(self, trial: Any) -> Path:
        return results.trial_folder(self.root, self.name, trial_id(trial))

    def known(self) -> dict[str, tuple[Any, dict[str, Any] | None]]:
        """Every trial known so far and its result or None, by identity."""
        known = {trial_id(t): (t, self._result(t)) for t in self.first}
        for trial in self.experiment.follow_up(list(self.first), self._finished):
            known.setdefault(trial_id(trial), (trial, self._result(trial)))
        return known

    def forget(self, trial: Any) -> None:
        """Discard a trial's result, so that it is run again."""
        results.discard(self.folder(trial))
        self._finished.pop(trial_id(trial), None)

    def _result(self, trial: Any) -> dict[str, Any] | None:
        """A result is written once, so that it has to be read only once."""
        identity = trial_id(trial)
        if identity not in self._finished:
            result = results.read(self.folder(trial))
            if result is None:
                return None
            self._finished[identity] = result
        return self._finished[identity]
