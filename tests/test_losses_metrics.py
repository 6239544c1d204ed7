"""Losses and metrics against NumPy in float64; what is not scored is not there."""

import math
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.errors import InputError
from seqlab.losses import frame_nll, measurement_nll, symbol_nll
from seqlab.metrics import frame_sums, means, measurement_sums, symbol_sums

B, T, V = 3, 4, 5


def symbols(seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=3, size=(B, T, V))
    return logits, rng.integers(V, size=(B, T)), rng.random((B, T)) < 0.6


def frames(seed=0):
    logits, _, where = symbols(seed)
    targets = np.random.default_rng(seed).integers(2, size=(B, T, V)).astype(np.uint8)
    return logits, targets, where


def measurements(seed=0):
    predicted, _, where = symbols(seed)
    targets = np.random.default_rng(seed + 100).normal(size=(B, T, V))
    return predicted, targets.astype(predicted.dtype), where


def symbol_oracle(logits, targets, where):
    """One position after the other."""
    sums = dict.fromkeys(("count", "nll", "accuracy", "probability"), 0.0)
    for b, t in np.argwhere(where):
        probabilities = np.exp(logits[b, t]) / np.exp(logits[b, t]).sum()
        sums["count"] += 1
        sums["nll"] -= np.log(probabilities[targets[b, t]])
        sums["accuracy"] += probabilities.argmax() == targets[b, t]
        sums["probability"] += probabilities[targets[b, t]]
    return sums


def frame_oracle(logits, targets, where):
    sums = {"count": 0.0, "nll": 0.0}
    for b, t in np.argwhere(where):
        on = 1 / (1 + np.exp(-logits[b, t]))
        sums["count"] += 1
        sums["nll"] -= np.log(np.where(targets[b, t] == 1, on, 1 - on)).sum()
    return sums


def measurement_oracle(predicted, targets, where):
    """The density of a Gaussian of unit variance, channel by channel."""
    sums = {"count": 0.0, "nll": 0.0, "squared_error": 0.0}
    for b, t in np.argwhere(where):
        sums["count"] += 1
        for said, truth in zip(predicted[b, t], targets[b, t], strict=True):
            sums["nll"] -= math.log(statistics.NormalDist(said, 1.0).pdf(truth))
            sums["squared_error"] += (said - truth) ** 2
    return sums


def map_to_jax(*arrays):
    return tuple(map(jnp.asarray, arrays))


CASES = [
    pytest.param(symbols, symbol_nll, symbol_sums, symbol_oracle, id="symbols"),
    pytest.param(frames, frame_nll, frame_sums, frame_oracle, id="frames"),
    pytest.param(
        measurements, measurement_nll, measurement_sums, measurement_oracle, id="measurements"
    ),
]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("draw", "nll", "sums", "oracle"), CASES)
def test_each_position_is_that_of_numpy(draw, nll, sums, oracle):
    logits, targets, where = draw()
    assert 0 < where.sum() < where.size
    ours = nll(jnp.asarray(logits), jnp.asarray(targets), jnp.asarray(where))
    theirs = np.zeros((B, T))
    for b, t in np.argwhere(where):
        only = np.zeros((B, T), bool)
        only[b, t] = True
        theirs[b, t] = oracle(logits, targets, only)["nll"]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    total = sums(jnp.asarray(logits), jnp.asarray(targets), jnp.asarray(where))
    expected = oracle(logits, targets, where)
    assert set(total) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(total[name], value, rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(("draw", "nll", "sums", "oracle"), CASES)
def test_what_is_not_scored_may_be_anything(draw, nll, sums, oracle):
    logits, targets, where = draw()
    logits = logits.astype(np.float32)
    rubbish = np.where(where[:, :, None], logits, np.nan)
    other = targets.copy()
    other[~where] = 1 - np.minimum(other[~where], 1)
    clean, dirty = (
        jax.tree.map(np.asarray, (nll(*arguments), sums(*arguments)))
        for arguments in (map_to_jax(logits, targets, where), map_to_jax(rubbish, other, where))
    )
    for a, b in zip(jax.tree.leaves(clean), jax.tree.leaves(dirty), strict=True):
        assert a.tobytes() == b.tobytes()
    gradient = np.asarray(
        jax.grad(lambda x: nll(x, *map_to_jax(targets, where)).sum())(jnp.asarray(logits))
    )
    assert (gradient[~where] == 0).all()
    assert (gradient[where] != 0).all()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("draw", "nll", "sums", "oracle"), CASES)
def test_windows_are_added_up_and_divided_once(draw, nll, sums, oracle):
    """The mean of the means of windows is something else, as they score unlike numbers."""
    parts = [draw(seed) for seed in range(3)]
    parts[2][2][1:] = False  # the last batch is partly padding
    assert len({part[2].sum() for part in parts}) == 3
    added = jax.tree.map(
        lambda *leaves: sum(leaves[1:], leaves[0]),
        *[sums(*map(jnp.asarray, part)) for part in parts],
    )
    whole = oracle(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    expected = {name: v / whole["count"] for name, v in whole.items() if name != "count"}
    assert means(added) == pytest.approx(expected, abs=1e-12)
    of_means = np.mean([means(sums(*map(jnp.asarray, part)))["nll"] for part in parts])
    assert abs(of_means - expected["nll"]) > 1e-3


def test_a_split_without_a_scored_position_has_no_mean():
    logits, targets, where = symbols()
    with pytest.raises(InputError, match="no scored position"):
        means(symbol_sums(*map(jnp.asarray, (logits, targets, np.zeros_like(where)))))


def test_extreme_logits_stay_finite():
    logits = jnp.array([[[1e4, -1e4, 0, 0, 0]]], jnp.float32)
    scored = jnp.array([[True]])
    np.testing.assert_allclose(symbol_nll(logits, jnp.array([[0]]), scored), [[0]])
    np.testing.assert_allclose(symbol_nll(logits, jnp.array([[1]]), scored), [[2e4]])
    right = jnp.array([[[1, 0, 0, 0, 0]]], jnp.uint8)
    np.testing.assert_allclose(frame_nll(logits, right, scored), [[3 * np.log(2)]], rtol=1e-6)
    np.testing.assert_allclose(frame_nll(logits, 1 - right, scored), [[2e4 + 3 * np.log(2)]])
