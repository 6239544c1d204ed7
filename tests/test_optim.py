"""Clipping, optimisers whose settings are values, and the schedule, each against its rule."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seqlab.optim import OPTIMIZERS, Schedule, clipped

# The schedule


def simulate(losses, max_epochs, patience, halvings):
    """An epoch at a time, as a person would run it; `losses[i]` is what epoch i+1 would score."""
    epochs, best, waited, halved = [], float("inf"), 0, 0
    for epoch in range(1, max_epochs + 1):
        epochs_left = max_epochs - epoch + 1
        if halved or waited >= patience or (epoch > 1 and epochs_left <= halvings):
            halved += 1
        if halved > halvings:
            break
        epochs.append(halved)
        loss = losses[epoch - 1]
        if loss < best:
            best, waited = loss, 0
        else:
            waited += 1
    return epochs


def played(schedule, losses):
    """What the schedule itself does with these losses."""
    halvings = (schedule.next_halving(losses[:epoch]) for epoch in range(len(losses) + 1))
    return list(itertools.takewhile(lambda halving: halving is not None, halvings))


FALLING = [10.0 - 0.1 * epoch for epoch in range(30)]


@pytest.mark.parametrize(
    ("losses", "schedule", "expected"),
    [
        # Three epochs without a better one, four halvings, the end; what they score is no matter.
        ([5, 4, 4, 4.5, 6, 1, 1, 1, 1], Schedule(), [0] * 5 + [1, 2, 3, 4]),
        ([5, 6, 7, 8, 1, 1, 1, 1], Schedule(), [0] * 4 + [1, 2, 3, 4]),
        # Equal is not better.
        ([5, 5, 5, 5, 5, 5, 5, 5], Schedule(), [0] * 4 + [1, 2, 3, 4]),
        # Two without a better one, then a better one: the waiting begins anew.
        ([5, 6, 6, 4, 6, 6, 6, 1, 1, 1, 1], Schedule(), [0] * 7 + [1, 2, 3, 4]),
        # Better than the one before is not better than the best.
        ([5, 9, 8, 7, 1, 1, 1, 1], Schedule(), [0] * 4 + [1, 2, 3, 4]),
        # It falls for ever: the halving begins in time to end with the last epoch.
        (FALLING, Schedule(max_epochs=10), [0] * 6 + [1, 2, 3, 4]),
        (FALLING, Schedule(max_epochs=5), [0, 1, 2, 3, 4]),
        # No time for all of them: the first epoch is at the full rate nevertheless.
        (FALLING, Schedule(max_epochs=4), [0, 1, 2, 3]),
        (FALLING, Schedule(max_epochs=2), [0, 1]),
        (FALLING, Schedule(max_epochs=1), [0]),
        (FALLING, Schedule(max_epochs=3, halvings=0), [0, 0, 0]),
        ([5, 6, 7, 8], Schedule(max_epochs=9, halvings=0, patience=2), [0, 0, 0]),
        ([5, 6, 1, 1], Schedule(max_epochs=9, halvings=2, patience=1), [0, 0, 1, 2]),
    ],
)
def test_schedule_of_a_history(losses, schedule, expected):
    assert played(schedule, losses) == expected


def test_schedule_is_the_rule_for_any_history():
    """Over all short histories of three values, and random long ones."""
    rng = np.random.default_rng(0)
    histories = [list(losses) for losses in itertools.product((1, 2, 3), repeat=5)]
    histories += [list(rng.integers(40, size=30)) for _ in range(40)]
    histories += [list(np.arange(30) * -1.0 + rng.normal(scale=2, size=30)) for _ in range(40)]
    for max_epochs, patience, halvings in itertools.product((1, 3, 5), (1, 3), (0, 2, 4)):
        schedule = Schedule(max_epochs, patience, halvings)
        for losses in histories:
            assert played(schedule, losses) == simulate(losses, max_epochs, patience, halvings)
    for losses in histories[-80:]:
        assert played(Schedule(30), losses) == simulate(losses, 30, 3, 4)


def test_schedule_asks_nothing_but_the_history():
    """A resumed trial that asks in the middle gets what the unbroken one got."""
    losses = [5, 4, 4, 4.5, 6, 1, 1, 1, 1]
    expected = [*simulate(losses, 100, 3, 4), None]
    for _ in range(2):
        backwards = [Schedule().next_halving(losses[:n]) for n in reversed(range(10))]
        assert backwards[::-1] == expected


# Clipping


def tree(seed=0):
    rng = np.random.default_rng(seed)
    return {"w": rng.normal(size=(3, 4)), "b": {"z": rng.normal(size=4), "r": rng.normal(size=4)}}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("clip_norm", [0.01, 1.0, 3.0, 1e9])
def test_sgd_follows_the_gradient_that_is_scaled_down_as_a_whole(clip_norm):
    gradient = tree()
    norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient)))
    assert 3 < norm < 1e9
    optimizer = clipped("sgd", 0.3, clip_norm)
    params = jax.tree.map(jnp.asarray, tree(1))
    updates, _ = optimizer.update(
        jax.tree.map(jnp.asarray, gradient), optimizer.init(params), params
    )
    factor = min(1, clip_norm / norm)
    for ours, theirs in zip(jax.tree.leaves(updates), jax.tree.leaves(gradient), strict=True):
        np.testing.assert_allclose(ours, -0.3 * theirs * factor, rtol=1e-12)


def test_a_gradient_of_zero_is_no_update():
    zeros = {"w": jnp.zeros((2, 2))}
    optimizer = clipped("sgd", 0.3, 1.0)
    updates, _ = optimizer.update(zeros, optimizer.init(zeros), zeros)
    np.testing.assert_array_equal(updates["w"], jnp.zeros((2, 2)))


@pytest.fixture
def optax_promotes():
    """Adam of optax raises a Python float to the power of an integer array."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.usefixtures("float64", "optax_promotes")
def test_adam_is_adam_on_the_clipped_gradient():
    """Kingma and Ba 2015, algorithm 1, in NumPy; and optax's own at a constant rate."""
    rate, clip_norm = 0.02, 3.0
    optimizer = clipped("adam", jnp.asarray(rate), jnp.asarray(clip_norm))
    theirs = optax.adam(rate)
    params = jax.tree.map(jnp.asarray, tree())
    ours_state, theirs_state = optimizer.init(params), theirs.init(params)
    first = second = jax.tree.map(np.zeros_like, tree())
    for step in range(1, 5):
        gradient = tree(step)
        norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient)))
        scaled = jax.tree.map(lambda g, n=norm: g * min(1, clip_norm / n), gradient)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, scaled)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, second, scaled)
        expected = jax.tree.map(
            lambda m, v, k=step: -rate * (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.999**k)) + 1e-8),
            first,
            second,
        )
        ours, ours_state = optimizer.update(jax.tree.map(jnp.asarray, gradient), ours_state, params)
        reference, theirs_state = theirs.update(jax.tree.map(jnp.asarray, scaled), theirs_state)
        for a, b, c in zip(*map(jax.tree.leaves, (ours, expected, reference)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9)
            np.testing.assert_allclose(a, c, rtol=1e-12)


@pytest.mark.usefixtures("optax_promotes")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_settings_are_values_of_one_program(name):
    params = {"w": jnp.ones((2, 2))}
    gradient = {"w": jnp.full((2, 2), 5.0)}

    @jax.jit
    def update(learning_rate, clip_norm):
        optimizer = clipped(name, learning_rate, clip_norm)
        return optimizer.update(gradient, optimizer.init(params), params)[0]

    updates = {
        rate: np.asarray(update(rate, norm)["w"])
        for rate, norm in ((0.1, 1.0), (0.2, 2.0), (0.4, 100.0))
    }
    assert update._cache_size() == 1
    size = {"sgd": {0.1: 0.05, 0.2: 0.2, 0.4: 2.0}, "adam": {rate: rate for rate in updates}}[name]
    for rate, ours in updates.items():
        np.testing.assert_allclose(ours, np.full((2, 2), -size[rate]), rtol=1e-5)
