"""The compiled programs of a worker, forgotten when they have become too many."""

import os
from pathlib import Path

import jax

GROWTH = 2**30  # bytes


class Programs:
    """What JAX has compiled in this process, for whoever runs one trial after the other.

    A program is kept for the next trial of its shape. Trials of ever new shapes (folds whose
    sentences differ in length, units of a search) would fill the memory, some 250 MB each for a
    small classifier of sentences: when the process has grown by `GROWTH`, all are forgotten.
    """

    def __init__(self) -> None:
        self.resident = resident_bytes()

    def after_a_trial(self) -> None:
        if resident_bytes() - self.resident > GROWTH:
            jax.clear_caches()
            # What they took is used again, but not always given back.
            self.resident = resident_bytes()


def resident_bytes() -> int:
    """The resident memory of this process; 0 where the system does not report it."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
