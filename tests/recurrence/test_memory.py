"""What each way of saving keeps, and what the compiler says a program needs at its peak."""

import functools
import re

import jax
import jax.numpy as jnp
import pytest

from seqlab.cells import CELLS
from seqlab.recurrence import unroll
from seqlab.recurrence.unroll import SAVE

BATCH, INPUT, HIDDEN = 8, 24, 40
FLOAT = 4

# Arrays [B, H] that the way back of one step reads. lstm: i, f, o, g, tanh(c'), c and, as outputs,
# h. gru: z, r, the candidate, and h. mut1: z and tanh(x), which wait for nothing, r, the candidate,
# and h. mut3: z, tanh(h), r, the candidate, and h. rnn: h alone.
KEPT = {"lstm": 7, "gru": 4, "mut1": 5, "mut3": 5, "rnn": 1}
CARRIES = {"lstm": 2, "gru": 1, "mut1": 1, "mut3": 1, "rnn": 1}
# Arrays [B, H] that the backward loop writes: the cotangent of what goes into every gate.
GATES = {"lstm": 4, "gru": 3, "mut1": 3, "mut3": 3, "rnn": 1}
# Left sides of recurrent products. lstm, rnn: h. gru, mut1: h and r⊙h. mut3: tanh(h), too.
LEFT_SIDES = {"lstm": 1, "gru": 2, "mut1": 2, "mut3": 3, "rnn": 1}


def x_of(name) -> float:
    """The width of x, in arrays [B, H]."""
    return (HIDDEN if name == "mut1" else INPUT) / HIDDEN


def program(name, time, save):
    cell = CELLS[name]
    input_dim = HIDDEN if name == "mut1" else INPUT
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), input_dim, HIDDEN))
    carry = jax.eval_shape(lambda: cell.initial_carry(BATCH, HIDDEN))
    xs = jax.ShapeDtypeStruct((BATCH, time, input_dim), jnp.float32)

    def run(params, carry, xs):
        return unroll(cell, params, carry, xs, save=save)

    return run, (params, carry, xs)


def saved_bytes(name, time, save) -> int:
    """Of everything that the backward pass holds on to."""
    run, arguments = program(name, time, save)
    held = jax.eval_shape(lambda *values: jax.vjp(run, *values)[1], *arguments)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(held))


@functools.cache
def peak_bytes(name, time, save) -> int:
    run, arguments = program(name, time, save)

    def value(*values):
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(run(*values)))

    # Memory is laid out before machine code is made: that may be as slow as it likes.
    quickly = {"xla_backend_optimization_level": 0}
    gradient = jax.jit(jax.grad(value, argnums=(0, 1, 2)), compiler_options=quickly)
    compiled = gradient.lower(*arguments).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def per_step(measure, name, save) -> float:
    """Arrays [B, H] for each further step."""
    short, long = 60, 120
    more = measure(name, long, save) - measure(name, short, save)
    return more / (long - short) / (BATCH * HIDDEN * FLOAT)


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_of_each_step(name):
    x = x_of(name)  # besides, xs in the order of time
    assert per_step(saved_bytes, name, "products") == pytest.approx(KEPT[name] + x)
    assert per_step(saved_bytes, name, "carries") == pytest.approx(CARRIES[name] + x)


@pytest.mark.parametrize("name", CARRIES)
def test_segments_keep_a_carry_for_each(name):
    more = saved_bytes(name, 400, "segments") - saved_bytes(name, 100, "segments")
    of_inputs, of_carries = 300 * x_of(name) * HIDDEN, (20 - 10) * CARRIES[name] * HIDDEN
    assert more == BATCH * FLOAT * (of_inputs + of_carries)


TIMES = (400, 576, 784)


def peaks(name, save) -> list[float]:
    """In arrays [B, H], for `TIMES`."""
    return [peak_bytes(name, time, save) / (BATCH * HIDDEN * FLOAT) for time in TIMES]


of_four_cells = pytest.mark.parametrize("name", ["lstm", "gru", "mut1", "mut3"])


@of_four_cells
def test_peak_of_products(name):
    # Besides what is kept and written: each left side once more, transposed for the gradient of
    # its weights, and the cotangent of ys. mut1 has 1 − z for all T at once.
    a_step = KEPT[name] + x_of(name) + GATES[name] + LEFT_SIDES[name] + 1 + (name == "mut1")
    a, b, c = peaks(name, "products")
    assert b - a == pytest.approx(176 * a_step)
    assert c - b == pytest.approx(208 * a_step)


@of_four_cells
def test_peak_of_carries(name):
    # Besides the carries and what is written: the left sides other than h or, until they are
    # there, ys; the cotangent of ys.
    a_step = CARRIES[name] + x_of(name) + GATES[name] + max(LEFT_SIDES[name] - 1, 1) + 1
    a, b, c = peaks(name, "carries")
    assert b - a == pytest.approx(176 * a_step, abs=1)  # the numbers of the steps
    assert c - b == pytest.approx(208 * a_step, abs=1)


@of_four_cells
def test_peak_of_segments(name):
    # xs, ys and the cotangent of either one of them for all steps, and the carries of √T segments.
    # That is the peak from some T on; below, it is in the way back of one segment.
    a, b, c = peaks(name, "segments")
    a_step, a_segment = x_of(name) + 2, CARRIES[name]
    assert b - a == pytest.approx(176 * a_step + 4 * a_segment, abs=0.05)
    assert c - b == pytest.approx(208 * a_step + 4 * a_segment, abs=0.05)


@of_four_cells
def test_who_keeps_less_needs_less(name):
    products, carries, segments = (peaks(name, save) for save in SAVE)
    for n in range(len(TIMES)):
        assert segments[n] < carries[n] < 0.65 * products[n]


@pytest.mark.parametrize("name", CELLS)
def test_no_step_copies_what_is_kept_of_all_steps(name):
    time, cell, size = 7, CELLS[name], 11
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), size, size))
    carry = jax.eval_shape(lambda: cell.initial_carry(5, size))
    xs = jax.ShapeDtypeStruct((5, time, size), jnp.float32)

    def value(*arguments):
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(unroll(cell, *arguments)))

    gradient = jax.jit(jax.grad(value, argnums=(0, 1, 2)))
    text = gradient.lower(params, carry, xs).compile().as_text()
    bodies = re.findall(r"body=%([\w.-]+)", text)
    assert len(bodies) == 2
    for body in bodies:
        inside = re.search(rf"^%{re.escape(body)} .*?^\}}", text, re.DOTALL | re.MULTILINE)
        assert inside is not None
        assert re.findall(rf"= f32\[{time},5,\d+\]\S* copy\(.*", inside[0]) == []
