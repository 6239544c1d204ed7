"""Ctrl-C and a scheduler's signals: obeyed at once, or in training at the next step boundary."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# SIGTERM and SIGUSR2 are how schedulers announce preemption and the end of the time, SIGHUP says
# that a terminal is gone.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP)

_looking = False  # whether a training is running that asks at its boundaries
_raised = False  # a signal already
_heard = False  # a signal, kept for the next boundary
_pressed = False  # Ctrl-C
_requested = False  # by this process itself


def listen() -> None:
    """From now on the signals raise KeyboardInterrupt, or are kept for the next step boundary.

    A second Ctrl-C raises it at once. Further signals of other kinds are ignored: schedulers send
    several.
    """
    forget()
    for number in SIGNALS:
        nohup = number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN
        if not nohup:  # and where a shell has told us to ignore Ctrl-C, it is heard all the same
            signal.signal(number, _hear)


def forget() -> None:
    """Begin anew, as a process does."""
    global _raised, _heard, _pressed, _requested
    _raised = _heard = _pressed = _requested = False


def ignore() -> None:
    """Ignore signals from now on: the process is ending, and schedulers send several."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _hear(number: int, _: object) -> None:
    global _raised, _heard, _pressed
    impatient = _pressed and number == signal.SIGINT
    _pressed |= number == signal.SIGINT
    if _looking and not impatient:
        _heard = True
    elif impatient or not _raised:
        _raised = True
        raise KeyboardInterrupt(signal.Signals(number).name)


def request() -> None:
    """Ask a training of this process to stop at its next boundary, from any thread."""
    global _requested
    _requested = True


def withdraw() -> None:
    """Drop a request, because what it was about is over; a signal stays."""
    global _requested
    _requested = False


def requested() -> bool:
    """Whether a training is to stop."""
    return _heard or _requested


@contextmanager
def at_boundaries() -> Iterator[Callable[[], bool]]:
    """In this block the first signal only sets a flag; a second Ctrl-C is immediate.

    Yields:
        A function that says whether to stop, to be called wherever the state can be saved. If so,
        the caller saves it and raises KeyboardInterrupt.
    """
    global _looking
    before, _looking = _looking, True
    try:
        yield requested
    finally:
        _looking = before
