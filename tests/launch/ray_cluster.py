"""A Ray cluster of two nodes on this machine, for tests.

It listens on the loopback interface alone, and its files lie in one temporary folder. Each node is
a raylet with one CPU, and can be lost.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

SECONDS = 60.0  # for anything that Ray does
# The first is meant for macOS, where it makes of 127.0.0.1 no other address; so it does here.
SETTINGS = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Attributes:
        folder: with all its files.
        address: what RAY_ADDRESS is to be.
        raylets: the process of each node; the head, which drivers connect to, is the first.
    """

    folder: Path
    address: str
    raylets: tuple[int, ...]

    @property
    def environment(self) -> dict[str, str]:
        """For commands that are to speak to it."""
        return os.environ | SETTINGS | {"RAY_ADDRESS": self.address}

    def kill_raylet(self) -> None:
        """Of the second node, which Ray then takes for lost; what it has started may run on."""
        os.kill(self.raylets[1], signal.SIGKILL)

    def lose_node(self) -> None:
        """The second one, with all that runs on it."""
        raylet = psutil.Process(self.raylets[1])
        for process in [raylet, *raylet.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def users(folder: Path) -> dict[int, str]:
    """The command lines of the processes that have a file of this folder open.

    That is how Ray's processes are told, and workers that write to their log: Ray names its
    processes anew, and loses their environment over it.
    """
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            files = [os.readlink(file) for file in (process / "fd").iterdir()]
            if any(file.startswith(f"{folder}/") for file in files):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(process.name)] = command.decode(errors="replace").strip()
    return found


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """For Ray's files; whatever happens, no process that uses it is left in the end."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        try:
            yield Path(folder)
        finally:
            deadline = time.monotonic() + SECONDS
            while (found := users(Path(folder))) and time.monotonic() < deadline:
                for pid in found:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.1)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Start it; whatever happens, none of its processes is left in the end."""
    with temporary_folder() as folder:
        holder = subprocess.Popen(
            [sys.executable, __file__],
            env=os.environ | SETTINGS | {"RAY_TMPDIR": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert holder.stdout is not None
        try:
            started = json.loads(holder.stdout.readline())
            yield Cluster(folder, started["address"], tuple(started["raylets"]))
        finally:
            holder.communicate()  # closes its standard input, at which it ends the cluster


def hold() -> None:
    """Start a cluster, say where it is, and end it when standard input does."""
    from ray.cluster_utils import Cluster as RayCluster

    node = {
        "num_cpus": 1,
        "num_gpus": 0,
        "object_store_memory": 80 * 2**20,
        "include_dashboard": False,
        "node_ip_address": "127.0.0.1",
    }
    started = RayCluster(initialize_head=True, head_node_args=node)
    try:
        started.add_node(**node)
        nodes = [started.head_node, *started.worker_nodes]
        raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
        print(json.dumps({"address": started.address, "raylets": raylets}), flush=True)
        sys.stdin.read()
    finally:
        started.shutdown()


if __name__ == "__main__":
    hold()
