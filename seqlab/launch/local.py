"""Workers as processes of this machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

POLL_SECONDS = 0.5
MAX_RESTARTS = 10

# In force only when it is there before the process starts. Measured on two cores: a step of the
# language model on Penn Treebank takes 0.93 of its time, because its large temporaries, mapped
# afresh at every call, come in fewer pages.
ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def default_workers() -> int:
    """One where there is an accelerator, which a process takes whole; otherwise one a core."""
    accelerators = [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("accel[0-9]*")]
    return 1 if accelerators else len(os.sched_getaffinity(0))


def run(
    command: list[str],
    num_workers: int,
    watch: Callable[[], bool],
) -> None:
    """Start workers and wait until they have finished.

    Args:
        command: starts one worker; `--start FRACTION` is appended for each.
        num_workers: how many.
        watch: called twice a second; false when nothing is missing any more. While something is, a
            worker that died is replaced.

    Raises:
        KeyboardInterrupt: after the workers have given their trials back.
    """
    cores = _shares(sorted(os.sched_getaffinity(0)), num_workers)
    workers = [_start(command, n, num_workers, cores[n]) for n in range(num_workers)]
    restarts = 0
    try:
        while True:
            missing = watch()
            for n, worker in enumerate(workers):
                if worker.poll() and missing and restarts < MAX_RESTARTS:
                    restarts += 1
                    workers[n] = _start(command, n, num_workers, cores[n])
            if all(worker.poll() is not None for worker in workers):
                return
            time.sleep(POLL_SECONDS)
    except BaseException:
        _stop(workers)
        raise


def _shares(cores: list[int], num_workers: int) -> list[set[int]]:
    """Each worker's own cores, as even as can be; XLA makes one thread for each it may use."""
    if num_workers >= len(cores):
        return [{cores[n % len(cores)]} for n in range(num_workers)]
    return [set(cores[n::num_workers]) for n in range(num_workers)]


def _start(command: list[str], n: int, num_workers: int, cores: set[int]) -> subprocess.Popen:
    # The worker inherits the cores of the thread that starts it, so they are in force before JAX
    # counts them, and no code has to run between fork and exec.
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        return subprocess.Popen(
            [sys.executable, *command, "--start", str(n / num_workers)],
            env=ENVIRONMENT | os.environ,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            process_group=0,  # a terminal's Ctrl-C is for the launcher, which passes it on once
        )
    finally:
        os.sched_setaffinity(0, ours)


def _stop(workers: list[subprocess.Popen]) -> None:
    """Interrupt; a second Ctrl-C kills."""
    try:
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGINT)
        for worker in workers:
            worker.wait()
    except KeyboardInterrupt:
        for worker in workers:
            worker.kill()
            worker.wait()
