"""The log of a trial as TensorBoard events, beside it: a convenience; the log stays the truth."""

import contextlib
import json
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab import history
from seqlab.errors import InputError
from seqlab.launch.tail import Tail, numbers

if TYPE_CHECKING:
    from tensorboardX.event_file_writer import EventsWriter

FOLDER = "tensorboard"
LOOK_SECONDS = 5.0


def check() -> None:
    """Say that event files cannot be written, before any work starts.

    Raises:
        InputError: tensorboardX is not installed.
    """
    if find_spec("tensorboardX") is None:
        raise InputError("--tensorboard needs tensorboardX: pip install -e '.[tensorboard]'")


@contextlib.contextmanager
def following(kept: Path, config: dict[str, Any]) -> Iterator[None]:
    """In this block the numbers of a log become events; at its end, however it ends, all of them.

    A number has its name in the log, after `epoch/` in a line that ends an epoch: such a line has
    the step of the line before it, and often numbers of the same names. Of a log that was cut back
    the events are written again, so that no step occurs twice.

    Args:
        kept: the folder of the attempt, with its log; events go to `tensorboard` in it.
        config: shown as text.
    """
    events = _Events(kept, config)
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(LOOK_SECONDS):
            events.update()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        events.update()
        events.close()


class _Events:
    """Not tensorboardX's SummaryWriter: when the disk is full its thread dies, its caller waits."""

    def __init__(self, kept: Path, config: dict[str, Any]):
        self._folder = kept / FOLDER
        self._config = config
        self._log = Tail(kept / history.FILE)
        self._writer: EventsWriter | None = None
        self._failed = False

    def update(self) -> None:
        """Write what is new. Trouble ends the events, in one line; the trial goes on."""
        if self._failed:
            return
        try:
            anew, lines = self._log.read()
            writer = self._begin() if anew or self._writer is None else self._writer
            for line in lines:
                _write(writer, line)
            writer.flush()
        except OSError as error:
            self._failed = True
            print(f"no more events in {self._folder}: {error.strerror}", file=sys.stderr)

    def close(self) -> None:
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.close()

    def _begin(self) -> "EventsWriter":
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.summary import text

        self.close()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._folder)
        self._folder.mkdir()  # not its parents: the attempt may be another worker's by now
        self._writer = writer = EventsWriter(str(self._folder / "events"))
        config = json.dumps(self._config, indent=1).replace("\n", "\n    ")
        markdown = f"    {config}"  # indented so, it is shown as it is
        writer.write_event(_event(0, text("config", markdown)))
        return writer


def _write(writer: "EventsWriter", line: dict[str, Any]) -> None:
    prefix = "epoch/" if "epoch" in line else ""
    values = numbers(line)
    step = values.pop("step", None)
    if isinstance(step, int):
        event = _event(step)
        for name, value in values.items():
            event.summary.value.add(tag=prefix + name, simple_value=value)
        writer.write_event(event)


def _event(step: int, summary: Any = None) -> Any:
    # protobuf makes this class when it is imported, which pyright does not do
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

    return Event(wall_time=time.time(), step=step, summary=summary)
