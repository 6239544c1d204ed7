"""A grid as it runs, seen from anywhere: counts, a line a running trial, what finished last."""

import contextlib
import io
import itertools
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table as Grid
from rich.text import Text

from seqlab import history, results
from seqlab.launch import claims, status
from seqlab.launch.claims import Observer
from seqlab.launch.plan import Plan
from seqlab.launch.tail import Tail, numbers
from seqlab.tables import Table
from seqlab.tables.terminal import fitted
from seqlab.trial import as_dict, flatten

REFRESH_SECONDS = 2.0
BLOCK_SECONDS = 30.0  # from one block of lines to the next, where there is no terminal
MOST_OF_THE_TIME = 0.1  # share of it that looking may take: a large grid is looked at less often
LATEST = 5
SILENT_SECONDS = 3 * claims.BEAT_SECONDS
BARS = "▁▂▃▄▅▆▇█"
CURVE_WIDTH = 20
FLEXIBLE = (1, 5)  # the cells of a row that are cut first where the width is scarce

Row = tuple[str, ...]


class Frame(NamedTuple):
    """What is to be seen at one moment.

    Attributes:
        counts: a row a budget.
        running: trial, what it varies in, worker, attempt, step, newest numbers, curve.
        latest: of the trials that finished last: trial, what it varies in, status, time, reason.
        missing: whether anything is still to be done.
    """

    counts: Table
    running: list[Row]
    latest: list[Row]
    missing: bool


def follow(plans: dict[str, Plan], everything: bool, console: Console) -> None:
    """Show a grid until nothing is missing, or until Ctrl-C, which stops nobody but the spectator.

    Args:
        plans: by budget.
        everything: leave out the budgets of which nothing has been started.
        console: a terminal, which is drawn on every 2 seconds; or else what takes a block of lines
            every 30 seconds.
    """
    follower = Follower(plans, everything)
    with contextlib.suppress(KeyboardInterrupt):
        if console.is_interactive:
            with Live(console=console, auto_refresh=False) as live:
                for frame in _frames(follower):
                    live.update(_fitted(frame, console), refresh=True)
            return
        shown = -math.inf
        for frame in _frames(follower):
            if time.monotonic() - shown >= BLOCK_SECONDS or not frame.missing:
                shown = time.monotonic()
                print(to_text(frame), file=console.file, flush=True)


def _frames(follower: "Follower") -> Iterator[Frame]:
    while True:
        began = time.monotonic()
        frame = follower.look()
        yield frame
        if not frame.missing:
            return
        took = time.monotonic() - began
        time.sleep(max(REFRESH_SECONDS, took / MOST_OF_THE_TIME))


class Follower:
    """Looks at plans of one experiment again and again, and reads only what is new."""

    def __init__(self, plans: dict[str, Plan], everything: bool):
        self._plans = plans
        self._everything = everything
        self._plan = next(iter(plans.values()))
        self._folder = self._plan.root / self._plan.name
        self._observer = Observer(self._folder)
        self._varying = {budget: Varying() for budget in plans}
        self._training: dict[str, Training] = {}
        self._finished: set[str] = set()
        self._latest: list[Row] = []

    def look(self) -> Frame:
        seen = {budget: status.see(plan, self._observer) for budget, plan in self._plans.items()}
        shown = {b: each for b, each in seen.items() if each.begun or not self._everything}
        for budget, each in shown.items():
            self._varying[budget].add(
                {identity: trial for identity, (trial, _) in each.known.items()}
            )
        self._see_finished(shown)
        running = [
            self._running(identity, worker, self._varying[budget].text(each.known[identity][0]))
            for budget, each in shown.items()
            for identity, worker in each.running.items()
        ]
        on = {identity for each in shown.values() for identity in each.running}
        self._training = {i: training for i, training in self._training.items() if i in on}
        title = f"{status.title(self._plan)}, {time.strftime('%H:%M:%S')}"
        missing = not shown or any(each.missing for each in shown.values())
        return Frame(status.counts(title, shown), running, self._latest, missing)

    def _running(self, identity: str, worker: str, varied: str) -> Row:
        folder = self._folder / identity
        attempt = claims.last_attempt(folder)
        kept = claims.work_folder(folder) or folder
        training = self._training.get(identity)
        if training is None or training.folder != kept:
            training = self._training[identity] = Training(kept)
        training.update()
        place = ":".join(worker.rsplit("-", 2)[:2])
        silent = self._observer.silent_seconds(worker)
        if silent >= SILENT_SECONDS:
            place += f" silent for {silent:.0f} s"
        step = "" if training.step is None else f"step {training.step}"
        return (
            identity,
            varied,
            place,
            f"attempt {attempt}",
            step,
            training.numbers(),
            training.curve(),
        )

    def _see_finished(self, shown: Mapping[str, status.Seen]) -> None:
        new = [
            (budget, identity)
            for budget, each in shown.items()
            for identity, (_, result) in each.known.items()
            if result is not None and identity not in self._finished
        ]
        self._finished |= {identity for _, identity in new}
        new.sort(key=lambda pair: _committed(self._folder / pair[1]))
        for budget, identity in new[-LATEST:]:
            trial, result = shown[budget].known[identity]
            assert result is not None
            seconds = result.get("wall_seconds")
            took = "" if seconds is None else f"{seconds:.0f} s"
            varied = self._varying[budget].text(trial)
            row = identity, varied, result["status"], took, status.reason(result)
            self._latest = [*self._latest, row][-LATEST:]


def _committed(folder: Path) -> int:
    try:
        return (folder / results.RESULT).stat().st_mtime_ns
    except OSError:  # it is to be run again
        return 0


class Varying:
    """Which fields of a configuration differ between trials."""

    def __init__(self) -> None:
        self._first: dict[str, Any] = {}
        self._paths: dict[str, None] = {}
        self._known: set[str] = set()

    def add(self, trials: Mapping[str, Any]) -> None:
        """Compare trials, by identity; each is looked at once."""
        for identity in trials.keys() - self._known:
            for path, value in flatten(as_dict(trials[identity])).items():
                if self._first.setdefault(path, value) != value:
                    self._paths[path] = None
        self._known |= trials.keys()

    def text(self, trial: Any) -> str:
        """The values of these fields, as `cell=mut1 seed=2`; whole paths where names are equal."""
        config = flatten(as_dict(trial))
        names = [_name(path) for path in self._paths]
        parts = []
        for path, value in config.items():
            if path in self._paths:
                name = _name(path) if names.count(_name(path)) == 1 else path
                text = f"{value:.4g}" if isinstance(value, float) else str(value)
                parts.append(f"{name}={text}")
        return " ".join(parts)


def _name(path: str) -> str:
    return path.removesuffix(".kind").rpartition(".")[2]  # data=Ptb, not kind=Ptb


class Training:
    """What the log of an attempt says so far."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._log = Tail(folder / history.FILE)
        self._begin()

    def _begin(self) -> None:
        self.step: int | float | None = None
        self._newest: dict[str, int | float] = {}
        self._curves: dict[bool, tuple[str, list[float]]] = {}  # by whether a line ends an epoch

    def update(self) -> None:
        anew, lines = self._log.read()
        if anew:
            self._begin()
        for line in lines:
            found = numbers(line)
            self.step = found.pop("step", self.step)
            self._newest |= found
            ends = "epoch" in line
            drawn = [name for name in found if not ends or name.startswith("valid_")]
            drawn.sort(key=lambda name: name != "valid_nll")
            if drawn:
                name, values = self._curves.setdefault(ends, (drawn[0], []))
                if name in found:
                    values.append(found[name])

    def numbers(self) -> str:
        """The newest number of each name: what can be drawn, the rest, times."""
        drawn = [name for name, _ in self._curves.values()]
        names = sorted(self._newest, key=lambda n: (n not in drawn, "seconds" in n))
        return " ".join(f"{name} {self._newest[name]:.4g}" for name in names)

    def curve(self) -> str:
        """The validation metric of the epochs; of the first two the training loss of the steps."""
        none = "", []
        name, values = self._curves.get(True, none)
        if len(values) < 2:
            name, values = self._curves.get(False, none)
        return f"{name} {sparkline(values)}" if values else ""


def sparkline(values: Sequence[float], width: int = CURVE_WIDTH) -> str:
    """Finite values from the lowest ▁ to the highest █; many as the means of equal shares."""
    finite = [value for value in values if math.isfinite(value)]
    n = min(width, len(finite))
    cuts = [i * len(finite) // n for i in range(n + 1)] if n else []
    means = [statistics.fmean(finite[a:b]) for a, b in itertools.pairwise(cuts)]
    low, high = min(means, default=0.0), max(means, default=0.0)
    per_bar = (high - low) / len(BARS) or math.inf
    return "".join(BARS[min(int((mean - low) / per_bar), len(BARS) - 1)] for mean in means)


def to_text(frame: Frame) -> str:
    """A frame as plain lines, whole."""
    # larger than any frame: what is piped into a file is not cut to somebody's terminal
    console = Console(file=io.StringIO(), width=100_000, height=100_000, color_system=None)
    with console.capture() as capture:
        console.print(_fitted(frame, console))
    return "\n".join(filter(None, (line.rstrip() for line in capture.get().split("\n"))))


def _fitted(frame: Frame, console: Console) -> Group:
    """What of a frame there is room for. Of the running trials there are some in any case."""
    parts = fitted(frame.counts, console.width)
    free = console.height - len(console.render_lines(Group(*parts))) - 1  # for the cursor
    latest = frame.latest if free - len(frame.latest) > LATEST else []
    room = max(1, free - bool(latest) - len(latest) - 2)  # for the heading and how many more
    parts += _section("running", frame.running[:room])
    if len(frame.running) > room:
        parts.append(Text(f"and {len(frame.running) - room} more", style="dim"))
    return Group(*parts, *_section("finished last", latest))


def _section(heading: str, rows: list[Row]) -> list[RenderableType]:
    if not rows:
        return []
    grid = Grid.grid(padding=(0, 2, 0, 0))
    filled = [n for n in range(len(rows[0])) if any(row[n] for row in rows)]
    for n in filled:
        grid.add_column(no_wrap=n not in FLEXIBLE)
    for row in rows:
        grid.add_row(*(Text(row[n], no_wrap=True, overflow="ellipsis") for n in filled))
    return [Text(heading, style="bold cyan"), grid]
