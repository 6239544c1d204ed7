"""Backpropagation through time, written out as the lectures print it, against JAX's gradient.

    h_t = tanh(U x_t + W h_{t−1})    z_t = V h_t    ŷ_t = softmax(z_t)
    E = Σ_t E_t = −Σ_t y_t·log ŷ_t

    ∂E_3/∂V = (ŷ_3 − y_3) ⊗ h_3
    ∂E_3/∂W = Σ_{k=0}^{3} ∂E_3/∂ŷ_3 · ∂ŷ_3/∂h_3 · ∂h_3/∂h_k · ∂⁺h_k/∂W

The page has columns, W h; the cell has rows, h W_hh. So U = W_xhᵀ and W = W_hhᵀ.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import drawn

from seqlab.cells import CELLS

pytestmark = pytest.mark.usefixtures("float64")

VOCABULARY = "helo"
HIDDEN = 2


class Weights(NamedTuple):
    u: np.ndarray  # [H, V]
    w: np.ndarray  # [H, H]
    v: np.ndarray  # [V, H]


def one_hot(text):
    return np.array([[float(c == symbol) for symbol in VOCABULARY] for c in text])


X, Y = one_hot("hell"), one_hot("ello")


@pytest.fixture
def weights():
    rng = np.random.default_rng(0)
    return Weights(
        u=rng.normal(size=(HIDDEN, 4)),
        w=rng.normal(size=(HIDDEN, HIDDEN)),
        v=rng.normal(size=(4, HIDDEN)),
    )


# By hand


class Forward(NamedTuple):
    hs: list[np.ndarray]  # hs[t] = h_t, and hs[-1], the last, is h before the first step
    predictions: list[np.ndarray]  # ŷ_t


def forward(weights):
    h = before = np.array([0.3, -0.6])
    hs, predictions = [], []
    for x in X:
        h = np.tanh(weights.u @ x + weights.w @ h)
        z = weights.v @ h
        hs.append(h)
        predictions.append(np.exp(z) / np.exp(z).sum())
    return Forward([*hs, before], predictions)


def dh_dh(weights, hs, t, k):
    """∂h_t/∂h_k, [H, H]: the product of diag(1 − h_j²) W over j = t, …, k+1."""
    product = np.eye(HIDDEN)
    for j in range(t, k, -1):
        product = product @ np.diag(1 - hs[j] ** 2) @ weights.w
    return product


def direct(h, seen):
    """∂⁺h_k/∂W, [H, H, H]: h_{k−1} held fixed. Entry a, m, n is ∂h_k[a]/∂W[m, n]."""
    return np.einsum("a,am,n->amn", 1 - h**2, np.eye(HIDDEN), seen)


def by_hand(weights, t, first=0):
    """∂E_t/∂U, ∂E_t/∂W and ∂E_t/∂V, the sums over k from `first` to t."""
    hs, predictions = forward(weights)
    prediction = predictions[t]
    de_dy = -Y[t] / prediction
    dy_dz = np.diag(prediction) - np.outer(prediction, prediction)
    dy_dh = dy_dz @ weights.v
    du, dw = np.zeros_like(weights.u), np.zeros_like(weights.w)
    for k in range(first, t + 1):
        to_h_k = de_dy @ dy_dh @ dh_dh(weights, hs, t, k)
        du += np.einsum("a,amn->mn", to_h_k, direct(hs[k], X[k]))
        dw += np.einsum("a,amn->mn", to_h_k, direct(hs[k], hs[k - 1]))
    return Weights(du, dw, np.outer(prediction - Y[t], hs[t]))


# By JAX, on the cell


def losses(weights, cut=0):
    """E_0, …, E_3; no gradient flows into the h that step `cut` reads."""
    params = {"w_xh": weights.u.T, "w_hh": weights.w.T, "b_h": jnp.zeros(HIDDEN)}
    h = jnp.array([[0.3, -0.6]])
    errors = []
    for t in range(4):
        if t == cut:
            h = jax.lax.stop_gradient(h)
        h, _ = CELLS["rnn"].step(params, h, jnp.asarray(X[t : t + 1]))
        log_prediction = jax.nn.log_softmax(weights.v @ h[0])
        errors.append(-jnp.vdot(Y[t], log_prediction))
    return errors


def assert_same(ours: Weights, theirs: Weights):
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-12)


def gradient(loss, weights):
    return jax.grad(loss)(Weights(*map(jnp.asarray, weights)))


def test_gradient_of_one_error(weights):
    expected = gradient(lambda w: losses(w)[3], weights)
    assert_same(by_hand(weights, t=3), expected)


def test_gradient_of_the_sum_of_errors(weights):
    each = [by_hand(weights, t) for t in range(4)]
    total = Weights(*(sum(parts) for parts in zip(*each, strict=True)))
    assert_same(total, gradient(lambda w: sum(losses(w)), weights))


@pytest.mark.parametrize("first", [1, 2, 3])
def test_truncation_drops_the_terms_before_the_window(weights, first):
    truncated = by_hand(weights, t=3, first=first)
    assert_same(truncated, gradient(lambda w: losses(w, cut=first)[3], weights))
    assert np.abs(truncated.w - by_hand(weights, t=3).w).max() > 1e-3


# Where the gradient flows


def test_rnn_multiplies_by_the_same_matrix_at_every_step():
    """∂h_T/∂h_t = Π diag(1 − h²) W_hhᵀ"""
    params, h, xs = drawn(CELLS["rnn"], time=4, batch=1, input_dim=2)

    def last(h0):
        h = h0[None]
        for x in xs:
            h, _ = CELLS["rnn"].step(params, h, x)
        return h[0]

    product = np.eye(3)
    state = np.asarray(h[0])
    for x in np.asarray(xs[:, 0]):
        state = np.tanh(x @ params["w_xh"] + state @ params["w_hh"] + params["b_h"])
        product = np.diag(1 - state**2) @ np.asarray(params["w_hh"]).T @ product
    np.testing.assert_allclose(jax.jacrev(last)(h[0]), product, rtol=0, atol=1e-12)


def test_lstm_multiplies_memory_by_forget_gates_alone():
    """∂c_T/∂c_t along c is diag(Π f): no matrix stands on the way."""
    params, carry, xs = drawn(CELLS["lstm"], time=4, batch=1, input_dim=2)

    def last(c0):
        state = carry._replace(c=c0[None])
        for x in xs:
            state, _ = CELLS["lstm"].step(params, state, x)
            state = state._replace(h=jax.lax.stop_gradient(state.h))
        return state.c[0]

    w_xf, w_hf, b_f = (np.asarray(params[symbol]) for symbol in ("w_xf", "w_hf", "b_f"))
    product = np.ones(3)
    state = carry
    for x in xs:
        product = product / (1 + np.exp(-(x[0] @ w_xf + state.h[0] @ w_hf + b_f)))
        state, _ = CELLS["lstm"].step(params, state, x)
    np.testing.assert_allclose(jax.jacrev(last)(carry.c[0]), np.diag(product), rtol=0, atol=1e-12)
