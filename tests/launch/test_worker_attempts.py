"""How often a trial is tried, and what a full disk leaves of it."""

import errno

import jax
import pytest
from fake_trials import Fake, Trial, by_name, folder_of, plan_of, put_deaths, raises

from seqlab import interruption, results
from seqlab.checkpoint import CheckpointError
from seqlab.errors import InputError
from seqlab.history import Diverged
from seqlab.launch import claims, provenance, worker
from seqlab.launch.claims import Heart
from seqlab.launch.worker import DiskFull, Terms

pytestmark = pytest.mark.usefixtures("alarm")

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
