"""Made-up trials, and what is in a results directory of them.

`ran` says what was run: the trials of a pack by their letters, a trial alone by its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from seqlab import results
from seqlab.launch import claims, packing, worker
from seqlab.launch.plan import Plan
from seqlab.launch.worker import Terms
from seqlab.pack_log import News


@dataclass(frozen=True)
class Trial:
    name: str
    shape: int = 0
    rate: float | None = None


class Fake:
    """An experiment of which trials differ in their names, and packs do what a test says."""

    __name__ = "fake"
    VARIES = ("name", "rate")
    COST_ALIKE = ()

    def __init__(self, names: str, trouble: Callable[[str], object] = lambda names: None):
        self.named = [Trial(name) for name in names]
        self.trouble = trouble
        self.found: dict[str, dict | Exception] = {}
        self.ran: list[str] = []
        self.is_dead = False

    def trials(self, budget):
        return self.named

    def run(self, trial, folder):
        self.ran.append(trial.name)
        self.trouble(trial.name)
        found = self.found.get(trial.name, {"of": trial.name})
        if isinstance(found, Exception):
            raise found
        return found

    def run_pack(self, trials, folder, memory):
        names = "".join(trial.name for trial in trials)
        self.ran.append(names)
        self.trouble(names)
        yield News(
            {n: [{"step": 1, "of": name}] for n, name in enumerate(names)},
            {n: self.found.get(name, {"of": name}) for n, name in enumerate(names)},
        )

    def table(self, rows):
        raise NotImplementedError

    def check(self, trial):
        pass


class Killed(BaseException):
    """The process is no more: whoever catches this is not the product."""


def plan_of(experiment: Fake, root: Path) -> Plan:
    return Plan("fake", experiment, experiment.trials("smoke"), root)


def work(experiment: Fake, root: Path, pack: int | None = 99, **terms) -> None:
    """As a new process would."""
    worker.work(plan_of(experiment, root), terms=Terms(pack=pack, **terms))


def rows_of(root: Path) -> dict[str, dict]:
    rows = {row["config"]["name"]: row for row in results.rows(root, "fake")}
    assert len(rows) == len(list((root / "fake").glob("*/result.json*")))
    return rows


def statuses(root: Path) -> dict[str, str]:
    return {name: row["status"] for name, row in rows_of(root).items()}


def packs_in(root: Path) -> list[Path]:
    """All that there is of packs, in whatever state."""
    there = root / "fake" / packing.PACKS
    return sorted(there.iterdir()) if there.exists() else []


def pack_of(root: Path, experiment: Fake, names: str) -> Path:
    """A pack that somebody has begun."""
    return packing.begin(plan_of(experiment, root), [Trial(name) for name in names])


def names_in(root: Path, experiment: Fake) -> list[str]:
    plan = plan_of(experiment, root)
    packs = packing.begun(plan, plan.known())
    return sorted("".join(trial.name for trial in pack.trials) for pack in packs)


def held(root: Path) -> list[str]:
    """Claims on what has no result."""
    return [
        path.as_posix()
        for path in (root / "fake").rglob("claim-*")
        if not (path.parent / "result.json").exists()
    ]


def content(root: Path) -> dict[str, bytes]:
    """All files but those of workers."""
    files = (p for p in root.rglob("*") if p.is_file() and claims.WORKERS not in p.parts)
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in files}


def bisected(names: str, fails: Callable[[str], bool]) -> list[str]:
    """What is run: whatever fails once, and then its halves."""
    if not fails(names) or len(names) == 1:
        return [names]
    half = len(names) // 2
    return [names, *bisected(names[:half], fails), *bisected(names[half:], fails)]


def interrupt(together):
    raise KeyboardInterrupt
