"""Signals: at once where nothing is lost, at the next boundary where a training asks for them."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from seqlab import interruption

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def listening():
    """Handlers as a command has them; afterwards those of the test runner."""
    before = {number: signal.getsignal(number) for number in interruption.SIGNALS}
    for number in interruption.SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    interruption.listen()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    interruption.forget()


def test_the_signals_are_those_of_terminals_and_schedulers():
    assert {number.name for number in interruption.SIGNALS} == {
        "SIGINT",
        "SIGTERM",
        "SIGUSR2",
        "SIGHUP",
    }


@pytest.mark.parametrize("number", interruption.SIGNALS)
def test_without_a_training_every_signal_is_immediate(number):
    with pytest.raises(KeyboardInterrupt, match=f"^{number.name}$"):
        signal.raise_signal(number)


@pytest.mark.parametrize("first", interruption.SIGNALS)
@pytest.mark.parametrize("second", interruption.SIGNALS)
def test_what_the_first_signal_has_begun_only_a_second_ctrl_c_disturbs(first, second):
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(first)
    if first == second == signal.SIGINT:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(second)
    else:
        signal.raise_signal(second)


@pytest.mark.parametrize("number", interruption.SIGNALS)
def test_a_training_hears_of_the_first_signal_when_it_asks(number):
    with interruption.at_boundaries() as interrupted:
        assert not interrupted()
        signal.raise_signal(number)
        assert interrupted()
        assert interrupted(), "however often it asks"
    assert interruption.requested(), "for whoever has called the training"


@pytest.mark.parametrize("first", interruption.SIGNALS)
@pytest.mark.parametrize("second", interruption.SIGNALS)
def test_of_second_signals_ctrl_c_alone_is_impatient(first, second):
    """A person who presses it again means it; a scheduler repeats itself."""
    with interruption.at_boundaries() as interrupted:
        signal.raise_signal(first)
        if second == signal.SIGINT:
            if first != signal.SIGINT:
                signal.raise_signal(second)  # the first Ctrl-C
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(second)
        else:
            for _ in range(3):
                signal.raise_signal(second)
        assert interrupted()


def test_a_request_from_elsewhere_is_heard_at_the_boundary_and_can_be_withdrawn():
    with interruption.at_boundaries() as interrupted:
        interruption.request()
        assert interrupted()
        interruption.withdraw()
        assert not interrupted()
        interruption.request()
        signal.raise_signal(signal.SIGTERM)
        interruption.withdraw()
        assert interrupted(), "a signal is not withdrawn"


def test_after_a_training_that_raised_signals_are_immediate_again():
    with pytest.raises(ValueError, match="broken"), interruption.at_boundaries():
        raise ValueError("broken")
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


def test_a_training_within_a_training_does_not_end_its_patience():
    with interruption.at_boundaries() as outer:
        with interruption.at_boundaries():
            pass
        signal.raise_signal(signal.SIGTERM)
        assert outer()


def test_listening_begins_anew():
    interruption.request()
    interruption.listen()
    assert not interruption.requested()


IGNORED = """
import signal
from seqlab import interruption
for number in interruption.SIGNALS:
    signal.signal(number, signal.SIG_IGN)
interruption.listen()
for number in interruption.SIGNALS:
    interruption.forget()
    try:
        signal.raise_signal(number)
    except KeyboardInterrupt as heard:
        print(heard)
"""


def test_what_a_shell_ignores_is_heard_but_for_nohup():
    done = subprocess.run(
        [sys.executable, "-c", IGNORED], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert (done.stdout.split(), done.stderr) == (["SIGINT", "SIGTERM", "SIGUSR2"], "")
