"""SLURM: what is submitted, what squeue says, who hears which signal; grids on two nodes."""

import dataclasses
import json
import os
import pickletools
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("submitit", reason="submitit is not installed")

import slurm_cluster

from seqlab import results
from seqlab.errors import InputError
from seqlab.launch import local, slurm
from seqlab.launch.slurm import OPTIONS, Job, Slurm

REPOSITORY = Path(__file__).resolve().parent.parent.parent
EXPERIMENT = "mut_vs_lstm_gru"


# Stand-ins for SLURM's programs


class StandIns:
    """Programs of SLURM's names: they note what they were asked, and say what they are told to."""

    def __init__(self, folder: Path):
        self.folder = folder
        for program in slurm.PROGRAMS:
            self.write(program, "")
        self.write("sbatch", f'cp "$1" {folder}/script; echo Submitted batch job 7')

    def write(self, program: str, code: str) -> None:
        path = self.folder / program
        path.write_text(f'#!/bin/sh\necho "$*" >> {self.folder}/{program}.asked\n{code}\n')
        path.chmod(0o755)

    def asked(self, program: str) -> list[str]:
        path = self.folder / f"{program}.asked"
        return path.read_text().splitlines() if path.exists() else []

    def say(self, *states: str) -> None:
        lines = [f"7_{n}|{state}" for n, state in enumerate(states)]
        self.write("squeue", "\n".join(f"echo '{line}'" for line in lines))

    def script(self) -> str:
        return (self.folder / "script").read_text()


@pytest.fixture
def programs(tmp_path, monkeypatch) -> StandIns:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return StandIns(folder)


def command(root: Path) -> list[str]:
    return ["launch.py", "work", "exp", "--budget", "smoke", "--results-dir", str(root)]


@pytest.fixture
def submitted(programs, tmp_path, monkeypatch) -> Slurm:
    """An engine with two jobs, which asks at once."""
    monkeypatch.setattr(slurm, "ASK_SECONDS", 0.0)
    monkeypatch.setattr(slurm, "END_SECONDS", 0.0)
    engine = Slurm({})
    engine.start(command(tmp_path), 2)
    return engine


# Options


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_reaches_sbatch(programs, tmp_path, name):
    given, written = {int: ("37", "37"), float: ("1.5", "1536MB"), str: ("ab-c", "ab-c")}[
        OPTIONS[name]
    ]
    if name == "slurm_array_parallelism":  # at most as many as there are
        given = written = "2"
    Slurm({name: given}).start(command(tmp_path), 3)
    with_it = programs.script()
    Slurm({}).start(command(tmp_path), 3)
    added = set(with_it.splitlines()) - set(programs.script().splitlines())
    assert added
    assert all(written in line for line in added)


def test_a_job_that_asks_for_cores_gives_them_to_its_worker(programs, tmp_path):
    Slurm({"cpus_per_task": "8"}).start(command(tmp_path), 1)
    srun = next(line for line in programs.script().splitlines() if line.startswith("srun"))
    assert " --cpus-per-task=8 " in srun


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("timeout", "60", "no option 'timeout'. Did you mean 'timeout_min'?"),
        ("slurm_partitoin", "gpu", "Did you mean 'slurm_partition'?"),
        ("slurm_additional_parameters", "x", "no option 'slurm_additional_parameters'"),
        ("nodes", "2", "no option 'nodes'"),
        ("timeout_min", "an hour", "timeout_min takes a whole number, not 'an hour'"),
        ("timeout_min", "1.5", "takes a whole number"),
        ("timeout_min", "-1", "takes a whole number"),
        ("timeout_min", "2", "timeout_min must be 3 or more, not 2"),
        ("slurm_signal_delay_s", "3600", "timeout_min must be 62 or more, not 60"),
        ("mem_gb", "nan", "mem_gb takes a number, not 'nan'"),
        ("mem_gb", "inf", "takes a number"),
        ("slurm_partition", "", "takes one line of text, not ''"),
        ("slurm_comment", "a\nrm b", "takes one line of text"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_submitted(programs, name, value, words):
    with pytest.raises(InputError) as error:
        Slurm({name: value})
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert programs.asked("sbatch") == []


@pytest.mark.parametrize("program", slurm.PROGRAMS)
def test_without_slurm_the_missing_program_is_named(programs, monkeypatch, program):
    (programs.folder / program).unlink()
    monkeypatch.setenv("PATH", str(programs.folder))
    with pytest.raises(InputError, match=f"there is no {program} on the PATH"):
        Slurm({})


def test_what_sbatch_refuses_is_one_line(programs, tmp_path):
    programs.write(
        "sbatch", "echo 'sbatch: error: a\nsbatch: error: no such partition' >&2; exit 1"
    )
    engine = Slurm({})
    with pytest.raises(InputError, match=r"not taken the jobs: .*no such partition$"):
        engine.start(command(tmp_path), 2)
    engine.stop()
    assert programs.asked("scancel") == []


# What is submitted


def strings_of(pickle: Path) -> list[str]:
    operations = list(pickletools.genops(pickle.read_bytes()))
    return [argument for _, argument, _ in operations if isinstance(argument, str)]


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_workers_are_one_array_and_start_apart(programs, tmp_path, num_workers, capsys):
    Slurm({}).start(command(tmp_path), num_workers)
    assert len(programs.asked("sbatch")) == 1
    folder = tmp_path / "exp" / ".slurm"
    pickles = sorted(folder.glob("*_submitted.pkl"))
    starts = [float(s[s.index("--start") + 1]) for s in map(strings_of, pickles)]
    assert starts == [n / num_workers for n in range(num_workers)]
    assert all(p.stat().st_size < 1000 for p in pickles)
    out, err = capsys.readouterr()
    assert out == ""
    assert str(folder) in err
    assert "job 7;" in err


def test_a_job_is_strings_that_this_module_understands(submitted, tmp_path):
    job = Job(("launch.py", "work"))
    assert set(map(type, dataclasses.astuple(job)[0])) == {str}
    assert job.checkpoint().function == job
    pickle = tmp_path / "exp" / ".slurm" / "7_0_submitted.pkl"
    operations = {operation.name for operation, _, _ in pickletools.genops(pickle.read_bytes())}
    assert "REDUCE" not in operations, "loading it calls no function"
    strings = strings_of(pickle)
    assert {s for s in strings if s.startswith("seqlab")} == {"seqlab.launch.slurm"}
    assert set(command(tmp_path)) <= set(strings)


def test_the_folder_of_jobs_is_for_the_user_alone(programs, tmp_path):
    folder = tmp_path / "exp" / ".slurm"
    folder.mkdir(parents=True, mode=0o777)
    Slurm({}).start(command(tmp_path), 1)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_leads_elsewhere_is_refused(programs, tmp_path):
    (tmp_path / "exp").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "exp" / ".slurm").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="somebody else"):
        Slurm({}).start(command(tmp_path), 1)
    assert programs.asked("sbatch") == []


def test_a_job_finds_seqlab_from_any_folder_and_can_be_requeued(submitted, programs, tmp_path):
    *_, line = programs.script().strip().splitlines()
    python = line[line.index("env ") : line.index(" -u -m")]
    printed = subprocess.run(
        [*python.split(), "-c", "import seqlab.launch.slurm; print('found')"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert printed.stdout == "found\n", printed.stderr
    assert "#SBATCH --requeue" in programs.script()
    assert f"#SBATCH --time={slurm.DEFAULT_MINUTES}" in programs.script()


# What squeue says

LEFT = (
    *("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING"),
    *("SIGNALING", "STAGE_OUT", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD"),
    *("SPECIAL_EXIT", "A_STATE_OF_ANOTHER_YEAR"),
)
OVER = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("PREEMPTED", "REVOKED", "TIMEOUT"),
)


@pytest.mark.parametrize("state", LEFT)
def test_a_job_of_two_that_may_still_run_is_waited_for(submitted, programs, state):
    programs.say("COMPLETED", state)
    assert [submitted.poll(missing=1) for _ in range(3)] == [True] * 3
    assert programs.asked("squeue")[-1].endswith("-j 7")


@pytest.mark.parametrize("state", OVER)
def test_a_job_is_over_when_that_is_said_twice(submitted, programs, state):
    programs.say(state, state)
    assert [submitted.poll(missing=1) for _ in range(2)] == [True, False]


def test_a_job_that_fails_while_it_is_requeued_is_not_over(submitted, programs):
    for state in ("RUNNING", "FAILED", "PENDING", "FAILED", "RUNNING"):
        programs.say(state, "COMPLETED")
        assert submitted.poll(missing=1)


def test_a_job_that_is_forgotten_is_over_and_one_not_asked_about_is_not(submitted, programs):
    programs.write("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert [submitted.poll(missing=1) for _ in range(2)] == [True, False]
    programs.write("squeue", "echo 'squeue: error: Unable to contact slurm controller' >&2; exit 1")
    assert [submitted.poll(missing=1) for _ in range(3)] == [True] * 3


def test_slurm_is_not_asked_at_every_turn(submitted, programs, monkeypatch):
    monkeypatch.setattr(slurm, "ASK_SECONDS", 10.0)
    programs.say("RUNNING")
    assert all(submitted.poll(missing=1) for _ in range(100))
    assert len(programs.asked("squeue")) == 1


def test_when_nothing_is_missing_those_that_wait_are_cancelled_once(submitted, programs):
    programs.say("RUNNING", "PENDING")
    assert submitted.poll(missing=0)
    programs.say("RUNNING", "CANCELLED")
    assert submitted.poll(missing=0)
    programs.say("COMPLETED", "CANCELLED")
    assert not submitted.poll(missing=0)
    assert programs.asked("scancel") == ["--state=PENDING 7"]


def test_to_stop_is_to_cancel_and_wait(submitted, programs):
    programs.say("RUNNING", "RUNNING")
    over = programs.folder / "over"
    programs.write("squeue", f"test -e {over} && echo '7|CANCELLED' || echo '7|COMPLETING'")
    programs.write("scancel", f"(sleep 0.3; touch {over}) >/dev/null 2>&1 &")
    submitted.stop()
    assert over.exists()
    first, *others = programs.asked("scancel")
    assert first == "7"
    assert set(others) <= {"--state=PENDING 7"}, "who ends is not disturbed again"


def test_a_job_requeued_while_it_was_cancelled_is_cancelled_again(submitted, programs):
    over = programs.folder / "over"
    programs.write("squeue", f"test -e {over} && echo '7|CANCELLED' || echo '7|PENDING'")
    programs.write("scancel", f'case "$1" in --state=PENDING) touch {over};; esac')
    submitted.stop()
    assert programs.asked("scancel") == ["7", "--state=PENDING 7"]


def test_a_second_ctrl_c_kills(submitted, programs, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(slurm, "_any_left", interrupted)
    with pytest.raises(KeyboardInterrupt):
        submitted.stop()
    assert programs.asked("scancel") == ["7", "--signal=KILL 7"]


# A job and its worker. The worker plays SLURM, which signals all processes of a job.

WORKER = """
import os, signal, sys, time
said = open(sys.argv[1], "a", buffering=1)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
    signal.signal(number, lambda number, _: said.write(signal.Signals(number).name + "\\n"))
for number in map(int, sys.argv[2:]):
    os.kill(os.getppid(), number)
    os.kill(os.getpid(), number)
time.sleep(0.3)
while not open(sys.argv[1]).read():
    time.sleep(0.05)
time.sleep(0.3)
said.write("saved\\n")
sys.exit(130)
"""


@pytest.fixture
def requeued(monkeypatch):
    """How often submitit's handler, which is stood in for, was asked to requeue."""
    numbers = (signal.SIGTERM, signal.SIGUSR2)
    before = [signal.getsignal(number) for number in numbers]
    calls: list[int] = []
    signal.signal(signal.SIGUSR2, lambda number, _: calls.append(number))
    monkeypatch.setattr(slurm, "SUPERVISE_SECONDS", 0.05)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    yield calls
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("signals", "state", "is_requeued"),
    [
        ((signal.SIGUSR2,), "RUNNING", True),  # the end of the time
        ((signal.SIGTERM, signal.SIGUSR2), "RUNNING", True),
        ((signal.SIGTERM,), "RUNNING", True),  # preemption, with some time left
        ((signal.SIGTERM,), "COMPLETING", False),  # scancel
        ((signal.SIGUSR2, signal.SIGTERM), "COMPLETING", False),  # at the end of its time
        ((signal.SIGTERM,), "CANCELLED", False),
    ],
)
def test_the_worker_is_told_once_and_saves(
    programs, requeued, tmp_path, signals, state, is_requeued
):
    programs.say(state)
    said = tmp_path / "said"
    Job(("-c", WORKER, str(said), *(str(int(number)) for number in signals)))()
    assert said.read_text().split() == ["SIGINT", "saved"]
    assert len(requeued) == is_requeued


def test_a_worker_that_dies_is_replaced_in_its_job(requeued, tmp_path):
    lives = tmp_path / "lives"
    dies = f"import os; open({str(lives)!r}, 'a').write('x'); n = os.path.getsize({str(lives)!r})"
    Job(("-c", dies + "; os.kill(os.getpid(), 9) if n < 3 else None"))()
    assert lives.read_text() == "xxx"
    assert requeued == []


def test_a_worker_that_always_dies_is_given_up(requeued, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "MAX_RESTARTS", 2)
    lives = tmp_path / "lives"
    Job(("-c", f"import sys; open({str(lives)!r}, 'a').write('x'); sys.exit(1)"))()
    assert lives.read_text() == "xxx"


# A SLURM of two nodes

SECONDS = 240.0


@pytest.fixture(scope="module")
def cluster():
    if reason := slurm_cluster.why_not():
        pytest.skip(reason)
    with slurm_cluster.cluster() as started, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(started.conf))
        yield started


def wait_until(condition, launcher: subprocess.Popen | None = None):
    def seen() -> bool:
        if launcher is not None:
            assert launcher.poll() is None, launcher.communicate()
        return condition()

    slurm_cluster.wait_until(seen, SECONDS)


HEAR = """
import os, signal, sys, time
said = open(f"{sys.argv[sys.argv.index('--results-dir') + 1]}/{time.time_ns()}", "a", buffering=1)
heard = []
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
    signal.signal(number, lambda number, _: heard.append(signal.Signals(number).name))
print(os.environ["SLURMD_NODENAME"], file=said)
while not heard:
    time.sleep(0.1)
time.sleep(1)
print(*heard, file=said)
sys.exit(130)
"""


def heard(root: Path) -> list[list[str]]:
    """Of each worker, in the order they began: its node, and the signals that it heard."""
    return [path.read_text().split() for path in sorted(p for p in root.iterdir() if p.is_file())]


def start_listeners(root: Path, num_workers: int, **options: str) -> Slurm:
    script = root / "exp" / "hear.py"
    script.parent.mkdir()
    script.write_text(HEAR)
    engine = Slurm(options)
    engine.start([str(script), *command(root)[1:]], num_workers)
    wait_until(lambda: len(heard(root)) == num_workers and all(heard(root)))
    return engine


@pytest.mark.slurm
def test_cancelled_workers_are_told_once_and_are_gone_when_stop_returns(cluster, tmp_path):
    engine = start_listeners(tmp_path, 2)
    assert sorted(node for (node,) in heard(tmp_path)) == ["n1", "n2"]
    began = time.monotonic()
    engine.stop()
    assert time.monotonic() - began < 30, "SLURM had to kill them"
    assert sorted(heard(tmp_path)) == [["n1", "SIGINT"], ["n2", "SIGINT"]]
    assert [engine.poll(missing=0)] == [False]


@pytest.mark.slurm
def test_a_time_limit_that_is_reached_requeues_the_job(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(slurm, "EARLY_SECONDS", 0)  # SLURM looks twice a minute
    engine = start_listeners(tmp_path, 1, timeout_min="1", slurm_signal_delay_s="10")
    assert cluster.ask("squeue", "-h", "-o", "%l") == "1:00"
    wait_until(lambda: cluster.ask("squeue", "-h", "-o", "%T") == "PENDING")
    assert [said[1:] for said in heard(tmp_path)] == [["SIGINT"]]
    assert engine.poll(missing=1)
    engine.stop()
    assert cluster.ask("squeue", "-h") == ""


EPOCHS = 30
GRID = [
    *("--budget", "smoke", "--only", "task=xml", "--only", "model.cell=gru,mut1"),
    *("--set", "model.parameter_budget=3000", "--set", "optim.optimizer=sgd"),
    *("--set", "data.train_size=7000", "--set", "data.valid_size=700"),
    *("--set", "data.test_size=700", "--set", "train.steps_per_epoch=5"),
    *("--set", f"train.schedule.max_epochs={EPOCHS}", "--set", "train.schedule.patience=100"),
]  # fmt: skip


@pytest.fixture
def launch(tmp_path):
    """Start `launch.py run` of the grid, in another folder."""
    started: list[subprocess.Popen] = []

    def run(*arguments: str) -> subprocess.Popen:
        words = [sys.executable, str(REPOSITORY / "launch.py"), "run", EXPERIMENT, *GRID]
        process = subprocess.Popen(
            [*words, "--results-dir", str(tmp_path), "--format", "json", *arguments],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate()


def logs(root: Path) -> list[Path]:
    """The logs of trials, of all their attempts."""
    return sorted((root / EXPERIMENT).glob("*/**/log.jsonl"))


def epochs(log: Path) -> list[int]:
    lines = map(json.loads, log.read_text().split("\n")[:-1])  # the last may be half written
    return [line["epoch"] for line in lines if "epoch" in line]


def is_training(root: Path, num_trials: int) -> bool:
    return len(logs(root)) == num_trials and all(len(epochs(log)) >= 2 for log in logs(root))


def claims(root: Path) -> list[Path]:
    return sorted((root / EXPERIMENT).glob("*/claim-*"))


def outcomes(root: Path) -> dict[str, dict]:
    """The metrics of each trial but for times."""
    rows = results.rows(root, EXPERIMENT)
    assert {row["status"] for row in rows} == {"DONE"}
    return {
        row["trial_id"]: {k: v for k, v in row["metrics"].items() if "second" not in k}
        for row in rows
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, dict]:
    """The same grid on this machine, without SLURM."""
    root = tmp_path_factory.mktemp("undisturbed")
    words = [sys.executable, str(REPOSITORY / "launch.py"), "run", EXPERIMENT, *GRID]
    subprocess.run([*words, "--results-dir", str(root)], check=True, capture_output=True)
    found = outcomes(root)
    assert len(found) == 2
    return found


@pytest.mark.slurm
def test_a_grid_interrupted_and_requeued_ends_with_the_same_bits(
    cluster, launch, tmp_path, undisturbed
):
    launcher = launch("--on", "slurm", "--workers", "2")
    wait_until(lambda: is_training(tmp_path, 2), launcher)
    assert sorted(cluster.ask("squeue", "-h", "-o", "%N").split()) == ["n1", "n2"]
    launcher.send_signal(signal.SIGINT)
    out, err = launcher.communicate(timeout=SECONDS)
    assert (launcher.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert cluster.ask("squeue", "-h") == ""
    assert claims(tmp_path) == []
    first = {log: epochs(log) for log in logs(tmp_path)}

    launcher = launch("--on", "slurm", "--workers", "2", "--engine-option", "timeout_min=30")
    wait_until(lambda: all(len(epochs(log)) > len(first[log]) + 1 for log in first), launcher)
    jobs = cluster.ask("squeue", "-h", "-r", "-o", "%i").split()
    cluster.ask("scancel", "--signal=USR2", *jobs)
    wait_until(lambda: cluster.ask("squeue", "-h", "-r", "-o", "%T").split() == ["PENDING"] * 2)
    assert claims(tmp_path) == []
    assert launcher.poll() is None
    assert not list((tmp_path / EXPERIMENT).glob("*/result.json"))
    cluster.release(*jobs)
    out, err = launcher.communicate(timeout=SECONDS)
    assert launcher.returncode == 0, err
    assert outcomes(tmp_path) == undisturbed
    assert len(json.loads(out)["rows"]) >= 2
    for log in logs(tmp_path):
        assert epochs(log) == list(range(1, EPOCHS + 1)), "nothing was lost or repeated"


@pytest.mark.slurm
def test_a_lost_node_whose_worker_lives_on_costs_no_result(cluster, launch, tmp_path, undisturbed):
    launcher = launch("--on", "slurm", "--workers", "1")
    wait_until(lambda: is_training(tmp_path, 1), launcher)
    job, node = cluster.ask("squeue", "-h", "-o", "%i %N").split()
    name = json.loads(claims(tmp_path)[0].read_text())["worker"]
    orphan = json.loads((tmp_path / EXPERIMENT / ".workers" / name).read_text())["pid"]
    os.kill(orphan, signal.SIGSTOP)  # until SLURM has started the job again elsewhere
    cluster.kill_slurmd(node)
    try:
        wait_until(lambda: cluster.ask("squeue", "-h", "-o", "%T") == "PENDING")
        cluster.release(job)
        wait_until(lambda: len(claims(tmp_path)) == 2, launcher)
        assert cluster.ask("squeue", "-h", "-o", "%N") in set(cluster.nodes) - {node}
        os.kill(orphan, signal.SIGCONT)
        _, err = launcher.communicate(timeout=SECONDS)
    finally:
        cluster.start_slurmd(node)
    assert launcher.returncode == 0, err
    assert outcomes(tmp_path) == undisturbed
    assert [claim.name for claim in claims(tmp_path)] == ["claim-1", "claim-1"]
