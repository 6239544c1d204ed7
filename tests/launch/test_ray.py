"""Workers as tasks of Ray: options, replacement, and grids that lose tasks, nodes, launchers."""

import _thread
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from ray_cluster import Cluster, cluster, temporary_folder, users

from seqlab import results
from seqlab.errors import InputError

pytest.importorskip("ray")
import seqlab.launch.ray as engine
from seqlab.launch import local

REPOSITORY = Path(__file__).resolve().parents[2]
NAME = "mut_vs_lstm_gru"

# Options


def test_options_have_the_types_that_ray_takes():
    given = {"num_cpus": "0.5", "num_gpus": "2", "memory": "1000000000", "max_retries": "0"}
    made = engine.Ray(given | {"accelerator_type": "T4"})
    assert made._options == {
        "num_cpus": 0.5,
        "num_gpus": 2,
        "memory": 1_000_000_000,
        "max_retries": 0,
        "accelerator_type": "T4",
    }
    assert {k: type(v) for k, v in made._options.items()} == engine.OPTIONS


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("num_cpu", "1", "no option 'num_cpu'. Did you mean 'num_cpus'?"),
        ("timeout_min", "60", "Valid: accelerator_type, max_retries, memory, num_cpus, num_gpus."),
        ("retry_exceptions", "True", "no option 'retry_exceptions'."),
        ("num_cpus", "all", "num_cpus takes a number, not 'all'"),
        ("num_cpus", "-1", "num_cpus takes a number, not '-1'"),
        ("num_cpus", "nan", "num_cpus takes a number, not 'nan'"),
        ("num_cpus", "inf", "num_cpus takes a number, not 'inf'"),
        ("num_gpus", "0.5", "num_gpus takes a whole number, not '0.5'"),
        ("memory", "16GiB", "memory takes a whole number, not '16GiB'"),
        ("max_retries", "-1", "max_retries takes a whole number, not '-1'"),
    ],
)
def test_what_is_no_option_is_one_line(name, text, part):
    with pytest.raises(InputError) as raised:
        engine.Ray({name: text})
    assert part in str(raised.value)
    assert "\n" not in str(raised.value)


def test_where_no_cluster_answers_is_one_line_at_once(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for named in (address, f"ray://{address}"):
            monkeypatch.setenv("RAY_ADDRESS", named)
            began = time.monotonic()
            with pytest.raises(InputError) as raised:
                engine.Ray({})
            assert time.monotonic() - began < 5
            assert f"no Ray cluster at RAY_ADDRESS={named}: " in str(raised.value)
            assert "\n" not in str(raised.value)


# What reaches a worker, and what comes back


def test_a_worker_elsewhere_knows_what_matters_of_the_launchers_environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    passed = {
        "SEQLAB_DATA": str(tmp_path / "files"),
        "SEQLAB_CACHE": str(Path.home() / "cache"),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_dump_to=there",
        "NPROC": "8",
        "GLIBC_TUNABLES": "glibc.malloc.check=1",
    }
    given = passed | {"SEQLAB_DATA": "files", "SEQLAB_CACHE": "~/cache"}
    kept_here = {"SEQLAB_LAUNCHER": "7", "SEQLAB_RESULTS": "r", "HOME": "/h", "PATH": "/p"}
    assert engine._for_workers(given | kept_here | {"CUDA_VISIBLE_DEVICES": "3"}) == passed
    assert engine._for_workers({"SEQLAB_DATA": ""}) == {}


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("94f525092c8f3b0f FAILED: ValueError: no", True),
        ("error: results directory /r cannot be written: Permission denied", True),
        ("  [0.1, 0.2]", True),
        ("[2026] is no date", True),
        ("[2026-11-21 17:42:26,779 E 18765 18790] (raylet) node_manager.cc:99: lost", False),
        ("[2026-11-21 17:42:26,779 W 18765 18790] core_worker.cc:1: The raylet died", False),
    ],
)
def test_of_all_that_ray_brings_only_the_words_of_workers_are_shown(line, shown):
    allowed = re.search(engine.SETTINGS["RAY_DEDUP_LOGS_ALLOW_REGEX"], line)
    assert bool(allowed) == shown
    assert re.search(engine.SETTINGS["RAY_DEDUP_LOGS_SKIP_REGEX"], line)


@pytest.mark.parametrize(
    ("options", "fits"),
    [
        ({"num_cpus": 1, "num_gpus": 0}, True),
        ({"num_cpus": 8, "num_gpus": 1, "max_retries": 3}, True),
        ({"num_cpus": 9, "num_gpus": 0}, False),
        ({"num_cpus": 5, "memory": 900}, False),  # one node has either
        ({"num_cpus": 4, "memory": 900}, True),
        ({"num_cpus": 1, "num_gpus": 2}, False),
        ({"num_cpus": 1, "accelerator_type": "T4"}, True),
        ({"num_cpus": 1, "accelerator_type": "A100"}, False),  # that node has gone
    ],
)
def test_a_task_fits_where_one_node_has_all_that_it_takes(monkeypatch, options, fits):
    nodes = [
        {"Alive": True, "Resources": {"CPU": 4.0, "memory": 1000.0}},
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 1.0, "accelerator_type:T4": 1.0}},
        {"Alive": False, "Resources": {"CPU": 99.0, "GPU": 8.0, "accelerator_type:A100": 1.0}},
    ]
    monkeypatch.setattr(engine.ray, "nodes", lambda: nodes)
    assert engine._fits_somewhere(options) == fits


# Tasks that are stood in for


class Tasks:
    """What a `Ray` submits, and how it has ended."""

    def __init__(self, monkeypatch, num_workers: int):
        self.submitted: list[str] = []
        self.ended: dict[str, Exception | None] = {}
        self.cancelled: list[str] = []
        monkeypatch.setattr(engine.Ray, "_submit", self._submit)
        monkeypatch.setattr(engine.ray, "wait", self._wait)
        monkeypatch.setattr(engine.ray, "get", self._get)
        monkeypatch.setattr(engine.ray, "cancel", lambda task, force: self.cancelled.append(task))
        self.engine = engine.Ray({})
        for n in range(num_workers):
            self.engine._submit([str(n)])

    def _submit(self, command: list[str]) -> None:
        self.submitted += command
        self.engine._tasks[f"task {len(self.submitted)}"] = command

    def _wait(self, tasks, num_returns, timeout):
        assert num_returns == len(tasks) > 0
        return [task for task in tasks if task in self.ended], []

    def _get(self, task):
        if self.ended[task]:
            raise self.ended[task]

    def end_all(self, error: Exception | None) -> None:
        self.ended |= dict.fromkeys(self.engine._tasks, error)


LOST = [
    engine.ray.exceptions.WorkerCrashedError(),
    engine.ray.exceptions.NodeDiedError("its raylet died"),
    engine.ray.exceptions.OutOfMemoryError("its node had no room"),
]


@pytest.mark.parametrize("error", LOST, ids=lambda e: type(e).__name__)
def test_a_lost_task_is_replaced_while_something_is_missing(monkeypatch, error):
    tasks = Tasks(monkeypatch, 2)
    assert tasks.engine.poll(2)
    tasks.ended["task 2"] = error
    assert tasks.engine.poll(2)
    assert tasks.submitted == ["0", "1", "1"]
    tasks.end_all(error)
    assert not tasks.engine.poll(0)
    assert tasks.submitted == ["0", "1", "1"]


def test_replacing_comes_to_an_end_unless_the_grid_moves(monkeypatch, capsys):
    tasks = Tasks(monkeypatch, 1)
    for missing in (9, 8):
        for _ in range(local.MAX_RESTARTS):
            tasks.end_all(LOST[0])
            assert tasks.engine.poll(missing)
    assert len(tasks.submitted) == 1 + 2 * local.MAX_RESTARTS
    assert capsys.readouterr() == ("", "")
    tasks.end_all(LOST[1])
    assert not tasks.engine.poll(8)
    assert capsys.readouterr() == ("", "ray: a worker was lost for good: its raylet died\n")


@pytest.mark.parametrize("error", [None, engine.TaskCancelledError()])
def test_a_task_that_has_finished_or_was_cancelled_is_not_replaced(monkeypatch, error, capsys):
    tasks = Tasks(monkeypatch, 2)
    tasks.end_all(error)
    assert not tasks.engine.poll(5)
    assert tasks.submitted == ["0", "1"]
    assert capsys.readouterr() == ("", "")


def test_why_a_worker_could_not_be_started_is_one_line(monkeypatch, capsys):
    tasks = Tasks(monkeypatch, 1)
    cause = RuntimeError("it failed to import:\nTraceback …\nNo module named 'seqlab'\n")
    tasks.end_all(engine.RayTaskError("supervise", "Traceback …\n…", cause))
    assert not tasks.engine.poll(5)
    assert tasks.submitted == ["0"]
    said = "ray: a worker was not started: No module named 'seqlab'\n"
    assert capsys.readouterr() == ("", said)


def test_tasks_that_never_got_a_place_are_cancelled_when_all_is_done(monkeypatch):
    tasks = Tasks(monkeypatch, 1)
    now = [1000.0]
    monkeypatch.setattr(engine.time, "monotonic", lambda: now[0])
    now[0] += 10**6
    assert tasks.engine.poll(1)
    now[0] += engine.GRACE_SECONDS - 1
    assert tasks.engine.poll(0)
    assert tasks.cancelled == []
    now[0] += 2
    assert tasks.engine.poll(0)
    assert tasks.cancelled == ["task 1"]


SLEEP = """
import pathlib, sys, time
said = pathlib.Path(sys.argv[1])
try:
    said.write_text("asleep")
    time.sleep(60)
except KeyboardInterrupt:
    said.write_text("interrupted")
"""


def test_a_cancelled_task_interrupts_its_worker_though_ray_has_blocked_the_signal(tmp_path):
    said = tmp_path / "said"

    def cancel():
        while not said.exists() or said.read_text() != "asleep":
            time.sleep(0.02)
        _thread.interrupt_main()

    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    canceller = threading.Thread(target=cancel)
    try:
        canceller.start()
        with pytest.raises(KeyboardInterrupt):
            engine.supervise(["-c", SLEEP, str(said)], {})
    finally:
        canceller.join()
        signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    assert said.read_text() == "interrupted"


# A grid of real processes

TRIALS = [
    *("--budget", "smoke", "--only", "task=xml", "--only", "model.cell=gru,mut1"),
    *("--set", "model.parameter_budget=3000", "--set", "optim.optimizer=sgd"),
    *("--set", "optim.learning_rate=0.1", "--set", "data.train_size=7000"),
    *("--set", "data.valid_size=700", "--set", "data.test_size=700"),
    *("--set", "train.steps_per_epoch=5", "--set", "train.schedule.max_epochs=40"),
    *("--set", "train.schedule.patience=100", "--workers", "2", "--format", "json"),
]
DEADLINE = 180.0


class Launcher(NamedTuple):
    process: subprocess.Popen
    root: Path

    def finish(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, out, err

    def wait_until(self, condition) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def workers(self) -> dict[str, psutil.Process]:
        """Those with a beating heart, by their names."""
        found = {}
        for path in (self.root / NAME / ".workers").glob("[!.]*"):
            with suppress(OSError, ValueError, psutil.NoSuchProcess):
                found[path.name] = psutil.Process(json.loads(path.read_text())["pid"])
        return found

    def epochs(self) -> list[int]:
        """Of each trial that has begun."""
        logs = (self.root / NAME).glob("*/attempt-*/log.jsonl")
        return [log.read_text().count("\n") for log in logs]

    def in_mid_trial(self) -> bool:
        return len(self.workers()) == 2 and len(self.epochs()) == 2 and min(self.epochs()) >= 3


@pytest.fixture
def start(tmp_path):
    """Start `launch.py run` as a process group of its own."""
    started: list[subprocess.Popen] = []

    def run(environment: dict[str, str], on: str = "ray") -> Launcher:
        command = [sys.executable, str(REPOSITORY / "launch.py"), "run", NAME, *TRIALS]
        root = tmp_path / "results"
        process = subprocess.Popen(
            [*command, "--on", on, "--results-dir", str(root)],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return Launcher(process, root)

    yield run
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)  # its workers end with it
        process.communicate()


@pytest.fixture(scope="module")
def two_nodes():
    with cluster() as running:
        yield running


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> dict[str, dict]:
    """What the same trials come to as processes of this machine."""
    root = tmp_path_factory.mktemp("expected")
    command = [sys.executable, str(REPOSITORY / "launch.py"), "run", NAME, *TRIALS]
    subprocess.run([*command, "--results-dir", str(root)], check=True, capture_output=True)
    return metrics(root)


def metrics(root: Path) -> dict[str, dict]:
    """Of each trial, what does not tell of time; one valid result for each folder of a trial."""
    rows = results.rows(root, NAME)
    assert [row["status"] for row in rows] == ["DONE", "DONE"]
    assert len([p for p in (root / NAME).iterdir() if not p.name.startswith(".")]) == 2
    assert not [*root.rglob("*.damaged")]
    found = {
        row["trial_id"]: {k: v for k, v in row["metrics"].items() if "seconds" not in k}
        for row in rows
    }
    assert all({"params_sha256", "test_accuracy"} <= found.keys() for found in found.values())
    return found


def assert_finished(launcher: Launcher, expected: dict[str, dict]) -> None:
    """With the table alone on standard output, and nothing of Ray's on the other."""
    code, out, err = launcher.finish()
    assert code == 0, err
    assert {row["cell"] for row in json.loads(out)["rows"]} >= {"gru", "mut1"}
    assert [line for line in err.splitlines() if not line.startswith(f"{NAME}: ")] == []
    assert metrics(launcher.root) == expected
    assert launcher.workers() == {}


def leave_no_worker_in(running: Cluster) -> None:
    deadline = time.monotonic() + DEADLINE
    while left := [c for c in users(running.folder).values() if "launch.py" in c]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


@pytest.mark.ray
def test_both_nodes_work_and_the_bits_are_those_of_a_local_run(two_nodes, start, expected):
    launcher = start(two_nodes.environment)
    launcher.wait_until(launcher.in_mid_trial)
    tasks = [worker.parent() for worker in launcher.workers().values()]
    nodes = {task.ppid() for task in tasks if task}
    assert nodes == set(two_nodes.raylets)
    assert_finished(launcher, expected)
    leave_no_worker_in(two_nodes)


@pytest.mark.ray
def test_a_killed_task_is_started_again_and_its_worker_ends_with_its_trial(
    two_nodes, start, expected
):
    launcher = start(two_nodes.environment)
    launcher.wait_until(launcher.in_mid_trial)
    before = launcher.workers()
    first, other = before.values()
    task = first.parent()
    assert task
    other.suspend()  # else both might have finished before Ray has started another
    task.kill()
    launcher.wait_until(lambda: launcher.workers().keys() - before.keys())
    other.resume()
    assert_finished(launcher, expected)
    leave_no_worker_in(two_nodes)


@pytest.mark.ray
def test_ctrl_c_gives_the_trials_back_and_the_same_command_finishes(two_nodes, start, expected):
    launcher = start(two_nodes.environment)
    launcher.wait_until(launcher.in_mid_trial)
    os.killpg(launcher.process.pid, signal.SIGINT)  # as a terminal does
    code, out, err = launcher.finish()
    assert (code, out) == (130, "")
    assert "Traceback" not in err
    assert err.count("interrupted") == 1
    assert not [*launcher.root.rglob("result.json")]
    assert not [*launcher.root.rglob("claim-*")]
    assert launcher.workers() == {}
    leave_no_worker_in(two_nodes)

    before = launcher.epochs()
    assert min(before) >= 3
    assert_finished(start(two_nodes.environment), expected)


@pytest.mark.ray
@pytest.mark.parametrize("lose", [Cluster.kill_raylet, Cluster.lose_node])
def test_a_lost_node_loses_no_trial(start, expected, lose):
    with cluster() as running:
        launcher = start(running.environment)
        launcher.wait_until(launcher.in_mid_trial)
        lose(running)
        assert_finished(launcher, expected)
        attempts = sorted(row["attempts"] for row in results.rows(launcher.root, NAME))
    if lose is Cluster.lose_node:
        assert attempts == [1, 2]


@pytest.mark.ray
def test_without_a_named_cluster_ray_stays_on_this_machine(two_nodes, start):
    """And does not join one that runs there. Ctrl-C reaches Ray's own processes here too."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    with temporary_folder() as folder:
        (folder / "ray").mkdir()
        (folder / "ray" / "ray_current_cluster").write_text(two_nodes.address)
        launcher = start(environment | {"RAY_TMPDIR": str(folder)})
        launcher.wait_until(launcher.in_mid_trial)
        children = psutil.Process(launcher.process.pid).children(recursive=True)
        workers = launcher.workers()
        assert {worker.pid for worker in workers.values()} <= {child.pid for child in children}
        addresses, commands = set(), []
        for child in children:
            with suppress(psutil.NoSuchProcess):
                commands.append(" ".join(child.cmdline()))
                sockets = child.net_connections(kind="inet")
                addresses |= {s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN}
        assert any("raylet" in command for command in commands)
        assert addresses
        assert addresses <= {"127.0.0.1", "::ffff:127.0.0.1"}
        assert not [c for c in commands if "dashboard.py" in c and "--disable-frontend" not in c]
        assert not [c for c in users(two_nodes.folder).values() if "launch.py" in c]

        os.killpg(launcher.process.pid, signal.SIGINT)
        code, out, err = launcher.finish()
        assert (code, out) == (130, "")
        assert "Traceback" not in err
        assert not [*launcher.root.rglob("claim-*")]
        psutil.wait_procs(children, timeout=10)
        assert users(folder) == {}
