"""Every step's gradient against central finite differences, in float64."""

import jax
import jax.numpy as jnp
import pytest
from draws import drawn, steps
from jax.test_util import check_grads

from seqlab.cells import CELLS


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", CELLS)
def test_gradient_is_the_finite_difference(name):
    cell = CELLS[name]

    def run(*arrays):  # the finite differences come as NumPy arrays
        return steps(cell, *jax.tree.map(jnp.asarray, arrays))

    check_grads(run, drawn(cell, time=2), order=1, modes=["rev"])
