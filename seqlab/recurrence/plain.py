"""The reference recurrence: one `jax.lax.scan` of the printed step."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float, Int

from seqlab.cells import Cell
from seqlab.recurrence.arguments import Symbols, checked, in_time


def plain_unroll(
    cell: Cell | Callable,
    params: Any,
    carry: Any,
    xs: Float[Array, "B T D"] | Symbols,
    *,
    lengths: Int[Array, " B"] | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Run a cell over time: carry_t, y_t = step(params, carry_{t-1}, x_t).

    Args:
        cell: a `Cell`, or the bare step function `(params, carry, x [B, D]) -> (carry, y [B, H])`.
        params: what the step takes as its first argument.
        carry: the carry before the first step; None means the cell's `initial_carry`.
        xs: the inputs, [B, T, D], or `Symbols` that stand for them.
        lengths: [B], how many leading steps of each row are real; None means all T. Past them the
            carry is frozen bit for bit, ys is 0, and what xs holds there (even NaN) has no effect.
        reverse: run from the last real step of each row to the first. ys[:, t] still belongs to
            xs[:, t].

    Returns:
        The carry after the last step, and ys [B, T, H].

    Raises:
        ValueError: an argument has another shape or dtype than the cell expects; the step does not
            return a carry like the one it takes.
    """
    carry = checked(cell, params, carry, xs, lengths)
    xs = xs.rows() if isinstance(xs, Symbols) else xs
    step, params, inputs = in_time(cell, params, xs, lengths)
    carry, ys = scan(step, params, carry, inputs, reverse)
    return carry, jax.tree.map(lambda y: y.swapaxes(0, 1), ys)


def scan(step: Callable, params: Any, carry: Any, inputs: Any, reverse: bool) -> tuple[Any, Any]:
    """A step over inputs [T, B, ...], as it is written."""
    return jax.lax.scan(
        lambda carry, inputs: step(params, carry, inputs), carry, inputs, reverse=reverse
    )
