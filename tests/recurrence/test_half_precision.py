"""Products in bfloat16, and everything in bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np
from recurrence_cases import cases, everything, jit, named_case, on

from seqlab.recurrence import plain_unroll, unroll


def relative_error(ours, theirs):
    ours, theirs = (
        np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(tree)])
        for tree in (ours, theirs)
    )
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


def in_dtype(case, dtype):
    params, carry, xs = (
        jax.tree.map(lambda leaf: leaf.astype(dtype), tree)
        for tree in (jax.tree.map(lambda leaf: 0.3 * leaf, case.params), case.carry, case.xs)
    )
    return params, carry, xs


@cases("lstm", "mut3")
def test_products_in_bfloat16_of_what_is_float32(known_as):
    case = named_case(known_as, batch=4, time=8, input_dim=16, hidden_dim=16)
    arguments = in_dtype(case, jnp.float32)
    theirs = jit(everything(on(case, plain_unroll)))(*arguments)
    ours = jit(everything(on(case, unroll, product_dtype=jnp.bfloat16)))(*arguments)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), ours) == jax.tree.map(
        lambda a: (a.shape, a.dtype), theirs
    )
    (out, gradients), (plain_out, plain_gradients) = ours, theirs
    assert 1e-4 < relative_error(out, plain_out) < 2e-2
    assert 1e-4 < relative_error(gradients, plain_gradients) < 2e-2


@cases("lstm", "mut3")
def test_everything_in_bfloat16(known_as):
    case = named_case(known_as, batch=4, time=8, input_dim=16, hidden_dim=16)
    exact = jit(everything(on(case, plain_unroll)))(*in_dtype(case, jnp.float32))
    arguments = in_dtype(case, jnp.bfloat16)
    ours, theirs = (jit(everything(on(case, each)))(*arguments) for each in (unroll, plain_unroll))
    assert {leaf.dtype for leaf in jax.tree.leaves(ours)} == {jnp.dtype(jnp.bfloat16)}
    for mine, plain, right in zip(ours, theirs, exact, strict=True):
        assert relative_error(mine, right) < 1.2 * relative_error(plain, right)
