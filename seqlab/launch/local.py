"""Workers as processes of this machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

POLL_SECONDS = 0.5
MAX_RESTARTS = 10
BAD_INPUT = 2  # a worker that ends so would end so again

# In force only when it is there before the process starts. Measured on two cores: a step of the
# language model on Penn Treebank takes 0.93 of its time, because its large temporaries, mapped
# afresh at every call, come in fewer pages.
ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def num_accelerators() -> int:
    """GPUs of this machine, 1 for its TPU, 0 where JAX is installed or told to do without."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return 0
    if any(find_spec(plugin) for plugin in ("jax_cuda12_plugin", "jax_cuda13_plugin")):
        return len(list(Path("/dev").glob("nvidia[0-9]*")))
    return int(find_spec("libtpu") is not None)


def default_workers() -> int:
    """One for each accelerator, which a process takes whole; without any, one for each core."""
    return num_accelerators() or len(os.sched_getaffinity(0))


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
    workers = [_start(command, n, num_workers) for n in range(num_workers)]
    restarts = 0
    try:
        while True:
            missing = watch()
            for n, worker in enumerate(workers):
                died = worker.poll() not in (None, 0, BAD_INPUT)
                if died and missing and restarts < MAX_RESTARTS:
                    restarts += 1
                    workers[n] = _start(command, n, num_workers)
            if all(worker.poll() is not None for worker in workers):
                return
            time.sleep(POLL_SECONDS)
    except BaseException:
        _stop(workers)
        raise


def _start(command: list[str], n: int, num_workers: int) -> subprocess.Popen:
    environment = ENVIRONMENT | os.environ | {"SEQLAB_LAUNCHER": str(os.getpid())}
    if num_accelerators() > 1:
        environment.setdefault("CUDA_VISIBLE_DEVICES", str(n % num_accelerators()))
    return subprocess.Popen(
        [sys.executable, *command, "--start", str(n / num_workers)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        process_group=0,  # a terminal's Ctrl-C is for the launcher, which passes it on once
    )


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
