"""Packs that were interrupted, and packs whose process died."""

import errno
import gc
import itertools
from collections import Counter
from pathlib import Path

import pytest
from fake_packs import (
    Fake,
    Killed,
    Trial,
    bisected,
    held,
    interrupt,
    names_in,
    pack_of,
    packs_in,
    plan_of,
    rows_of,
    statuses,
    work,
)
from fake_trials import put_deaths

from seqlab import checkpoint, interruption
from seqlab.launch import claims, pack_attempt

pytestmark = pytest.mark.usefixtures("alarm")

# Interruptions and deaths


def test_an_interrupted_pack_goes_on_as_a_pack_however_small_packs_are_now(tmp_path):
    experiment = Fake("abcd", interrupt)
    for pack in (4, 1, 2, None):
        with pytest.raises(KeyboardInterrupt):
            work(experiment, tmp_path, pack)
        assert held(tmp_path) == []
        assert names_in(tmp_path, experiment) == ["abcd"]
    experiment.trouble = lambda together: None
    work(experiment, tmp_path, pack=1)
    assert experiment.ran == ["abcd"] * 5
    rows = rows_of(tmp_path)
    assert {row["attempts"] for row in rows.values()} == {1}
    assert {row["provenance"]["pack_members"] for row in rows.values()} == {4}


def test_what_was_begun_alone_goes_on_alone(tmp_path):
    """If anything of it was saved."""
    experiment = Fake("abcdef", interrupt)
    plan = plan_of(experiment, tmp_path)
    for name in "be":
        folder = plan.folder(Trial(name)) / "attempt-0"
        folder.mkdir(parents=True)
        if name == "e":
            (folder / "checkpoints" / "7").mkdir(parents=True)
    experiment.trouble = lambda together: None
    work(experiment, tmp_path)
    assert experiment.ran == ["e", "abcdf"]


def test_a_signal_that_comes_when_all_is_done_is_heard_after_the_commit(tmp_path):
    experiment = Fake("abcd", lambda together: interruption.request())
    with pytest.raises(KeyboardInterrupt):
        work(experiment, tmp_path, pack=2)
    assert experiment.ran == ["ab"]
    assert statuses(tmp_path) == dict.fromkeys("ab", "DONE")
    assert packs_in(tmp_path) == []
    assert held(tmp_path) == []


def test_a_signal_is_heard_at_once_when_a_pack_has_come_to_grief(tmp_path, monkeypatch):
    """A pack that is not trained on asks at no boundary any more."""

    class Training(Fake):
        def run_pack(self, trials, folder, memory):
            with interruption.at_boundaries():
                yield from super().run_pack(trials, folder, memory)

    def lost(*_):
        raise OSError(errno.EIO, "lost")

    with monkeypatch.context() as patch:
        patch.setattr(pack_attempt.history, "write", lost)
        gc.disable()
        try:
            work(Training("ab"), tmp_path)
            assert not interruption._looking
        finally:
            gc.enable()


def dying(experiment: Fake, root: Path, monkeypatch, **terms) -> int:
    """One process after the other until nothing is missing; how many died."""
    give_back = claims.give_back

    def unless_dead(folder, attempt):
        if not experiment.is_dead:
            give_back(folder, attempt)

    monkeypatch.setattr(claims, "give_back", unless_dead)
    for deaths in itertools.count():
        experiment.is_dead = False
        try:
            work(experiment, root, **terms)
        except Killed:
            continue
        return deaths


def kills(experiment: Fake):
    experiment.is_dead = True  # it gives nothing back
    raise Killed


@pytest.mark.parametrize("attempts", [1, 2, 3])
@pytest.mark.parametrize("bad", ["a", "c", "e"])
def test_who_kills_its_process_is_found_and_given_up(tmp_path, monkeypatch, capfd, attempts, bad):
    names = "abcde"
    experiment = Fake(names, lambda together: kills(experiment) if bad in together else None)
    deaths = dying(experiment, tmp_path, monkeypatch, attempts=attempts)
    fatal = [some for some in bisected(names, lambda some: bad in some) if bad in some]
    assert fatal[0] == names
    assert fatal[-1] == bad
    assert deaths == attempts * len(fatal)
    assert Counter(some for some in experiment.ran if bad in some) == dict.fromkeys(fatal, attempts)
    assert statuses(tmp_path) == dict.fromkeys(names, "DONE") | {bad: "FAILED"}
    rows = rows_of(tmp_path)
    assert {name: row["attempts"] for name, row in rows.items()} == (
        dict.fromkeys(names, 1) | {bad: attempts}
    )
    assert rows[bad]["error"].startswith("its process died\n")
    assert f"FAILED after {attempts} attempts" in rows[bad]["error"]
    assert capfd.readouterr().err.count("is split in two: its process died") == len(fatal) - 1
    assert packs_in(tmp_path) == []


def test_a_process_that_dies_once_is_forgiven(tmp_path, monkeypatch):
    experiment = Fake("abc", lambda together: None if experiment.ran[1:] else kills(experiment))
    assert dying(experiment, tmp_path, monkeypatch, attempts=2) == 1
    assert experiment.ran == ["abc", "abc"]
    assert {row["attempts"] for row in rows_of(tmp_path).values()} == {2}
    assert packs_in(tmp_path) == []


def test_deaths_between_which_a_checkpoint_was_saved_split_nothing(tmp_path, monkeypatch):
    class Long(Fake):
        def run_pack(self, trials, folder, memory):
            step = checkpoint.latest_step(folder / "checkpoints") or 0
            if step < 6:
                (folder / "checkpoints" / str(step + 1)).mkdir(parents=True)
                self.ran.append(step)
                kills(self)
            yield from super().run_pack(trials, folder, memory)

    experiment = Long("abc")
    assert dying(experiment, tmp_path, monkeypatch, attempts=1) == 6
    assert experiment.ran == [0, 1, 2, 3, 4, 5, "abc"]
    assert {row["provenance"]["pack_members"] for row in rows_of(tmp_path).values()} == {3}


@pytest.mark.parametrize(
    ("steps", "whole"),
    [((None, None), True), ((None,) * 3, False), ((None, 5, 5), True), ((5, 5, 5), False)],
)
def test_attempts_at_a_pack_count_since_its_last_checkpoint(tmp_path, steps, whole):
    experiment = Fake("abcd")
    folder = pack_of(tmp_path, experiment, "abcd")
    put_deaths(folder, *steps)
    if 5 in steps:
        (folder / "attempt-3" / "checkpoints" / "5").mkdir(parents=True)
    work(experiment, tmp_path, attempts=3)
    assert sorted(experiment.ran) == (["abcd"] if whole else ["ab", "cd"])
    assert set(statuses(tmp_path).values()) == {"DONE"}


def test_what_befell_a_pack_is_not_held_against_its_trials(tmp_path):
    """Each of them has died as often as the pack has; alone it has all its attempts again."""
    experiment = Fake("ab", lambda together: experiment_fails(together))
    lost = []

    def experiment_fails(together):
        if together == "a" and len(lost) < 2:
            lost.append(together)
            raise OSError(errno.EIO, "lost")

    folder = pack_of(tmp_path, experiment, "ab")
    put_deaths(folder, None, None, None)
    for name in "ab":
        put_deaths(plan_of(experiment, tmp_path).folder(Trial(name)), None, None, None)
    work(experiment, tmp_path, attempts=3)
    assert sorted(experiment.ran) == ["a", "a", "a", "b"]
    assert {name: row["attempts"] for name, row in rows_of(tmp_path).items()} == {"a": 3, "b": 1}
