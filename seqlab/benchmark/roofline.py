"""How fast the machine could be: its peaks, measured here and now, and what a cell needs of them.

    floor = max(FLOP / peak, bytes / bandwidth, steps one after the other)

FLOP are those of the matrix products; bytes are what has to be read and written whatever the
program: its arguments and its results, once each; a step is an iteration of an empty loop of XLA.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqlab.accounting.products import dot_flops
from seqlab.benchmark.case import PRECISIONS, Shape, param_shapes
from seqlab.cells import CELLS
from seqlab.recurrence import plain_unroll

# An accelerator reaches its peak with large products only.
PRODUCT_SIZE = {"cpu": 1024, "gpu": 8192, "tpu": 8192}
COPIED_BYTES = 2**26
STEPS = 1000


class Peaks(NamedTuple):
    """What the machine does at best."""

    flops_per_second: float
    bytes_per_second: float
    dispatch_seconds: float
    step_seconds: float


class Floor(NamedTuple):
    """Seconds that a computation takes at least, for each of three reasons."""

    flop: float
    byte: float
    sequential: float


def measure(precision: str) -> Peaks:
    """The fastest of some calls each; half a second on a CPU."""
    dtype, matmul, _ = PRECISIONS[precision]
    size = PRODUCT_SIZE.get(jax.default_backend(), 1024)
    square = jnp.ones((size, size), dtype)
    with jax.default_matmul_precision(matmul):
        product = _compiled(lambda a: a @ a, square)
    copied = jnp.ones(COPIED_BYTES // 4, jnp.float32)
    one = jnp.ones((8, 128), jnp.float32)
    dispatch = _fastest(_compiled(lambda a: a + 1, one), one)
    loop = _compiled(lambda a: jax.lax.fori_loop(0, STEPS, lambda _, h: h * 0.999, a), one)
    return Peaks(
        flops_per_second=2 * size**3 / _fastest(product, square),
        bytes_per_second=2 * COPIED_BYTES / _fastest(_in_place(copied), None),
        dispatch_seconds=dispatch,
        step_seconds=max(0.0, _fastest(loop, one) - dispatch) / STEPS,
    )


def floor(peaks: Peaks, flops: float, bytes_moved: float, steps: int) -> Floor:
    """The three floors of a computation with so many FLOP, bytes and steps."""
    return Floor(
        flop=flops / peaks.flops_per_second,
        byte=bytes_moved / peaks.bytes_per_second,
        sequential=peaks.dispatch_seconds + steps * peaks.step_seconds,
    )


@functools.cache
def forward_flops(cell: str, shape: Shape) -> int:
    """FLOP of the matrix products of a cell over time, counted in its program."""

    def forward(params: Any, carry: Any, xs: jax.Array) -> jax.Array:
        return plain_unroll(CELLS[cell], params, carry, xs)[1]

    xs = jax.ShapeDtypeStruct((shape.batch_size, shape.time, shape.input_dim), jnp.float32)
    carry = jax.eval_shape(
        lambda: CELLS[cell].initial_carry(shape.batch_size, shape.hidden_dim, jnp.float32)
    )
    return dot_flops(jax.make_jaxpr(forward)(param_shapes(cell, shape), carry, xs).jaxpr)


def work(cell: str, shape: Shape, workload: str) -> tuple[int, int]:
    """FLOP and steps of a workload: on its way back every product is two, and time runs again."""
    flops = forward_flops(cell, shape)
    return (flops, shape.time) if workload == "forward" else (3 * flops, 2 * shape.time)


def _compiled(function: Callable, argument: jax.Array) -> Callable:
    return jax.jit(function).lower(argument).compile()


def _in_place(array: jax.Array) -> Callable:
    """Reads and writes an array where it is: a fresh one would be a measurement of page faults."""
    add = jax.jit(lambda a: a + 1, donate_argnums=0)

    def call(_: None) -> jax.Array:
        nonlocal array
        array = add(array)
        return array

    return call


def _fastest(call: Callable, argument: Any, calls: int = 12) -> float:
    seconds = []
    for _ in range(calls):
        began = time.perf_counter()
        jax.block_until_ready(call(argument))
        seconds.append(time.perf_counter() - began)
    return float(np.min(seconds))
