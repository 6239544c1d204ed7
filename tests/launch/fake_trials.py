"""Made-up trials that do what their name says, and what is in a results directory of them."""

import json
from dataclasses import dataclass
from pathlib import Path

from seqlab import results
from seqlab.launch.plan import Plan


@dataclass(frozen=True)
class Trial:
    name: str
    seed: int = 0


class Fake:
    """An experiment whose trials do what their name says; `ran` lists the runs."""

    __name__ = "fake"

    def __init__(self, **behaviour):
        self.behaviour = behaviour
        self.ran: list[Trial] = []

    def trials(self, budget):
        return [Trial(name) for name in self.behaviour]

    def run(self, trial, folder):
        self.ran.append(trial)
        done = self.behaviour[trial.name]
        return done(folder) if callable(done) else done

    def table(self, rows):
        raise NotImplementedError

    def check(self, trial):
        pass


def raises(error: BaseException):
    def run(folder):
        raise error

    return run


def plan_of(experiment, root: Path) -> Plan:
    return Plan("fake", experiment, experiment.trials("smoke"), root)


def by_name(plan: Plan) -> dict[str, dict]:
    return {row["config"]["name"]: row for row in results.rows(plan.root, "fake")}


def folder_of(plan: Plan, name: str) -> Path:
    folder = plan.folder(Trial(name))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def put_deaths(folder: Path, *steps: int | None) -> None:
    """Earlier attempts whose processes died, by the checkpoints that they started from."""
    folder.mkdir(parents=True, exist_ok=True)
    for attempt, step in enumerate(steps, start=1):
        claim = {"worker": "dead", "step": step}
        (folder / f"claim-{attempt}").write_text(json.dumps(claim))
