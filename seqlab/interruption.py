"""Ctrl-C and a scheduler's signals: obeyed at once, but by a training at its next step boundary."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

# SIGTERM and SIGUSR2 are how schedulers announce preemption and the end of the time, SIGHUP says
# that a terminal is gone.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP)

_requested = False
_looking = False  # whether a training is running that asks at its boundaries


def listen() -> None:
    """From now on the signals raise KeyboardInterrupt, or are kept for the next step boundary."""
    global _requested
    _requested = False
    for number in SIGNALS:
        nohup = number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN
        if not nohup:  # and where a shell has told us to ignore Ctrl-C, it is heard all the same
            signal.signal(number, _hear)


def _hear(number: int, _: object) -> None:
    global _requested
    again = _requested
    _requested = True
    if not _looking or (again and number == signal.SIGINT):
        _raise(signal.Signals(number).name)


def _raise(why: str) -> NoReturn:
    raise KeyboardInterrupt(why)


def request() -> None:
    """Ask a training of this process to stop at its next boundary, from any thread."""
    global _requested
    _requested = True


def requested() -> bool:
    return _requested


def withdraw() -> None:
    """The request has been seen to, or is about something that is over."""
    global _requested
    _requested = False


@contextmanager
def at_boundaries() -> Iterator[Callable[[], bool]]:
    """In this block the first signal only sets a flag; a second Ctrl-C is immediate.

    Yields:
        A function that says whether to stop, to be asked wherever the state can be saved. Who is
        told so saves it and raises KeyboardInterrupt.
    """
    global _looking
    before, _looking = _looking, True
    try:
        yield requested
    finally:
        _looking = before
