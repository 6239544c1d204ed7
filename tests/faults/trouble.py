"""An experiment for the fault table: trials that do what their name says, and many that do nothing.

It is copied beside the others of a copy of the product, and launched as they are.
"""

import os
import resource
import signal
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from seqlab.tables import Column, Table

MANY = 10_000


@dataclass(frozen=True)
class Trial:
    name: str
    number: int = 0


def raises():
    return 1 // 0


def asks_device():
    """Sixteen tebibytes, of which the device has none."""
    return jnp.zeros((2**42,)).sum()


def asks_host():
    return np.ones(2**50)


def is_limited():
    """Runs into the limit of the process's address space, as under `ulimit -v`."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 2**28, before[1]))
    try:
        return np.ones(2**28)  # two gibibytes
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def dies():
    """What the kernel does to a process when the machine has no memory left."""
    os.kill(os.getpid(), signal.SIGKILL)


TROUBLE = {
    "raises": raises,
    "asks_device": asks_device,
    "asks_host": asks_host,
    "is_limited": is_limited,
    "dies": dies,
}


def trials(budget):
    """Smoke: every trouble among good trials. Paper: many good ones."""
    if budget == "paper":
        return [Trial("good", number) for number in range(MANY)]
    bad = [Trial(name) for name in TROUBLE]
    good = [Trial("good", number) for number in range(len(bad) + 1)]
    return [t for pair in zip(good, bad, strict=False) for t in pair] + good[-1:]


def run(trial, folder):
    if trial.name in TROUBLE:
        TROUBLE[trial.name]()
    return {"square": trial.number**2}


def check(trial):
    pass


def table(rows):
    statuses = sorted({row["status"] for row in rows})
    counted = tuple(
        {"status": s, "count": sum(row["status"] == s for row in rows)} for s in statuses
    )
    return Table("trouble", (Column("status", "status"), Column("count", "count", "d")), counted)
