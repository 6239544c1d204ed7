"""How far a grid is: one live bar on a terminal, one plain line every 30 seconds elsewhere."""

import sys
import time
from collections import Counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from seqlab import results
from seqlab.launch.plan import Plan

LINE_SECONDS = 30.0
RECOUNT_SECONDS = 5.0


class GridProgress:
    """Counts the results of a plan and shows them on standard error."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.counts: Counter[str] = Counter()
        self.total = 0
        self._began = self._shown = time.monotonic()
        self._counted = 0.0
        self._done_before = 0
        self._bar = Progress(
            TextColumn(plan.name),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[states]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("", total=None, states="")

    def __enter__(self) -> "GridProgress":
        self._recount()
        self._done_before = sum(self.counts.values())
        if sys.stderr.isatty():
            self._bar.start()
        else:
            print(self._line(), file=sys.stderr, flush=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._recount()
        self._show()
        if sys.stderr.isatty():
            self._bar.stop()
        else:
            print(self._line(), file=sys.stderr, flush=True)

    @property
    def failed(self) -> int:
        """How many trials have come to nothing."""
        return self.counts[results.FAILED] + self.counts[results.OOM]

    def watch(self) -> int:
        """Count, show, and say how many trials are missing."""
        now = time.monotonic()
        if now - self._counted >= RECOUNT_SECONDS:
            self._recount()
        if sys.stderr.isatty():
            self._show()
        elif now - self._shown >= LINE_SECONDS:
            self._shown = now
            print(self._line(), file=sys.stderr, flush=True)
        return self.total - sum(self.counts.values())

    def _recount(self) -> None:
        known = self.plan.known()
        self.counts = Counter(result["status"] for _, result in known.values() if result)
        self.total = len(known)
        self._counted = time.monotonic()

    def _show(self) -> None:
        states = self._states()
        done = sum(self.counts.values())
        self._bar.update(self._task, completed=done, total=self.total, states=states)

    def _states(self) -> str:
        bad = (f"{self.counts[s]} {s}" for s in results.STATUSES[1:] if self.counts[s])
        return ", ".join(bad)

    def _line(self) -> str:
        done = sum(self.counts.values())
        here = done - self._done_before
        line = f"{self.plan.name}: {done} of {self.total} trials"
        if states := self._states():
            line += f" ({states})"
        elapsed = time.monotonic() - self._began
        line += f", {elapsed:.0f} s"
        if here and done < self.total:
            line += f", about {elapsed / here * (self.total - done):.0f} s to go"
        return line
