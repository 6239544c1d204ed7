"""Several workers at the packs of one results directory."""

import contextlib
import json
import os
import time
from collections.abc import Callable

import pytest
from fake_packs import Fake, Trial, content, pack_of, packs_in, plan_of, rows_of, statuses, work

from seqlab import interruption
from seqlab.launch import claims, pack_attempt, worker
from seqlab.launch.claims import Heart, Observer
from seqlab.pack_log import News

pytestmark = pytest.mark.usefixtures("alarm")

# Others on the same directory


class Idle(Exception):
    """All that is missing is run by others."""


@pytest.fixture
def beside(monkeypatch):
    """Another worker, as long as it has anything to do; of the same process, but not its trials."""

    def run(experiment, root, pack, **terms):
        def idle(seconds):
            raise Idle

        with monkeypatch.context() as patch, contextlib.suppress(Idle):
            patch.setattr(worker.time, "sleep", idle)
            work(experiment, root, pack, **terms)

    return run


def beside_the_first(run: Callable[[], object]) -> Callable[[str], None]:
    """Something that happens while the first pack is run, and only then."""
    calls = []

    def trouble(together):
        calls.append(together)
        if len(calls) == 1:
            run()

    return trouble


@pytest.mark.parametrize("pack", [1, 2, 3, 5])
@pytest.mark.parametrize("other", [1, 2, 3, 5])
def test_workers_with_different_packs_share_the_trials(tmp_path, beside, caplog, pack, other):
    names = "abcdefghijk"
    theirs = Fake(names)
    ours = Fake(names, beside_the_first(lambda: beside(theirs, tmp_path, other)))
    work(ours, tmp_path, pack)
    assert "".join(sorted("".join(ours.ran + theirs.ran))) == names
    assert ours.ran == [names[:pack]]
    assert statuses(tmp_path) == dict.fromkeys(names, "DONE")
    assert {row["attempts"] for row in rows_of(tmp_path).values()} == {1}
    assert packs_in(tmp_path) == []
    assert caplog.records == []


def test_a_pack_leaves_out_what_others_run(tmp_path, beside):
    """And takes it up when they are gone."""
    experiment = Fake("abcd")
    plan = plan_of(experiment, tmp_path)
    with Heart(tmp_path / "fake").beating() as other:
        assert claims.claim(plan.folder(Trial("b")), other, Observer(tmp_path / "fake")) == 1
        beside(experiment, tmp_path, 9)
        assert experiment.ran == ["acd"]
        assert statuses(tmp_path) == dict.fromkeys("acd", "DONE")
    work(experiment, tmp_path)
    assert experiment.ran == ["acd", "b"]
    assert rows_of(tmp_path)["b"]["attempts"] == 2
    assert packs_in(tmp_path) == []


def test_a_member_that_somebody_runs_alone_is_theirs(tmp_path, beside):
    """The pack goes on with it, and does not commit what it finds for it."""
    experiment = Fake("abc")
    plan = plan_of(experiment, tmp_path)
    pack_of(tmp_path, experiment, "abc")
    with Heart(tmp_path / "fake").beating() as other:
        assert claims.claim(plan.folder(Trial("b")), other, Observer(tmp_path / "fake")) == 1
        beside(experiment, tmp_path, 9)
    assert experiment.ran == ["abc"]
    assert statuses(tmp_path) == dict.fromkeys("ac", "DONE")
    assert packs_in(tmp_path) == []
    assert not (plan.folder(Trial("b")) / "attempt-1").exists()


def test_a_pack_that_others_have_finished_meanwhile_is_no_more(tmp_path, beside, caplog):
    """Whoever has it on their list makes nothing of it, and nobody is alarmed."""
    theirs = Fake("abcd")
    ours = Fake("abcd", beside_the_first(lambda: beside(theirs, tmp_path, 9)))
    for pair in ("ab", "cd"):
        pack_of(tmp_path, ours, pair)
    work(ours, tmp_path)
    assert sorted(ours.ran + theirs.ran) == ["ab", "cd"]
    assert len(ours.ran) == 1
    assert packs_in(tmp_path) == []
    assert caplog.records == []
    assert {row["attempts"] for row in rows_of(tmp_path).values()} == {1}


def test_a_pack_that_others_have_split_meanwhile_is_no_more(tmp_path, beside, caplog):
    def spoilt(together):
        if len(together) == 4:
            raise MemoryError
        raise KeyboardInterrupt  # and it ends with the first half

    def theirs_ends():
        with pytest.raises(KeyboardInterrupt):
            beside(theirs, tmp_path, 9)

    theirs = Fake("abcdefgh", spoilt)
    ours = Fake("abcdefgh", beside_the_first(theirs_ends))
    for four in ("abcd", "efgh"):
        pack_of(tmp_path, ours, four)
    work(ours, tmp_path)
    split = theirs.ran[0]
    assert ours.ran[0] == {"abcd": "efgh", "efgh": "abcd"}[split]
    assert sorted(ours.ran[1:]) == [split[:2], split[2:]]
    assert packs_in(tmp_path) == []
    assert caplog.records == []


def test_what_others_have_taken_since_is_not_given_back(tmp_path, monkeypatch):
    """A pack that was split is free before its worker has come to an end with it."""
    experiment = Fake("abcd", lambda together: interruption.request() or 1 / 0)
    plan, taken = plan_of(experiment, tmp_path), {}
    with Heart(tmp_path / "fake").beating() as other, monkeypatch.context() as patch:
        split = pack_attempt._split

        def and_taken(*arguments):
            split(*arguments)
            for name in "abcd":
                folder = plan.folder(Trial(name))
                taken[name] = claims.claim(folder, other, Observer(tmp_path / "fake"))

        patch.setattr(pack_attempt, "_split", and_taken)
        with pytest.raises(KeyboardInterrupt):
            work(experiment, tmp_path)
        assert taken == dict.fromkeys("abcd", 1)
        for name in "abcd":
            observer = Observer(tmp_path / "fake")
            assert observer.holder(plan.folder(Trial(name))) == other.name


class Robbed(Fake):
    """An experiment whose first pack is taken from its worker, which lives, when it has begun.

    Args:
        rob: takes the pack in a folder.
        then: what its worker does next.
    """

    def __init__(self, names, rob, then):
        super().__init__(names)
        self.rob, self.then = rob, then

    def run_pack(self, trials, folder, memory):
        if self.ran:
            yield from super().run_pack(trials, folder, memory)
            return
        names = "".join(trial.name for trial in trials)
        self.ran.append(names)
        yield News({n: [{"step": 1}] for n in range(len(names))}, {})
        self.rob(folder.parent)
        yield from self.then(names)


def finds_late(names):
    yield News({}, {n: {"by": "the robbed"} for n in range(len(names))})


def writes_late(names):
    yield News({n: [{"step": 2}] for n in range(len(names))}, {})


def fails_late(names):
    raise ZeroDivisionError
    yield


def asks_at_a_boundary(names):
    with interruption.at_boundaries() as interrupted:
        while not interrupted():
            time.sleep(0.005)
        raise KeyboardInterrupt
    yield


LATE = [finds_late, writes_late, fails_late]


def alive_but(first: str):
    """What an observer sees for whom the first worker is dead."""
    is_alive = Observer.is_alive
    return lambda self, name: name != first and is_alive(self, name)


@pytest.mark.parametrize("then", [*LATE, asks_at_a_boundary], ids=lambda then: then.__name__)
def test_a_robbed_worker_stops_and_changes_nothing(tmp_path, monkeypatch, capfd, then):
    """It was suspended, say; whoever took the pack is still at it."""
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.01)
    root, before = tmp_path / "fake", {}
    with Heart(root).beating() as robber:

        def rob(folder):
            first = json.loads((folder / "claim-1").read_text())["worker"]
            with monkeypatch.context() as patch:
                patch.setattr(Observer, "is_alive", alive_but(first))
                for path in (folder, *(plan.folder(Trial(name)) for name in "abcd")):
                    claims.adopt(path, claims.claim(path, robber, Observer(root)))
            before.update(content(tmp_path))

        experiment = Robbed("abcdef", rob, then)
        plan = plan_of(experiment, tmp_path)

        def committed(seconds):
            """The robber comes to its end while the robbed one waits."""
            ours = {k: v for k, v in content(tmp_path).items() if k in before}
            assert ours == before
            assert statuses(tmp_path) == dict.fromkeys("ef", "DONE")
            raise Idle

        monkeypatch.setattr(worker.time, "sleep", committed)
        with pytest.raises(Idle):
            work(experiment, tmp_path, pack=4)
    assert experiment.ran == ["abcd", "ef"], "it goes on with what is left"
    assert capfd.readouterr().err.endswith("was taken over by another worker\n")
    assert not interruption.requested()


@pytest.mark.parametrize("then", LATE, ids=lambda then: then.__name__)
def test_a_robbed_worker_that_has_not_noticed_comes_too_late(
    tmp_path, monkeypatch, beside, capfd, caplog, then
):
    """Whoever took the pack has finished it."""
    after = {}

    def rob(folder):
        first = json.loads((folder / "claim-1").read_text())["worker"]
        with monkeypatch.context() as patch:
            patch.setattr(Observer, "is_alive", alive_but(first))
            beside(Fake("abcd"), tmp_path, 1)
        after.update(content(tmp_path))

    experiment = Robbed("abcd", rob, then)
    work(experiment, tmp_path)
    assert experiment.ran == ["abcd"]
    assert content(tmp_path) == after
    assert {name: row["metrics"] for name, row in rows_of(tmp_path).items()} == {
        name: {"of": name} for name in "abcd"
    }
    assert {row["attempts"] for row in rows_of(tmp_path).values()} == {2}
    assert packs_in(tmp_path) == []
    told = "was taken over by another worker" in capfd.readouterr().err
    assert told == (then is not finds_late), "who comes to the same end has nothing to say"
    assert caplog.records == []


def test_a_worker_whose_launcher_is_gone_takes_no_new_pack(tmp_path, monkeypatch):
    experiment = Fake("abcd")
    monkeypatch.setenv("SEQLAB_LAUNCHER", str(os.getppid() + 1))
    work(experiment, tmp_path, pack=2)
    assert experiment.ran == []
    assert content(tmp_path) == {}
