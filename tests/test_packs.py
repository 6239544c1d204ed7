"""Packs: each member finds what it finds alone, in 64-bit floats, whoever is beside it."""

import itertools
import json
import math
import operator
import os
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab import interruption, packs, train
from seqlab.cells import CELLS
from seqlab.data.stream import Dataset, Stream
from seqlab.errors import InputError
from seqlab.history import Diverged
from seqlab.models.rnn import Stack, dropout, stack, symmetric_uniform
from seqlab.optim import Schedule, Settings
from seqlab.pack_log import member_lines
from seqlab.train import SYMBOLS, Program, TrainConfig

NUM_SYMBOLS, UNITS = 5, 4
BATCH, UNROLL, WINDOWS, STEPS, DISPATCHES = 2, 3, 30, 100, 2

# Some hundred updates of a 64-bit float: what is left of its 1e-16 when sums are added up in
# another order. A member that learnt from another or used another's key is off by 1e-3 and more.
TOLERANCE = 1e-10


class Model(nn.Module):
    """A language model in the default float, which the embedding of Flax is not."""

    stack: Stack

    def initial_carry(self, batch_size):
        return self.stack.initial_carry(batch_size)

    @nn.compact
    def __call__(self, symbols, carry=None, dropout_rate=None):
        init = symmetric_uniform(UNITS)
        xs = self.param("embedding", init, (NUM_SYMBOLS, UNITS), float)[symbols]
        if dropout_rate is not None:
            xs = dropout(self.make_rng("dropout"), dropout_rate, xs)
        carry, ys = self.stack(xs, carry, dropout_rate=dropout_rate)
        return carry, ys @ self.param("head", init, (UNITS, NUM_SYMBOLS), float)


def random_stream(length, seed):
    rng = np.random.default_rng(seed)
    values = np.resize(np.array([0, 1, 0, 2, 0, 3], np.int32), length)
    noise = rng.integers(NUM_SYMBOLS, size=length).astype(np.int32)
    return Stream(np.where(rng.random(length) < 0.3, noise, values), np.ones(length, bool))


PROGRAM = Program(Model(stack(CELLS["rnn"], UNITS, 1)), SYMBOLS, "sgd")
DATASET = Dataset(
    train=random_stream(BATCH * UNROLL * WINDOWS, 0),
    valid=random_stream(47, 1),
    test=random_stream(45, 2),
    symbols=tuple("abcde"),
    channels=NUM_SYMBOLS,
    start=4,
)
CONFIG = TrainConfig(BATCH, UNROLL, STEPS, Schedule(max_epochs=5, patience=1, halvings=1))

# Every setting varies. 0, 1, 2 and 7 stop early, 3 diverges at its second step. No rate is so high
# that training is chaos, where alone, too, a last bit decides about everything.
MEMBERS = [
    Settings(learning_rate=0.5, clip_norm=1.0, init_scale=1.0, dropout_rate=0.1, seed=0),
    Settings(learning_rate=0.0, clip_norm=1.0, init_scale=1.0, dropout_rate=0.1, seed=1),
    Settings(learning_rate=0.0, clip_norm=1.0, init_scale=2.0, dropout_rate=0.1, seed=2),
    Settings(learning_rate=math.inf, clip_norm=1.0, init_scale=1.0, dropout_rate=0.1, seed=3),
    Settings(learning_rate=0.5, clip_norm=0.1, init_scale=1.0, dropout_rate=0.0, seed=0),
    Settings(learning_rate=0.5, clip_norm=1.0, init_scale=2.8, dropout_rate=0.1, seed=0),
    Settings(learning_rate=0.5, clip_norm=1.0, init_scale=1.0, dropout_rate=0.5, seed=0),
    Settings(learning_rate=0.3, clip_norm=5.0, init_scale=1.0, dropout_rate=0.1, seed=9),
]
EVERYBODY = range(len(MEMBERS))


@pytest.fixture(scope="module", autouse=True)
def in_float64():
    # Symbols are int32, and the default integer is now int64.
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        yield


def fit(members, folder=None, config=CONFIG, devices=None):
    settings = [MEMBERS[n] for n in members]
    return ends(packs.fit(PROGRAM, settings, DATASET, config, folder, devices))


def ends(told):
    """What has come of each member in the end, in their order; each ends once."""
    found = [end for news in told for end in news.ended.items()]
    assert len(dict(found)) == len(found)
    return [end for _, end in sorted(found, key=operator.itemgetter(0))]


def fit_alone(n, folder=None):
    try:
        return train.fit(PROGRAM, MEMBERS[n], DATASET, CONFIG, folder)
    except Diverged as error:
        return error


def timeless(values):
    return {name: value for name, value in values.items() if "seconds" not in name}


def log(folder):
    path = folder / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def comparable(result):
    """What a member's result is, but for times and, where sums may differ, the digest."""
    if isinstance(result, Diverged):
        return {"diverged": result.step}
    return {k: v for k, v in timeless(result).items() if k != "params_sha256"}


def exact(results):
    """As `comparable`, to the last bit."""
    return [r.step if isinstance(r, Diverged) else timeless(r) for r in results]


def assert_same(ours, oracle):
    assert comparable(ours) == pytest.approx(comparable(oracle), rel=TOLERANCE, abs=TOLERANCE)


@pytest.fixture(scope="module")
def alone(in_float64, tmp_path_factory):
    """What `train.fit` says of each member, and its log."""
    results = []
    for n in EVERYBODY:
        folder = tmp_path_factory.mktemp(f"alone{n}")
        results.append((fit_alone(n, folder), [timeless(line) for line in log(folder)]))
    return results


@pytest.fixture(scope="module")
def together(in_float64, tmp_path_factory):
    """What a pack of all says, its log, and the size of the program at each dispatch."""
    folder, sizes = tmp_path_factory.mktemp("together"), []
    with pytest.MonkeyPatch.context() as patch:
        steps = packs.train_steps

        def counted(program, settings, *rest):
            sizes.append(len(settings.seed))
            return steps(program, settings, *rest)

        patch.setattr(packs, "train_steps", counted)
        return fit(EVERYBODY, folder), log(folder), sizes


# What a member finds


def test_the_members_are_a_test_of_what_follows(alone):
    """Ends differ, results differ, one diverges not at its first step."""
    results = [result for result, _ in alone]
    assert [n for n, r in enumerate(results) if isinstance(r, Diverged)] == [3]
    assert results[3].step > 0
    done = [r for r in results if not isinstance(r, Diverged)]
    assert len({r["params_sha256"] for r in done}) == len(done)
    nlls = sorted(r["valid_nll"] for r in done)
    assert min(np.diff(nlls)) > 1e3 * TOLERANCE
    assert len({r["epochs"] for r in done}) >= 2
    assert len({r["best_epoch"] for r in done}) >= 2


@pytest.mark.parametrize("n", EVERYBODY)
def test_a_member_finds_what_it_finds_alone(alone, together, n):
    result, lines = alone[n]
    assert_same(together[0][n], result)
    ours = [timeless(line) for line in member_lines(together[1], n)]
    assert len(ours) == len(lines)
    for our, line in zip(ours, lines, strict=True):
        assert our == pytest.approx(line, rel=TOLERANCE, abs=TOLERANCE)


@pytest.mark.parametrize("members", [[7, 3, 5, 0, 2, 6, 1, 4], [5, 3, 0], [6], [3]])
def test_neither_place_nor_company_nor_number_matters(alone, members):
    for n, ours in zip(members, fit(members), strict=True):
        assert_same(ours, alone[n][0])


def test_who_diverges_beside_them_changes_no_bit_of_the_others():
    beside_3 = exact(fit([4, 5, 6, 3]))
    assert isinstance(beside_3[3], int)
    # All others end together: the program has four places to the end.
    assert beside_3[:3] == exact(fit([4, 5, 6, 7]))[:3]


def test_params_are_those_of_a_members_own_end(alone):
    """That the others go on does not show in the digest."""
    assert alone[0][0]["epochs"] < alone[5][0]["epochs"]
    assert exact(fit([0, 5, 5, 5]))[0] == exact(fit([0] * 4))[0]


# The program


@pytest.mark.parametrize("num_devices", [1, 2, 3, 8])
@pytest.mark.parametrize("num_members", [1, 2, 3, 5, 8, 13])
def test_places_hold_all_that_go_on_and_sizes_are_few(num_members, num_devices):
    allowed = {-(-num_members // 2**k) for k in range(5)}
    sizes = set()
    for number in range(1, num_members + 1):
        going = list(range(num_members))[-number:]
        rows = packs.places(going, num_members, num_devices)
        assert rows[:number] == going
        assert set(rows) == set(going)
        holds = min(size for size in allowed if size >= number)
        assert len(rows) == math.ceil(holds / num_devices) * num_devices
        sizes.add(len(rows))
    assert len(sizes) <= math.ceil(math.log2(num_members)) + 1


def test_the_program_shrinks_as_members_end(alone, together):
    """The sizes that follow from when each ends alone."""
    ends = []  # the number of dispatches that each takes
    for result, _ in alone:
        diverged = isinstance(result, Diverged)
        ends.append(result.step // 50 + 1 if diverged else result["steps"] // 50)
    expected = []
    for dispatch in range(max(ends)):
        going = sum(end > dispatch for end in ends)
        expected.append(min(size for size in (8, 4, 2, 1) if size >= going))
    assert together[2] == expected
    assert len(set(expected)) >= 2


def test_shrinking_changes_nothing(alone, monkeypatch):
    def full(going, num_members, num_devices):
        return list(itertools.islice(itertools.cycle(going), num_members))

    monkeypatch.setattr(packs, "places", full)
    for (expected, _), ours in zip(alone, fit(EVERYBODY), strict=True):
        assert_same(ours, expected)


def loops(jaxpr):
    """The length of every loop of a program, in the order of the program."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in ("scan", "while"):
            yield eqn.params.get("length")
        for value in jax.tree.leaves(tuple(eqn.params.values())):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from loops(inner)


def test_members_share_the_loops_of_one():
    split = train.windows(DATASET.train, 4, BATCH, UNROLL)
    one = jax.tree.map(jnp.asarray, MEMBERS[0])
    eight = jax.tree.map(lambda a: jnp.stack([a] * 8), one)
    window = jax.tree.map(lambda a: a[0], split)
    state = jax.eval_shape(lambda s: train.init_state(PROGRAM, s, window), one)
    states = jax.eval_shape(lambda s: packs.init_states(PROGRAM, s, window), eight)

    def lengths(steps, settings, state):
        traced = jax.make_jaxpr(lambda *given: steps(PROGRAM, *given, 50))(settings, state, split)
        return list(loops(traced.jaxpr))

    alone, together = (
        lengths(train.train_steps, one, state),
        lengths(packs.train_steps, eight, states),
    )
    assert together == alone
    assert alone.count(50) == 1
    assert alone.count(UNROLL) == 2  # forward and backward


def test_members_are_spread_over_devices(alone):
    """Eight devices of a CPU, in a process of their own; eight members, and three."""
    # XLA takes the number of devices once a process.
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)]),
    }
    command = [sys.executable, "-c", "import test_packs; test_packs.over_eight_devices()"]
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(run.stdout)
    assert found["rows_a_device"] == [[1] * 8] * 3
    assert found["collectives"] == []
    for members in (list(EVERYBODY), [5, 3, 0]):
        for n, ours in zip(members, found[str(members)], strict=True):
            oracle = comparable(alone[n][0])
            assert ours == pytest.approx(oracle, rel=TOLERANCE, abs=TOLERANCE)


def over_eight_devices():
    """Print what packs find that are spread over eight devices."""
    devices, found, placed = jax.devices(), {}, []
    steps = packs.train_steps

    def watched(program, settings, states, split, count):
        if not placed:
            compiled = steps.lower(program, settings, states, split, count).compile().as_text()
            words = ("all-reduce", "all-gather", "all-to-all", "collective-permute")
            found["collectives"] = [word for word in words if word in compiled]
        states, losses = steps(program, settings, states, split, count)
        leaves = (jax.tree.leaves(states.params)[0], jax.tree.leaves(states.carry)[0], losses)
        placed.append([[len(s.data) for s in leaf.addressable_shards] for leaf in leaves])
        return states, losses

    packs.train_steps = watched
    with jax.enable_x64(True):
        for members in (list(EVERYBODY), [5, 3, 0]):
            found[str(members)] = [comparable(r) for r in fit(members, devices=devices)]
    assert all(rows == placed[0] for rows in placed)
    print(json.dumps(found | {"rows_a_device": placed[0]}))


# Interruptions


INTERRUPTED = [5, 3, 0]  # 3 diverges at once, 0 ends before 5: three sizes


@pytest.fixture(scope="module")
def unbroken(in_float64, tmp_path_factory):
    """What nothing has disturbed, and its log."""
    folder = tmp_path_factory.mktemp("unbroken")
    results = fit(INTERRUPTED, folder)
    return exact(results), [timeless(line) for line in log(folder)]


def test_a_pack_that_stops_at_every_boundary_is_an_unbroken_one(unbroken, tmp_path, monkeypatch):
    steps, calls = packs.train_steps, []

    def signalled(*arguments):
        calls.append(len(arguments[1].seed))
        interruption.request()
        return steps(*arguments)

    monkeypatch.setattr(packs, "train_steps", signalled)
    stops, results = 0, None
    while results is None:
        try:
            results = fit(INTERRUPTED, tmp_path)
        except KeyboardInterrupt:
            stops += 1
        finally:
            interruption.forget()
    assert (exact(results), [timeless(line) for line in log(tmp_path)]) == unbroken
    assert stops == len(calls) == 5 * DISPATCHES
    assert sorted(set(calls)) == [1, 2, 3]


@pytest.mark.parametrize(("function", "call"), [("train_steps", 4), ("evaluate", 5)])
def test_a_pack_that_is_killed_goes_on_from_its_last_epoch(
    unbroken, tmp_path, monkeypatch, function, call
):
    original, calls = getattr(packs, function), []

    def killed(*arguments):
        calls.append(None)
        if len(calls) == call:
            raise RuntimeError("killed")
        return original(*arguments)

    monkeypatch.setattr(packs, function, killed)
    with pytest.raises(RuntimeError, match="killed"):
        fit(INTERRUPTED, tmp_path)
    epochs = sum("epoch" in line for line in log(tmp_path))
    assert epochs >= 1
    trained = []
    steps = packs.train_steps
    monkeypatch.setattr(packs, "train_steps", lambda *a: (trained.append(None), steps(*a))[1])
    assert exact(fit(INTERRUPTED, tmp_path)) == unbroken[0]
    assert len(trained) == (5 - epochs) * DISPATCHES
    assert [timeless(line) for line in log(tmp_path)] == unbroken[1]


def test_a_pack_that_is_done_is_not_trained_again(tmp_path, unbroken, monkeypatch):
    first = fit(INTERRUPTED[:1], tmp_path)
    monkeypatch.setattr(packs, "train_steps", None)
    assert fit(INTERRUPTED[:1], tmp_path) == first


# Times, and what cannot be


def test_shares_of_the_device_add_up_to_what_was_taken(together):
    results, lines, _ = together
    shares = [sum(line.get("seconds", 0) for line in member_lines(lines, n)) for n in EVERYBODY]
    for share, result in zip(shares, results, strict=True):
        assert isinstance(result, Diverged) or result["device_seconds"] == pytest.approx(share)
    taken = sum(line["seconds"] for line in lines if "seconds" in line)
    lost = next(line for line in lines if "diverged" in line)  # the dispatch that member 3 ends in
    assert sum(shares) + lost["seconds"] / lost["members"] == pytest.approx(taken)


@pytest.mark.parametrize("rates", [[], [0.1, None]])
def test_members_that_are_not_of_one_program_are_refused(rates):
    settings = [MEMBERS[0]._replace(dropout_rate=rate) for rate in rates]
    with pytest.raises(InputError, match="a dropout rate in all of them or in none"):
        next(packs.fit(PROGRAM, settings, DATASET, CONFIG))


def test_members_without_dropout():
    config = TrainConfig(BATCH, UNROLL, 50, Schedule(max_epochs=1, halvings=0))
    settings = [MEMBERS[n]._replace(dropout_rate=None) for n in (0, 5)]
    together = ends(packs.fit(PROGRAM, settings, DATASET, config))
    for given, ours in zip(settings, together, strict=True):
        assert_same(ours, train.fit(PROGRAM, given, DATASET, config))
