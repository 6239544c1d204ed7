"""The reference recurrence: one `jax.lax.scan` of the printed step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from seqlab.cells import Cell


def plain_unroll(
    cell: Cell | Callable,
    params: Any,
    carry: Any,
    xs: Float[Array, "B T D"],
    *,
    lengths: Int[Array, " B"] | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Run a cell over time: carry_t, y_t = step(params, carry_{t-1}, x_t).

    Args:
        cell: a `Cell`, or the bare step function `(params, carry, x [B, D]) -> (carry, y [B, H])`.
        params: what the step takes as its first argument.
        carry: the carry before the first step; None means the cell's `initial_carry`.
        xs: the inputs, [B, T, D].
        lengths: [B], how many leading steps of each row are real; None means all T. Past them the
            carry is frozen bit for bit, ys is 0, and what xs holds there (even NaN) has no effect.
        reverse: run from the last real step of each row to the first. ys[:, t] still belongs to
            xs[:, t].

    Returns:
        The carry after the last step, and ys [B, T, H].

    Raises:
        ValueError: xs is not [B, T, D]; lengths is not [B]; carry is None and cannot be made.
    """
    if xs.ndim != 3:
        raise ValueError(f"xs must be [B, T, D], got shape {xs.shape}")
    batch_size, time, _ = xs.shape
    step = cell.step if isinstance(cell, Cell) else cell
    if carry is None:
        carry = _initial_carry(cell, params, batch_size)
    if lengths is None:
        carry, ys = jax.lax.scan(
            lambda carry, x: step(params, carry, x), carry, xs.swapaxes(0, 1), reverse=reverse
        )
        return carry, jax.tree.map(lambda y: y.swapaxes(0, 1), ys)

    if lengths.shape != (batch_size,):
        raise ValueError(f"lengths must be [B] = ({batch_size},), got shape {lengths.shape}")
    real = jnp.arange(time)[None, :] < lengths[:, None]
    # A NaN in the padding would pass through the gradient of `where`; zeros cannot.
    xs = jnp.where(real[:, :, None], xs, jnp.zeros((), xs.dtype))

    def masked_step(carry, inputs):
        x, is_real = inputs
        new_carry, y = step(params, carry, x)
        return _where(is_real, new_carry, carry), _where(
            is_real, y, jax.tree.map(jnp.zeros_like, y)
        )

    carry, ys = jax.lax.scan(
        masked_step, carry, (xs.swapaxes(0, 1), real.swapaxes(0, 1)), reverse=reverse
    )
    return carry, jax.tree.map(lambda y: y.swapaxes(0, 1), ys)


def _where(rows: Array, new: Any, old: Any) -> Any:
    def select(a: Array, b: Array) -> Array:
        return jnp.where(rows.reshape(rows.shape + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(select, new, old)


def _initial_carry(cell: Cell | Callable, params: Any, batch_size: int) -> Any:
    """As the cell makes it, in the dtype of params, whose last axes all have to be H."""
    if not isinstance(cell, Cell):
        raise ValueError("carry is None: a bare step function has no initial carry, pass one")
    leaves = jax.tree.leaves(params)
    widths = {leaf.shape[-1] for leaf in leaves if leaf.ndim}
    if len(widths) != 1:
        raise ValueError(
            f"carry is None and H is not clear from params (last axes {widths}): pass a carry"
        )
    carry = cell.initial_carry(batch_size, widths.pop())

    def in_dtype_of_params(leaf: Array) -> Array:
        is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(leaves[0].dtype) if is_float else leaf

    return jax.tree.map(in_dtype_of_params, carry)
