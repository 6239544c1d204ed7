"""Transformations of JAX of the compiled recurrence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from recurrence_cases import (
    LENGTHS,
    assert_as_plain,
    assert_close,
    case_of,
    cases,
    everything,
    jit,
    named_case,
    on,
    random_case,
    scalar,
    step_by_step,
)

from seqlab.recurrence import plain_unroll, unroll


def over_params(run):
    def batched(params, carry, xs):
        several = jax.tree.map(lambda a: jnp.stack([a, 0.5 * a]), params)
        return jax.vmap(run, (0, None, None))(several, carry, xs)

    return batched


def over_xs(run):
    def batched(params, carry, xs):
        return jax.vmap(run, (None, None, 0))(params, carry, jnp.stack([xs, -xs]))

    return batched


def over_everything(run):
    def batched(*arguments):
        return jax.vmap(run)(*jax.tree.map(lambda a: jnp.stack([a, -a]), arguments))

    return batched


def in_a_scan(run):
    def twice(params, carry, xs):
        return lax.scan(lambda carry, xs: run(params, carry, xs), carry, jnp.stack([xs, -xs]))

    return twice


every_transform = pytest.mark.parametrize(
    "transform",
    [over_params, over_xs, over_everything, in_a_scan, jax.checkpoint],
    ids=lambda f: f.__name__,
)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("save", ["products", "carries"])
@every_transform
def test_transformations(transform, save):
    def ours(*arguments, **how):
        return unroll(*arguments, save=save, **how)

    assert_as_plain(named_case("mut3"), transform, ours=ours, lengths=LENGTHS)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@every_transform
@pytest.mark.parametrize("seed", range(5))
def test_transformations_of_random_cells(seed, transform):
    assert_as_plain(random_case(seed), transform, lengths=LENGTHS)


@pytest.mark.usefixtures("float64")
def test_vmap_over_lengths():
    case = named_case("gru")
    lengths = jnp.array([[4, 2], [0, 3], [1, 4]])
    arguments = case.params, case.carry, case.xs

    def run(*given):
        return jax.vmap(lambda its: unroll(case.cell, *given, lengths=its))(lengths)

    ours = jit(everything(run))(*arguments)

    def one_by_one(*given):
        each = [step_by_step(case, *given, lengths=its) for its in lengths]
        return jax.tree.map(lambda *a: jnp.stack(a), *each)

    assert_close(ours, everything(one_by_one)(*arguments))


@pytest.mark.usefixtures("float64")
@cases("lstm", 2)
def test_without_jit(known_as):
    case = case_of(known_as)
    arguments = case.params, case.carry, case.xs
    theirs = everything(lambda *given: step_by_step(case, *given))(*arguments)
    assert_close(everything(on(case, unroll))(*arguments), theirs, case.equation)


def forward(value, arguments, tangents):
    return jax.jvp(value, arguments, tangents)


def reverse_over_reverse(value, arguments, tangents):
    def slope(*given):
        products = jax.tree.map(lambda a, b: (a * b).sum(), gradient(*given), tangents)
        return sum(jax.tree.leaves(products))

    gradient = jax.grad(value, (0, 1, 2))
    return jax.grad(slope, (0, 1, 2))(*arguments)


def forward_over_reverse(value, arguments, _):
    return jax.jacfwd(jax.grad(value, (0, 1)), 1)(*arguments)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "derivative", [forward, reverse_over_reverse, forward_over_reverse], ids=lambda f: f.__name__
)
@pytest.mark.parametrize(
    ("known_as", "save"), [("gru", "products"), ("gru", "carries"), (1, "products")]
)
def test_forward_mode_and_second_derivatives(known_as, save, derivative):
    case = case_of(known_as, batch=1, time=3)
    arguments = case.params, case.carry, case.xs
    tangents = jax.tree.map(jnp.cos, arguments)

    def of(unroll, **how):
        def value(*given):
            return scalar(*on(case, unroll, lengths=np.array([2]), **how)(*given))

        return jit(lambda *given: derivative(value, given, tangents))(*arguments)

    assert_close(of(unroll, save=save), of(plain_unroll), case.equation)
