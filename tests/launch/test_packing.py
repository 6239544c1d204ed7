"""Which trials make a pack, and its folder in the results directory."""

import itertools
import math
from collections import Counter

import jax
import pytest
from fake_packs import (
    Fake,
    Trial,
    content,
    names_in,
    pack_of,
    packs_in,
    plan_of,
    rows_of,
    statuses,
    work,
)
from fake_trials import put_deaths

from experiments import mut_vs_lstm_gru as mut
from seqlab import checkpoint, results
from seqlab.launch import packing
from seqlab.trial import BUDGETS, replace, trial_id

pytestmark = pytest.mark.usefixtures("alarm")

EVERY = mut.trials("paper")


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
