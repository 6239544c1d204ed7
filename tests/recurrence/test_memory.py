"""What each way of saving keeps, and what the compiler says a program needs at its peak."""

import re

import jax
import jax.numpy as jnp
import pytest

from seqlab.cells import CELLS
from seqlab.recurrence import unroll

BATCH, INPUT, HIDDEN = 8, 24, 40
FLOAT = 4

# Arrays [B, H] that the way back of one step reads. lstm: i, f, o, g, tanh(c'), c and, as outputs,
# h. gru: z, r, the candidate, and h. mut1: z and tanh(x), which wait for nothing, r, the candidate,
# and h. rnn: h alone.
KEPT = {"lstm": 7, "gru": 4, "mut1": 5, "rnn": 1}
CARRIES = {"lstm": 2, "gru": 1, "mut1": 1, "rnn": 1}


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


def peak_bytes(name, time, save) -> int:
    run, arguments = program(name, time, save)

    def value(*values):
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(run(*values)))

    compiled = jax.jit(jax.grad(value, argnums=(0, 1, 2))).lower(*arguments).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def per_step(measure, name, save) -> float:
    """Arrays [B, H] for each further step."""
    short, long = 60, 120
    more = measure(name, long, save) - measure(name, short, save)
    return more / (long - short) / (BATCH * HIDDEN * FLOAT)


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_of_each_step(name):
    x = HIDDEN if name == "mut1" else INPUT  # besides, xs in the order of time
    assert per_step(saved_bytes, name, "products") == pytest.approx(KEPT[name] + x / HIDDEN)
    assert per_step(saved_bytes, name, "carries") == pytest.approx(CARRIES[name] + x / HIDDEN)


@pytest.mark.parametrize("name", CARRIES)
def test_segments_keep_a_carry_for_each(name):
    x = HIDDEN if name == "mut1" else INPUT
    more = saved_bytes(name, 400, "segments") - saved_bytes(name, 100, "segments")
    of_inputs, of_carries = 300 * x, (20 - 10) * CARRIES[name] * HIDDEN
    assert more == BATCH * FLOAT * (of_inputs + of_carries)


@pytest.mark.parametrize("name", KEPT)
def test_the_peak_is_what_is_kept_and_the_cotangents_of_products(name):
    x = (HIDDEN if name == "mut1" else INPUT) / HIDDEN
    cotangents = {"lstm": 4, "gru": 3, "mut1": 3, "rnn": 1}[name]  # of the width of every gate
    least = KEPT[name] + x + cotangents
    # At most these besides: ys and their cotangent, h one step later, the left sides r⊙h.
    assert least <= per_step(peak_bytes, name, "products") <= least + 4


@pytest.mark.parametrize("name", KEPT)
def test_with_segments_the_peak_holds_the_arguments_and_results_of_all_steps_and_no_more(name):
    x = (HIDDEN if name == "mut1" else INPUT) / HIDDEN
    steps = (400, 1600)
    peaks = [peak_bytes(name, time, "segments") / (BATCH * HIDDEN * FLOAT) for time in steps]
    # xs and their cotangent, ys or their cotangent; the rest is of one segment of √T steps.
    of_segments = 20 * (KEPT[name] + x + 8)
    assert peaks[1] - peaks[0] <= 1200 * (2 * x + 1.5) + of_segments


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
