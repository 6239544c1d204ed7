"""An attempt at a pack of made-up trials: whatever befalls it, its trials end well."""

import errno
import json
import time

import jax
import numpy as np
import pytest
from fake_packs import (
    Fake,
    bisected,
    content,
    held,
    interrupt,
    names_in,
    packs_in,
    plan_of,
    rows_of,
    statuses,
    work,
)

from seqlab import results
from seqlab.checkpoint import CheckpointError
from seqlab.errors import Changed, InputError
from seqlab.history import Diverged
from seqlab.launch import claims, pack_attempt, packing, provenance, worker
from seqlab.launch.plan import Plan
from seqlab.launch.worker import DiskFull, Terms
from seqlab.pack_log import News

pytestmark = pytest.mark.usefixtures("alarm")

# A pack that ends well


def test_every_trial_of_a_pack_has_a_result_of_its_own(tmp_path, capfd):
    experiment = Fake("abcdefg")
    work(experiment, tmp_path, pack=3)
    assert experiment.ran == ["abc", "def", "g"]
    rows = rows_of(tmp_path)
    assert list(sorted(rows)) == list("abcdefg")
    names = {}
    for name, row in rows.items():
        assert (row["status"], row["metrics"], row["attempts"]) == ("DONE", {"of": name}, 1)
        assert "passing" not in row
        names.setdefault(row["provenance"].get("pack"), []).append(name)
        folder = tmp_path / "fake" / row["trial_id"]
        kept = {p.relative_to(folder).as_posix() for p in folder.rglob("*")}
        log = {"attempt-1/log.jsonl"} - ({"attempt-1/log.jsonl"} if name == "g" else set())
        assert kept == {"attempt-1", "attempt-1/origin.json", "claim-1", "result.json"} | log
        for path in log:
            assert json.loads((folder / path).read_text()) == {"step": 1, "of": name}
    assert sorted(map(sorted, names.values())) == [list("abc"), list("def"), ["g"]]
    assert names[None] == ["g"]
    sizes = {row["provenance"].get("pack_members") for row in rows.values()}
    assert sizes == {3, None}
    assert packs_in(tmp_path) == []
    assert capfd.readouterr() == ("", "")
    before = content(tmp_path)
    work(experiment, tmp_path, pack=2)
    assert len(experiment.ran) == 3
    assert content(tmp_path) == before


def test_an_experiment_without_packs_has_none(tmp_path):
    class Plain(Fake):
        run_pack = property()  # it has no such attribute

    experiment = Plain("abc")
    assert packing.packable(experiment) is None
    work(experiment, tmp_path)
    assert experiment.ran == ["a", "b", "c"]
    assert packs_in(tmp_path) == []


def test_seconds_of_a_pack_are_not_counted_once_a_member(tmp_path):
    """Of what a worker has spent, each trial has a share."""

    class Slow(Fake):
        def run_pack(self, trials, folder, memory):
            time.sleep(0.2)
            yield News({n: [] for n in range(4)}, {0: {}})
            time.sleep(0.3)
            yield News({n: [] for n in range(1, 4)}, {1: {}, 2: {}, 3: {}})

    began = time.perf_counter()
    work(Slow("abcd"), tmp_path)
    taken = time.perf_counter() - began
    seconds = {name: row["wall_seconds"] for name, row in rows_of(tmp_path).items()}
    assert 0.49 < sum(seconds.values()) < taken
    assert seconds["a"] == pytest.approx(0.2 / 4, abs=0.04)
    assert seconds["b"] == pytest.approx(0.2 / 4 + 0.3 / 3, abs=0.04)


ENDS = {
    "nan": ({"nll": float("nan")}, "FAILED", "metric nll is nan"),
    "array": ({"nll": np.float32(1.0)}, "FAILED", "metric nll is"),
    "divergence": (Diverged(17), "DIVERGED", "the loss is not finite at step 17"),
}


@pytest.mark.parametrize(("found", "status", "reason"), ENDS.values(), ids=ENDS.keys())
def test_a_members_own_trouble_is_its_own(tmp_path, capfd, found, status, reason):
    experiment = Fake("abcd")
    experiment.found["c"] = found
    work(experiment, tmp_path)
    assert experiment.ran == ["abcd"]
    assert statuses(tmp_path) == dict.fromkeys("abcd", "DONE") | {"c": status}
    row = rows_of(tmp_path)["c"]
    assert reason in row["error"]
    assert row["provenance"]["pack_members"] == 4
    assert row["metrics"] == ({"diverged_at_step": 17} if status == "DIVERGED" else {})
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"{row['trial_id']} {status}: ")
    assert packs_in(tmp_path) == []


# Trouble that is not known to be anybody's


TROUBLE = {
    "bug": (ZeroDivisionError("a bug"), "FAILED", 1),
    "input": (InputError("no file"), "FAILED", 1),
    "memory": (MemoryError("the host"), "OOM", 1),
    "device memory": (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: memory"), "OOM", 1),
    "device": (jax.errors.JaxRuntimeError("INTERNAL: lost"), "FAILED", 2),  # it may pass
    "file system": (OSError(errno.EIO, "stale"), "FAILED", 2),
    "gone": (FileNotFoundError(2, "none", "x.txt"), "FAILED", 2),
}


@pytest.mark.parametrize("names", ["ab", "abcdefg"])
@pytest.mark.parametrize(("error", "status", "times"), TROUBLE.values(), ids=TROUBLE.keys())
def test_who_spoils_every_pack_is_found_by_halving(tmp_path, capfd, names, error, status, times):
    for bad in names:
        root = tmp_path / bad

        def spoil(together, bad=bad):
            if bad in together:
                raise error

        experiment = Fake(names, spoil)
        work(experiment, root, attempts=2)
        assert statuses(root) == dict.fromkeys(names, "DONE") | {bad: status}
        row = rows_of(root)[bad]
        assert str(error) in row["error"]
        assert "pack" not in row["provenance"]
        expected = bisected(names, lambda together, bad=bad: bad in together)
        assert sorted(experiment.ran) == sorted(expected + [bad] * (times - 1))
        attempts = {name: row["attempts"] for name, row in rows_of(root).items()}
        assert attempts == dict.fromkeys(names, 1) | {bad: times}
        assert packs_in(root) == []
        said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("pack ")]
        assert len(said) == sum(bad in together and together != bad for together in expected)
        assert all("is split in two: " in line and str(error) in line for line in said)


@pytest.mark.parametrize("fit", [1, 2, 3, 4, 6])
def test_packs_that_are_too_large_for_memory_are_halved_until_they_fit(tmp_path, fit):
    names = "abcdefghijklm"

    def too_large(together):
        if len(together) > fit:
            raise MemoryError(f"{len(together)} members")

    experiment = Fake(names, too_large)
    work(experiment, tmp_path)
    assert statuses(tmp_path) == dict.fromkeys(names, "DONE")
    assert sorted(experiment.ran) == sorted(bisected(names, lambda some: len(some) > fit))
    assert {row["attempts"] for row in rows_of(tmp_path).values()} == {1}
    assert packs_in(tmp_path) == []


def test_trouble_of_everybody_is_everybodys(tmp_path):
    def spoil(together):
        raise ZeroDivisionError(f"in {together}")

    experiment = Fake("abcde", spoil)
    work(experiment, tmp_path)
    assert sorted(experiment.ran) == sorted(bisected("abcde", lambda some: True))
    for name, row in rows_of(tmp_path).items():
        assert row["status"] == "FAILED"
        assert row["error"].endswith(f"ZeroDivisionError: in {name}\n")
    assert packs_in(tmp_path) == []


def test_what_members_had_found_before_the_trouble_is_theirs(tmp_path):
    """They are not run again; their places in the halves are empty."""

    class Late(Fake):
        def run_pack(self, trials, folder, memory):
            names = "".join(trial.name for trial in trials)
            self.ran.append(names)
            places = {name: n for n, name in enumerate(names)}
            ended = {places[name]: {"in": names} for name in "af" if name in places}
            yield News({n: [{"step": 1}] for n in places.values()}, ended)
            if len(names) > 3:
                raise ZeroDivisionError
            yield News({}, {n: {"in": names} for n in places.values() if n not in ended})

    experiment = Late("abcdef")
    work(experiment, tmp_path)
    found = {name: row["metrics"]["in"] for name, row in rows_of(tmp_path).items()}
    assert found == {**dict.fromkeys("af", "abcdef"), **dict.fromkeys("bc", "abc")} | (
        dict.fromkeys("de", "def")
    )
    assert {row["attempts"] for row in rows_of(tmp_path).values()} == {1}
    assert packs_in(tmp_path) == []


def test_damaged_checkpoints_fail_a_packs_trials_until_they_are_retried(tmp_path):
    def damaged(together):
        if not experiment.ran[1:]:
            raise CheckpointError("all are damaged")

    experiment = Fake("abc", damaged)
    work(experiment, tmp_path)
    assert experiment.ran == ["abc"]
    for row in rows_of(tmp_path).values():
        assert row["status"] == "FAILED"
        assert row["error"] == "all are damaged; --retry-failed begins anew"
    assert packs_in(tmp_path) == []
    plan = plan_of(experiment, tmp_path)
    plan.forget([trial for trial, _ in plan.known().values()])
    work(experiment, tmp_path)
    assert experiment.ran == ["abc", "abc"]
    assert statuses(tmp_path) == dict.fromkeys("abc", "DONE")
    assert packs_in(tmp_path) == []


def test_data_that_changed_are_refused_and_a_pack_is_given_back(tmp_path):
    def changed(together):
        raise Changed("the data have changed")

    experiment = Fake("abc", changed)
    for _ in range(2):
        with pytest.raises(Changed):
            work(experiment, tmp_path)
        assert held(tmp_path) == []
        assert names_in(tmp_path, experiment) == ["abc"]
    experiment.trouble = lambda together: None
    work(experiment, tmp_path)
    assert {row["attempts"] for row in rows_of(tmp_path).values()} == {1}


def test_a_pack_that_other_code_began_is_refused_until_it_is_allowed(tmp_path):
    source = tmp_path / "source.py"
    experiment = Fake("abc", interrupt)

    def attempt(content, **terms):
        source.write_text(content)
        provenance.here.cache_clear()
        provenance.code.cache_clear()
        plan = Plan("fake", experiment, experiment.trials("smoke"), tmp_path / "results", source)
        worker.work(plan, terms=Terms(pack=9, **terms))

    with pytest.raises(KeyboardInterrupt):
        attempt("then = 1")
    experiment.trouble = lambda together: None
    for _ in range(2):
        with pytest.raises(Changed):
            attempt("now = 2")
        assert held(tmp_path / "results") == []
    assert len(experiment.ran) == 1
    attempt("now = 2", allow_changes=True)
    assert statuses(tmp_path / "results") == dict.fromkeys("abc", "DONE")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize(
    ("module", "where"),
    [
        (None, "training"),
        (results, "commit"),
        (results, "create"),
        (claims, "claim"),
        (claims, "adopt"),
        (packing, "_make"),
        (pack_attempt.history, "write"),
        (pack_attempt.provenance, "begin"),
    ],
)
def test_a_full_disk_ends_the_worker_and_all_is_given_back(
    tmp_path, monkeypatch, module, where, number
):
    def full(*_):
        raise OSError(number, "no room")

    experiment = Fake("abcd", full if module is None else lambda together: None)
    with monkeypatch.context() as patch:
        if module is not None:
            patch.setattr(module, where, full)
        with pytest.raises(DiskFull, match=r"^disk full: no room for results") as error:
            work(experiment, tmp_path, pack=2)
    assert "\n" not in str(error.value)
    assert "cd" not in experiment.ran
    assert rows_of(tmp_path) == {}
    assert held(tmp_path) == []
    experiment.trouble = lambda together: None
    work(experiment, tmp_path, pack=2)
    assert statuses(tmp_path) == dict.fromkeys("abcd", "DONE")
    assert {row["attempts"] for row in rows_of(tmp_path).values()} == {1}
    assert packs_in(tmp_path) == []
