"""Inputs that are rows of a table, against the rows themselves."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.cells import CELLS
from seqlab.recurrence import Symbols, plain_unroll, unroll

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
B, T, V, H = 3, 4, 5, 3
LENGTHS = jnp.array([4, 2, 0])


def drawn(name, num_rows=V):
    rng = np.random.default_rng(0)

    def like(tree):
        return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), tree)

    params = like(jax.eval_shape(lambda: CELLS[name].init(jax.random.key(0), H, H)))
    ids = jnp.asarray(rng.integers(num_rows, size=(B, T)))
    return (
        params,
        like(CELLS[name].initial_carry(B, H)),
        jnp.asarray(rng.normal(size=(num_rows, H))),
        ids,
    )


def weighed(leaf):
    """Every element counts, each with its own weight."""
    weights = jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape)
    return (weights * jnp.sin(leaf)).sum()


def value_and_gradients(run, cell, look_up, **how):
    def value(params, carry, table, ids):
        xs = table[ids] if look_up else Symbols(ids, table)
        carry, ys = run(cell, params, carry, xs, **how)
        return sum(weighed(leaf) for leaf in jax.tree.leaves((carry, ys)))

    return jit(jax.value_and_grad(value, argnums=(0, 1, 2)))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("how", [{}, {"lengths": LENGTHS, "reverse": True}], ids=["all", "lengths"])
@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "mut1", "mut2", "mut3", "lstm_peephole"])
def test_symbols_are_the_rows_of_their_table(name, how):
    arguments = drawn(name)
    expected = value_and_gradients(plain_unroll, CELLS[name], True, **how)(*arguments)
    for run in (unroll, plain_unroll):
        ours = value_and_gradients(run, CELLS[name], False, **how)(*arguments)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-10),
                     ours, expected)  # fmt: skip


@pytest.mark.usefixtures("float64")
def test_forward_mode_and_vmap():
    params, carry, table, ids = drawn("gru")

    def ys(run, table, ids):
        return run(CELLS["gru"], params, carry, Symbols(ids, table))[1]

    for of in (
        lambda run: jax.jvp(lambda table: ys(run, table, ids), (table,), (table,)),
        lambda run: jax.vmap(lambda table: ys(run, table, ids))(jnp.stack([table, 2 * table])),
        lambda run: jax.vmap(lambda ids: ys(run, table, ids))(jnp.stack([ids, ids[::-1]])),
    ):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-10),
                     of(unroll), of(plain_unroll))  # fmt: skip


@pytest.mark.parametrize("num_rows", [V, B * T, 50])
def test_the_input_product_is_of_the_table_where_that_is_smaller(num_rows):
    params, carry, table, ids = drawn("lstm", num_rows)

    def ys(params, table):
        return unroll(CELLS["lstm"], params, carry, Symbols(ids, table))[1]

    text = jax.jit(ys).lower(params, table).as_text()
    left_sides = re.findall(r"dot_general .*: \(tensor<(\S+?)xf32>, ", text)
    assert len(left_sides) == 4 + 1  # x @ w_x· apart, h @ w_h· together
    assert (f"{num_rows}x{H}" in left_sides) == (num_rows <= B * T)
    assert (f"{T}x{B}x{H}" in left_sides) == (num_rows > B * T)
