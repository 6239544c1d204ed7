"""Training along a stream: the cut, the step, and runs that are the same to the last bit."""

import dataclasses
import json
import logging
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab import checkpoint, interruption, train
from seqlab.cells import CELLS
from seqlab.checkpoint import CheckpointError
from seqlab.data.stream import Dataset, Stream
from seqlab.history import Diverged, params_sha256
from seqlab.losses import symbol_nll
from seqlab.metrics import means
from seqlab.models.rnn import stack
from seqlab.models.sequence import FramePredictor, LanguageModel
from seqlab.optim import Schedule, Settings
from seqlab.train import FRAMES, SYMBOLS, Objective, Program, TrainConfig

NUM_SYMBOLS, UNITS = 5, 8


def language_model(cell="rnn"):
    return LanguageModel(stack(CELLS[cell], UNITS, 1), NUM_SYMBOLS, UNITS)


PROGRAM = Program(language_model(), SYMBOLS, "sgd")
SETTINGS = Settings(learning_rate=0.5, clip_norm=1.0, init_scale=1.0, dropout_rate=0.1, seed=0)


def settings(**changes):
    return jax.tree.map(jnp.asarray, SETTINGS._replace(**changes))


# One step a dispatch, as an oracle for many.
one_step = jax.jit(train.train_step, static_argnums=0)


def first_window(split):
    return jax.tree.map(lambda a: a[0], split)


# The cut


@pytest.mark.parametrize(
    ("length", "batch_size", "unroll"), [(24, 2, 3), (25, 2, 3), (23, 4, 5), (7, 3, 4), (5, 1, 5)]
)
@pytest.mark.parametrize("kind", ["symbols", "frames"])
def test_windows_cut_the_stream_into_rows_that_go_on(kind, length, batch_size, unroll):
    """Position i holds i+1, so that each number says where it comes from; 0 is padding."""
    numbers = np.arange(1, length + 1)
    scored = np.random.default_rng(0).random(length) < 0.7
    if kind == "symbols":
        start, cut = (
            99,
            train.windows(Stream(numbers.astype(np.int32), scored), 99, batch_size, unroll),
        )
    else:
        # A frame is its number in binary, one bit a channel.
        start, frames = 0, (numbers[:, None] >> np.arange(5) & 1).astype(np.uint8)
        cut = train.windows(Stream(frames, scored), 0, batch_size, unroll)
        assert cut.inputs.dtype == cut.targets.dtype == np.uint8
        powers = 2 ** np.arange(5)
        cut = cut._replace(
            inputs=np.asarray(cut.inputs) @ powers, targets=np.asarray(cut.targets) @ powers
        )
    inputs, targets, where = map(np.asarray, cut)
    num_windows = len(targets)
    assert targets.shape == (num_windows, batch_size, unroll)
    assert num_windows == int(np.ceil(length / (batch_size * unroll)))

    # Every scored position is a target once, and nothing else is.
    assert sorted(targets[where]) == list(numbers[scored])
    # What is fed is what stands before the target; the first target has the start before it.
    real = targets > 0
    assert real.sum() == length
    np.testing.assert_array_equal(
        inputs[real], np.where(targets[real] == 1, start, targets[real] - 1)
    )
    # A row goes on from one step to the next and from one window to the next.
    rows = targets.swapaxes(0, 1).reshape(batch_size, -1)
    for row in rows:
        going_on = row[1:] > 0
        assert (np.diff(row)[going_on] == 1).all()


# The initial state


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.0])
def test_matrices_start_uniform_in_the_scaled_range_and_vectors_do_not_scale(scale):
    program = PROGRAM._replace(model=language_model("lstm_jzs_bias"))
    window = train.Windows(*[jnp.zeros((3, 2), int)] * 2, scored=jnp.ones((3, 2), bool))
    state = train.init_state(program, settings(init_scale=scale, seed=3), window)
    unit = program.model.init(jax.random.key(3), window.inputs[:1, :1])
    pairs = jax.tree.map(lambda *pair: pair, state.params, unit)["params"]
    bound = scale / UNITS**0.5
    for name, (ours, _) in pairs["stack"]["layers_0"]["cell"].items():
        if name.startswith("b_"):
            np.testing.assert_array_equal(ours, np.full(UNITS, name == "b_f", np.float32))
    for ours, drawn in [
        *pairs["stack"]["layers_0"]["cell"].values(),
        *pairs["embedding"].values(),
        *pairs["head"].values(),
    ]:
        if ours.ndim == 1:
            np.testing.assert_array_equal(ours, drawn)
            continue
        np.testing.assert_allclose(ours, np.float32(scale) * drawn, rtol=1e-6)
        assert 0.8 * bound < np.abs(ours).max() <= bound
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(state.carry))
    assert {leaf.shape for leaf in jax.tree.leaves(state.carry)} == {(3, UNITS)}
    assert state.step == 0


# The step


def random_stream(length, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.integers(NUM_SYMBOLS, size=length).astype(np.int32)
    return Stream(values, rng.random(length) < 0.8)


def plain_loss(params, h, window):
    """Mean loss of a window and the state after it: a loop over time, every equation in full."""
    p = params["params"]
    cell, head = p["stack"]["layers_0"]["cell"], p["head"]
    total, rows = 0.0, np.arange(len(window.targets))
    for t in range(window.targets.shape[1]):
        x = p["embedding"]["embedding"][window.inputs[:, t]]
        h = jnp.tanh(x @ cell["w_xh"] + h @ cell["w_hh"] + cell["b_h"][None])
        scores = jnp.exp(h @ head["kernel"] + head["bias"][None])
        right = scores[rows, window.targets[:, t]] / scores.sum(axis=-1)
        total -= jnp.where(window.scored[:, t], jnp.log(right), 0.0).sum()
    return total / float(window.scored.sum()), h


def test_two_windows_are_truncated_backpropagation_clipping_and_sgd():
    split = train.windows(random_stream(24), 0, batch_size=2, unroll=3)
    given = settings(dropout_rate=0.0, init_scale=2.0, clip_norm=0.5)
    state = train.init_state(PROGRAM, given, first_window(split))
    params, h = jax.tree.map(np.asarray, state.params), jnp.zeros((2, UNITS))

    losses, norms = [], []
    for number in range(2):
        window = jax.tree.map(lambda a, w=number: a[w], split)
        (loss, h), gradient = jax.value_and_grad(plain_loss, has_aux=True)(params, h, window)
        norm = np.sqrt(sum((np.asarray(g) ** 2).sum() for g in jax.tree.leaves(gradient)))
        factor = min(1, 0.5 / norm)
        params = jax.tree.map(lambda p, g, f=factor: p - 0.5 * f * np.asarray(g), params, gradient)
        losses.append(loss)
        norms.append(norm)
    assert max(norms) > 0.5, "the clipping is seen"

    ours, our_losses = train.train_steps(PROGRAM, given, state, split, 2)
    np.testing.assert_allclose(our_losses, losses, rtol=1e-5)
    np.testing.assert_allclose(ours.carry[0], h, rtol=0, atol=1e-5)
    assert ours.step == 2
    for a, b in zip(jax.tree.leaves(ours.params), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)


def test_no_gradient_crosses_the_edge_of_a_window():
    """The second window knows the first by its carry, and sends no gradient back."""
    split = train.windows(random_stream(24), 0, batch_size=2, unroll=3)
    given = settings(dropout_rate=0.0, clip_norm=1e9)
    state = train.init_state(PROGRAM, given, first_window(split))
    params = jax.tree.map(np.asarray, state.params)
    windows = [jax.tree.map(lambda a, w=number: a[w], split) for number in range(2)]
    _, h = plain_loss(params, jnp.zeros((2, UNITS)), windows[0])

    def through(params):
        _, h = plain_loss(params, jnp.zeros((2, UNITS)), windows[0])
        return plain_loss(params, h, windows[1])[0]

    truncated = jax.grad(lambda p: plain_loss(p, h, windows[1])[0])(params)
    whole = jax.grad(through)(params)
    after, _ = one_step(PROGRAM, given, state.replace(carry=(h,)), windows[1])
    steps = jax.tree.map(lambda p, a: (p - np.asarray(a)) / 0.5, params, after.params)
    apart = 0.0
    for ours, cut, uncut in zip(*map(jax.tree.leaves, (steps, truncated, whole)), strict=True):
        np.testing.assert_allclose(ours, cut, rtol=0, atol=2e-6)
        apart = max(apart, np.abs(cut - uncut).max())
    assert apart > 1e-3


def test_the_carry_begins_empty_each_time_the_stream_begins_and_only_then():
    split = train.windows(random_stream(18), 0, batch_size=2, unroll=3)
    given = settings()
    state = train.init_state(PROGRAM, given, first_window(split))
    by_hand = state = state.replace(carry=(jnp.ones((2, UNITS)),))  # of no effect: step 0 begins
    for number in (0, 1, 2, 0, 1, 2, 0):
        if number == 0:
            by_hand = by_hand.replace(carry=(jnp.zeros((2, UNITS)),))
        window = jax.tree.map(lambda a, w=number: a[w], split)
        by_hand, _ = one_step(PROGRAM, given, by_hand, window)
    ours, losses = train.train_steps(PROGRAM, given, state, split, 7)
    assert losses.shape == (7,)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(by_hand), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def test_dropout_is_drawn_anew_at_every_step_and_from_the_seed():
    split = train.windows(random_stream(24), 0, batch_size=2, unroll=3)
    state = train.init_state(PROGRAM, settings(), first_window(split))

    def loss(step, **changes):
        given = settings(learning_rate=0.0, **changes)
        at = state.replace(step=jnp.asarray(step, jnp.int32))
        return float(one_step(PROGRAM, given, at, first_window(split))[1])

    assert loss(3) == loss(3)
    assert len({loss(3), loss(4), loss(4, seed=1), loss(4, dropout_rate=0.0)}) == 4
    assert loss(3, dropout_rate=0.0) == loss(4, dropout_rate=0.0, seed=1)


def test_one_compilation_serves_every_setting():
    split = train.windows(random_stream(24), 0, batch_size=3, unroll=2)  # as no other test has it
    caches = train.init_state, train.train_steps
    sizes = [function._cache_size() for function in caches]
    outcomes = set()
    for changes in (
        {},
        {"learning_rate": 0.1},
        {"clip_norm": 0.01},
        {"init_scale": 2.8},
        {"dropout_rate": 0.5},
        {"seed": 1},
    ):
        given = settings(**changes)
        state = train.init_state(PROGRAM, given, first_window(split))
        for _ in range(2):
            state, _ = train.train_steps(PROGRAM, given, state, split, 2)
        outcomes.add(params_sha256(state.params))
    assert len(outcomes) == 6, "every setting has its effect"
    assert [function._cache_size() for function in caches] == [size + 1 for size in sizes]


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_state_is_donated(cell):
    program = PROGRAM._replace(model=language_model(cell))
    split = train.windows(random_stream(24), 0, batch_size=2, unroll=3)
    state = train.init_state(program, settings(), first_window(split))
    train.train_steps(program, settings(), state, split, 2)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_evaluation_is_one_long_unroll_and_one_division():
    stream = random_stream(29)
    split = train.windows(stream, 0, batch_size=2, unroll=3)
    state = train.init_state(PROGRAM, settings(init_scale=2.8), first_window(split))
    inputs, targets, where = (
        np.asarray(a).swapaxes(0, 1).reshape(2, -1) for a in split
    )  # [B, W·T]
    assert where.sum() == stream.scored.sum()
    assert where.size > 29, "the last window is partly padding"
    _, logits = PROGRAM.model.apply(state.params, jnp.asarray(inputs))
    logits = np.asarray(logits, np.float64)[where]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    right = probabilities[np.arange(len(logits)), targets[where]]
    assert means(train.evaluate(PROGRAM, state.params, split)) == pytest.approx(
        {
            "nll": -np.log(right).mean(),
            "accuracy": (logits.argmax(axis=-1) == targets[where]).mean(),
            "probability": right.mean(),
        },
        rel=1e-5,
    )


@pytest.mark.parametrize("epoch_steps", [1, 7, 49, 50, 53, 100, 240, 1327, 1328, 10_000])
def test_dispatches_are_alike_and_not_short(epoch_steps):
    divisors = [k for k in range(1, epoch_steps + 1) if epoch_steps % k == 0]
    assert train.steps_per_dispatch(epoch_steps) == next(
        k for k in divisors if k >= min(50, epoch_steps)
    )


# Runs


def periodic(length):
    """0 1 0 2 0 3 …: what follows a 0 can be known only from what came before it."""
    values = np.resize(np.array([0, 1, 0, 2, 0, 3], np.int32), length)
    return Stream(values, np.ones(length, bool))


# 100 windows. An epoch is three dispatches; every other one ends in the middle of the stream, where
# the carry counts. The last windows of the other splits are partly padding.
BATCH, UNROLL, WINDOWS, STEPS, DISPATCHES = 2, 4, 100, 150, 3
DATASET = Dataset(
    train=periodic(BATCH * UNROLL * WINDOWS),
    valid=periodic(77),
    test=periodic(75),
    symbols=tuple("abcde"),
    channels=NUM_SYMBOLS,
    start=4,
)
CONFIG = TrainConfig(BATCH, UNROLL, STEPS, Schedule(max_epochs=4, halvings=2))


def fit(folder=None, program=PROGRAM, config=CONFIG, dataset=DATASET, **changes):
    return train.fit(program, SETTINGS._replace(**changes), dataset, config, folder)


def timeless(metrics):
    """What does not depend on the clock."""
    return {name: value for name, value in metrics.items() if "seconds" not in name}


def log(folder):
    """Its lines, without times."""
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [timeless(json.loads(line)) for line in lines]


def epochs_of(lines):
    return [line for line in lines if "epoch" in line]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The metrics of a run that nothing disturbed, and its log."""
    folder = tmp_path_factory.mktemp("unbroken")
    return timeless(fit(folder)), log(folder)


def test_a_sequence_that_can_be_known_is_learnt():
    schedule = Schedule(max_epochs=8, halvings=2)
    metrics = fit(dropout_rate=0.0, config=dataclasses.replace(CONFIG, schedule=schedule))
    # The two rows begin without a past: their first symbols are guesses.
    assert metrics["valid_nll"] < 0.1
    assert metrics["test_accuracy"] > 0.96
    assert metrics["epochs"] == 8
    assert metrics["steps"] == 8 * STEPS


def test_frames_are_learnt_by_adam():
    rng = np.random.default_rng(0)
    frames = np.resize(rng.integers(2, size=(3, 6)), (600, 6)).astype(np.uint8)
    stream = Stream(frames, np.ones(600, bool))
    dataset = Dataset(stream, stream, stream, None, 6, 0)
    program = Program(FramePredictor(stack(CELLS["rnn"], UNITS, 1), 6, UNITS), FRAMES, "adam")
    config = TrainConfig(BATCH, UNROLL, schedule=Schedule(max_epochs=6, halvings=0))
    # Adam of optax raises a Python float to the power of an integer array.
    with jax.numpy_dtype_promotion("standard"):
        metrics = fit(None, program, config, dataset, dropout_rate=None, learning_rate=0.05)
    assert set(metrics) >= {"valid_nll", "test_nll"}
    assert metrics["test_nll"] < 0.2 < 6 * np.log(2)


def test_a_run_is_a_function_of_its_arguments(unbroken):
    metrics, _ = unbroken
    assert timeless(fit()) == metrics
    for changes in ({"seed": 1}, {"learning_rate": 0.4}):
        assert fit(**changes)["params_sha256"] != metrics["params_sha256"]


def test_all_runs_share_their_programs(unbroken):
    functions = train.init_state, train.train_steps, train.evaluate
    sizes = [function._cache_size() for function in functions]
    fit(learning_rate=0.1, clip_norm=5.0, init_scale=0.3, dropout_rate=0.3, seed=7)
    assert [function._cache_size() for function in functions] == sizes


def test_log_has_a_line_a_dispatch_and_a_line_an_epoch(unbroken):
    _, lines = unbroken
    count = STEPS // DISPATCHES
    expected = [
        (epoch * STEPS + (n + 1) * count, None)
        if n < DISPATCHES
        else ((epoch + 1) * STEPS, epoch + 1)
        for epoch in range(4)
        for n in range(DISPATCHES + 1)
    ]
    assert [(line["step"], line.get("epoch")) for line in lines] == expected
    for epoch in range(4):
        *dispatches, end = lines[epoch * (DISPATCHES + 1) : (epoch + 1) * (DISPATCHES + 1)]
        assert end["train_loss"] == pytest.approx(np.mean([d["train_loss"] for d in dispatches]))


def test_device_seconds_are_the_sum_of_the_dispatches(tmp_path):
    metrics = fit(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    taken = [line["seconds"] for line in lines if "epoch" not in line]
    assert len(taken) == 4 * DISPATCHES
    assert metrics["device_seconds"] == sum(taken) > 0


def test_the_best_epoch_is_the_result(unbroken):
    metrics, lines = unbroken
    epochs = epochs_of(lines)
    assert [epoch["learning_rate"] for epoch in epochs] == [0.5, 0.5, 0.25, 0.125]
    assert metrics["epochs"] == 4
    assert metrics["steps"] == 4 * STEPS
    so_far = float("inf")
    for epoch in epochs:
        assert ("test_nll" in epoch) == (epoch["valid_nll"] < so_far), "no look without need"
        so_far = min(so_far, epoch["valid_nll"])
    best = min(epochs, key=lambda epoch: epoch["valid_nll"])
    assert epochs[metrics["best_epoch"] - 1] == best
    splits = {k: v for k, v in best.items() if k.startswith(("valid_", "test_"))}
    assert {name.removeprefix("valid_") for name in splits if name.startswith("valid_")} == {
        "nll",
        "accuracy",
        "probability",
    }
    assert splits.items() <= metrics.items()
    assert metrics["params"] == 2 * NUM_SYMBOLS * UNITS + NUM_SYMBOLS + 2 * UNITS**2 + UNITS


def test_a_run_is_its_steps_at_the_rates_of_the_schedule(unbroken):
    split = train.windows(DATASET.train, 4, BATCH, UNROLL)
    state = train.init_state(PROGRAM, settings(), first_window(split))
    for rate in np.repeat([0.5, 0.5, 0.25, 0.125], DISPATCHES):
        given = settings(learning_rate=float(rate))
        state, _ = train.train_steps(PROGRAM, given, state, split, STEPS // DISPATCHES)
    assert params_sha256(state.params) == unbroken[0]["params_sha256"]


@pytest.mark.parametrize(("epochs", "steps_per_epoch"), [(6, 50), (2, 150)])
def test_epochs_go_on_where_the_last_one_ended_and_round_and_round(epochs, steps_per_epoch):
    def after(epochs, steps_per_epoch):
        schedule = Schedule(max_epochs=epochs, halvings=0, patience=100)
        config = dataclasses.replace(CONFIG, steps_per_epoch=steps_per_epoch, schedule=schedule)
        return fit(config=config)

    ours, thrice = after(epochs, steps_per_epoch), after(3, None)
    assert (ours["epochs"], thrice["epochs"]) == (epochs, 3)
    assert ours["steps"] == thrice["steps"] == 3 * WINDOWS
    assert ours["params_sha256"] == thrice["params_sha256"]


# Interruptions


def at_call(monkeypatch, name, call, then, module=train):
    """Do something just before the given call, counted from 1, of a function."""
    calls = 0
    original = getattr(module, name)

    def counted(*arguments, **keywords):
        nonlocal calls
        calls += 1
        if calls == call:
            then()
        return original(*arguments, **keywords)

    monkeypatch.setattr(module, name, counted)


def killed():
    """As a kill: nothing is saved on the way out."""
    raise SystemExit("killed")


def count_calls(monkeypatch, name):
    calls = []
    original = getattr(train, name)

    def counted(*arguments, **keywords):
        calls.append(name)
        return original(*arguments, **keywords)

    monkeypatch.setattr(train, name, counted)
    return calls


def saved_steps(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").glob("[0-9]*"))


def test_a_signal_at_every_boundary_ends_as_the_unbroken_run(
    unbroken, tmp_path, monkeypatch, listening
):
    """At each dispatch in turn, in one run: what was done is saved there, and not done again."""
    dispatches = count_calls(monkeypatch, "train_steps")
    count, numbers = STEPS // DISPATCHES, interruption.SIGNALS
    for done in range(1, 4 * DISPATCHES + 1):
        interruption.forget()  # the next run is another process
        number = numbers[done % len(numbers)]
        with monkeypatch.context() as patch:
            at_call(patch, "train_steps", 1, lambda n=number: signal.raise_signal(n))
            with pytest.raises(KeyboardInterrupt):
                fit(tmp_path)
        assert len(dispatches) == done
        assert saved_steps(tmp_path)[-1] == done * count
        assert log(tmp_path) == unbroken[1][: len(log(tmp_path))]
    interruption.forget()
    assert timeless(fit(tmp_path)) == unbroken[0]
    assert len(dispatches) == 4 * DISPATCHES, "no step was taken twice"
    assert log(tmp_path) == unbroken[1]


def test_a_signal_in_an_evaluation_waits_for_the_boundary_after_it(
    unbroken, tmp_path, monkeypatch, listening
):
    with monkeypatch.context() as patch:
        at_call(patch, "evaluate", 1, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path)
    assert saved_steps(tmp_path) == [STEPS, STEPS + STEPS // DISPATCHES], "the epoch is saved too"
    interruption.forget()
    assert timeless(fit(tmp_path)) == unbroken[0]
    assert log(tmp_path) == unbroken[1]


def test_a_second_ctrl_c_does_not_wait(unbroken, tmp_path, monkeypatch, listening):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        at_call(patch, "train_steps", DISPATCHES + 2, twice)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path)
    assert saved_steps(tmp_path) == [STEPS], "the epoch, and nothing after it"
    interruption.forget()
    assert timeless(fit(tmp_path)) == unbroken[0]
    assert log(tmp_path) == unbroken[1]


@pytest.mark.parametrize(
    ("name", "call", "saved"),
    [
        ("train_steps", 2, 0),  # in the first epoch
        ("train_steps", 4, 1),  # between epochs
        ("train_steps", 8, 2),  # in the third epoch
        ("evaluate", 5, 2),  # trained, not validated
        ("save", 4, 3),  # logged, not saved
    ],
)
def test_a_run_that_was_killed_ends_as_the_unbroken_one(
    unbroken, tmp_path, monkeypatch, name, call, saved
):
    with monkeypatch.context() as patch:
        at_call(patch, name, call, killed, checkpoint if name == "save" else train)
        with pytest.raises(SystemExit):
            fit(tmp_path)
    assert max(saved_steps(tmp_path), default=0) == saved * STEPS
    with monkeypatch.context() as patch:
        dispatches = count_calls(patch, "train_steps")
        assert timeless(fit(tmp_path)) == unbroken[0]
    assert len(dispatches) == DISPATCHES * (4 - saved), "nothing that was saved is done again"
    assert log(tmp_path) == unbroken[1]


def stopped_after_three_epochs(folder, monkeypatch):
    with monkeypatch.context() as patch:
        at_call(patch, "train_steps", 3 * DISPATCHES + 1, killed)
        with pytest.raises(SystemExit):
            fit(folder)


def test_a_damaged_checkpoint_costs_an_epoch_and_not_a_bit(unbroken, tmp_path, monkeypatch, caplog):
    stopped_after_three_epochs(tmp_path, monkeypatch)
    newest = tmp_path / "checkpoints" / str(3 * STEPS)
    files = [p for p in (newest / "arrays").rglob("*") if p.is_file()]
    victim = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    with caplog.at_level(logging.WARNING, logger="seqlab"), monkeypatch.context() as patch:
        dispatches = count_calls(patch, "train_steps")
        assert timeless(fit(tmp_path)) == unbroken[0]
    assert len(dispatches) == 2 * DISPATCHES, "from epoch 2, not from the beginning"
    (warning,) = [r.getMessage() for r in caplog.records if r.name.startswith("seqlab")]
    assert "checkpoint damaged" in warning
    assert str(victim) in warning
    assert log(tmp_path) == unbroken[1]


def test_a_log_that_is_not_that_of_the_checkpoint_is_refused(tmp_path, monkeypatch):
    stopped_after_three_epochs(tmp_path, monkeypatch)
    path = tmp_path / "log.jsonl"
    path.write_text(path.read_text().replace("0.5", "0.6", 1))
    with pytest.raises(CheckpointError, match=r"log\.jsonl is not the log of checkpoint 450"):
        fit(tmp_path)


def test_a_finished_run_that_is_asked_for_again_trains_nothing(tmp_path, monkeypatch):
    first = fit(tmp_path)
    dispatches = count_calls(monkeypatch, "train_steps")
    assert fit(tmp_path) == first
    assert not dispatches


# What cannot be


def test_an_absurd_learning_rate_diverges_at_the_step_that_a_loop_finds():
    given = SETTINGS._replace(learning_rate=float("inf"))
    split = train.windows(DATASET.train, 4, BATCH, UNROLL)
    state = train.init_state(PROGRAM, settings(), first_window(split))
    for expected in range(WINDOWS):
        window = jax.tree.map(lambda a, w=expected: a[w], split)
        state, loss = one_step(PROGRAM, jax.tree.map(jnp.asarray, given), state, window)
        if not np.isfinite(loss):
            break
    with pytest.raises(Diverged, match=f"not finite at step {expected}$") as error:
        train.fit(PROGRAM, given, DATASET, CONFIG)
    assert error.value.step == expected


@pytest.mark.parametrize("window", [0, 49, 50, 73])
def test_divergence_names_its_step_in_any_dispatch_and_epoch(tmp_path, window):
    """The loss is not a number where the target is the fifth symbol: in one window."""
    program = PROGRAM._replace(objective=Objective(broken_at_the_fifth_symbol, SYMBOLS.sums))
    values = DATASET.train.values.copy()
    values[WINDOWS * UNROLL + window * UNROLL + 1] = 4  # in the second row
    dataset = DATASET._replace(train=Stream(values, DATASET.train.scored))
    config = dataclasses.replace(CONFIG, steps_per_epoch=50)
    with pytest.raises(Diverged) as error:
        fit(tmp_path, program, config, dataset)
    assert error.value.step == window
    if window >= 50:
        with pytest.raises(Diverged, match=f"step {window}$"):
            fit(tmp_path, program, config, dataset)  # resumed after the first epoch


def broken_at_the_fifth_symbol(logits, targets, where):
    return jnp.where(targets == 4, jnp.nan, symbol_nll(logits, targets, where))
