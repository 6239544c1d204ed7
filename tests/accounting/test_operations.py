"""Multiply-adds of traced functions against closed forms and scalar loops."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.accounting import Untold, account, of_cell
from seqlab.accounting.operations import macs, macs_inside, operations
from seqlab.cells import CELLS


def shape(*lengths, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(lengths, dtype)


def total(function, params, *inputs):
    return sum(map(macs, operations(function, params, inputs)))


def convolution_by_loop(x, kernel, stride, padding, dilation, groups, spread):
    """Every multiply-add of a convolution, counted one by one; and those that meet no padding."""
    height = (x[1] - 1) * spread + 1
    reach = (kernel[0] - 1) * dilation + 1
    positions = range(0, height + 2 * padding - reach + 1, stride)
    taps = range(0, reach, dilation)
    in_features, out_features = x[3], kernel[3]
    assert kernel[2] == in_features // groups
    everything = inside = 0
    for rows in itertools.product(positions, taps):
        for columns in itertools.product(positions, taps):
            places = [sum(rows) - padding, sum(columns) - padding]
            everything += all(p % spread == 0 for p in places)
            inside += all(0 <= p < height and p % spread == 0 for p in places)
    each = x[0] * kernel[2] * out_features
    return everything * each, inside * each


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "groups", "spread"),
    [
        ((3, 3, 4, 6), 1, 1, 1, 1, 1),
        ((3, 3, 4, 6), 2, 1, 1, 1, 1),
        ((5, 5, 2, 6), 1, 2, 1, 2, 1),
        ((3, 3, 1, 4), 1, 1, 1, 4, 1),
        ((3, 3, 4, 2), 1, 2, 2, 1, 1),
        ((2, 2, 4, 3), 1, 1, 1, 1, 2),
        ((1, 1, 4, 5), 3, 0, 1, 1, 1),
    ],
    ids=["plain", "stride", "groups", "depthwise", "dilated", "transposed", "pointwise"],
)
def test_convolution(kernel, stride, padding, dilation, groups, spread):
    def f(w, x):
        return jax.lax.conv_general_dilated(
            x,
            w,
            (stride, stride),
            [(padding, padding)] * 2,
            lhs_dilation=(spread, spread),
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    x = (2, 9, 9, 4)
    (operation,) = operations(f, shape(*kernel), [shape(*x)])
    expected = convolution_by_loop(x, kernel, stride, padding, dilation, groups, spread)
    assert (macs(operation), macs_inside(operation)) == expected


def test_products_count_rows_columns_and_depth():
    assert total(lambda w, x: x @ w, shape(5, 7), shape(3, 5)) == 3 * 5 * 7
    assert total(lambda w, x: jnp.einsum("bij,bjk->bik", x, w), shape(4, 5, 6), shape(4, 3, 5)) == (
        4 * 3 * 5 * 6
    )
    assert total(lambda w, x: jnp.sin(x) * w, shape(3, 5), shape(3, 5)) == 0


def test_calls_are_entered_and_loops_counted():
    @jax.jit
    def inner(w, x):
        return jax.checkpoint(lambda y: jax.nn.relu(y @ w))(x)

    def looped(w, x):
        y, _ = jax.lax.scan(lambda h, _: (inner(w, h), None), x, length=11)
        return jax.lax.fori_loop(0, 3, lambda _, h: h @ w, y)

    assert total(looped, shape(5, 5), shape(2, 5)) == (11 + 3) * 2 * 5 * 5


def test_loop_in_a_loop():
    def f(w, x):
        def outer(h, _):
            return jax.lax.scan(lambda g, _: (g @ w, None), h, length=3)[0], None

        return jax.lax.scan(outer, x, length=7)[0]

    assert total(f, shape(4, 4), shape(2, 4)) == 21 * 2 * 16


def test_dearest_branch_counts():
    def f(w, x):
        return jax.lax.cond(x.sum() > 0, lambda: x @ w @ w, lambda: x @ w)

    assert total(f, shape(4, 4), shape(2, 4)) == 2 * 2 * 16


def test_loop_of_unknown_length_is_no_number():
    def f(w, x):
        return jax.lax.while_loop(lambda h: h.sum() < 10, lambda h: h @ w, x)

    with pytest.raises(Untold, match="not known"):
        operations(f, shape(4, 4), [shape(2, 4)])


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_multiplies_by_each_matrix_once_a_step(name):
    steps, batch, width = 6, 3, 8
    counted = account(of_cell(name, CELLS[name], width, width, steps, batch))
    params = CELLS[name].init(jax.random.key(0), width, width)
    matrices = sum(np.prod(p.shape) for p in params.values() if p.ndim == 2)
    assert counted.totals.macs == steps * batch * matrices
    assert counted.totals.params == sum(p.size for p in params.values())
    biases = sum(p.size for key, p in params.items() if key.startswith("b_"))
    assert counted.totals.weights == counted.totals.params - biases
    assert {row.layer for row in counted.rows} == {"input", *params}
