"""What is to be run: an experiment, and the trials that the command line left of it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from seqlab import results
from seqlab.tables import Table
from seqlab.trial import trial_id


class Experiment(Protocol):
    """A file in experiments/: the recipe of one table or figure.

    Three functions are its heart; `check` and `follow_up` complete them.
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


class Plan(NamedTuple):
    """Trials of an experiment and the directory that holds their results."""

    name: str
    experiment: Experiment
    first: Sequence[Any]
    root: Path

    def folder(self, trial: Any) -> Path:
        return results.trial_folder(self.root, self.name, trial_id(trial))

    def known(self) -> dict[str, tuple[Any, dict[str, Any] | None]]:
        """Every trial known so far and its result or None, by identity."""
        known = {trial_id(t): (t, results.read(self.folder(t))) for t in self.first}
        finished = {i: result for i, (_, result) in known.items() if result is not None}
        for trial in self.experiment.follow_up(list(self.first), finished):
            known.setdefault(trial_id(trial), (trial, results.read(self.folder(trial))))
        return known
