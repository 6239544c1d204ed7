"""The time of two programs that take turns in one process."""

import math
import os
import time
from typing import Any, NamedTuple

import numpy as np

from seqlab.benchmark.case import Program

SAMPLE_SECONDS = 0.02
WARM_UP_CALLS = 3
WARM_UP_SECONDS = 0.5
# Between two samples: threads that wait for the next piece of work without sleeping, as those of
# OpenMP do for some milliseconds, have gone to sleep when the other program begins.
SETTLE_SECONDS = 0.02
NULL_RANGE = (0.97, 1.03)


class Samples(NamedTuple):
    """Seconds per call, a row A, B, B, A of samples each: [pairs, 2]."""

    ours: np.ndarray
    theirs: np.ndarray


def num_threads() -> int:
    """What XLA computes with on a CPU, and so everybody else."""
    return int(os.environ.get("NPROC") or len(os.sched_getaffinity(0)))


def sample(program: Program, calls: int) -> float:
    """Seconds per call, over some calls in a row."""
    began = time.perf_counter()
    result = None
    for _ in range(calls):
        result = program.call()
    program.wait(result)
    return (time.perf_counter() - began) / calls


def warm_up(program: Program) -> None:
    began, calls = time.perf_counter(), 0
    while calls < WARM_UP_CALLS or time.perf_counter() - began < WARM_UP_SECONDS:
        sample(program, 1)
        calls += 1


def calls_per_sample(program: Program) -> int:
    """So many that a sample takes `SAMPLE_SECONDS`; by the fastest of three calls."""
    return math.ceil(SAMPLE_SECONDS / min(sample(program, 1) for _ in range(3)))


def take_turns(ours: Program, theirs: Program, pairs: int) -> tuple[Samples, tuple[int, int]]:
    """Samples A, B, B, A, `pairs` times over, so that what drifts falls on both alike.

    Returns:
        The samples, and the calls in one of ours and in one of theirs.
    """
    calls = []
    for program in (ours, theirs):
        warm_up(program)
        calls.append(calls_per_sample(program))
    rows = []
    for _ in range(pairs):
        row = []
        for program, count in ((ours, 0), (theirs, 1), (theirs, 1), (ours, 0)):
            time.sleep(SETTLE_SECONDS)
            row.append(sample(program, calls[count]))
        rows.append(row)
    seconds = np.array(rows)
    return Samples(ours=seconds[:, [0, 3]], theirs=seconds[:, [1, 2]]), (calls[0], calls[1])


def summary(samples: Samples) -> dict[str, Any]:
    """What is recorded of the samples. A ratio above 1 says that ours is the faster.

    ratio_median is over pairs, each the time of theirs by that of ours; null_ratio the same of our
    first sample of a pair by our second, which is 1 where nothing disturbs the measurement.
    """
    ratios = samples.theirs.sum(axis=1) / samples.ours.sum(axis=1)
    null_ratio = float(np.median(samples.ours[:, 0] / samples.ours[:, 1]))
    return {
        **_times("", samples.ours),
        **_times("peer_", samples.theirs),
        "ratio_median": float(np.median(ratios)),
        "ratio_p10_p90": np.percentile(ratios, [10, 90]).tolist(),
        "ratio_of_min": float(samples.theirs.min() / samples.ours.min()),
        "null_ratio": null_ratio,
        "null_ok": NULL_RANGE[0] <= null_ratio <= NULL_RANGE[1],
        "n_pairs": len(ratios),
    }


def _times(prefix: str, seconds: np.ndarray) -> dict[str, Any]:
    milliseconds = 1000 * seconds
    return {
        f"{prefix}t_ms_median": float(np.median(milliseconds)),
        f"{prefix}t_ms_min": float(milliseconds.min()),
        f"{prefix}t_ms_p10_p90": np.percentile(milliseconds, [10, 90]).tolist(),
    }
