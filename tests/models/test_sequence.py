"""Language model and frame predictor against a forward pass in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.cells import CELLS
from seqlab.models.rnn import stack
from seqlab.models.sequence import FramePredictor, LanguageModel

BATCH, TIME, UNITS = 2, 4, 3
NUM_SYMBOLS, NUM_CHANNELS = 7, 5


def make(kind, num_layers=2, cell="rnn", width=UNITS):
    size = NUM_SYMBOLS if kind is LanguageModel else NUM_CHANNELS
    return kind(stack(CELLS[cell], UNITS, num_layers), size, width)


def values(kind, seed=0):
    rng = np.random.default_rng(seed)
    if kind is LanguageModel:
        return jnp.asarray(rng.integers(NUM_SYMBOLS, size=(BATCH, TIME)), jnp.int32)
    return jnp.asarray(rng.integers(2, size=(BATCH, TIME, NUM_CHANNELS)), jnp.uint8)


def drawn(model, xs, seed=1):
    """Params in which nothing is zero, biases included."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0), xs)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), shapes)


def by_numpy(params, xs, hs):
    """Embedding, layers of h' = tanh(x W + h U + b), head."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"])
    xs, hs, logits = np.asarray(xs), list(hs), []
    for t in range(xs.shape[1]):
        if "kernel" in p["embedding"]:
            y = xs[:, t].astype(np.float64) @ p["embedding"]["kernel"] + p["embedding"]["bias"]
        else:
            y = p["embedding"]["embedding"][xs[:, t]]
        for number in range(len(hs)):
            cell = p["stack"][f"layers_{number}"]["cell"]
            y = hs[number] = np.tanh(y @ cell["w_xh"] + hs[number] @ cell["w_hh"] + cell["b_h"])
        logits.append(y @ p["head"]["kernel"] + p["head"]["bias"])
    return tuple(hs), np.stack(logits, axis=1)


@pytest.mark.parametrize("kind", [LanguageModel, FramePredictor])
def test_logits_are_those_of_numpy_and_the_carry_goes_on(kind):
    model = make(kind)
    first, second = values(kind, seed=0), values(kind, seed=1)
    params = drawn(model, first)
    apply = jax.jit(model.apply)

    carry, logits = apply(params, first, model.initial_carry(BATCH))
    hs, expected = by_numpy(params, first, np.zeros((2, BATCH, UNITS)))
    np.testing.assert_allclose(logits, expected, rtol=0, atol=2e-5)
    for ours, theirs in zip(carry, hs, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)

    _, logits = apply(params, second, carry)
    _, expected = by_numpy(params, second, hs)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=2e-5)
    _, from_nothing = apply(params, first)
    np.testing.assert_array_equal(from_nothing, apply(params, first, model.initial_carry(BATCH))[1])


@pytest.mark.parametrize("kind", [LanguageModel, FramePredictor])
def test_every_matrix_starts_uniform_and_every_bias_at_zero(kind):
    units = 100
    size = 400
    model = kind(stack(CELLS["gru"], units, 1), size, units)
    symbols = kind is LanguageModel
    one = jnp.zeros((1, 1) if symbols else (1, 1, size), jnp.int32 if symbols else jnp.uint8)
    params = jax.jit(model.init)(jax.random.key(0), one)["params"]
    seen = set()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if leaf.ndim == 1:
            np.testing.assert_array_equal(leaf, np.zeros(leaf.shape), err_msg=str(path))
            continue
        assert -0.1 <= leaf.min() < -0.099, path
        assert 0.099 < leaf.max() <= 0.1, path
        np.testing.assert_allclose(leaf.std(), 0.1 / 3**0.5, rtol=0.02, err_msg=str(path))
        seen.add(np.asarray(leaf).tobytes())
    assert len(seen) == 8, "six matrices of the cell, embedding and head, all different"


@pytest.mark.parametrize("kind", [LanguageModel, FramePredictor])
def test_dropout_is_on_the_embedding_too_and_rate_zero_is_none(kind):
    model = make(kind)
    xs = values(kind)
    params = drawn(model, xs)

    @jax.jit
    def run(rate):
        return model.apply(params, xs, None, rate, rngs={"dropout": jax.random.key(3)})

    plain = model.apply(params, xs)
    for a, b in zip(jax.tree.leaves(run(0.0)), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
    (lowest, _), _ = run(0.5)
    assert (np.asarray(lowest) != np.asarray(plain[0][0])).any()
    assert run._cache_size() == 1


@pytest.mark.parametrize("name", ["mut1", "mut2"])
def test_raw_x_of_another_width_is_projected_as_symbols_too(name):
    """A table with its rows projected is the table of a network as wide as its cells."""
    wide, narrow = make(LanguageModel, 1, name, UNITS + 1), make(LanguageModel, 1, name)
    xs = values(LanguageModel)
    params = drawn(wide, xs)["params"]
    table = params["embedding"]["embedding"] @ params["stack"]["layers_0"]["w_j"]
    cell = {"layers_0": {"cell": params["stack"]["layers_0"]["cell"]}}
    same = params | {"embedding": {"embedding": table}, "stack": cell}
    _, ours = jax.jit(wide.apply)({"params": params}, xs)
    _, theirs = jax.jit(narrow.apply)({"params": same}, xs)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
