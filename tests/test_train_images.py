"""Training on images: order, step, evaluation, and runs that are the same to the last bit."""

import dataclasses
import itertools
import json
import math
import signal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab import batches, checkpoint, interruption, metrics, optim, train_images
from seqlab.batches import shuffled_rows
from seqlab.data.images import ImageDataset, Labelled
from seqlab.errors import InputError
from seqlab.history import Diverged, params_sha256
from seqlab.losses import class_nll
from seqlab.optim import DECAYED, SCHEDULES, DecaySettings
from seqlab.train_images import CLASSES, MASKS, Objective, Program, TrainConfig

SIDE, CHANNELS, K = 4, 2, 3
MOMENTUM = 0.9  # of the running statistics


class Linear(nn.Module):
    """One product: what an oracle can differentiate by hand."""

    @nn.compact
    def __call__(self, images, *, train):
        return nn.Dense(K, name="head")(images.reshape(len(images), -1))


class Normalised(nn.Module):
    """A convolution, batch statistics, dropout and a head."""

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Conv(4, (3, 3), name="conv")(images)
        x = nn.BatchNorm(use_running_average=not train, momentum=MOMENTUM, name="norm")(x)
        x = nn.Dropout(0.1, deterministic=not train)(nn.relu(x))
        return nn.Dense(K, name="head")(x.mean(axis=(1, 2)))


class Pixels(nn.Module):
    """Classes of pixels."""

    @nn.compact
    def __call__(self, images, *, train):
        return nn.Conv(K, (3, 3), name="conv")(images)


def flip(key, images):
    """Left and right exchanged, for some images."""
    flipped = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(flipped, images[:, :, ::-1], images)


LINEAR = Program(Linear(), CLASSES, "sgd_momentum", "constant")
PROGRAM = Program(Normalised(), CLASSES, "sgd_momentum", "staircase", flip)
AUGMENTED = LINEAR._replace(augment=flip)
DROPPED = PROGRAM._replace(augment=None)
SETTINGS = DecaySettings(learning_rate=0.1, momentum=0.9, weight_decay=0.01, steps=120, seed=0)


def settings(**changes):
    return jax.tree.map(jnp.asarray, SETTINGS._replace(**changes))


def labelled(number, seed=0, masks=False):
    rng = np.random.default_rng(seed)
    images = rng.integers(256, size=(number, SIDE, SIDE, CHANNELS)).astype(np.uint8)
    if masks:
        return Labelled(images, rng.integers(K, size=(number, SIDE, SIDE)).astype(np.uint8))
    # the class is the number of bright columns, which a network can learn
    labels = (images[:, 0, :2, 0] > 127).sum(axis=1).astype(np.int32)
    return Labelled(images, labels)


def dataset(masks=False):
    splits = (labelled(n, seed, masks) for seed, n in enumerate((90, 23, 31)))
    return ImageDataset(*splits, tuple("abc"))


DATASET = dataset()
TRAIN, VALID, TEST = batches.on_device(DATASET)
CONFIG = TrainConfig(batch_size=8, epochs=4, steps_per_epoch=30, scored_train_images=50)

# One step, as an oracle for many.
one_step = jax.jit(train_images.train_step, static_argnums=0)


def state_of(program, split=TRAIN, **changes):
    return train_images.init_state(program, settings(**changes), split)


def standardised(images):
    """By NumPy in float64, with the statistics of the training split."""
    pixels = DATASET.train.images.reshape(-1, CHANNELS) / 255
    return (images / 255 - pixels.mean(axis=0)) / pixels.std(axis=0)


# The order of the images


@pytest.mark.parametrize(
    ("num_images", "batch_size", "count"), [(10, 3, 7), (10, 10, 2), (7, 16, 3), (12, 4, 3)]
)
def test_no_image_comes_again_before_all_others_have_come(num_images, batch_size, count):
    key = jax.random.key(3)
    listed = np.concatenate(
        [
            np.ravel(shuffled_rows(key, jnp.asarray(start), num_images, batch_size, count))
            for start in range(0, 4 * count, count)
        ]
    )
    assert len(listed) == 4 * count * batch_size
    rounds = [listed[i : i + num_images] for i in range(0, len(listed), num_images)]
    for one in rounds:
        assert len(set(one)) == len(one)
        assert set(one) <= set(range(num_images))
    whole = [tuple(one) for one in rounds if len(one) == num_images]
    assert len(set(whole)) == len(whole) > 1, "each round is shuffled anew"


def test_order_depends_on_the_step_alone_and_on_the_key():
    def listed(key, start, count):
        return np.asarray(shuffled_rows(jax.random.key(key), jnp.asarray(start), 10, 3, count))

    whole = listed(0, 0, 12)
    for start, count in ((0, 5), (5, 7), (3, 2), (11, 1)):
        np.testing.assert_array_equal(listed(0, start, count), whole[start : start + count])
    assert (listed(1, 0, 12) != whole).any()


def test_images_are_standardised_with_the_statistics_of_the_training_split():
    rows = np.array([4, 0, 4])
    for split, ours in ((TRAIN, DATASET.train), (VALID, DATASET.valid), (TEST, DATASET.test)):
        images, labels = batches.take(split, jnp.asarray(rows))
        np.testing.assert_allclose(images, standardised(ours.images[rows]), atol=1e-5)
        np.testing.assert_array_equal(labels, ours.labels[rows])


# Rates and optimisers


@pytest.mark.parametrize(
    ("step", "share"),
    [(0, 1), (31_999, 1), (32_000, 0.1), (47_999, 0.1), (48_000, 0.01), (63_999, 0.01)],
)
def test_staircase_is_that_of_the_residual_networks(step, share):
    ours = SCHEDULES["staircase"](jnp.asarray(step), jnp.asarray(64_000))
    assert ours == np.float32(share)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 200])
def test_schedules_at_every_step(steps):
    at = [jnp.asarray(step) for step in range(steps)]
    total = jnp.asarray(steps)
    assert [float(SCHEDULES["constant"](s, total)) for s in at] == [1.0] * steps
    np.testing.assert_allclose(
        [SCHEDULES["cosine"](s, total) for s in at],
        [(1 + math.cos(math.pi * i / steps)) / 2 for i in range(steps)],
        atol=1e-6,
    )
    stairs = [float(SCHEDULES["staircase"](s, total)) for s in at]
    assert stairs == sorted(stairs, reverse=True)


def numpy_gradient(weights, images, labels):
    """Mean cross entropy of softmax(xW + b), differentiated by hand."""
    x = images.reshape(len(images), -1)
    scores = x @ weights["kernel"] + weights["bias"]
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    wrong = scores / scores.sum(axis=1, keepdims=True) - np.eye(K)[labels]
    return {"kernel": x.T @ wrong / len(x), "bias": wrong.mean(axis=0)}


def numpy_momentum(weights, grads, memory, rate, decay):
    """He et al.'s solver: the decay is a part of the gradient, and biases have none."""
    for name, grad in grads.items():
        grad = grad + (decay * weights[name] if name == "kernel" else 0)
        memory[name] = 0.9 * memory.get(name, 0) + grad
        weights[name] = weights[name] - rate * memory[name]


def numpy_adamw(weights, grads, memory, rate, decay):
    memory["t"] = t = memory.get("t", 0) + 1
    for name, grad in grads.items():
        m, v = memory.get(name, (0, 0))
        m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
        memory[name] = m, v
        step = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        weights[name] = weights[name] - rate * (
            step + (decay * weights[name] if name == "kernel" else 0)
        )


ORACLES = {"sgd_momentum": numpy_momentum, "adamw": numpy_adamw}


@pytest.mark.parametrize("optimizer", DECAYED)
def test_steps_are_those_of_numpy(optimizer):
    program = LINEAR._replace(optimizer=optimizer, schedule="staircase")
    given = settings(steps=4, weight_decay=0.3)
    with jax.numpy_dtype_promotion("standard"):  # Adam of optax: a Python float to an integer power
        state = train_images.init_state(program, given, TRAIN)
        weights = {k: np.asarray(v, np.float64) for k, v in state.params["head"].items()}
        memory, order = {}, np.random.default_rng(0).integers(90, size=(4, 8))
        for rows, rate in zip(order, (0.1, 0.1, 0.01, 0.001), strict=True):
            images, labels = standardised(DATASET.train.images[rows]), DATASET.train.labels[rows]
            grads = numpy_gradient(weights, images, labels)
            ORACLES[optimizer](weights, grads, memory, rate, decay=0.3)
            state, _ = one_step(program, given, state, *batches.take(TRAIN, jnp.asarray(rows)))
    for name, value in weights.items():
        np.testing.assert_allclose(state.params["head"][name], value, rtol=0, atol=2e-5)


# The step


def test_step_takes_the_statistics_of_the_batch_and_remembers_them():
    state = state_of(DROPPED)
    images, labels = batches.take(TRAIN, jnp.arange(8))
    after, _ = one_step(DROPPED, settings(), state, images, labels)
    seen = np.asarray(
        nn.Conv(4, (3, 3)).apply({"params": state.params["conv"]}, images), np.float64
    ).reshape(-1, 4)
    expected = {
        "mean": (1 - MOMENTUM) * seen.mean(axis=0),
        "var": MOMENTUM + (1 - MOMENTUM) * seen.var(axis=0),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(after.batch_stats["norm"][name], value, atol=1e-5)


@pytest.mark.parametrize("program", [AUGMENTED, DROPPED], ids=["augmentation", "dropout"])
def test_chance_is_drawn_anew_at_every_step_and_from_the_seed(program):
    state = state_of(program)
    images, labels = batches.take(TRAIN, jnp.arange(8))

    def nll(step, seed=0):
        at = state.replace(step=jnp.asarray(step, jnp.int32))
        return float(one_step(program, settings(seed=seed), at, images, labels)[1]["nll"])

    evaluated = float(train_images.evaluate(program, state, batches.head(TRAIN, 8), 8)["nll"])
    assert nll(3) == nll(3)
    assert len({nll(3), nll(4), nll(3, seed=1), evaluated}) == 4


def test_one_compilation_serves_every_setting():
    order = shuffled_rows(jax.random.key(0), jnp.asarray(0), 90, 8, 30)
    functions = train_images.init_state, train_images.train_next
    outcomes, sizes = [], []
    changes = {"learning_rate": 0.2}, {"momentum": 0.5}, {"weight_decay": 0.5}, {"seed": 1}
    for change in ({}, *changes, {"steps": 3}):
        state = state_of(PROGRAM, **change)
        for _ in range(2):
            state, _ = train_images.train_next(PROGRAM, settings(**change), state, TRAIN, order)
        outcomes.append(params_sha256(state.params))
        sizes.append([function._cache_size() for function in functions])
    assert len(set(outcomes)) == len(outcomes), "every setting has its effect"
    assert sizes == sizes[:1] * len(sizes)


def test_state_is_donated():
    state = state_of(PROGRAM)
    order = shuffled_rows(jax.random.key(0), jnp.asarray(0), 90, 8, 30)
    train_images.train_next(PROGRAM, settings(), state, TRAIN, order)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))


# Evaluation


def wobbled(state):
    """Statistics that no batch has."""
    stats = {"norm": {"mean": jnp.array([0.5, -1, 0, 2]), "var": jnp.array([0.5, 2, 1, 3])}}
    return state.replace(batch_stats=stats)


def probabilities(program, state, images):
    """Image by image, in evaluation."""
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    logits = np.concatenate(
        [
            np.asarray(program.model.apply(variables, jnp.asarray(one, jnp.float32), train=False))
            for one in np.split(standardised(images), len(images))
        ]
    ).astype(np.float64)
    scores = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return scores / scores.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("batch_size", [1, 7, 23, 40])
def test_evaluation_counts_every_image_once_whatever_the_batch_size(batch_size):
    """23 images: the last batch is whole, ragged, or the only one."""
    state = wobbled(state_of(PROGRAM))
    ours = CLASSES.means(train_images.evaluate(PROGRAM, state, VALID, batch_size))
    p, labels = probabilities(PROGRAM, state, DATASET.valid.images), DATASET.valid.labels
    expected = {
        "nll": -np.log(p[np.arange(23), labels]).mean(),
        "error": (p.argmax(axis=-1) != labels).mean(),
    }
    assert ours == pytest.approx(expected, rel=1e-5)


def test_evaluation_goes_by_the_running_statistics():
    state = state_of(PROGRAM)
    shifted = wobbled(state)
    nlls = [float(train_images.evaluate(PROGRAM, s, VALID, 7)["nll"]) for s in (state, shifted)]
    assert abs(nlls[0] - nlls[1]) > 0.1


@pytest.mark.parametrize("absent", [None, 2])
def test_masks_are_scored_as_by_a_loop_over_pixels(absent):
    """Sums over all pictures, then one division; `absent` is a class that nobody has."""
    data = labelled(23, masks=True)
    if absent is not None:
        data = data._replace(labels=data.labels % absent)
    split = batches.Split(jnp.asarray(data.images), jnp.asarray(data.labels), TRAIN.statistics)
    program = Program(Pixels(), MASKS, "sgd_momentum", "constant")
    state = state_of(program, split)
    if absent is not None:
        low = state.params["conv"]["bias"].at[absent].set(-1e4)
        state = state.replace(params={"conv": state.params["conv"] | {"bias": low}})
    ours = MASKS.means(train_images.evaluate(program, state, split, 5))

    p = probabilities(program, state, data.images)
    both, either, wrong, nll = np.zeros(K), np.zeros(K), 0, 0.0
    for at in np.ndindex(data.labels.shape):
        guess, truth = p[at].argmax(), data.labels[at]
        nll -= np.log(p[at][truth])
        wrong += guess != truth
        for k in range(K):
            both[k] += guess == truth == k
            either[k] += guess == k or truth == k
    iou = [both[k] / either[k] if either[k] else None for k in range(K)]
    assert iou.count(None) == (absent is not None)
    there = [value for value in iou if value is not None]
    assert ours["iou"] == pytest.approx(iou)
    assert ours["mean_iou"] == pytest.approx(np.mean(there))
    assert ours["error"] == wrong / data.labels.size
    assert ours["nll"] == pytest.approx(nll / data.labels.size, rel=1e-5)


@pytest.mark.parametrize("sums", [metrics.class_sums, metrics.mask_sums])
def test_positions_that_are_not_there_count_nothing(sums):
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(5, 3, 2, K)), jnp.float32)
    targets = jnp.asarray(rng.integers(K, size=(5, 3, 2)))
    where = jnp.asarray(rng.random((5, 3, 2)) < 0.5)
    ours = sums(logits, targets, where)
    chosen = sums(logits[where], targets[where], jnp.ones(int(where.sum()), bool))
    assert ours.keys() == chosen.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(value, chosen[name], rtol=1e-6)
    with pytest.raises(InputError, match="no scored position"):
        metrics.means(metrics.class_sums(logits, targets, jnp.zeros_like(where)))


# Runs


def fit(folder=None, program=PROGRAM, data=DATASET, config=CONFIG, **changes):
    _, found = train_images.fit(program, SETTINGS._replace(**changes), data, config, folder)
    return found


def timeless(found):
    """What does not depend on the clock."""
    return {name: value for name, value in found.items() if "seconds" not in name}


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


def test_what_can_be_learnt_is_learnt():
    config = dataclasses.replace(CONFIG, epochs=12)
    found = fit(program=LINEAR, config=config, weight_decay=0.0)
    assert found["train_error"] < 0.05
    assert found["test_error"] < 0.4 < 1 - 1 / K
    assert found["steps"] == 12 * 30


def test_a_run_is_a_function_of_its_arguments(unbroken):
    assert timeless(fit()) == unbroken[0]
    assert fit(seed=1)["params_sha256"] != unbroken[0]["params_sha256"]


def test_a_run_is_its_steps_in_their_order(unbroken):
    given, state = settings(), state_of(PROGRAM)
    order = shuffled_rows(train_images.keys(given).order, jnp.asarray(0), 90, 8, 120)
    for rows in jnp.split(order, 4):
        sums = []
        for _ in rows:
            state, one = train_images.train_next(PROGRAM, given, state, TRAIN, rows)
            sums.append(jax.tree.map(float, one))
    assert params_sha256(state.params) == unbroken[0]["params_sha256"]
    for name in ("nll", "error"):
        mean = sum(s[name] for s in sums) / sum(s["count"] for s in sums)
        assert unbroken[0][f"running_{name}"] == pytest.approx(mean, rel=1e-6)
    for split, found in ((batches.head(TRAIN, 50), "train"), (VALID, "valid"), (TEST, "test")):
        means = CLASSES.means(train_images.evaluate(PROGRAM, state, split, 8))
        assert {name: unbroken[0][f"{found}_{name}"] for name in means} == means


@pytest.mark.parametrize("look", [1, 5, 7, 30, 99])
def test_log_has_a_line_a_look_and_a_line_an_epoch(tmp_path, monkeypatch, look):
    """However the looks fall, the sums of an epoch are the same."""
    monkeypatch.setattr(train_images, "STEPS_PER_LOOK", look)
    found = fit(tmp_path, config=dataclasses.replace(CONFIG, epochs=2))
    raw = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    steps = [*range(look, 30, look), 30]
    expected = [(step, None) for step in steps] + [(30, 1)]
    expected += [(30 + step, None) for step in steps] + [(60, 2)]
    assert [(line["step"], line.get("epoch")) for line in raw] == expected
    looks, (_, last) = [line for line in raw if "epoch" not in line], epochs_of(raw)
    for name in ("nll", "error"):
        sums = [line["sums"][name] for line in looks[len(steps) :]]
        count = sum(line["sums"]["count"] for line in looks[len(steps) :])
        assert count == 30 * CONFIG.batch_size
        assert last[f"running_{name}"] == pytest.approx(sum(sums) / count, rel=1e-6)
    assert found["device_seconds"] == sum(line["seconds"] for line in looks) > 0


def test_the_test_split_is_seen_at_the_end(unbroken):
    found, epochs = unbroken[0], epochs_of(unbroken[1])
    assert [epoch["step"] for epoch in epochs] == [30, 60, 90, 120]
    for epoch in epochs[:-1]:
        assert epoch.keys() == {
            *("step", "epoch"),
            *(f"{split}_{name}" for split in ("running", "valid") for name in ("nll", "error")),
        }
    assert {"train_error", "test_error"} <= epochs[-1].keys()
    last = {k: v for k, v in epochs[-1].items() if k not in ("step", "epoch")}
    assert last.items() <= found.items()
    curve = [(e["step"], e["running_error"], e["valid_error"]) for e in epochs]
    assert found["curve"] == curve
    conv, head = 9 * CHANNELS * 4 + 4, 4 * K + K
    assert found["params"] == conv + 2 * 4 + head
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(("epochs", "kept"), [(1, 1), (200, 200), (201, 101), (1000, 200)])
def test_a_curve_is_short_and_ends_where_the_run_ends(epochs, kept):
    history = [{"step": i, "running_error": i, "valid_error": -i} for i in range(1, epochs + 1)]
    curve = train_images.curve(history)
    assert len(curve) == kept
    assert curve[-1] == (epochs, epochs, -epochs)
    assert len({b[0] - a[0] for a, b in itertools.pairwise(curve)}) <= 1


# Interruptions


def at_call(monkeypatch, name, call, then, module=train_images):
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


def saved_steps(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").glob("[0-9]*"))


def count_calls(monkeypatch, name):
    calls = []
    original = getattr(train_images, name)
    monkeypatch.setattr(train_images, name, lambda *a, **k: calls.append(name) or original(*a, **k))
    return calls


def test_a_signal_at_every_boundary_ends_as_the_unbroken_run(
    unbroken, tmp_path, monkeypatch, listening
):
    """At each look in turn, in one run: what was done is saved there, and not done again."""
    taken = count_calls(monkeypatch, "train_next")
    look, numbers = train_images.STEPS_PER_LOOK, interruption.SIGNALS
    for done in range(look, 120 + 1, look):
        interruption.forget()  # the next run is another process
        number = numbers[done // look % len(numbers)]
        with monkeypatch.context() as patch:
            # anywhere in the look: it is heard at its end
            at_call(patch, "train_next", 1 + done % 3, lambda n=number: signal.raise_signal(n))
            with pytest.raises(KeyboardInterrupt):
                fit(tmp_path)
        assert len(taken) == done
        assert saved_steps(tmp_path)[-1] == done
        assert log(tmp_path) == unbroken[1][: len(log(tmp_path))]
    interruption.forget()
    assert timeless(fit(tmp_path)) == unbroken[0]
    assert len(taken) == 120, "no step was taken twice"
    assert log(tmp_path) == unbroken[1]


def test_a_second_ctrl_c_does_not_wait(unbroken, tmp_path, monkeypatch, listening):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        at_call(patch, "train_next", 42, twice)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path)
    assert saved_steps(tmp_path) == [30], "the epoch, and nothing after it"
    interruption.forget()
    assert timeless(fit(tmp_path)) == unbroken[0]
    assert log(tmp_path) == unbroken[1]


@pytest.mark.parametrize(
    ("name", "call", "saved"),
    [
        ("train_next", 7, 0),  # in the first epoch
        ("train_next", 31, 1),  # between epochs
        ("train_next", 85, 2),  # in the third epoch
        ("evaluate", 3, 2),  # trained, not validated
        ("evaluate", 6, 3),  # all but tested
        ("save", 4, 3),  # logged, not saved
    ],
)
def test_a_run_that_was_killed_ends_as_the_unbroken_one(
    unbroken, tmp_path, monkeypatch, name, call, saved
):
    with monkeypatch.context() as patch:
        at_call(patch, name, call, killed, checkpoint if name == "save" else train_images)
        with pytest.raises(SystemExit):
            fit(tmp_path)
    assert max(saved_steps(tmp_path), default=0) == 30 * saved
    with monkeypatch.context() as patch:
        taken = count_calls(patch, "train_next")
        assert timeless(fit(tmp_path)) == unbroken[0]
    assert len(taken) == 30 * (4 - saved), "nothing that was saved is done again"
    assert log(tmp_path) == unbroken[1]


def test_a_finished_run_that_is_asked_for_again_does_nothing(tmp_path, monkeypatch):
    first = fit(tmp_path)
    taken, looks = count_calls(monkeypatch, "train_next"), count_calls(monkeypatch, "evaluate")
    again = fit(tmp_path)
    assert json.dumps(again) == json.dumps(first)
    assert not taken
    assert not looks


# What cannot be


def broken_nll(logits, targets, where):
    return jnp.where(targets == K, jnp.nan, class_nll(logits, targets % K, where))


def broken_sums(logits, targets, where):
    sums = metrics.class_sums(logits, targets % K, where)
    return sums | {"nll": broken_nll(logits, targets, where).sum()}


BROKEN = LINEAR._replace(objective=Objective(broken_nll, broken_sums, metrics.means))


@pytest.mark.parametrize("step", [0, 3, 4, 9, 10, 26])
def test_divergence_names_its_step_in_any_epoch(tmp_path, monkeypatch, step):
    """The loss is not a number where one image is, which every round of 90 images sees once."""
    monkeypatch.setattr(train_images, "STEPS_PER_LOOK", 4)
    config = dataclasses.replace(CONFIG, steps_per_epoch=10)
    order = np.asarray(
        shuffled_rows(train_images.keys(settings()).order, jnp.asarray(0), 90, 8, 30)
    )
    labels = DATASET.train.labels.copy()
    labels[order[step, 0]] = K
    first = int(np.argmax((order == order[step, 0]).any(axis=1)))
    data = DATASET._replace(train=Labelled(DATASET.train.images, labels))
    for _ in range(2):  # and again, resumed
        with pytest.raises(Diverged, match=f"not finite at step {first}$") as error:
            fit(tmp_path, BROKEN, data, config)
        assert error.value.step == first
        if first >= 10:
            assert len(epochs_of(log(tmp_path))) == first // 10


def test_what_decays_is_kernels():
    params = state_of(PROGRAM).params
    decays = jax.tree_util.tree_leaves_with_path(optim.kernels(params))
    names = {jax.tree_util.keystr(path) for path, decay in decays if decay}
    assert names == {"['conv']['kernel']", "['head']['kernel']"}
