"""Whatever goes wrong in a trial becomes a status, and the grid goes on."""

import errno
import json
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import pytest

from seqlab import results
from seqlab.errors import InputError
from seqlab.launch import status, worker
from seqlab.launch.plan import Plan
from seqlab.train import Diverged
from seqlab.trial import as_dict, trial_id


@dataclass(frozen=True)
class Trial:
    name: str
    seed: int = 0


class Fake:
    """An experiment whose trials do what their name says; `ran` lists the runs."""

    __name__ = "fake"

    def __init__(self, **behaviour):
        self.behaviour = behaviour
        self.ran: list[Trial] = []

    def trials(self, budget):
        return [Trial(name) for name in self.behaviour]

    def run(self, trial, folder):
        self.ran.append(trial)
        done = self.behaviour[trial.name]
        return done(folder) if callable(done) else done

    def table(self, rows):
        raise NotImplementedError

    def check(self, trial):
        pass

    def follow_up(self, trials, finished):
        return []


def raises(error: BaseException):
    def run(folder):
        raise error

    return run


def plan_of(experiment, root: Path) -> Plan:
    return Plan("fake", experiment, experiment.trials("smoke"), root)


def by_name(plan: Plan) -> dict[str, dict]:
    return {row["config"]["name"]: row for row in results.load(plan.root, "fake")}


DEAD = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "started": "1"})


@pytest.fixture(autouse=True)
def alarm():
    """A worker that waits for itself would wait for ever."""

    def stop(*_):
        raise TimeoutError("the worker did not come to an end")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


TROUBLE = {
    "done": ({"nll": 0.1 + 0.2, "n": 3}, "DONE", None),
    "diverged": (raises(Diverged(17)), "DIVERGED", "the loss is not finite at step 17"),
    "bug": (raises(ZeroDivisionError("a bug")), "FAILED", "ZeroDivisionError: a bug"),
    "input": (raises(InputError("no file")), "FAILED", "no file"),
    "memory": (raises(MemoryError("host")), "OOM", "MemoryError: host"),
    "device_memory": (
        raises(jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")),
        "OOM",
        "RESOURCE_EXHAUSTED: out of memory",
    ),
    "device": (raises(jax.errors.JaxRuntimeError("INTERNAL: lost")), "FAILED", "INTERNAL: lost"),
    "disk": (raises(OSError(errno.ENOSPC, "No space left")), "FAILED", "disk full"),
    "file": (raises(FileNotFoundError(2, "none", "x.txt")), "FAILED", "FileNotFoundError"),
    "nan": ({"nll": float("nan"), "n": 1}, "FAILED", "metric nll is nan"),
    "inf": ({"nested": {"a": [1.0, float("-inf")]}}, "FAILED", "metric nested"),
    "array": ({"nll": np.float32(1.5)}, "FAILED", "metric nll is np.float32(1.5)"),
    "last": ({"nll": 1.0}, "DONE", None),
}


def test_every_trouble_has_its_status_and_the_grid_goes_on(tmp_path, capfd):
    experiment = Fake(**{name: behaviour for name, (behaviour, _, _) in TROUBLE.items()})
    plan = plan_of(experiment, tmp_path)
    worker.work(plan)
    assert [t.name for t in experiment.ran] == list(TROUBLE)
    rows = by_name(plan)
    said = capfd.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    for name, (behaviour, expected, reason) in TROUBLE.items():
        row = rows[name]
        assert (row["status"], row["experiment"]) == (expected, "fake")
        assert row["config"] == as_dict(Trial(name))
        assert row["provenance"]["packages"]["jax"] == jax.__version__
        if reason is None:
            assert (row["error"], row["metrics"]) == (None, behaviour)
        else:
            assert reason in row["error"]
            assert sum(line.startswith(f"{row['trial_id']} {expected}: ") for line in lines) == 1
    assert len(lines) == sum(reason is not None for _, _, reason in TROUBLE.values())
    assert rows["diverged"]["metrics"] == {"diverged_at_step": 17}
    assert rows["bug"]["error"].startswith("Traceback (most recent call last):")
    assert "in run" in rows["bug"]["error"]


def test_the_status_names_every_trouble_with_its_trial(tmp_path):
    experiment = Fake(**{name: behaviour for name, (behaviour, _, _) in TROUBLE.items()})
    plan = plan_of(experiment, tmp_path)
    worker.work(plan)
    table = status.table({"smoke": plan}, everything=False)
    counts = {"DONE": 2, "FAILED": 8, "DIVERGED": 1, "OOM": 2}
    (row,) = table.rows
    assert {s: row.get(s, 0) for s in status.COUNTS} == counts | {"RUNNING": 0, "PENDING": 0}
    assert row["trials"] == len(TROUBLE)
    assert f"{trial_id(Trial('diverged'))} DIVERGED: the loss is not finite at step 17" in (
        table.notes
    )
    assert len(table.notes) == len(TROUBLE) - 2
    assert all("\n" not in note for note in table.notes)


def test_status_tells_running_from_pending(tmp_path):
    plan = plan_of(Fake(ours={}, dead={}, new={}), tmp_path)
    results.claim(plan.folder(Trial("ours")))
    plan.folder(Trial("dead")).mkdir(parents=True)
    (plan.folder(Trial("dead")) / "claim-1").write_text(DEAD)
    (row,) = status.table({"smoke": plan}, everything=False).rows
    assert (row["RUNNING"], row["PENDING"]) == (1, 2)


def test_a_second_run_repeats_nothing(tmp_path):
    experiment = Fake(a={}, b=raises(ValueError()), c=raises(Diverged(1)))
    plan = plan_of(experiment, tmp_path)
    worker.work(plan)
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.rglob("*") if p.is_file()}
    worker.work(plan)
    assert len(experiment.ran) == 3
    assert {
        p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.rglob("*") if p.is_file()
    } == before


def test_what_is_missing_is_run_and_only_that(tmp_path):
    experiment = Fake(a={"by": 1}, b={"by": 1}, c={"by": 1})
    plan = plan_of(experiment, tmp_path)
    worker.run_trial(plan, Trial("b"), tmp_path)
    folder = plan.folder(Trial("b"))
    folder.mkdir(parents=True)
    results.commit(folder, worker.run_trial(plan, Trial("b"), folder) | {"metrics": {"by": 2}})
    experiment.ran.clear()
    worker.work(plan)
    assert [t.name for t in experiment.ran] == ["a", "c"]
    assert {name: row["metrics"]["by"] for name, row in by_name(plan).items()} == {
        "a": 1,
        "b": 2,
        "c": 1,
    }


@pytest.mark.parametrize(
    ("start", "order"), [(0.0, "abcd"), (0.25, "bcda"), (0.5, "cdab"), (0.99, "dabc")]
)
def test_workers_begin_apart_and_miss_nothing(tmp_path, start, order):
    experiment = Fake(a={}, b={}, c={}, d={})
    worker.work(plan_of(experiment, tmp_path), start)
    assert "".join(t.name for t in experiment.ran) == order


def test_follow_up_trials_are_run_once_the_first_call_for_them(tmp_path):
    class Following(Fake):
        def follow_up(self, trials, finished):
            values = [finished[i]["metrics"]["x"] for i in map(trial_id, trials) if i in finished]
            if len(values) < len(trials):
                return []
            return [Trial(trials[values.index(max(values))].name, seed) for seed in (1, 2)]

    experiment = Following(a={"x": 1}, b={"x": 5}, c={"x": 3})
    plan = plan_of(experiment, tmp_path)
    worker.work(plan)
    assert experiment.ran == [Trial("a"), Trial("b"), Trial("c"), Trial("b", 1), Trial("b", 2)]
    assert len(plan.known()) == 5


def test_ctrl_c_gives_the_trial_back_however_often(tmp_path):
    experiment = Fake(a=raises(KeyboardInterrupt()))
    plan = plan_of(experiment, tmp_path)
    folder = plan.folder(Trial("a"))
    for _ in range(2 * worker.MAX_ATTEMPTS):
        with pytest.raises(KeyboardInterrupt):
            worker.work(plan)
        assert not results.is_running(folder)
    assert results.load(tmp_path, "fake") == []
    experiment.behaviour["a"] = {"x": 1}
    worker.work(plan)
    assert by_name(plan)["a"]["status"] == "DONE"


def test_a_trial_that_kills_its_process_is_given_up(tmp_path):
    experiment = Fake(deadly={}, fine={})
    plan = plan_of(experiment, tmp_path)
    folder = plan.folder(Trial("deadly"))
    folder.mkdir(parents=True)
    for attempt in range(1, worker.MAX_ATTEMPTS + 1):
        (folder / f"claim-{attempt}").write_text(DEAD)
    worker.work(plan)
    assert experiment.ran == [Trial("fine")]
    row = by_name(plan)["deadly"]
    assert row["status"] == "FAILED"
    assert row["error"].startswith(f"its process died {worker.MAX_ATTEMPTS} times")


def test_fewer_deaths_than_that_are_forgiven(tmp_path):
    experiment = Fake(unlucky={"x": 1})
    plan = plan_of(experiment, tmp_path)
    folder = plan.folder(Trial("unlucky"))
    folder.mkdir(parents=True)
    for attempt in range(1, worker.MAX_ATTEMPTS):
        (folder / f"claim-{attempt}").write_text(DEAD)
    worker.work(plan)
    assert by_name(plan)["unlucky"]["metrics"] == {"x": 1}


def test_deaths_between_which_an_epoch_was_finished_are_forgiven(tmp_path):
    experiment = Fake(long={"x": 1})
    plan = plan_of(experiment, tmp_path)
    folder = plan.folder(Trial("long"))
    folder.mkdir(parents=True)
    for attempt in range(1, worker.MAX_ATTEMPTS + 2):
        (folder / f"claim-{attempt}").write_text(DEAD)
        os.utime(folder / f"claim-{attempt}", (attempt, attempt))
    (folder / "log.jsonl").write_text("{}")
    os.utime(folder / "log.jsonl", (2.5, 2.5))
    worker.work(plan)
    assert by_name(plan)["long"]["metrics"] == {"x": 1}


def test_a_worker_whose_launcher_is_gone_takes_no_new_trial(tmp_path, monkeypatch):
    experiment = Fake(a={"x": 1})
    monkeypatch.setenv("SEQLAB_LAUNCHER", str(os.getppid() + 1))
    worker.work(plan_of(experiment, tmp_path))
    assert experiment.ran == []
    monkeypatch.setenv("SEQLAB_LAUNCHER", str(os.getppid()))
    worker.work(plan_of(experiment, tmp_path))
    assert experiment.ran == [Trial("a")]


@pytest.mark.parametrize("outcome", [RuntimeError("no"), MemoryError()])
def test_checkpoints_of_what_may_be_tried_again_are_kept(tmp_path, outcome):
    def fail(folder):
        (folder / "checkpoints" / "3").mkdir(parents=True)
        raise outcome

    plan = plan_of(Fake(a=fail), tmp_path)
    worker.work(plan)
    kept = plan.folder(Trial("a")) / "checkpoints" / "3"
    assert kept.is_dir()


def test_a_damaged_result_is_made_again(tmp_path):
    experiment = Fake(a={"x": 1}, b={"x": 1})
    plan = plan_of(experiment, tmp_path)
    worker.work(plan)
    path = plan.folder(Trial("a")) / "result.json"
    path.write_bytes(path.read_bytes()[:100])
    for claim in path.parent.glob("claim-*"):
        claim.write_text(DEAD)
    worker.work(plan_of(experiment, tmp_path))
    assert [t.name for t in experiment.ran] == ["a", "b", "a"]
    assert by_name(plan)["a"]["metrics"] == {"x": 1}


def test_a_copy_of_a_trial_that_finishes_late_changes_nothing(tmp_path):
    plan = plan_of(Fake(a={}), tmp_path)

    def run_while_another_commits(folder):
        results.commit(folder, worker.run_trial(winner, Trial("a"), folder))
        return {"by": "late"}

    winner = plan_of(Fake(a={"by": "first"}), tmp_path)
    late = plan_of(Fake(a=run_while_another_commits), tmp_path)
    worker.work(late)
    assert by_name(plan)["a"]["metrics"] == {"by": "first"}


def test_checkpoints_go_once_the_result_is_there(tmp_path):
    def run(folder):
        (folder / "checkpoints" / "1").mkdir(parents=True)
        (folder / "checkpoints" / "1" / "manifest.json").write_text("{}")
        (folder / "log.jsonl").write_text("{}\n")
        return {}

    plan = plan_of(Fake(a=run), tmp_path)
    worker.work(plan)
    names = sorted(p.name for p in plan.folder(Trial("a")).iterdir())
    assert names == ["claim-1", "log.jsonl", "result.json"]
