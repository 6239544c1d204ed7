"""Workers as SLURM jobs, through submitit.

A job supervises one worker. SLURM signals it before its time is over and when it is preempted: the
worker then saves, gives its trial back and ends, and the job puts itself into SLURM's queue again.
A job whose node is lost is put there by SLURM. So the jobs go on until nothing is missing, also
when the launcher is gone; the same command started again adds workers to them.

The results directory, and the folder of seqlab itself, have to be where all nodes see them.
"""

import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.helpers import DelayedSubmission

from seqlab.errors import InputError
from seqlab.launch.engine import parsed
from seqlab.launch.local import Local

PROGRAMS = ("sbatch", "srun", "squeue", "scancel", "scontrol")
ASK_SECONDS = 10.0  # between two questions to SLURM, which serves everybody
END_SECONDS = 1.0  # the same once nothing is missing: the last workers are about to end
ANSWER_SECONDS = 60.0
SUPERVISE_SECONDS = 0.5

# What --engine-option takes: submitit's names of it, one job a worker being understood. The rest of
# sbatch's options can be given in sbatch's own variables, such as SBATCH_RESERVATION.
OPTIONS = {
    "name": str,
    "timeout_min": int,
    "mem_gb": float,
    "cpus_per_task": int,
    "gpus_per_node": int,
    "slurm_account": str,
    "slurm_array_parallelism": int,
    "slurm_comment": str,
    "slurm_constraint": str,
    "slurm_dependency": str,
    "slurm_exclude": str,
    "slurm_exclusive": str,
    "slurm_gres": str,
    "slurm_mail_type": str,
    "slurm_mail_user": str,
    "slurm_mem": str,
    "slurm_mem_per_cpu": str,
    "slurm_mem_per_gpu": str,
    "slurm_nodelist": str,
    "slurm_partition": str,
    "slurm_qos": str,
    "slurm_signal_delay_s": int,
    "slurm_wckey": str,
}
# The end of a job's time loses nothing, and short jobs start early; submitit's own is 5 minutes.
DEFAULT_MINUTES = 60
NOTICE_SECONDS = 90  # a job is signalled this long before its time limit
EARLY_SECONDS = 60  # or up to this much earlier, by sbatch's manual
START_SECONDS = 30  # a job that is signalled before its handlers are installed dies

# A job in any other state will run, is running, or is about to report how it ended.
OVER = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
}


class Slurm:
    """One SLURM job a worker, all of them one job array."""

    def __init__(self, options: dict[str, str]):
        """
        Args:
            options: in `OPTIONS`, as text.

        Raises:
            InputError: there is no such option, it takes something else, or SLURM is not here.
        """
        self._parameters = parsed("slurm", options, OPTIONS)
        _check_time(self._parameters)
        for program in PROGRAMS:
            if shutil.which(program) is None:
                raise InputError(f"--on slurm needs SLURM: there is no {program} on the PATH")
        self._jobs: list[str] = []
        self._ended_early = False
        self._asked = -math.inf
        self._told_over = 0

    def default_workers(self) -> int:
        """One: how much of a cluster to take is for the user to say."""
        return 1

    def start(self, command: list[str], num_workers: int) -> None:
        """Submit the jobs. Their output lands in RESULTS/EXPERIMENT/.slurm, and this is said.

        Args:
            command: `[…, "work", EXPERIMENT, …, "--results-dir", DIR, …]`, see `Engine.start`.
            num_workers: how many.

        Raises:
            InputError: SLURM does not take the jobs, for what it says.
        """
        experiment = command[command.index("work") + 1]
        root = Path(command[command.index("--results-dir") + 1])
        folder = _private(root / experiment / ".slurm")
        executor = submitit.AutoExecutor(
            folder,
            cluster="slurm",
            slurm_max_num_timeout=sys.maxsize,
            slurm_python=_python(),
        )
        defaults = {
            "name": f"seqlab-{experiment}",
            "timeout_min": DEFAULT_MINUTES,
            "slurm_signal_delay_s": NOTICE_SECONDS,
        }
        cpus = self._parameters.get("cpus_per_task")  # since 22.05 srun does not inherit it
        executor.update_parameters(
            **defaults | self._parameters,
            slurm_additional_parameters={"requeue": True},  # else some clusters refuse to
            slurm_srun_args=[f"--cpus-per-task={cpus}"] if cpus else [],
        )
        starts = [str(n / num_workers) for n in range(num_workers)]
        try:
            jobs = executor.submit_array([Job((*command, "--start", start)) for start in starts])
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            raise InputError(f"SLURM has not taken the jobs: {_last_line(str(error))}") from error
        self._jobs = sorted({job.job_id.partition("_")[0] for job in jobs})
        print(
            f"slurm: {num_workers} workers are job {', '.join(self._jobs)}; "
            f"they go on without this command, and write to {folder}",
            file=sys.stderr,
        )

    def poll(self, missing: int) -> bool:
        """Whether any job is left. SLURM is asked every ten seconds.

        A worker that died is replaced by its job, a lost node by SLURM. Once nothing is missing,
        the jobs that still wait for their turn are cancelled.
        """
        if not missing and not self._ended_early:
            self._ended_early = True
            _scancel("--state=PENDING", *self._jobs)
            self._asked = -math.inf
        if time.monotonic() - self._asked >= (ASK_SECONDS if missing else END_SECONDS):
            self._asked = time.monotonic()
            self._told_over = 0 if _any_left(self._jobs) else self._told_over + 1
        # A job that is being requeued can be FAILED for a moment.
        return self._told_over < (2 if missing else 1)

    def stop(self) -> None:
        """Cancel the jobs and wait until they have ended; a second Ctrl-C kills."""
        if not self._jobs:
            return
        try:
            _scancel(*self._jobs)
            while _any_left(self._jobs):
                time.sleep(END_SECONDS)
                _scancel("--state=PENDING", *self._jobs)  # requeued while it was cancelled
        except KeyboardInterrupt:
            _scancel("--signal=KILL", *self._jobs)
            raise


@dataclass(frozen=True)
class Job:
    """What a SLURM job runs. It is pickled, so that it holds strings only.

    Attributes:
        command: what follows `python` to start the worker.
    """

    command: tuple[str, ...]

    def __call__(self) -> None:
        """Supervise the worker. Called by submitit, after it has installed its signal handlers."""
        told: list[int] = []
        requeue = signal.getsignal(signal.SIGUSR2)
        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, lambda number, _: told.append(number))
        worker = Local()
        with _for_the_job_alone():
            worker.start_one(list(self.command))
        while not told and _poll(worker):
            time.sleep(SUPERVISE_SECONDS)
        worker.stop()
        # The signal does not tell: scancel sends SIGTERM, and so does a preemption with grace time.
        if told and callable(requeue) and not _is_cancelled():
            requeue(signal.SIGUSR2, None)  # `checkpoint`, `scontrol requeue`, `sys.exit`

    def checkpoint(self) -> DelayedSubmission:
        """What the job runs once it is requeued: the same. The results directory is the queue."""
        return DelayedSubmission(self)


def _poll(worker: Local) -> bool:
    with _for_the_job_alone():
        return worker.poll(missing=1)  # it is not known here; the worker sees it


@contextmanager
def _for_the_job_alone():
    """Workers started in here block SLURM's signals, which go to all processes of a job.

    The job passes one on to them: a second signal would make them abandon the save.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGUSR2))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _is_cancelled() -> bool:
    """Whether SLURM has ended this job, which would run again if it were requeued now."""
    states = _states([os.environ["SLURM_JOB_ID"]])
    return states is not None and "RUNNING" not in states.values()


def _check_time(parameters: dict[str, str | int | float]) -> None:
    minutes = int(parameters.get("timeout_min", DEFAULT_MINUTES))
    notice = int(parameters.get("slurm_signal_delay_s", NOTICE_SECONDS))
    least = math.ceil((notice + EARLY_SECONDS + START_SECONDS) / 60)
    if 0 < minutes < least:  # 0: without end
        raise InputError(
            f"timeout_min must be {least} or more, not {minutes}: jobs are told of their end "
            f"slurm_signal_delay_s={notice} seconds before it, or up to {EARLY_SECONDS} earlier"
        )


def _private(folder: Path) -> Path:
    """A folder for the user alone, as a job runs what is pickled there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            raise InputError(f"{folder} holds code that jobs run, and belongs to somebody else")
        folder.chmod(0o700)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}") from error
    return folder


def _python() -> str:
    """Python for a job: it loads this module, wherever the launcher was started."""
    here = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    return shlex.join(["env", f"PYTHONPATH={path}", sys.executable])


def _any_left(jobs: Iterable[str]) -> bool:
    """Whether any job is not over; true while SLURM does not answer."""
    states = _states(jobs)
    return states is None or not OVER.issuperset(states.values())


def _states(jobs: Iterable[str]) -> dict[str, str] | None:
    """The state of each job that squeue knows (it forgets finished ones); None without an answer.

    Not from sacct, which needs a database that many clusters do not have.
    """
    command = ["squeue", "-h", "-r", "-t", "all", "-o", "%i|%T", "-j", ",".join(jobs)]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        return None
    if asked.returncode != 0:
        return {} if "Invalid job id" in asked.stderr else None
    return _parsed(asked.stdout)


def _parsed(answer: str) -> dict[str, str]:
    lines = (line.strip().partition("|") for line in answer.splitlines())
    return {job: state for job, bar, state in lines if bar}


def _scancel(*arguments: str) -> None:
    done = subprocess.run(["scancel", *arguments], capture_output=True, text=True)
    if done.returncode != 0 and "Invalid job id" not in done.stderr:  # it has ended
        print(_last_line(done.stderr), file=sys.stderr)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]
