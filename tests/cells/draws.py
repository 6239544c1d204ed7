"""Random numbers for the tests of the cells: nothing that is drawn is zero, biases included."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqlab.cells import Cell


def normal_like(rng: np.random.Generator, tree):
    """The same tree with N(0, 1) in place of every array of floats, in float64."""

    def draw(leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return jnp.asarray(rng.normal(size=leaf.shape))

    return jax.tree.map(draw, tree)


class Drawn(NamedTuple):
    params: dict[str, jax.Array]
    carry: object
    xs: jax.Array  # [T, B, D]


def drawn(cell: Cell, *, seed=0, time=3, batch=2, input_dim=3, hidden_dim=3) -> Drawn:
    """Random params, carry and inputs for a cell; call it with 64-bit floats on."""
    rng = np.random.default_rng(seed)
    params = cell.init(jax.random.key(seed), input_dim, hidden_dim)
    return Drawn(
        params=normal_like(rng, params),
        carry=normal_like(rng, cell.initial_carry(batch, hidden_dim)),
        xs=jnp.asarray(rng.normal(size=(time, batch, input_dim))),
    )


def steps(cell: Cell, params, carry, xs):
    """T single steps by a Python loop: the last carry and every y, [T, B, H]."""
    ys = []
    for x in xs:
        carry, y = cell.step(params, carry, x)
        ys.append(y)
    return carry, jnp.stack(ys)
