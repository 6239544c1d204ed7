"""Workers as tasks of Ray, on the cluster that RAY_ADDRESS names, else on this machine alone.

A task supervises one worker, and Ray starts it again elsewhere when its node is lost. No more is
asked of Ray: what a worker has to say is in the results directory, which all nodes have to see, as
they have to see the folder of seqlab itself.
"""

import contextlib
import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from seqlab.errors import InputError
from seqlab.launch import local
from seqlab.launch.engine import parsed
from seqlab.launch.environment import in_force

# What Ray reads when it is imported; the user's own settings win.
SETTINGS = {
    # The lines of workers arrive as they are, and those of Ray, which begin with a date, do not.
    "RAY_DISABLE_WORKER_LOG_PREFIX": "1",
    "RAY_DEDUP_LOGS_ALLOW_REGEX": r"^(?!\[\d{4}-\d\d-\d\d )",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",
    # Else a task that is killed for want of memory on its node is tried without end.
    "RAY_task_oom_retries": "3",
}
LOOPBACK = "127.0.0.1"

for _name, _setting in SETTINGS.items():
    os.environ.setdefault(_name, _setting)
if not os.environ.get("RAY_ADDRESS"):
    # Named for where it is the default: without it, Ray listens on all interfaces.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"

import ray  # noqa: E402
from ray.exceptions import RayError, RayTaskError, TaskCancelledError  # noqa: E402

# What --engine-option takes: Ray's names of it, for one task a worker.
OPTIONS = {
    "num_cpus": float,
    "num_gpus": int,  # a worker reserves the memory of the whole GPU
    "memory": int,
    "accelerator_type": str,
    "max_retries": int,
}
ANSWER_SECONDS = 10.0
SUPERVISE_SECONDS = 0.5
GRACE_SECONDS = 10.0
KILL_SECONDS = 5.0


class Ray:
    """One task a worker, with a GPU each where the cluster has any, else with a CPU."""

    def __init__(self, options: dict[str, str]):
        """
        Args:
            options: in `OPTIONS`, as text.

        Raises:
            InputError: there is no such option, it takes something else, or there is no such
                cluster.
        """
        self._options = parsed("ray", options, OPTIONS)
        self._address = os.environ.get("RAY_ADDRESS") or "local"
        _check_answers(self._address)
        self._tasks: dict[ray.ObjectRef, list[str]] = {}
        self._restarts = 0
        self._fewest_missing: float = math.inf
        self._last_missing = time.monotonic()
        self._held = contextlib.ExitStack()  # the connection, and standard output while it lasts

    def default_workers(self) -> int:
        """One for each GPU of the cluster; without any, one for each CPU."""
        if self._address == "local":
            return local.default_workers()
        with self._held:
            self._connect()
            found = ray.cluster_resources()
        return max(1, int(found.get("GPU") or found.get("CPU", 1)))

    def start(self, command: list[str], num_workers: int) -> None:
        """Submit the tasks.

        Args:
            command: see `Engine.start`.
            num_workers: how many.

        Raises:
            InputError: there is no such cluster.
        """
        self._connect()
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        self._options = {"num_cpus": 1, "num_gpus": gpus, "max_retries": 3} | self._options
        if not _fits_somewhere(self._options):
            asked = ", ".join(f"{name}={value}" for name, value in self._options.items())
            print(f"ray: no node has {asked}; workers wait until one joins", file=sys.stderr)
        for n in range(num_workers):
            self._submit([*command, "--start", str(n / num_workers)])

    def poll(self, missing: int) -> bool:
        """Whether any task is left.

        A worker that died is replaced by its task. A task that is lost is replaced by Ray, as often
        as `max_retries`, and from then on here. Tasks that still wait for a place are cancelled
        some time after nothing is missing any more.
        """
        if missing < self._fewest_missing:
            self._fewest_missing, self._restarts = missing, 0
        if missing:
            self._last_missing = time.monotonic()
        elif time.monotonic() > self._last_missing + GRACE_SECONDS:
            self._cancel()
        for task in self._ended(timeout=0):
            command = self._tasks.pop(task)
            try:
                ray.get(task)
            except TaskCancelledError:
                pass
            except RayTaskError as error:
                print(f"ray: a worker was not started: {_line(error.cause, -1)}", file=sys.stderr)
            except RayError as error:
                if missing and self._restarts < local.MAX_RESTARTS:
                    self._restarts += 1
                    self._submit(command)
                elif missing:
                    print(f"ray: a worker was lost for good: {_line(error, 0)}", file=sys.stderr)
        if not self._tasks:
            self._held.close()
        return bool(self._tasks)

    def stop(self) -> None:
        """Have the workers save, give their trials back and end; a second Ctrl-C kills."""
        with self._held:
            try:
                self._cancel()
                self._ended(timeout=None)
            except KeyboardInterrupt:
                self._cancel(force=True)
                self._ended(timeout=KILL_SECONDS)
                raise

    def _connect(self) -> None:
        """Until `self._held` is closed."""
        self._held.enter_context(_unheard())
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            # Ray adds the folder of launch.py to the path of its workers, who find seqlab by it.
            where = _this_machine() if self._address == "local" else {}
            ray.init(self._address, logging_level=logging.ERROR, **where)
        except (RayError, ConnectionError, RuntimeError, ValueError) as error:
            self._held.close()
            raise InputError(_no_cluster(self._address, error)) from error
        finally:
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray has put its own there
        self._held.callback(ray.shutdown)
        if self._address == "local" and ray.nodes()[0]["NodeManagerAddress"] != LOOPBACK:
            self._held.close()
            raise InputError(f"Ray {ray.__version__} would listen on the network; set RAY_ADDRESS")

    def _submit(self, command: list[str]) -> None:
        task = ray.remote(supervise).options(
            name="worker", scheduling_strategy="SPREAD", retry_exceptions=False, **self._options
        )
        self._tasks[task.remote(command, _for_workers(os.environ))] = command

    def _cancel(self, force: bool = False) -> None:
        for task in self._tasks:
            ray.cancel(task, force=force)

    def _ended(self, timeout: float | None) -> list[ray.ObjectRef]:
        """The tasks that have ended, of all of them or of those that have in this time."""
        if not self._tasks:
            return []
        return ray.wait([*self._tasks], num_returns=len(self._tasks), timeout=timeout)[0]


def supervise(command: list[str], environment: dict[str, str]) -> None:
    """What a task does: start a worker, start it again if it dies, stop it when it is cancelled."""
    os.environ.update(environment)
    # Ray has blocked it, so that a terminal's Ctrl-C reaches the launcher alone.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    worker = local.Local()
    try:
        worker.start_one(command)
        while worker.poll(missing=1):  # only the launcher knows how many
            time.sleep(SUPERVISE_SECONDS)
    except BaseException:  # KeyboardInterrupt is Ray's word for being cancelled
        worker.stop()
        raise


def _for_workers(environment: Mapping[str, str]) -> dict[str, str]:
    """What a worker on another node has to know of the launcher's environment."""
    names = {*in_force(environment), "SEQLAB_DATA", "SEQLAB_CACHE"}
    names |= {name for name in environment if name.startswith(("JAX_", "XLA_"))}
    passed = {name: environment[name] for name in names if environment.get(name)}
    for name in ("SEQLAB_DATA", "SEQLAB_CACHE"):
        if name in passed:
            passed[name] = str(Path(passed[name]).expanduser().absolute())
    return passed


def _check_answers(address: str) -> None:
    """Raise InputError if the cluster does not answer; Ray itself would retry for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return  # auto, local, or what Ray itself refuses at once
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(_no_cluster(address, error)) from error


def _no_cluster(address: str, error: Exception) -> str:
    return f"no Ray cluster at RAY_ADDRESS={address}: {_line(error, 0)}"


def _line(error: Exception, number: int) -> str:
    """One line of an error's message, which may be a traceback."""
    return (str(error).strip().splitlines() or [type(error).__name__])[number]


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Silence Ray, which reports lost nodes on standard output, where tables go."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def _this_machine() -> dict[str, Any]:
    """How Ray is started for this machine alone: nothing listens on the network."""
    return {
        "num_cpus": len(os.sched_getaffinity(0)),
        "num_gpus": local.num_accelerators() if local.platform() == "gpu" else 0,
        "include_dashboard": False,
        "_node_ip_address": LOOPBACK,
    }


def _fits_somewhere(options: dict[str, Any]) -> bool:
    """Whether any node that is there has as much as a task takes."""
    names = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
    takes = {names[option]: value for option, value in options.items() if option in names}
    if "accelerator_type" in options:
        takes[f"accelerator_type:{options['accelerator_type']}"] = 0.001  # what Ray asks for
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return any(all(node.get(r, 0) >= value for r, value in takes.items()) for node in nodes)
