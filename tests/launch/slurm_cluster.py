"""A SLURM of two nodes on this machine, for tests.

Its daemons, munge's too, are its own: their files lie in one temporary folder, their ports are free
ones of the loopback interface, and nothing of a SLURM that the machine may have is touched.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol")
NODES = ("n1", "n2")
SECONDS = 30.0  # for anything that the daemons do

CONF = """
ClusterName=seqlab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdTimeout=10
ReturnToService=2
JobRequeue=1
MinJobAge=300
MailProg=/bin/true
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/spool-%n
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={n1} CPUs=1 RealMemory=2000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={n2} CPUs=1 RealMemory=2000
PartitionName=debug Nodes=n1,n2 Default=YES State=UP
"""


def why_not() -> str | None:
    """Why there can be no such cluster here."""
    if os.getuid() != 0:
        return "slurmctld and slurmd of two nodes need root"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"not on the PATH: {', '.join(missing)}" if missing else None


@dataclass(frozen=True)
class Cluster:
    """A running SLURM.

    Attributes:
        folder: with all its files.
        conf: slurm.conf.
        environment: for commands that are to speak to it.
        daemons: munged, slurmctld, and the slurmd of each node by its name.
        nodes: their names.
    """

    folder: Path
    conf: Path
    environment: dict[str, str]
    daemons: dict[str, subprocess.Popen] = field(default_factory=dict)
    nodes: tuple[str, ...] = NODES

    def ask(self, *command: str) -> str:
        """What a command of SLURM prints."""
        return subprocess.run(
            command,
            env=self.environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
        ).stdout.strip()

    def node_states(self) -> dict[str, str]:
        """Of the nodes; none as long as slurmctld does not answer."""
        try:
            lines = self.ask("sinfo", "-h", "-N", "-o", "%N %T").splitlines()
        except subprocess.CalledProcessError:
            return {}
        return dict(line.split() for line in lines)

    def start_slurmd(self, name: str) -> None:
        """Start the daemon of a node, and wait until the node can be used."""
        self.start(name, "slurmd", "-D", "-N", name)
        wait_until(lambda: self.node_states().get(name) in ("idle", "allocated", "mixed"))

    def kill_slurmd(self, name: str) -> None:
        """Lose a node: its daemon is killed, and what it has started runs on."""
        self.daemons[name].kill()
        self.daemons[name].wait()

    def start(self, name: str, *command: str) -> None:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.daemons[name] = subprocess.Popen(command, env=self.environment, **quiet)

    def release(self, *jobs: str) -> None:
        """Start requeued jobs in a moment, and not when the two minutes of SLURM are over.

        Not at once: a job that starts in the second in which its first run was ended is refused,
        for the credential of that run, revoked by the second.
        """
        for job in jobs:
            self.ask("scontrol", "update", f"JobId={job}", "StartTime=now+3")

    def processes(self) -> list[int]:
        """The daemons, and all that the jobs have started."""
        mark = f"SLURM_CONF={self.conf}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                files = {os.readlink(file) for file in (process / "fd").iterdir()}
                inside = any(file.startswith(f"{self.folder}/") for file in files)
                if inside or mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
        return found


def wait_until(condition, seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Start it; whatever happens, none of its processes is left in the end."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-")))
        folder.chmod(0o755)  # munge: the socket is for everybody
        (folder / "state").mkdir()
        conf = folder / "slurm.conf"
        host = socket.gethostname().partition(".")[0]
        ctld, n1, n2 = _free_ports(3)
        conf.write_text(CONF.format(folder=folder, host=host, ctld=ctld, n1=n1, n2=n2))
        started = Cluster(folder, conf, os.environ | {"SLURM_CONF": str(conf)})
        stack.callback(_kill_all, started)
        _start_munged(started)
        started.start("slurmctld", "slurmctld", "-D")
        for name in NODES:
            started.start(name, "slurmd", "-D", "-N", name)
        wait_until(lambda: started.node_states() == dict.fromkeys(NODES, "idle"))
        yield started


def _start_munged(cluster: Cluster) -> None:
    key = cluster.folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    files = {"socket": "munge.socket", "pid-file": "munged.pid"}
    files |= {"key-file": key.name, "log-file": "munged.log", "seed-file": "munged.seed"}
    options = [f"--{option}={cluster.folder / name}" for option, name in files.items()]
    cluster.start("munged", "munged", "--foreground", *options)
    wait_until((cluster.folder / files["socket"]).exists)


def _kill_all(cluster: Cluster) -> None:
    for daemon in reversed(cluster.daemons.values()):
        daemon.terminate()
        with suppress(subprocess.TimeoutExpired):
            daemon.wait(SECONDS)
    deadline = time.monotonic() + SECONDS
    while (found := cluster.processes()) and time.monotonic() < deadline:
        for pid in found:  # of jobs, which may start others while this looks
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
