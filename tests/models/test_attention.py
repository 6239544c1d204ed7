"""Attention against loops in NumPy, one place at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.errors import InputError
from seqlab.models.attention import ATTENTIONS, doubly_stochastic, masked_softmax

BATCH, PLACES, WIDTH = 4, 5, 3
LENGTHS = np.array([5, 3, 1, 0])

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def memory_dim(name):
    return WIDTH if name == "dot" else 4


def drawn(name, seed=1):
    """Params in which nothing is zero."""
    shapes = jax.eval_shape(
        lambda: ATTENTIONS[name].init(jax.random.key(0), WIDTH, memory_dim(name))
    )
    return {key: normal(*leaf.shape, seed=seed + n) for n, (key, leaf) in enumerate(shapes.items())}


def by_hand(name, p, query, values):
    """Context and weights of one query, over places that are all real."""
    scores = []
    for place in values:
        if name in ("additive", "gated_additive"):
            scores.append(p["v"] @ np.tanh(query @ p["w_q"] + place @ p["w_m"]))
        elif name == "general":
            scores.append(query @ p["w_m"].T @ place)
        else:
            scores.append(query @ place)
    exps = np.exp(scores)
    weights = exps / exps.sum() if len(values) else exps
    context = np.zeros(memory_dim(name))
    for weight, place in zip(weights, values, strict=True):
        context += weight * place
    if name == "gated_additive":
        context = context / (1 + np.exp(-(query @ p["w_beta"] + p["b_beta"])))
    return context, weights


def attend(name):
    attention = ATTENTIONS[name]

    @jit
    def run(params, query, values, lengths):
        return attention.attend(params, query, attention.remember(params, values, lengths))

    return run


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ATTENTIONS)
def test_context_and_weights_are_those_of_the_equation(name):
    params, query = drawn(name), normal(BATCH, WIDTH)
    values = normal(BATCH, PLACES, memory_dim(name), seed=2)
    run = attend(name)
    contexts, weights = run(params, query, values, LENGTHS)
    whole_contexts, whole_weights = run(params, query, values, None)
    for b, n in enumerate(LENGTHS):
        context, alphas = by_hand(name, params, query[b], values[b, :n])
        np.testing.assert_allclose(contexts[b], context, rtol=0, atol=1e-14)
        np.testing.assert_allclose(weights[b, :n], alphas, rtol=0, atol=1e-15)
        np.testing.assert_array_equal(weights[b, n:], 0)
        np.testing.assert_allclose(weights[b].sum(), n > 0, rtol=0, atol=1e-15)
        context, alphas = by_hand(name, params, query[b], values[b])
        np.testing.assert_allclose(whole_contexts[b], context, rtol=0, atol=1e-14)
        np.testing.assert_allclose(whole_weights[b], alphas, rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_padding_has_no_effect_on_values_or_gradients(name):
    attention = ATTENTIONS[name]
    params = jax.tree.map(jnp.float32, drawn(name))
    query = jnp.asarray(normal(BATCH, WIDTH), jnp.float32)
    values = normal(BATCH, PLACES, memory_dim(name), seed=2).astype(np.float32)
    padding = np.arange(PLACES)[None] >= LENGTHS[:, None]

    @jit
    def run(params, query, values):
        def loss(params, query, values):
            memory = attention.remember(params, values, jnp.asarray(LENGTHS))
            context, weights = attention.attend(params, query, memory)
            return jnp.square(context).sum() + jnp.square(weights).sum(), (context, weights)

        return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(params, query, values)

    results = []
    for content in (0.0, 1e4, np.nan):
        padded = np.where(padding[:, :, None], np.float32(content), values)
        results.append(jax.tree.leaves(run(params, query, padded)))
    assert all(np.isfinite(leaf).all() for leaf in results[0])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_softmax_survives_large_scores():
    scores = jnp.array([[1e30, 1e30, 3e38], [-1e30, -3e38, 0.0], [jnp.nan, jnp.nan, jnp.nan]])
    weights = masked_softmax(scores, jnp.array([2, 1, 0]))
    np.testing.assert_array_equal(weights, [[0.5, 0.5, 0], [1, 0, 0], [0, 0, 0]])


def test_matrices_start_uniform_in_what_they_sum_over():
    params = ATTENTIONS["gated_additive"].init(jax.random.key(0), 100, 400)
    assert not params.pop("b_beta").any()
    for name, summed in {"w_q": 100, "w_m": 400, "v": 100, "w_beta": 100}.items():
        leaf = params.pop(name)
        assert 0.9 * summed**-0.5 < np.abs(leaf).max() <= summed**-0.5
        np.testing.assert_allclose(leaf.std(), (3 * summed) ** -0.5, rtol=0.15)
    assert not params


def test_dot_needs_equal_widths_in_one_line():
    with pytest.raises(InputError, match="dot attention needs a query as wide as the memory") as e:
        ATTENTIONS["dot"].init(jax.random.key(0), 3, 4)
    assert "\n" not in str(e.value)


# The doubly stochastic regulariser


WHERE = np.array([[True, True, True], [True, False, False]])


def regulariser_by_hand(weights):
    sums = []
    for b in range(2):
        total = 0.0
        for place in range(PLACES):
            looks = sum(weights[b, t, place] for t in range(3) if WHERE[b, t])
            total += (1 - looks) ** 2
        sums.append(total)
    return np.array(sums)


@pytest.mark.usefixtures("float64")
def test_regulariser_and_its_gradient():
    weights = np.abs(normal(2, 3, PLACES, seed=5))
    expected = regulariser_by_hand(weights)

    def ours(weights):
        return doubly_stochastic(weights, jnp.asarray(WHERE))

    np.testing.assert_allclose(ours(jnp.asarray(weights)), expected, rtol=0, atol=1e-14)
    gradient = jax.grad(lambda weights: ours(weights).sum())(jnp.asarray(weights))
    step = 1e-6
    for index in np.ndindex(*weights.shape):
        more, less = weights.copy(), weights.copy()
        more[index] += step
        less[index] -= step
        difference = (regulariser_by_hand(more) - regulariser_by_hand(less)).sum() / (2 * step)
        np.testing.assert_allclose(gradient[index], difference, rtol=0, atol=1e-8)
    np.testing.assert_array_equal(gradient[1, 1:], 0)


def test_regulariser_is_zero_where_every_place_is_looked_at_once():
    weights = jnp.eye(PLACES)[None]
    assert doubly_stochastic(weights, jnp.ones((1, PLACES), bool)).tolist() == [0]
    assert doubly_stochastic(weights, jnp.zeros((1, PLACES), bool)).tolist() == [PLACES]
