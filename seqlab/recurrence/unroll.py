"""A cell over time: the fast program where there is one, the plain scan where there is not."""

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from seqlab.cells import Cell
from seqlab.recurrence.arguments import Symbols, checked, in_time
from seqlab.recurrence.compiled import Program
from seqlab.recurrence.linear import with_transpose
from seqlab.recurrence.parts import Parts
from seqlab.recurrence.plain import scan
from seqlab.recurrence.split import CannotSplit, split

Save = Literal["products", "carries", "segments"]
SAVE = get_args(Save)


def unroll(
    cell: Cell | Callable,
    params: Any,
    carry: Any,
    xs: Float[Array, "B T D"] | Symbols,
    *,
    lengths: Int[Array, " B"] | None = None,
    reverse: bool = False,
    save: Save = "products",
    product_dtype: DTypeLike | None = None,
) -> tuple[Any, Any]:
    """Run a cell over time: carry_t, y_t = step(params, carry_{t-1}, x_t).

    The result is that of `plain_unroll`, by a faster program; see `explain`.

    Args:
        cell: a `Cell`, or the bare step function `(params, carry, x [B, D]) -> (carry, y [B, H])`.
        params: what the step takes as its first argument.
        carry: the carry before the first step; None means the cell's `initial_carry`.
        xs: the inputs, [B, T, D], or `Symbols` that stand for them.
        lengths: [B], how many leading steps of each row are real; None means all T. Past them the
            carry is frozen bit for bit, ys is 0, and what xs holds there (even NaN) has no effect.
        reverse: run from the last real step of each row to the first. ys[:, t] still belongs to
            xs[:, t].
        save: what is kept for the backward pass. Peaks and times are those of forward and backward
            for lstm, gru, mut1 and mut3 on two CPU cores, relative to "products".
            "products": all it reads; the fastest.
            "carries": the carry before each step; the backward loop computes the rest of each step
            again, and its products with it. 0.54 to 0.63 of the peak, about 1.3 of the time.
            "segments": the carry before each of √T segments, which are run again one by one. Little
            more than xs and ys is held for all T: 0.2 to 0.25 of the peak at T = 400, about 1.2 of
            the time, up to 1.5 where T is small.
        product_dtype: such as bfloat16; the operands of every matrix product are rounded to it, and
            sums are float32. Everything else keeps its dtype, the carry above all.

    Returns:
        The carry after the last step, and ys [B, T, H].

    Raises:
        ValueError: an argument has another shape or dtype than the cell expects; the step does not
            return a carry like the one it takes; product_dtype is set and the step can only run as
            a plain scan.
    """
    if save not in SAVE:
        raise ValueError(f"save must be one of {', '.join(SAVE)}, got {save!r}")
    carry = checked(cell, params, carry, xs, lengths)
    step, params, inputs = in_time(cell, params, xs, lengths)
    run = functools.partial(
        _over_time, step, reverse=reverse, recompute=save == "carries", product_dtype=product_dtype
    )
    if xs.shape[1] == 0:
        carry, ys = scan(step, params, carry, inputs, reverse)
    elif save == "segments":
        carry, ys = _by_segments(run, params, carry, inputs, reverse)
    else:
        carry, ys = run(params, carry, inputs)
    return carry, jax.tree.map(lambda y: y.swapaxes(0, 1), ys)


def _over_time(
    step: Callable,
    params: Any,
    carry: Any,
    inputs: Any,
    *,
    reverse: bool,
    recompute: bool,
    product_dtype: DTypeLike | None,
) -> tuple[Any, Any]:
    """A step over inputs [T, B, ...]."""
    first = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), inputs)
    time = len(jax.tree.leaves(inputs)[0])
    try:
        parts, consts, (carry_shape, ys_shape) = split(step, params, carry, first, time)
    except CannotSplit as reason:
        name = getattr(step, "__qualname__", "a step")
        if product_dtype is not None:
            raise ValueError(
                f"product_dtype must be None: {name} runs as a plain scan: {reason}."
            ) from None
        warnings.warn(f"{name} runs as a plain scan: {reason}.", stacklevel=4)
        return scan(step, params, carry, inputs, reverse)
    program = Program(Parts(parts, product_dtype), reverse, recompute)
    run = with_transpose(program.forward, program.forward_and_save, program.backward)
    flat = [*consts, *jax.tree.leaves(params)], jax.tree.leaves(carry), jax.tree.leaves(inputs)
    carry, ys = run(*flat)
    return (
        jax.tree.unflatten(jax.tree.structure(carry_shape), carry),
        jax.tree.unflatten(jax.tree.structure(ys_shape), ys),
    )


def _by_segments(
    run: Callable, params: Any, carry: Any, inputs: Any, reverse: bool
) -> tuple[Any, Any]:
    """Segments of √T steps, of which only the first carry is kept for the way back."""
    time = len(jax.tree.leaves(inputs)[0])
    length = math.isqrt(time)
    whole = time - time % length
    segment = jax.checkpoint(lambda carry, inputs: run(params, carry, inputs))

    def segments(carry):
        def cut(leaf):
            return leaf[:whole].reshape(-1, length, *leaf.shape[1:])

        carry, ys = lax.scan(segment, carry, jax.tree.map(cut, inputs), reverse=reverse)
        return carry, jax.tree.map(lambda y: y.reshape(whole, *y.shape[2:]), ys)

    def rest(carry):
        return segment(carry, jax.tree.map(lambda leaf: leaf[whole:], inputs))

    if whole == time:
        return segments(carry)
    if reverse:
        carry, last = rest(carry)
        carry, ys = segments(carry)
    else:
        carry, ys = segments(carry)
        carry, last = rest(carry)
    return carry, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), ys, last)
