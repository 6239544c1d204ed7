"""What the recurrence compiler is tested on, and the numbers it is held to."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_cells import HIDDEN, random_cell

from seqlab.cells import CELLS
from seqlab.recurrence import plain_unroll, unroll

# What is tested is the program, not the optimiser of the compiler: this halves the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

BATCH, TIME = 2, 4
LENGTHS = np.array([4, 2])
SAVES = ("products", "carries", "segments")


class Case(NamedTuple):
    """A recurrence to run: a cell or bare step, and what it runs on."""

    cell: object
    params: object
    carry: object
    xs: jax.Array
    equation: str = ""


def normal(rng, *shape):
    return jnp.asarray(rng.normal(size=shape))


def random_case(seed, batch=BATCH, time=TIME) -> Case:
    mine = random_cell(seed)
    xs = normal(np.random.default_rng(seed), batch, time, mine.input_dim)
    return Case(mine.step, mine.params, mine.carry(batch), xs, mine.describe())


def named_case(name, batch=BATCH, time=TIME, input_dim=HIDDEN, hidden_dim=HIDDEN) -> Case:
    """Nothing that is drawn is zero, biases included."""
    cell, rng = CELLS[name], np.random.default_rng(0)

    def like(tree):
        return jax.tree.map(lambda leaf: normal(rng, *leaf.shape), tree)

    return Case(
        cell,
        like(jax.eval_shape(lambda: cell.init(jax.random.key(0), input_dim, hidden_dim))),
        like(cell.initial_carry(batch, hidden_dim)),
        normal(rng, batch, time, input_dim),
        name,
    )


def cases(*named_or_seeds):
    return pytest.mark.parametrize("known_as", named_or_seeds)


def case_of(known_as, **sizes) -> Case:
    make = random_case if isinstance(known_as, int) else named_case
    return make(known_as, **sizes)


def scalar(carry, ys):
    """A number to which every element of the carry and of ys contributes with its own weight."""

    def weigh(leaf):
        weights = jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape)
        return (weights * jnp.sin(leaf)).sum()

    leaves = [a for a in jax.tree.leaves((carry, ys)) if jnp.issubdtype(a.dtype, jnp.floating)]
    return sum(map(weigh, leaves))


def everything(run):
    """run(params, carry, xs) with its gradients with respect to all three."""

    def value(params, carry, xs):
        out = run(params, carry, xs)
        return scalar(*out), out

    def of(params, carry, xs):
        (_, out), gradients = jax.value_and_grad(value, (0, 1, 2), has_aux=True, allow_int=True)(
            params, carry, xs
        )
        return out, gradients

    return of


def step_by_step(case, params, carry, xs, lengths=None, reverse=False):
    """The oracle: a Python loop, an operation at a time."""
    step = getattr(case.cell, "step", case.cell)
    ys = {}
    for t in range(xs.shape[1])[:: -1 if reverse else 1]:
        new, y = step(params, carry, xs[:, t])
        if lengths is not None:
            real = (t < lengths)[:, None]
            new = jax.tree.map(lambda a, b, real=real: jnp.where(real, a, b), new, carry)
            y = jnp.where(real, y, jnp.zeros_like(y))
        carry, ys[t] = new, y
    return carry, jnp.stack([ys[t] for t in sorted(ys)], axis=1)


def assert_close(ours, theirs, message="", atol=1e-10):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs), message
    theirs = jax.tree.leaves(theirs)
    for (path, a), b in zip(jax.tree.leaves_with_path(ours), theirs, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), (path, message)
        if a.dtype != jax.dtypes.float0:
            where = f"{jax.tree_util.keystr(path)}\n{message}"
            np.testing.assert_allclose(a, b, rtol=0, atol=atol, err_msg=where)


def assert_same_bits(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def on(case, unroll, lengths=None, **how):
    """The unroll of a case as a function of its arrays."""

    def run(params, carry, xs):
        its = None if lengths is None else jnp.asarray(lengths)  # of 64 bits where floats are
        return unroll(case.cell, params, carry, xs, lengths=its, **how)

    return run


def assert_as_plain(case, transform=lambda run: run, ours=unroll, **how):
    """Values and gradients; `transform` is applied to the unroll of either."""
    arguments = case.params, case.carry, case.xs
    ours = jit(everything(transform(on(case, ours, **how))))(*arguments)
    theirs = jit(everything(transform(on(case, plain_unroll, **how))))(*arguments)
    assert_close(ours, theirs, case.equation)
