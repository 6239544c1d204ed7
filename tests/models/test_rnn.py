"""Layers, stacks and both directions, against cells that are stepped by hand."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.cells import CELLS
from seqlab.models.rnn import RNN, Bidirectional, bidirectional_stack, dropout, stack

BATCH, TIME, HIDDEN = 2, 3, 3
LENGTHS = np.array([3, 1])

# What is tested is the program, not the optimiser of the compiler: this halves the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def inputs(width=2, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(BATCH, TIME, width)))


def by_hand(name, params, carry, xs, lengths=None, reverse=False):
    """One layer, row by row and real step by real step."""
    cell = CELLS[name]
    xs = xs @ params["w_j"] if "w_j" in params else xs
    params = params["cell"]
    carry = cell.initial_carry(BATCH, HIDDEN) if carry is None else carry
    carries, rows = [], []
    for b, length in enumerate([TIME] * BATCH if lengths is None else lengths):
        row_carry = jax.tree.map(lambda leaf, b=b: leaf[b : b + 1], carry)
        row = [jnp.zeros((1, HIDDEN))] * TIME
        for t in reversed(range(length)) if reverse else range(length):
            row_carry, row[t] = cell.step(params, row_carry, xs[b : b + 1, t])
        carries.append(row_carry)
        rows.append(jnp.stack(row, axis=1))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *carries), jnp.concatenate(rows)


def both_by_hand(name, params, carry, xs, lengths):
    forward, forward_ys = by_hand(name, params["forward"], carry[0], xs, lengths)
    backward, backward_ys = by_hand(name, params["backward"], carry[1], xs, lengths, reverse=True)
    return (forward, backward), jnp.concatenate([forward_ys, backward_ys], axis=-1)


def assert_close(ours, theirs, atol=1e-12):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def assert_equal(ours, theirs):
    assert_close(ours, theirs, atol=0)


def initialised(layers, xs):
    return jit(layers.init)(jax.random.key(0), xs)["params"]


def random_like(tree, seed=1):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), tree)


# One layer


@pytest.mark.parametrize("name", CELLS)
def test_params_are_the_flat_dict_of_the_cell(name):
    cell = CELLS[name]
    layer = RNN(cell, HIDDEN)
    xs = jax.ShapeDtypeStruct((BATCH, TIME, HIDDEN), jnp.float32)
    theirs = jax.eval_shape(lambda: cell.init(jax.random.key(0), HIDDEN, HIDDEN))
    assert jax.eval_shape(layer.init, jax.random.key(0), xs) == {"params": {"cell": theirs}}


def test_params_are_drawn_by_the_cell_for_the_width_of_its_input():
    cell = initialised(RNN(CELLS["lstm_jzs_bias"], 64), jnp.zeros((1, 1, 16)))["cell"]
    assert cell["w_xi"].shape == (16, 64)
    np.testing.assert_array_equal(cell["b_f"], np.ones(64))
    np.testing.assert_allclose(np.std(cell["w_hi"]), 1 / 8 / 3**0.5, rtol=0.05)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", ["rnn", "lstm", "mut1", "lstm_fgr"])
def test_layer_is_the_cell_stepped_by_hand(name, reverse):
    layer, xs = RNN(CELLS[name], HIDDEN, reverse=reverse), inputs(HIDDEN)
    params = initialised(layer, xs)
    carry = random_like(layer.initial_carry(BATCH))
    ours = jit(layer.apply)({"params": params}, xs, carry, jnp.asarray(LENGTHS))
    assert_close(ours, by_hand(name, params, carry, xs, LENGTHS, reverse))


# Stacks


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("num_layers", [1, 2, 3, 4])
def test_stack_hands_outputs_up(num_layers):
    layers, xs = stack(CELLS["lstm"], HIDDEN, num_layers), inputs()
    params = initialised(layers, xs)
    assert len(params) == num_layers
    drawn = {np.asarray(layer["cell"]["w_hi"]).tobytes() for layer in params.values()}
    assert len(drawn) == num_layers, "every layer has params of its own"
    carries = random_like(layers.initial_carry(BATCH))
    ours = jit(layers.apply)({"params": params}, xs, carries, jnp.asarray(LENGTHS))
    expected = []
    for number, carry in enumerate(carries):
        carry, xs = by_hand("lstm", params[f"layers_{number}"], carry, xs, LENGTHS)
        expected.append(carry)
    assert_close(ours, (tuple(expected), xs))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_bidirectional_is_two_layers_side_by_side(lengths):
    layer, xs = Bidirectional(RNN(CELLS["gru"], 3), RNN(CELLS["gru"], 3, reverse=True)), inputs()
    params = initialised(layer, xs)
    carry = random_like(layer.initial_carry(BATCH))
    jax_lengths = None if lengths is None else jnp.asarray(lengths)
    ours = jit(layer.apply)({"params": params}, xs, carry, jax_lengths)
    assert_close(ours, both_by_hand("gru", params, carry, xs, lengths))


@pytest.mark.usefixtures("float64")
def test_bidirectional_directions_may_differ_in_cell_and_width():
    layer = Bidirectional(RNN(CELLS["rnn"], 2), RNN(CELLS["lstm"], HIDDEN, reverse=True))
    xs = inputs()
    params = initialised(layer, xs)
    (_, backward), ys = jit(layer.apply)({"params": params}, xs)
    theirs = by_hand("lstm", params["backward"], None, xs, reverse=True)
    assert_close((backward, ys[:, :, 2:]), theirs)


@pytest.mark.usefixtures("float64")
def test_bidirectional_stack_reads_both_directions_of_the_layer_below():
    layers, xs = bidirectional_stack(CELLS["lstm"], HIDDEN, 2), inputs()
    params = initialised(layers, xs)
    carry = random_like(layers.initial_carry(BATCH))
    ours = jit(layers.apply)({"params": params}, xs, carry, jnp.asarray(LENGTHS))
    first, ys = both_by_hand("lstm", params["layers_0"], carry[0], xs, LENGTHS)
    second, ys = both_by_hand("lstm", params["layers_1"], carry[1], ys, LENGTHS)
    assert_close(ours, ((first, second), ys))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["mut1", "mut2"])
def test_raw_x_is_projected_to_the_width_of_the_cell(name):
    """The second bidirectional layer reads 2H columns, and x stands without a matrix here."""
    layers, xs = bidirectional_stack(CELLS[name], HIDDEN, 2), inputs(HIDDEN)
    params = initialised(layers, xs)
    assert all(("w_j" in params["layers_1"][way]) for way in ("forward", "backward"))
    assert "w_j" not in params["layers_0"]["forward"]
    ours = jit(layers.apply)({"params": params}, xs)
    first, ys = both_by_hand(name, params["layers_0"], (None, None), xs, None)
    second, ys = both_by_hand(name, params["layers_1"], (None, None), ys, None)
    assert_close(ours, ((first, second), ys))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("make", [stack, bidirectional_stack])
@pytest.mark.parametrize("name", ["rnn", "lstm"])
def test_no_carry_is_the_initial_carry(make, name):
    layers, xs = make(CELLS[name], HIDDEN, 2), inputs()
    params = {"params": initialised(layers, xs)}
    apply = jit(layers.apply)
    assert_equal(apply(params, xs), apply(params, xs, layers.initial_carry(BATCH)))


# Dropout


def test_dropout_keeps_the_mean_and_drops_at_its_rate():
    count = 200_000
    for rate in (0.1, 0.5, 0.8):
        dropped = np.asarray(dropout(jax.random.key(0), rate, jnp.ones(count)))
        kept = dropped != 0
        np.testing.assert_allclose(dropped[kept], 1 / (1 - rate), rtol=1e-6)
        # Four standard deviations of a binomial.
        atol = 4 * (rate * (1 - rate) / count) ** 0.5
        np.testing.assert_allclose(kept.mean(), 1 - rate, rtol=0, atol=atol)
        np.testing.assert_allclose(dropped.mean(), 1, rtol=0, atol=atol / (1 - rate))


def test_dropout_of_rate_zero_is_the_identity_and_gradients_flow_where_it_kept():
    x = jnp.asarray(np.random.default_rng(0).normal(size=1000), jnp.float32)
    assert_equal(dropout(jax.random.key(0), 0.0, x), x)
    gradient = jax.grad(lambda x: dropout(jax.random.key(0), 0.25, x).sum())(x)
    kept = np.asarray(dropout(jax.random.key(0), 0.25, x)) != 0
    np.testing.assert_array_equal(gradient, np.where(kept, np.float32(1) / np.float32(0.75), 0))


@pytest.mark.usefixtures("float64")
def test_dropout_is_on_the_way_up_only():
    """Layer 1 runs as without dropout; layer 2 gets what is left of it, and drops on its own."""
    two, xs = stack(CELLS["lstm"], HIDDEN, 2), inputs()
    params = initialised(two, xs)
    rngs = {"dropout": jax.random.key(5)}
    one = stack(CELLS["lstm"], HIDDEN, 1)
    (first,), up = one.apply(
        {"params": {"layers_0": params["layers_0"]}}, xs, dropout_rate=0.5, rngs=rngs
    )
    carries, ys = two.apply({"params": params}, xs, dropout_rate=0.5, rngs=rngs)

    undropped, whole = by_hand("lstm", params["layers_0"], None, xs)
    assert_close((first, carries[0]), (undropped, undropped))
    kept = np.asarray(up) != 0
    assert 0 < kept.sum() < kept.size
    assert_close(up, np.where(kept, 2 * whole, 0))

    second, whole = by_hand("lstm", params["layers_1"], None, up)
    assert_close(carries[1], second)
    kept_too = np.asarray(ys) != 0
    assert 0 < kept_too.sum() < kept_too.size
    assert_close(ys, np.where(kept_too, 2 * whole, 0))
    assert (kept != kept_too).any(), "the layers draw apart"


def test_dropout_rate_is_a_value_of_the_program():
    layers, xs = stack(CELLS["rnn"], HIDDEN, 2), jnp.ones((BATCH, TIME, 2))
    params = {"params": initialised(layers, xs)}

    @jit
    def run(rate, key):
        return layers.apply(params, xs, dropout_rate=rate, rngs={"dropout": key})

    outcomes = [run(rate, jax.random.key(1))[1] for rate in (0.0, 0.3, 0.6)]
    outcomes.append(run(0.6, jax.random.key(2))[1])
    assert run._cache_size() == 1
    np.testing.assert_allclose(outcomes[0], layers.apply(params, xs)[1], rtol=0, atol=1e-6)
    for a, b in itertools.pairwise(outcomes):
        assert (np.asarray(a) != np.asarray(b)).any()
