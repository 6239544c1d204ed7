"""A worker that others take for dead, or that comes when a trial is another's."""

import json
import time

import numpy as np
import pytest
from fake_trials import Fake, Trial, by_name, folder_of, plan_of, put_deaths

from seqlab import interruption, results
from seqlab.history import Log
from seqlab.launch import claims, outcome, worker
from seqlab.launch.claims import Heart, Observer

pytestmark = pytest.mark.usefixtures("alarm")


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
