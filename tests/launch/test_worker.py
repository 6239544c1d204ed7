"""Whatever goes wrong in a trial becomes a status, and the grid goes on."""

import errno
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import pytest

from seqlab import checkpoint, interruption, results
from seqlab.checkpoint import CheckpointError
from seqlab.errors import InputError
from seqlab.history import DATA, Diverged, Log, same_data
from seqlab.launch import claims, outcome, provenance, status, worker
from seqlab.launch.claims import Heart, Observer
from seqlab.launch.plan import Plan
from seqlab.launch.worker import DiskFull, Terms
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
    return {row["config"]["name"]: row for row in results.rows(plan.root, "fake")}


def folder_of(plan: Plan, name: str) -> Path:
    folder = plan.folder(Trial(name))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def put_deaths(folder: Path, *steps: int | None) -> None:
    """Earlier attempts whose processes died, by the checkpoints that they started from."""
    for attempt, step in enumerate(steps, start=1):
        claim = {"worker": "dead", "step": step}
        (folder / f"claim-{attempt}").write_text(json.dumps(claim))


@pytest.fixture(autouse=True)
def alarm():
    """A worker that waits for itself would wait for ever."""

    def stop(*_):
        raise TimeoutError("the worker did not come to an end")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    interruption.forget()
    yield
    interruption.forget()
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
    "checkpoint": (raises(CheckpointError("all are damaged")), "FAILED", "all are damaged"),
    "file": (raises(FileNotFoundError(2, "none", "x.txt")), "FAILED", "FileNotFoundError"),
    "nan": ({"nll": float("nan"), "n": 1}, "FAILED", "metric nll is nan"),
    "inf": ({"nested": {"a": [1.0, float("-inf")]}}, "FAILED", "metric nested"),
    "array": ({"nll": np.float32(1.5)}, "FAILED", "metric nll is np.float32(1.5)"),
    "last": ({"nll": 1.0}, "DONE", None),
}


def test_every_trouble_has_its_status_and_the_grid_goes_on(tmp_path, capfd):
    experiment = Fake(**{name: behaviour for name, (behaviour, _, _) in TROUBLE.items()})
    plan = plan_of(experiment, tmp_path)
    worker.work(plan, terms=Terms(attempts=1))
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
        assert row["attempts"] == 1
        assert "passing" not in row
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
    worker.work(plan, terms=Terms(attempts=1))
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
    plan = plan_of(Fake(ours={}, dead={}, failed={}, new={}), tmp_path)
    put_deaths(folder_of(plan, "dead"), None)
    observer = Observer(tmp_path / "fake")
    with Heart(tmp_path / "fake").beating() as heart:
        claims.claim(folder_of(plan, "ours"), heart, observer)
        claims.claim(folder_of(plan, "failed"), heart, observer)
        claims.fail(folder_of(plan, "failed"), 1, "lost")
        (row,) = status.table({"smoke": plan}, everything=False).rows
        assert (row["RUNNING"], row["PENDING"]) == (1, 3)
    (row,) = status.table({"smoke": plan}, everything=False).rows
    assert (row.get("RUNNING", 0), row["PENDING"]) == (0, 4), "their worker has ended"


def test_a_second_run_repeats_nothing(tmp_path):
    experiment = Fake(a={}, b=raises(ValueError()), c=raises(Diverged(1)))
    plan = plan_of(experiment, tmp_path)
    worker.work(plan)
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.rglob("*") if p.is_file()}
    worker.work(plan)
    worker.work(plan_of(experiment, tmp_path))
    assert len(experiment.ran) == 3
    assert {
        p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.rglob("*") if p.is_file()
    } == before


def test_what_is_missing_is_run_and_only_that(tmp_path):
    experiment = Fake(a={"by": 1}, b={"by": 1}, c={"by": 1})
    plan = plan_of(experiment, tmp_path)
    folder = folder_of(plan, "b")
    results.commit(folder, outcome.run_trial(plan, Trial("b"), folder) | {"metrics": {"by": 2}})
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


# Attempts


def test_ctrl_c_gives_the_trial_back_however_often(tmp_path):
    experiment = Fake(a=raises(KeyboardInterrupt()))
    plan = plan_of(experiment, tmp_path)
    folder = plan.folder(Trial("a"))
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            worker.work(plan, terms=Terms(attempts=2))
        assert claims.last_attempt(folder) == 0
        assert not any((tmp_path / "fake" / claims.WORKERS).iterdir())
    assert results.rows(tmp_path, "fake") == []
    experiment.behaviour["a"] = {"x": 1}
    worker.work(plan)
    assert by_name(plan)["a"]["status"] == "DONE"


def test_a_signal_that_comes_when_all_is_saved_is_heard_after_the_commit(tmp_path):
    def run(folder):
        interruption.request()
        return {"x": 1}

    experiment = Fake(a=run, b={"x": 2})
    plan = plan_of(experiment, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        worker.work(plan)
    assert {name: row["status"] for name, row in by_name(plan).items()} == {"a": "DONE"}
    assert experiment.ran == [Trial("a")]


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_a_trial_that_kills_its_process_is_given_up(tmp_path, attempts):
    experiment = Fake(deadly={}, fine={})
    plan = plan_of(experiment, tmp_path)
    put_deaths(folder_of(plan, "deadly"), *[None] * attempts)
    worker.work(plan, terms=Terms(attempts))
    assert experiment.ran == [Trial("fine")]
    row = by_name(plan)["deadly"]
    assert (row["status"], row["attempts"]) == ("FAILED", attempts)
    cause, last = row["error"].splitlines()
    assert cause == "its process died"
    assert last == f"FAILED after {attempts} attempts without a checkpoint between them"


def test_fewer_deaths_than_that_are_forgiven(tmp_path):
    experiment = Fake(unlucky={"x": 1})
    plan = plan_of(experiment, tmp_path)
    put_deaths(folder_of(plan, "unlucky"), None, None)
    worker.work(plan, terms=Terms(attempts=3))
    row = by_name(plan)["unlucky"]
    assert (row["metrics"], row["attempts"]) == ({"x": 1}, 3)


def test_deaths_between_which_a_checkpoint_was_saved_are_forgiven(tmp_path):
    for steps, status_of in (((None, None, 3, 3), "DONE"), ((None, 3, 3, 3), "FAILED")):
        plan = plan_of(Fake(long={"x": 1}), tmp_path / status_of)
        folder = folder_of(plan, "long")
        put_deaths(folder, *steps)
        (folder / "attempt-4" / "checkpoints" / "3").mkdir(parents=True)
        worker.work(plan, terms=Terms(attempts=3))
        assert by_name(plan)["long"]["status"] == status_of


def failing(times: int, error: Exception, saves: tuple[int, ...] = ()):
    """Raise so often, and save a checkpoint of its number in some of these runs; then end well."""
    runs = []

    def run(folder):
        runs.append(folder)
        if len(runs) in saves:
            (folder / "checkpoints" / str(len(runs))).mkdir(parents=True)
        if len(runs) <= times:
            raise error
        return {"runs": len(runs)}

    return run


PASSING = {
    "device": jax.errors.JaxRuntimeError("INTERNAL: lost"),
    "file system": OSError(errno.EIO, "stale"),
}
LASTING = {
    "bug": ZeroDivisionError("a bug"),
    "memory": MemoryError(),
    "device memory": jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory"),
    "divergence": Diverged(3),
    "input": InputError("no file"),
    "checkpoint": CheckpointError("all are damaged"),
}


@pytest.mark.parametrize("error", PASSING.values(), ids=PASSING.keys())
def test_what_may_pass_is_tried_again_and_its_causes_are_kept(tmp_path, error):
    plan = plan_of(Fake(a=failing(2, error)), tmp_path)
    worker.work(plan, terms=Terms(attempts=3))
    row = by_name(plan)["a"]
    assert (row["status"], row["metrics"], row["attempts"]) == ("DONE", {"runs": 3}, 3)
    for attempt in (1, 2):
        cause = claims.failure(plan.folder(Trial("a")), attempt)
        assert cause.startswith("Traceback (most recent call last):")
        assert str(error) in cause
    assert claims.failure(plan.folder(Trial("a")), 3) is None


@pytest.mark.parametrize("error", PASSING.values(), ids=PASSING.keys())
@pytest.mark.parametrize("attempts", [1, 2, 4])
def test_what_does_not_pass_is_given_up_after_so_many_attempts(tmp_path, error, attempts):
    experiment = Fake(a=failing(9, error), b={})
    plan = plan_of(experiment, tmp_path)
    worker.work(plan, terms=Terms(attempts))
    assert experiment.ran.count(Trial("a")) == attempts
    row = by_name(plan)["a"]
    assert (row["status"], row["attempts"]) == ("FAILED", attempts)
    assert str(error) in row["error"]
    assert by_name(plan)["b"]["status"] == "DONE"


def test_failures_between_which_a_checkpoint_was_saved_are_forgiven(tmp_path):
    """Of two attempts in vain the second is the last; four failures here, never two of these."""
    experiment = Fake(a=failing(4, OSError(errno.EIO, "lost"), saves=(2, 3, 4)))
    plan = plan_of(experiment, tmp_path)
    worker.work(plan, terms=Terms(attempts=2))
    assert by_name(plan)["a"]["metrics"] == {"runs": 5}


@pytest.mark.parametrize("error", LASTING.values(), ids=LASTING.keys())
def test_what_would_be_raised_again_is_not_tried_again(tmp_path, error):
    experiment = Fake(a=failing(1, error))
    plan = plan_of(experiment, tmp_path)
    worker.work(plan, terms=Terms(attempts=5))
    assert len(experiment.ran) == 1
    assert by_name(plan)["a"]["status"] != "DONE"


def test_a_cause_is_not_lost_when_the_one_who_was_to_say_so_dies(tmp_path):
    plan = plan_of(Fake(a={}), tmp_path)
    folder = folder_of(plan, "a")
    put_deaths(folder, None, None)
    claims.fail(folder, 2, "Traceback …\nOSError: lost\n")
    worker.work(plan, terms=Terms(attempts=2))
    row = by_name(plan)["a"]
    assert row["status"] == "FAILED"
    assert "OSError: lost" in row["error"]


def test_retrying_counts_anew_and_goes_on_from_what_was_saved(tmp_path):
    experiment = Fake(a=failing(2, OSError(errno.EIO, "lost"), saves=(1,)))
    plan = plan_of(experiment, tmp_path)
    folder = plan.folder(Trial("a"))
    worker.work(plan, terms=Terms(attempts=1))  # the first has saved something
    assert by_name(plan)["a"]["attempts"] == 2
    plan.forget([Trial("a")])
    assert claims.saved_step(folder) == 1
    worker.work(plan, terms=Terms(attempts=1))
    row = by_name(plan)["a"]
    assert (row["metrics"], row["attempts"]) == ({"runs": 3}, 1)


# A full disk


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_in_a_trial_ends_the_worker(tmp_path, number):
    experiment = Fake(a=raises(OSError(number, "no room")), b={})
    plan = plan_of(experiment, tmp_path)
    with pytest.raises(DiskFull, match=r"^disk full: no room for checkpoints") as error:
        worker.work(plan)
    assert "\n" not in str(error.value)
    assert experiment.ran == [Trial("a")], "neither again nor the next"
    row = by_name(plan)["a"]
    assert (row["status"], row["error"]) == ("FAILED", "disk full")
    plan.forget([Trial("a")])
    experiment.behaviour["a"] = {"x": 1}
    worker.work(plan)
    assert by_name(plan)["a"]["status"] == "DONE"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize(
    ("module", "where"),
    [(results, "commit"), (claims, "claim"), (claims, "adopt"), (Heart, "_beat")],
)
def test_a_full_disk_around_a_trial_ends_the_worker_and_gives_it_back(
    tmp_path, monkeypatch, module, where, number
):
    experiment = Fake(a={"x": 1}, b={})
    plan = plan_of(experiment, tmp_path)
    with monkeypatch.context() as patch:

        def full(*_):
            raise OSError(number, "no room")

        patch.setattr(module, where, full)
        with pytest.raises(DiskFull, match=r"^disk full: no room for results"):
            worker.work(plan)
    assert claims.last_attempt(plan.folder(Trial("a"))) == 0
    assert results.rows(tmp_path, "fake") == []
    worker.work(plan)
    assert {row["attempts"] for row in by_name(plan).values()} == {1}


def test_a_result_that_does_not_fit_leaves_no_part_of_it(tmp_path, monkeypatch):
    plan = plan_of(Fake(a={"x": 1}), tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, "no room")

    with monkeypatch.context() as patch:
        patch.setattr(results.os, "fsync", full)
        with pytest.raises(DiskFull):
            worker.work(plan)
    kept = [p.name for p in plan.folder(Trial("a")).rglob("*") if p.is_file()]
    assert kept == [provenance.ORIGIN]


# Code and data that change


@pytest.fixture
def source(tmp_path) -> Path:
    """The file of the experiment, which is a part of the code."""
    path = tmp_path / "source.py"
    path.write_text("then = 1")
    forget_the_code()
    return path


def forget_the_code():
    """Look at the files again, as a new process would."""
    provenance.here.cache_clear()
    provenance.code.cache_clear()


def change(source: Path) -> tuple[str, str]:
    """The digests of the code before and after."""
    before = provenance.code(source)["code_sha256"]
    source.write_text(source.read_text() + "\nnow = 2")
    forget_the_code()
    return before, provenance.code(source)["code_sha256"]


def test_a_trial_that_other_code_began_is_refused_and_given_back(tmp_path, source):
    experiment = Fake(a=raises(KeyboardInterrupt()))
    plan = Plan("fake", experiment, experiment.trials("smoke"), tmp_path / "results", source)
    with pytest.raises(KeyboardInterrupt):
        worker.work(plan)
    assert plan.changes() is None
    before, after = change(source)
    experiment.behaviour["a"] = {"x": 1}
    for _ in range(2):
        with pytest.raises(InputError) as error:
            worker.work(plan)
        line = str(error.value)
        assert before[:8] in line
        assert after[:8] in line
        assert "\n" not in line
        assert claims.last_attempt(plan.folder(Trial("a"))) == 0
        assert plan.changes() == line
    assert len(experiment.ran) == 1
    worker.work(plan, terms=Terms(allow_changes=True))
    row = by_name(plan)["a"]
    assert (row["metrics"], row["provenance"]["code_sha256"]) == ({"x": 1}, after)


def test_what_was_allowed_to_change_is_the_origin_from_then_on(tmp_path, source):
    experiment = Fake(a=raises(KeyboardInterrupt()))
    plan = Plan("fake", experiment, experiment.trials("smoke"), tmp_path / "results", source)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            worker.work(plan, terms=Terms(allow_changes=True))
        change(source)
    with pytest.raises(InputError):
        worker.work(plan)
    with pytest.raises(KeyboardInterrupt):
        worker.work(plan, terms=Terms(allow_changes=True))
    with pytest.raises(KeyboardInterrupt):
        worker.work(plan)


def test_data_that_changed_are_refused_and_the_trial_is_given_back(tmp_path):
    data = ["1" * 64]

    def run(folder):
        same_data(folder, data[0])
        if not experiment.ran[1:]:
            raise KeyboardInterrupt
        return {"data": data[0][0]}

    experiment = Fake(a=run)
    plan = plan_of(experiment, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        worker.work(plan)
    data[0] = "2" * 64
    for _ in range(2):
        with pytest.raises(InputError, match="1111 then, 2222"):
            worker.work(plan)
        assert claims.last_attempt(plan.folder(Trial("a"))) == 0
    worker.work(plan, terms=Terms(allow_changes=True))
    assert by_name(plan)["a"]["metrics"] == {"data": "2"}
    assert (claims.work_folder(plan.folder(Trial("a"))) / DATA).read_text() == data[0]


# Workers that are taken for dead


def test_a_robbed_worker_stops_at_the_next_boundary_and_changes_nothing(
    tmp_path, monkeypatch, capfd
):
    """It was suspended, say. Who takes over ends the trial, with what the first has saved."""
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.01)
    state = {"w": np.zeros(3)}

    def suspended(kept):
        log = Log(kept)
        log.append(step=1)
        log.commit(1, state)
        folder, root = kept.parent, tmp_path / "fake"
        first = json.loads((folder / "claim-1").read_text())["worker"]
        with Heart(root).beating() as robber, monkeypatch.context() as patch:
            patch.setattr(Observer, "is_alive", lambda _, name: name != first)
            attempt = claims.claim(folder, robber, Observer(root))
            taken = Log(claims.adopt(folder, attempt))
            assert taken.resume({"w": np.ones(3)})["w"].tolist() == [0, 0, 0]
        with interruption.at_boundaries() as interrupted:
            while not interrupted():
                time.sleep(0.01)
            row = outcome.run_trial(plan_of(Fake(a={"by": "robber"}), tmp_path), Trial("a"), kept)
            results.commit(folder, row | {"attempts": attempt})
            raise KeyboardInterrupt

    experiment = Fake(a=suspended, b={"by": "robbed"})
    plan = plan_of(experiment, tmp_path)
    worker.work(plan)
    rows = by_name(plan)
    assert {name: row["metrics"]["by"] for name, row in rows.items()} == {
        "a": "robber",
        "b": "robbed",
    }
    assert experiment.ran == [Trial("a"), Trial("b")], "it goes on with what is left"
    assert sorted(p.name for p in plan.folder(Trial("a")).iterdir()) == [
        "attempt-2",
        "claim-1",
        "claim-2",
        "result.json",
    ]
    assert capfd.readouterr().err == f"{rows['a']['trial_id']} was taken over by another worker\n"
    assert not interruption.requested()


@pytest.mark.parametrize("end", ["result", "write", "failure"])
def test_a_robbed_worker_that_has_not_noticed_comes_too_late(tmp_path, end):
    """Its claim is not the last one, and its folder is gone."""

    def run(folder):
        put_deaths(folder.parent, None, None)
        claims.adopt(folder.parent, 2)
        if end == "write":
            Log(folder).append(step=1)
        if end == "failure":
            raise ZeroDivisionError
        return {"by": "the first"}

    def then(folder):
        return {"by": "the third"}

    behaviours = iter([run, then])
    experiment = Fake(a=lambda folder: next(behaviours)(folder))
    plan = plan_of(experiment, tmp_path)
    worker.work(plan)
    row = by_name(plan)["a"]
    assert (row["metrics"], row["attempts"]) == ({"by": "the third"}, 3)
    assert not (plan.folder(Trial("a")) / "attempt-1").exists()
    assert claims.failure(plan.folder(Trial("a")), 1) is None


def test_a_copy_of_a_trial_that_finishes_late_changes_nothing(tmp_path):
    plan = plan_of(Fake(a={}), tmp_path)

    def run_while_another_commits(folder):
        results.commit(folder.parent, outcome.run_trial(winner, Trial("a"), folder))
        return {"by": "late"}

    winner = plan_of(Fake(a={"by": "first"}), tmp_path)
    late = plan_of(Fake(a=run_while_another_commits), tmp_path)
    worker.work(late)
    assert by_name(plan)["a"]["metrics"] == {"by": "first"}


def test_a_worker_waits_for_what_others_run(tmp_path, monkeypatch):
    """Until its result is there, or its worker is dead."""
    experiment = Fake(a={"by": "us"}, b={"by": "us"})
    plan = plan_of(experiment, tmp_path)
    with Heart(tmp_path / "fake").beating() as other:
        observer = Observer(tmp_path / "fake")
        for name in "ab":
            assert claims.claim(folder_of(plan, name), other, observer) == 1
        naps = []

        def nap(seconds):
            naps.append(seconds)
            assert experiment.ran == []
            if len(naps) == 2:
                others = plan_of(Fake(a={"by": "other"}), tmp_path)
                row = outcome.run_trial(others, Trial("a"), None)
                results.commit(plan.folder(Trial("a")), row)
            if len(naps) == 4:
                other._path.unlink()

        with monkeypatch.context() as patch:
            patch.setattr(worker.time, "sleep", nap)
            worker.work(plan)
    assert naps == [worker.IDLE_SECONDS] * 4
    assert {name: row["metrics"]["by"] for name, row in by_name(plan).items()} == {
        "a": "other",
        "b": "us",
    }


# What is left


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
    assert (plan.folder(Trial("a")) / "attempt-1" / "checkpoints" / "3").is_dir()


@pytest.mark.parametrize("outcome", [None, Diverged(3)])
def test_checkpoints_go_once_the_result_is_there(tmp_path, outcome):
    def run(folder):
        checkpoint.save(folder / "checkpoints", 1, {"x": 1})
        (folder / "log.jsonl").write_text("{}\n")
        if outcome is not None:
            raise outcome
        return {}

    plan = plan_of(Fake(a=run), tmp_path)
    worker.work(plan)
    folder = plan.folder(Trial("a"))
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*")) == [
        "attempt-1",
        "attempt-1/log.jsonl",
        "attempt-1/origin.json",
        "claim-1",
        "result.json",
    ]


@pytest.mark.parametrize("damage", [lambda whole: whole[:100], lambda whole: whole[:-2] + b" }\n"])
def test_a_damaged_result_is_made_again(tmp_path, damage):
    experiment = Fake(a={"x": 1}, b={"x": 1})
    plan = plan_of(experiment, tmp_path)
    worker.work(plan)
    path = plan.folder(Trial("a")) / "result.json"
    path.write_bytes(damage(path.read_bytes()))
    worker.work(plan_of(experiment, tmp_path))
    assert [t.name for t in experiment.ran] == ["a", "b", "a"]
    assert by_name(plan)["a"]["metrics"] == {"x": 1}
    assert (path.parent / "result.json.damaged").exists()
