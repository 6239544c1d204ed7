"""What the tests of workers and of their packs share."""

import signal

import pytest

from seqlab import interruption


@pytest.fixture
def alarm():
    """A worker that waits for itself would wait for ever."""

    def stop(*_):
        raise TimeoutError("the worker did not come to an end")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    interruption.forget()
    yield
    interruption.forget()
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
