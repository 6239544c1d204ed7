"""Workers as processes of this machine."""

import functools
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from seqlab.errors import InputError
from seqlab.launch.environment import complete

MAX_RESTARTS = 10  # while no trial is finished
FINAL = (
    0,
    2,
    3,
)  # finished, bad input, no room on the disk: a worker that ended so is not replaced


def platform() -> str:
    """What workers compute on: gpu, tpu, or cpu if JAX has neither or is told to use none."""
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


class Local:
    """One process for each accelerator or core."""

    def __init__(self, options: dict[str, str] | None = None):
        if options:
            raise InputError(f"--on local takes no options, not {next(iter(options))}")
        self._workers: list[subprocess.Popen] = []
        self._start: list[Callable[[], subprocess.Popen]] = []
        self._restarts = 0
        self._fewest_missing: float = math.inf

    def default_workers(self) -> int:
        return default_workers()

    def start(self, command: list[str], num_workers: int) -> None:
        starts = [n / num_workers for n in range(num_workers)]
        self._start = [
            functools.partial(_start, [*command, "--start", str(start)], n, num_workers)
            for n, start in enumerate(starts)
        ]
        self._workers = [start() for start in self._start]

    def start_one(self, command: list[str]) -> None:
        """Start a worker alone: that of a job of another engine."""
        self._start = [functools.partial(_start, command, 0, 1)]
        self._workers = [start() for start in self._start]

    def poll(self, missing: int) -> bool:
        if missing < self._fewest_missing:
            self._fewest_missing, self._restarts = missing, 0
        for n, worker in enumerate(self._workers):
            died = worker.poll() not in (None, *FINAL)
            if died and missing and self._restarts < MAX_RESTARTS:
                self._restarts += 1
                self._workers[n] = self._start[n]()
        return any(worker.poll() is None for worker in self._workers)

    def stop(self) -> None:
        """Interrupt; a second Ctrl-C kills."""
        try:
            for worker in self._workers:
                if worker.poll() is None:
                    worker.send_signal(signal.SIGINT)
            for worker in self._workers:
                worker.wait()
        except KeyboardInterrupt:
            for worker in self._workers:
                worker.kill()
                worker.wait()
            raise


def _start(command: list[str], n: int, num_workers: int) -> subprocess.Popen:
    share = math.ceil(num_workers / max(1, num_accelerators()))
    environment = complete(os.environ, platform(), workers_per_device=share)
    environment["SEQLAB_LAUNCHER"] = str(os.getpid())
    if num_accelerators() > 1 and platform() == "gpu":
        environment["CUDA_VISIBLE_DEVICES"] = _gpus()[n % num_accelerators()]
    return subprocess.Popen(
        [sys.executable, *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        process_group=0,  # a terminal's Ctrl-C is for the launcher, which passes it on once
    )
