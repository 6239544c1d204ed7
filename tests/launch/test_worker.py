"""Whatever goes wrong in a trial becomes a status, and the grid goes on."""

import os
from pathlib import Path

import jax
import numpy as np
import pytest
from fake_trials import Fake, Trial, by_name, folder_of, plan_of, put_deaths, raises

from seqlab import checkpoint, results
from seqlab.checkpoint import CheckpointError
from seqlab.errors import InputError
from seqlab.history import DATA, Diverged, same_data
from seqlab.launch import claims, outcome, provenance, status, worker
from seqlab.launch.claims import Heart, Observer
from seqlab.launch.plan import Plan
from seqlab.launch.worker import Terms
from seqlab.trial import as_dict, trial_id

pytestmark = pytest.mark.usefixtures("alarm")

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
