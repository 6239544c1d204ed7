"""Packs in the results directory, on made-up trials: whatever befalls one, its trials end well.

`ran` says what was run: the trials of a pack by their letters, a trial alone by its own.
"""

import contextlib
import errno
import gc
import itertools
import json
import math
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import mut_vs_lstm_gru as mut
from seqlab import checkpoint, interruption, results
from seqlab.checkpoint import CheckpointError
from seqlab.errors import Changed, InputError
from seqlab.history import Diverged
from seqlab.launch import claims, pack_attempt, packing, provenance, worker
from seqlab.launch.claims import Heart, Observer
from seqlab.launch.plan import Plan
from seqlab.launch.worker import DiskFull, Terms
from seqlab.pack_log import News
from seqlab.trial import BUDGETS, replace, trial_id

EVERY = mut.trials("paper")


@dataclass(frozen=True)
class Trial:
    name: str
    shape: int = 0
    rate: float | None = None


class Fake:
    """An experiment of which trials differ in their names, and packs do what a test says."""

    __name__ = "fake"
    ALONE = False
    VARIES = ("name", "rate")
    COST_ALIKE = ()

    def __init__(self, names: str, trouble: Callable[[str], object] = lambda names: None):
        self.named = [Trial(name) for name in names]
        self.trouble = trouble
        self.found: dict[str, dict | Exception] = {}
        self.ran: list[str] = []
        self.is_dead = False

    def trials(self, budget):
        return self.named

    def run(self, trial, folder):
        self.ran.append(trial.name)
        self.trouble(trial.name)
        found = self.found.get(trial.name, {"of": trial.name})
        if isinstance(found, Exception):
            raise found
        return found

    def run_pack(self, trials, folder, memory):
        names = "".join(trial.name for trial in trials)
        self.ran.append(names)
        self.trouble(names)
        yield News(
            {n: [{"step": 1, "of": name}] for n, name in enumerate(names)},
            {n: self.found.get(name, {"of": name}) for n, name in enumerate(names)},
        )

    def table(self, rows):
        raise NotImplementedError

    def check(self, trial):
        pass

    def follow_up(self, trials, finished):
        return []


class Killed(BaseException):
    """The process is no more: whoever catches this is not the product."""


def plan_of(experiment: Fake, root: Path) -> Plan:
    return Plan("fake", experiment, experiment.trials("smoke"), root)


def work(experiment: Fake, root: Path, pack: int | None = 99, **terms) -> None:
    """As a new process would."""
    worker.work(plan_of(experiment, root), terms=Terms(pack=pack, **terms))


def rows_of(root: Path) -> dict[str, dict]:
    rows = {row["config"]["name"]: row for row in results.rows(root, "fake")}
    assert len(rows) == len(list((root / "fake").glob("*/result.json*")))
    return rows


def statuses(root: Path) -> dict[str, str]:
    return {name: row["status"] for name, row in rows_of(root).items()}


def packs_in(root: Path) -> list[Path]:
    """All that there is of packs, in whatever state."""
    there = root / "fake" / packing.PACKS
    return sorted(there.iterdir()) if there.exists() else []


def pack_of(root: Path, experiment: Fake, names: str) -> Path:
    """A pack that somebody has begun."""
    return packing.begin(plan_of(experiment, root), [Trial(name) for name in names])


def names_in(root: Path, experiment: Fake) -> list[str]:
    plan = plan_of(experiment, root)
    packs = packing.begun(plan, plan.known())
    return sorted("".join(trial.name for trial in pack.trials) for pack in packs)


def put_deaths(folder: Path, *steps: int | None) -> None:
    """Earlier attempts whose processes died, by the checkpoints that they started from."""
    folder.mkdir(parents=True, exist_ok=True)
    for attempt, step in enumerate(steps, start=1):
        claim = {"worker": "dead", "step": step}
        (folder / f"claim-{attempt}").write_text(json.dumps(claim))


def held(root: Path) -> list[str]:
    """Claims on what has no result."""
    return [
        path.as_posix()
        for path in (root / "fake").rglob("claim-*")
        if not (path.parent / "result.json").exists()
    ]


def content(root: Path) -> dict[str, bytes]:
    """All files but those of workers."""
    files = (p for p in root.rglob("*") if p.is_file() and claims.WORKERS not in p.parts)
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in files}


def bisected(names: str, fails: Callable[[str], bool]) -> list[str]:
    """What is run: whatever fails once, and then its halves."""
    if not fails(names) or len(names) == 1:
        return [names]
    half = len(names) // 2
    return [names, *bisected(names[:half], fails), *bisected(names[half:], fails)]


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


# Which trials


@pytest.mark.parametrize("budget", BUDGETS)
def test_trials_of_one_program_and_only_these_are_of_one_shape(budget):
    """The program, as the fields that `run` makes it of; and the stream and the schedule."""

    def program(trial):
        without = trial.optim.dropout_rate is None
        what = trial.budget, trial.task, trial.data, trial.model, trial.train
        return *what, trial.optim.optimizer, without

    trials = mut.trials(budget)
    expected = {}
    for number, trial in enumerate(trials):
        expected.setdefault(program(trial), []).append(number)
    groups = packing.by_shape(trials, mut.VARIES)
    place = {trial_id(trial): number for number, trial in enumerate(trials)}
    assert [[place[trial_id(t)] for t in group] for group in groups] == list(expected.values())
    if budget == "paper":
        assert (len(trials), len(groups)) == (1800, 490)


@pytest.mark.parametrize("path", mut.VARIES)
def test_what_varies_does_not_part_trials(path):
    other = {"stage": "seeds"}.get(path, 7)
    pair = [EVERY[0], replace(EVERY[0], {path: other})]
    if path == "optim.dropout_rate":
        pair[0] = replace(EVERY[0], {path: 0.5})
    assert pair[0] != pair[1]
    assert packing.by_shape(pair, mut.VARIES) == [pair]


OTHERS = {
    "optim.dropout_rate": 0.0,  # a network without dropout is another program than one with none
    "optim.optimizer": "adam",
    "model.cell": "gru",
    "model.num_layers": 9,
    "model.parameter_budget": 123_456,
    "train.unroll": 7,
    "train.steps_per_epoch": 3,
    "train.schedule.max_epochs": 9,
    "task": "another",
    "budget": "another",
}


@pytest.mark.parametrize("path", OTHERS)
def test_all_else_parts_trials(path):
    one, other = EVERY[0], replace(EVERY[0], {path: OTHERS[path]})
    assert packing.by_shape([one, other, one], mut.VARIES) == [[one, one], [other]]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_packs_hold_every_trial_once_and_no_more_than_fit(size):
    shapes = [0, 1, 0, 0, 2, 1, 0, 0, 0, 1]
    trials = [Trial(str(n), shape) for n, shape in enumerate(shapes)]
    asked = []

    def most(group):
        asked.append(group)
        return size

    packs = [pack.trials for pack in packing.formed(trials, Fake.VARIES, most)]
    counts = Counter(shapes)
    assert asked == [[t for t in trials if t.shape == shape] for shape in (0, 1, 2)]
    assert [t for group in asked for t in group] == list(itertools.chain(*packs))
    assert len(packs) == sum(math.ceil(count / size) for count in counts.values())
    assert max(map(len, packs)) <= size
    assert all(len({t.shape for t in pack}) == 1 for pack in packs)


def test_as_many_as_fit_where_no_number_is_asked_for(tmp_path, monkeypatch):
    asked = []

    def predicted(experiment, trials, memory):
        asked.append(("".join(t.name for t in trials), memory))
        return 3

    monkeypatch.setattr(packing, "predicted_size", predicted)
    experiment = Fake("abcdefgh")
    work(experiment, tmp_path, pack=None, memory=1000)
    memory = 1000 * jax.local_device_count()
    assert asked == [("abcdefgh", memory), ("defgh", memory), ("gh", memory)]
    assert experiment.ran == ["abc", "def", "gh"]


# The folder of a pack


def test_whoever_begins_a_pack_twice_has_begun_one(tmp_path):
    experiment = Fake("abc")
    folder = pack_of(tmp_path, experiment, "abc")
    put_deaths(folder, None)
    before = content(tmp_path)
    assert pack_of(tmp_path, experiment, "abc") == folder
    assert content(tmp_path) == before
    assert packs_in(tmp_path) == [folder]
    other = pack_of(tmp_path, experiment, "acb")
    assert packs_in(tmp_path) == sorted([folder, other])
    assert names_in(tmp_path, experiment) == ["abc", "acb"]


def test_discarding_leaves_nothing_and_may_come_too_late(tmp_path):
    experiment = Fake("abc")
    folder, other = pack_of(tmp_path, experiment, "ab"), pack_of(tmp_path, experiment, "ac")
    checkpoint.save(folder / "attempt-1" / "checkpoints", 1, {"x": 1})
    put_deaths(folder, None, None)
    for _ in range(2):
        packing.discard(folder)
        assert packs_in(tmp_path) == [other]
    assert packing.begin(plan_of(experiment, tmp_path), [Trial("a"), Trial("b")]) == folder
    assert [p.name for p in folder.iterdir()] == ["members.json"]


@pytest.mark.parametrize("names", ["ab", "abc", "abcdefg"])
@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_split_that_somebody_died_in_is_completed(tmp_path, names, done):
    """Its marker was there, and as many of the halves."""
    experiment = Fake(names)
    folder = pack_of(tmp_path, experiment, names)
    put_deaths(folder, None)
    results.create(folder / packing.SPLIT, "")
    halves = [names[: len(names) // 2], names[len(names) // 2 :]]
    for half in halves[:done]:
        pack_of(tmp_path, experiment, half)
    for _ in range(2):
        assert names_in(tmp_path, experiment) == sorted(halves)
        assert len(packs_in(tmp_path)) == 2
    work(experiment, tmp_path)
    assert sorted(experiment.ran) == sorted(halves)
    assert packs_in(tmp_path) == []


def test_a_pack_of_one_is_not_split(tmp_path):
    experiment = Fake("a")
    folder = pack_of(tmp_path, experiment, "a")
    before = content(tmp_path)
    packing.split(folder)
    packing.split(folder.with_name("0" * 16))
    assert content(tmp_path) == before
    work(experiment, tmp_path, pack=1)
    assert packs_in(tmp_path) == []


def test_every_bit_of_a_packs_members_counts(tmp_path, caplog):
    """Flipped, the pack is no more, and somebody is told; its trials begin anew."""
    experiment = Fake("ab")
    plan = plan_of(experiment, tmp_path)
    known = plan.known()
    whole = (pack_of(tmp_path, experiment, "ab") / packing.MEMBERS).read_bytes()
    for bit in range(8 * len(whole)):
        folder = pack_of(tmp_path, experiment, "ab")
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        (folder / packing.MEMBERS).write_bytes(damaged)
        caplog.clear()
        assert packing.begun(plan, known) == []
        (line,) = [record.getMessage() for record in caplog.records]
        assert str(folder / packing.MEMBERS) in line
        assert "begin anew" in line
        assert packs_in(tmp_path) == []


@pytest.mark.parametrize("damage", [None, b"", b"[]", b'["\xff"]'])
def test_trials_of_a_damaged_pack_are_run(tmp_path, caplog, damage):
    experiment = Fake("abcd")
    path = pack_of(tmp_path, experiment, "abcd") / packing.MEMBERS
    put_deaths(path.parent, None)
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    work(experiment, tmp_path, pack=2)
    assert experiment.ran == ["ab", "cd"]
    assert len(caplog.records) == 1
    assert packs_in(tmp_path) == []
    assert set(statuses(tmp_path)) == set("abcd")


def test_packs_of_other_plans_are_left_alone(tmp_path):
    everything, few = Fake("abcd"), Fake("ab")
    folder = pack_of(tmp_path, everything, "abcd")
    before = content(folder)
    work(few, tmp_path)
    assert few.ran == ["ab"]
    assert packs_in(tmp_path) == [folder]
    assert content(folder) == before
    work(everything, tmp_path)
    assert everything.ran == ["abcd"], "what it has saved is not to be lost"
    assert packs_in(tmp_path) == []
    assert {name: row["attempts"] for name, row in rows_of(tmp_path).items()} == dict.fromkeys(
        "abcd", 1
    )


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


# Interruptions and deaths


def interrupt(together):
    raise KeyboardInterrupt


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
