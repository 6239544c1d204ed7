"""What waits is what it was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recurrence_cases import assert_same_bits

from seqlab.recurrence.order import after

VALUES = {
    "float": jnp.array([1.5, -0.0, jnp.nan, -jnp.inf]),
    "half": jnp.ones((2, 3), jnp.bfloat16),
    "int": jnp.arange(3),
}


@pytest.mark.parametrize("number", [0.0, -1.0, jnp.inf, -jnp.inf, jnp.nan, 3e38])
def test_no_bit_changes_whatever_is_waited_for(number):
    done = {"first": jnp.full((2, 2), number), "other": jnp.full(3, number, jnp.bfloat16)}
    assert_same_bits(jax.jit(after)(done, VALUES), VALUES)


@pytest.mark.parametrize("done", [[], [None], [jnp.arange(3)], [jnp.zeros((0, 2))]])
def test_nothing_to_wait_for(done):
    assert after(done, VALUES) is VALUES


def test_many_that_are_waited_for_do_not_make_many_of_what_waits():
    stay = jax.vmap(after, in_axes=(0, None), out_axes=None)
    assert_same_bits(stay(jnp.array([jnp.nan, 1.0]), VALUES), VALUES)


def test_gradients_pass():
    slope = jax.grad(lambda value, done: (3.0 * after(done, value)).sum(), argnums=(0, 1))
    np.testing.assert_array_equal(slope(jnp.ones(2), jnp.ones(4))[0], [3.0, 3.0])
    np.testing.assert_array_equal(slope(jnp.ones(2), jnp.ones(4))[1], jnp.zeros(4))


def test_the_compiler_does_not_see_through_it():
    def run(done, value):
        return jnp.tanh(after(done, value))

    assert "select" in jax.jit(run).lower(jnp.ones(2), jnp.ones(2)).compile().as_text()
