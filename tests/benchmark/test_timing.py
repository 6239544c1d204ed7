"""Two programs that take turns, by a clock that the test winds."""

import numpy as np
import pytest

from seqlab.benchmark import timing
from seqlab.benchmark.case import Program
from seqlab.benchmark.timing import Samples, calls_per_sample, sample, summary, take_turns, warm_up


class Clock:
    """Time passes when a program runs or somebody sleeps, and the programs are written down."""

    def __init__(self):
        self.now = 0.0
        self.events: list[str] = []

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.events.append("sleep")

    def program(
        self, name: str, seconds: float, on_wait: float = 0.0, drift: float = 0.0
    ) -> Program:
        def call() -> str:
            self.now += seconds * (1 + drift * self.now)
            self.events.append(name)
            return name

        def wait(result: str) -> None:
            assert result == name
            self.now += on_wait

        return Program(call, wait, dict, {})


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def test_a_sample_is_the_time_of_a_call_and_waits_once(clock):
    program = clock.program("a", seconds=0.25, on_wait=1.0)
    assert sample(program, 4) == pytest.approx((4 * 0.25 + 1.0) / 4)
    assert clock.events == ["a"] * 4


@pytest.mark.parametrize(("seconds", "calls"), [(0.01, 50), (0.2, 3), (4.0, 3)])
def test_warm_up_is_half_a_second_and_three_calls(clock, seconds, calls):
    warm_up(clock.program("a", seconds))
    assert len(clock.events) in (calls, calls + 1)  # sums of floats


@pytest.mark.parametrize(("seconds", "calls"), [(0.5, 1), (0.021, 1), (0.015, 2), (0.0011, 19)])
def test_a_sample_is_long_enough_to_be_measured(clock, seconds, calls):
    assert calls_per_sample(clock.program("a", seconds)) == calls


def test_programs_take_turns_and_rest_in_between(clock):
    ours, theirs = clock.program("a", 0.015), clock.program("b", 0.1)
    samples, calls = take_turns(ours, theirs, pairs=3)
    assert calls == (2, 1)
    turn = ["sleep", "a", "a", "sleep", "b", "sleep", "b", "sleep", "a", "a"]
    assert clock.events[-30:] == turn * 3
    np.testing.assert_allclose(samples.ours, np.full((3, 2), 0.015))
    np.testing.assert_allclose(samples.theirs, np.full((3, 2), 0.1))


def test_a_machine_that_becomes_slower_does_not_change_the_ratio(clock):
    ours, theirs = (clock.program(name, 0.1, drift=0.02) for name in "ab")
    samples, _ = take_turns(ours, theirs, pairs=10)
    assert samples.ours[-1, 1] > 1.05 * samples.ours[0, 0]
    assert summary(samples)["ratio_median"] == pytest.approx(1.0, abs=1e-4)


def test_summary_of_numbers_of_which_all_is_known():
    ours = np.array([[1.0, 1.0], [2.0, 2.0], [1.0, 3.0]])
    theirs = np.array([[2.0, 2.0], [2.0, 4.0], [6.0, 6.0]])
    result = summary(Samples(ours, theirs))
    # pairs: 4/2, 6/4, 12/4
    assert result["ratio_median"] == 2.0
    assert result["ratio_p10_p90"] == pytest.approx([1.6, 2.8])
    assert result["ratio_of_min"] == 2.0
    assert result["n_pairs"] == 3
    assert (result["t_ms_median"], result["t_ms_min"]) == (1500.0, 1000.0)
    assert (result["peer_t_ms_median"], result["peer_t_ms_min"]) == (3000.0, 2000.0)
    assert result["t_ms_p10_p90"] == pytest.approx([1000.0, 2500.0])
    assert result["peer_t_ms_p10_p90"] == pytest.approx([2000.0, 6000.0])
    assert result["null_ratio"] == 1.0


@pytest.mark.parametrize(
    ("second", "ok"), [(1.0, True), (1.02, True), (0.98, True), (1.05, False), (0.95, False)]
)
def test_our_samples_of_a_pair_have_to_agree(second, ok):
    ours = np.tile([1.0, second], (5, 1))
    result = summary(Samples(ours, np.full((5, 2), 7.0)))
    assert result["null_ratio"] == pytest.approx(1 / second)
    assert result["null_ok"] is ok


def test_a_ratio_is_that_of_pairs_and_not_of_medians():
    """A pair that was disturbed disturbs both sides of its own ratio alone."""
    ours = np.array([[1.0, 1.0], [10.0, 10.0], [1.0, 1.0]])
    theirs = np.array([[2.0, 2.0], [20.0, 20.0], [2.0, 2.0]])
    result = summary(Samples(ours, theirs))
    assert result["ratio_p10_p90"] == [2.0, 2.0]


def test_threads_are_those_of_xla(monkeypatch):
    monkeypatch.setenv("NPROC", "7")
    assert timing.num_threads() == 7
    monkeypatch.delenv("NPROC")
    monkeypatch.setattr(timing.os, "sched_getaffinity", lambda _: {0, 1, 5})
    assert timing.num_threads() == 3
