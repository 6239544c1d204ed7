"""The density of a step against SciPy, and what is drawn from it against the density."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from seqlab.models import mixture

COMPONENTS = 4


def numbers(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, mixture.outputs(COMPONENTS)))


def by_hand(said: np.ndarray) -> tuple[list[float], list, list[float]]:
    """π, the Gaussians of SciPy, and the pen's probabilities of one row of numbers."""
    weights, gaussians = [], []
    for m in range(COMPONENTS):
        weight, mean_x, mean_y, log_x, log_y, correlation = said[6 * m : 6 * m + 6]
        sx, sy, rho = np.exp(log_x), np.exp(log_y), np.tanh(correlation)
        covariance = [[sx**2, rho * sx * sy], [rho * sx * sy, sy**2]]
        gaussians.append(stats.multivariate_normal([mean_x, mean_y], covariance))
        weights.append(np.exp(weight))
    pens = np.exp(said[6 * COMPONENTS :])
    return [w / sum(weights) for w in weights], gaussians, (pens / pens.sum()).tolist()


def test_the_density_is_that_of_scipy():
    said = numbers(30)
    rng = np.random.default_rng(1)
    offsets, pens = rng.normal(size=(30, 2)), rng.integers(3, size=30)
    density = mixture.split(jnp.asarray(said, jnp.float32))
    found = mixture.offset_nll(density, jnp.asarray(offsets, jnp.float32))
    of_pens = mixture.pen_nll(density, jnp.asarray(pens, jnp.int32))
    for row in range(30):
        weights, gaussians, shares = by_hand(said[row])
        p = sum(w * g.pdf(offsets[row]) for w, g in zip(weights, gaussians, strict=True))
        np.testing.assert_allclose(found[row], -np.log(p), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(of_pens[row], -np.log(shares[pens[row]]), rtol=1e-5)


@pytest.mark.parametrize("size", [1e2, 1e4])
def test_density_and_gradient_are_finite_whatever_is_said(size):
    rng = np.random.default_rng(2)
    said = jnp.asarray(size * rng.choice([-1.0, 0.0, 1.0], (200, mixture.outputs(3))), jnp.float32)
    offsets = jnp.asarray(rng.choice([-50.0, 0.0, 50.0], (200, 2)), jnp.float32)
    pens = jnp.asarray(rng.integers(3, size=200), jnp.int32)

    @jax.value_and_grad
    def loss(said):
        density = mixture.split(said)
        return (mixture.offset_nll(density, offsets) + mixture.pen_nll(density, pens)).sum()

    value, grads = loss(said)
    assert np.isfinite(value)
    assert np.isfinite(grads).all()
    assert np.abs(grads).max() > 0


def test_a_grid_may_be_known_for_certain_and_the_density_has_a_bound():
    """All means on the offset, deviations as small as they may be."""
    said = np.zeros((1, mixture.outputs(1)), np.float32)
    said[0, 3:5] = -1e6
    (nll,) = mixture.offset_nll(mixture.split(jnp.asarray(said)), jnp.zeros((1, 2)))
    assert nll == pytest.approx(np.log(2 * np.pi) + 2 * mixture.LOG_DEVIATION[0], rel=1e-5)


@pytest.mark.parametrize("temperature", [0.4, 1.0])
def test_what_is_drawn_has_the_moments_of_the_density(temperature):
    said, count = numbers(1, seed=3)[0], 40_000
    rows = jnp.broadcast_to(jnp.asarray(said, jnp.float32), (count, len(said)))
    density = mixture.split(rows)
    offsets, pens = jax.jit(mixture.sample)(jax.random.key(0), density, temperature)
    weights, gaussians, shares = by_hand(said)
    heated = np.array(weights) ** (1 / temperature)
    heated /= heated.sum()
    mean = sum(w * g.mean for w, g in zip(heated, gaussians, strict=True))
    second = sum(
        w * (temperature * g.cov + np.outer(g.mean, g.mean))
        for w, g in zip(heated, gaussians, strict=True)
    )
    drawn = np.asarray(offsets, np.float64)
    scatter = np.sqrt(np.diag(second - np.outer(mean, mean)))
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=5 * scatter.max() / count**0.5)
    found = drawn.T @ drawn / count
    np.testing.assert_allclose(found, second, atol=0.05 * np.abs(second).max())
    of_pens = np.array(shares) ** (1 / temperature)
    counted = np.bincount(np.asarray(pens), minlength=3) / count
    np.testing.assert_allclose(counted, of_pens / of_pens.sum(), atol=0.015)


def test_at_temperature_0_the_heaviest_mean_and_the_likeliest_pen():
    said = numbers(20, seed=4)
    density = mixture.split(jnp.asarray(said, jnp.float32))
    offsets, pens = mixture.sample(jax.random.key(1), density, 0.0)
    for row in range(20):
        weights, gaussians, shares = by_hand(said[row])
        best = gaussians[int(np.argmax(weights))]
        np.testing.assert_allclose(offsets[row], best.mean, rtol=1e-5)
        assert int(pens[row]) == int(np.argmax(shares))
