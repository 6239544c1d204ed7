"""What must hold of every cell, and of pairs of cells, whatever the numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import drawn, normal_like, steps
from oracles import ORACLES

from seqlab.cells import CELLS
from seqlab.cells.base import LSTMCarry, uniform


def assert_close(ours, theirs, atol=1e-12):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def assert_equal(ours, theirs):
    assert_close(ours, theirs, atol=0)


# Over every cell


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", CELLS)
def test_jit_changes_nothing(name):
    params, carry, xs = drawn(CELLS[name])
    jitted = jax.jit(CELLS[name].step)
    assert_close(jitted(params, carry, xs[0]), CELLS[name].step(params, carry, xs[0]))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", CELLS)
def test_vmap_is_a_loop(name):
    cell = CELLS[name]
    each = [drawn(cell, seed=seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    together = jax.vmap(cell.step)(stacked.params, stacked.carry, stacked.xs[:, 0])
    for seed, (params, carry, xs) in enumerate(each):
        alone = cell.step(params, carry, xs[0])
        assert_close(jax.tree.map(lambda leaf, seed=seed: leaf[seed], together), alone)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", CELLS)
def test_examples_of_a_batch_do_not_see_each_other(name):
    cell = CELLS[name]
    params, carry, xs = drawn(cell, batch=3)
    together = cell.step(params, carry, xs[0])
    for b in range(3):

        def only(tree, b=b):
            return jax.tree.map(lambda leaf: leaf[b : b + 1], tree)

        assert_close(only(together), cell.step(params, only(carry), xs[0, b : b + 1]))


@pytest.mark.parametrize("name", CELLS)
def test_step_keeps_the_form_of_the_carry(name):
    """What a loop over time needs: the carry that comes out is like the one that went in."""
    cell = CELLS[name]

    def both():
        params = cell.init(jax.random.key(0), 3, 3)
        carry = cell.initial_carry(2, 3)
        return carry, *cell.step(params, carry, jnp.ones((2, 3)))

    before, after, y = jax.eval_shape(both)
    assert before == after
    assert y == jax.ShapeDtypeStruct((2, 3), jnp.float32)


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_initial_carry_is_zero_in_the_asked_dtype(name, dtype):
    for leaf in jax.tree.leaves(CELLS[name].initial_carry(2, 3, dtype)):
        assert leaf.dtype == dtype
        assert_equal(leaf, jnp.zeros((2, 3), dtype))


# Initialisation


@pytest.mark.parametrize("name", ORACLES)
def test_init_is_uniform_with_zero_biases(name):
    hidden_dim = 64
    params = CELLS[name].init(jax.random.key(0), hidden_dim, hidden_dim)
    bound = 1 / 8
    for symbol, value in params.items():
        if symbol.startswith("b_"):
            remembers = (name, symbol) == ("lstm_jzs_bias", "b_f")
            assert_equal(value, jnp.full(hidden_dim, 1.0 if remembers else 0.0))
            continue
        # The largest of n draws falls short of the bound by about bound / n.
        assert -bound <= value.min() < -0.8 * bound
        assert 0.8 * bound < value.max() <= bound
        if value.ndim == 2:
            np.testing.assert_allclose(value.std(), bound / 3**0.5, rtol=0.03)
            np.testing.assert_allclose(value.mean(), 0, atol=4 * bound / 3**0.5 / hidden_dim)


def test_bound_is_of_the_hidden_width():
    w = uniform(w_xh="DH")(jax.random.key(0), 400, 4)["w_xh"]
    assert 0.49 < jnp.abs(w).max() <= 0.5


@pytest.mark.parametrize("name", ORACLES)
def test_init_depends_on_the_key_and_the_symbol(name):
    init = CELLS[name].init
    params = init(jax.random.key(1), 4, 4)
    assert_equal(init(jax.random.key(1), 4, 4), params)
    other = init(jax.random.key(2), 4, 4)
    weights = {s: v for s, v in params.items() if not s.startswith("b_")}
    seen = {value.tobytes() for value in map(np.asarray, weights.values())}
    assert len(seen) == len(weights)
    for symbol, value in weights.items():
        assert not np.any(np.asarray(value) == np.asarray(other[symbol]))


def test_a_shape_is_letters_d_and_h():
    with pytest.raises(ValueError, match="w_xh='DX'"):
        uniform(w_xh="DX")


@pytest.mark.parametrize("name", ["mut1", "mut2"])
def test_raw_x_needs_equal_widths(name):
    with pytest.raises(ValueError, match=rf"{name} .* 2 and 3: x enters its equation raw") as error:
        CELLS[name].init(jax.random.key(0), 2, 3)
    assert "\n" not in str(error.value)


# Between cells


@pytest.mark.usefixtures("float64")
def test_gru_flipped_is_gru_with_the_sign_of_z_turned():
    params, h, xs = drawn(CELLS["gru"], input_dim=2)
    turned = params | {symbol: -params[symbol] for symbol in ("w_xz", "w_hz", "b_z")}
    assert_close(
        steps(CELLS["gru_flipped"], turned, h, xs),
        steps(CELLS["gru"], params, h, xs),
    )


@pytest.mark.usefixtures("float64")
def test_lstm_np_is_lstm_in_other_letters():
    params, carry, xs = drawn(CELLS["lstm"], input_dim=2)
    letters = {"i": "i", "f": "f", "o": "o", "g": "z"}
    renamed = {}
    for deck, greff in letters.items():
        renamed["w_" + greff] = params["w_x" + deck]
        renamed["r_" + greff] = params["w_h" + deck]
        renamed["b_" + greff] = params["b_" + deck]
    assert_close(
        steps(CELLS["lstm_np"], renamed, carry, xs),
        steps(CELLS["lstm"], params, carry, xs),
    )


@pytest.mark.usefixtures("float64")
def test_peepholes_of_zero_are_no_peepholes():
    params, carry, xs = drawn(CELLS["lstm_np"], input_dim=2)
    blind = params | {symbol: jnp.zeros(3) for symbol in ("p_i", "p_f", "p_o")}
    assert_close(
        steps(CELLS["lstm_peephole"], blind, carry, xs),
        steps(CELLS["lstm_np"], params, carry, xs),
    )


@pytest.mark.usefixtures("float64")
def test_fgr_without_gate_recurrence_is_the_vanilla_lstm():
    rng = np.random.default_rng(0)
    params, carry, xs = drawn(CELLS["lstm_peephole"], input_dim=2)
    gates = {"r_" + a + b: jnp.zeros((3, 3)) for a in "ifo" for b in "ifo"}
    fgr = normal_like(rng, CELLS["lstm_fgr"].initial_carry(2, 3))
    fgr = fgr._replace(c=carry.c, h=carry.h)
    last, ys = steps(CELLS["lstm_fgr"], params | gates, fgr, xs)
    assert_close(
        (LSTMCarry(last.c, last.h), ys),
        steps(CELLS["lstm_peephole"], params, carry, xs),
    )


def test_lstm_jzs_bias_is_lstm_jzs_that_starts_remembering():
    biased, plain = CELLS["lstm_jzs_bias"], CELLS["lstm_jzs"]
    expected = plain.init(jax.random.key(0), 2, 3)
    expected["b_f"] = jnp.ones(3)
    params = biased.init(jax.random.key(0), 2, 3)
    assert_equal(params, expected)
    carry = plain.initial_carry(2, 3)
    assert_equal(
        biased.step(params, carry, jnp.ones((2, 2))), plain.step(expected, carry, jnp.ones((2, 2)))
    )
