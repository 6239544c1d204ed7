"""Workers as processes of this machine."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from seqlab.launch.environment import complete

POLL_SECONDS = 0.5
MAX_RESTARTS = 10
BAD_INPUT = 2  # a worker that ends so would end so again


def platform() -> str:
    """What workers compute on: gpu, tpu, or cpu where JAX is installed or told to do without."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return "cpu"
    if any(find_spec(plugin) for plugin in ("jax_cuda12_plugin", "jax_cuda13_plugin")):
        return "gpu" if _gpus() else "cpu"
    return "tpu" if find_spec("libtpu") else "cpu"


def num_accelerators() -> int:
    """GPUs that this process may use, 1 for a TPU, 0 on a CPU."""
    return {"cpu": 0, "gpu": len(_gpus()), "tpu": 1}[platform()]


def _gpus() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:  # a scheduler's or the user's choice
        return [name for name in visible.split(",") if name not in ("", "-1")]
    return [str(n) for n, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]


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
    share = math.ceil(num_workers / max(1, num_accelerators()))
    environment = complete(os.environ, platform(), workers_per_device=share)
    environment["SEQLAB_LAUNCHER"] = str(os.getpid())
    if num_accelerators() > 1 and platform() == "gpu":
        environment["CUDA_VISIBLE_DEVICES"] = _gpus()[n % num_accelerators()]
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
