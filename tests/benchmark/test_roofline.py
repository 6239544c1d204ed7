"""Floors, and the FLOP of every cell against the products that its equation prints."""

import jax
import jax.numpy as jnp
import pytest

from seqlab.accounting.products import dot_flops
from seqlab.benchmark import roofline
from seqlab.benchmark.case import Shape, param_shapes
from seqlab.benchmark.roofline import Floor, Peaks, floor, forward_flops, work
from seqlab.cells import CELLS


@pytest.mark.parametrize("cell", CELLS)
def test_every_matrix_is_multiplied_once_a_step(cell):
    """True of all equations here: 2·B·T FLOP for each element of a matrix, none for a vector."""
    shape = Shape(3, 7, 5, 5)
    elements = sum(leaf.size for leaf in param_shapes(cell, shape).values() if leaf.ndim == 2)
    assert forward_flops(cell, shape) == 2 * 3 * 7 * elements


def test_lstm_and_gru_by_the_formula():
    b, t, d, h = 3, 7, 5, 11
    assert forward_flops("lstm", Shape(b, t, d, h)) == 2 * b * t * 4 * h * (d + h)
    assert forward_flops("gru", Shape(b, t, d, h)) == 2 * b * t * 3 * h * (d + h)


def test_products_are_counted_wherever_they_are():
    def inner(h, _):
        return h @ w, None

    def outer(h, _):
        h, _ = jax.lax.scan(inner, jax.jit(lambda h: h @ w)(h), length=5)
        return h, None

    w = jnp.ones((4, 4))
    batched = jax.make_jaxpr(jax.vmap(lambda a, b: a @ b))(jnp.ones((6, 2, 3)), jnp.ones((6, 3, 8)))
    assert dot_flops(batched.jaxpr) == 2 * 6 * 2 * 3 * 8
    nested = jax.make_jaxpr(lambda h: jax.lax.scan(outer, h, length=3)[0])(jnp.ones((2, 4)))
    assert dot_flops(nested.jaxpr) == 3 * (1 + 5) * 2 * 2 * 4 * 4


def test_the_way_back_is_twice_the_way_there():
    shape = Shape(3, 7, 5, 11)
    flops, steps = work("gru", shape, "forward")
    assert steps == 7
    for workload in ("forward+backward", "training step"):
        assert work("gru", shape, workload) == (3 * flops, 14)


def test_floors():
    peaks = Peaks(1e12, 1e10, dispatch_seconds=1e-5, step_seconds=2e-6)
    found = floor(peaks, flops=2e9, bytes_moved=5e6, steps=100)
    assert found == pytest.approx(Floor(flop=2e-3, byte=5e-4, sequential=2.1e-4))
    assert max(found) == found.flop
    assert max(floor(peaks, 1e6, 1e3, 35)) == pytest.approx(1e-5 + 35 * 2e-6)


def test_peaks_of_this_machine(monkeypatch):
    monkeypatch.setattr(roofline, "PRODUCT_SIZE", {})
    monkeypatch.setattr(roofline, "COPIED_BYTES", 2**16)
    peaks = roofline.measure("float32")
    assert 1e8 < peaks.flops_per_second < 1e16
    assert 1e7 < peaks.bytes_per_second < 1e14
    assert 0 < peaks.dispatch_seconds < 0.1
    assert 0 <= peaks.step_seconds < 0.01
