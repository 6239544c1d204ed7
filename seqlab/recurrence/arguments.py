"""The arguments of a recurrence: checked, and made time-major."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from seqlab.cells import Cell


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Symbols:
    """Inputs that are rows of a table: x_t = table[ids_t]. The identity makes them one-hot.

    Products of x alone are then computed for the V rows of the table, if V < B·T, and looked up.

    Attributes:
        ids: which row, [B, T].
        table: [V, D], an embedding for instance.
    """

    ids: Int[Array, "B T"]
    table: Float[Array, "V D"]

    @property
    def shape(self) -> tuple[int, ...]:
        return *self.ids.shape, self.table.shape[1]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> DTypeLike:
        return self.table.dtype

    def rows(self) -> Float[Array, "B T D"]:
        return jnp.take(self.table, self.ids, axis=0, mode="clip")


def checked(
    cell: Cell | Callable, params: Any, carry: Any, xs: Array | Symbols, lengths: Array | None
) -> Any:
    """The initial carry, after checking that all arguments fit each other.

    Raises:
        ValueError: one does not; the message names it, in the letters B, T, D and H.
    """
    if xs.ndim != 3:
        raise ValueError(f"xs must be [B, T, D], got shape {xs.shape}")
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        raise ValueError(f"xs must be floating point, got {xs.dtype}")
    batch_size, _, input_dim = xs.shape
    if lengths is not None and lengths.shape != (batch_size,):
        raise ValueError(f"lengths must be [B] = ({batch_size},), got shape {lengths.shape}")
    if isinstance(cell, Cell):
        hidden_dim = _hidden_dim(params)
        if hidden_dim is not None:
            _check_params(cell, params, input_dim, hidden_dim)
        if carry is None:
            carry = _initial_carry(cell, params, batch_size, hidden_dim)
        elif hidden_dim is not None:
            _check_carry(cell, carry, batch_size, hidden_dim)
    elif carry is None:
        raise ValueError("carry is None: a bare step function has no initial carry, pass one")
    _check_step(cell.step if isinstance(cell, Cell) else cell, params, carry, xs)
    return carry


def in_time(
    cell: Cell | Callable, params: Any, xs: Array | Symbols, lengths: Array | None
) -> tuple[Callable[[Any, Any, Any], tuple[Any, Any]], Any, Any]:
    """The step, its params, and what it takes at each time, with the axis T first.

    With lengths, the step freezes the carry of a row that has ended and returns 0 for its y.
    """
    step = cell.step if isinstance(cell, Cell) else cell
    if isinstance(xs, Symbols):
        step, params, values = _looked_up(step), (params, xs.table), xs.ids
    else:
        values = xs
    if lengths is None:
        return step, params, values.swapaxes(0, 1)
    real = jnp.arange(values.shape[1], dtype=lengths.dtype)[None, :] < lengths[:, None]
    # A NaN in the padding would pass through the gradient of `where`; zeros cannot.
    values = _where(real, values, jnp.zeros_like(values))

    def masked_step(params, carry, inputs):
        x, is_real = inputs
        new_carry, y = step(params, carry, x)
        zeros = jax.tree.map(jnp.zeros_like, y)
        return _where(is_real, new_carry, carry), _where(is_real, y, zeros)

    return masked_step, params, (values.swapaxes(0, 1), real.swapaxes(0, 1))


def _looked_up(step: Callable) -> Callable:
    def step_of_symbols(params, carry, ids):
        params, table = params
        return step(params, carry, jnp.take(table, ids, axis=0, mode="clip"))

    return step_of_symbols


def _check_step(step: Callable, params: Any, carry: Any, xs: Array | Symbols) -> None:
    """Raise ValueError unless a step returns a carry like the one it takes."""
    batch_size, _, input_dim = xs.shape
    x = jax.ShapeDtypeStruct((batch_size, input_dim), xs.dtype)
    after, _ = jax.eval_shape(step, params, carry, x)
    if jax.tree.structure(after) != jax.tree.structure(carry):
        raise ValueError(
            f"the step takes a carry {jax.tree.structure(carry)} "
            f"and returns a carry {jax.tree.structure(after)}"
        )
    for (path, given), returned in zip(
        jax.tree.leaves_with_path(carry), jax.tree.leaves(after), strict=True
    ):
        if (jnp.shape(given), jnp.result_type(given)) != (returned.shape, returned.dtype):
            raise ValueError(
                f"carry{jax.tree_util.keystr(path)} goes into the step as "
                f"{jnp.result_type(given)}{list(jnp.shape(given))} and comes out as "
                f"{returned.dtype}{list(returned.shape)}"
            )


def _where(rows: Array, new: Any, old: Any) -> Any:
    def select(a: Array, b: Array) -> Array:
        return jnp.where(rows.reshape(rows.shape + (1,) * (a.ndim - rows.ndim)), a, b)

    return jax.tree.map(select, new, old)


def _hidden_dim(params: Any) -> int | None:
    """H, the last axis of every symbol of an equation; None where they differ."""
    widths = {leaf.shape[-1] for leaf in jax.tree.leaves(params) if leaf.ndim}
    return widths.pop() if len(widths) == 1 else None


def _initial_carry(cell: Cell, params: Any, batch_size: int, hidden_dim: int | None) -> Any:
    """As the cell makes it, in the dtype of params."""
    leaves = jax.tree.leaves(params)
    if hidden_dim is None:
        widths = {leaf.shape[-1] for leaf in leaves if leaf.ndim}
        raise ValueError(
            f"carry is None and H is not clear from params (last axes {widths}): pass a carry"
        )

    def in_dtype_of_params(leaf: Array) -> Array:
        is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(leaves[0].dtype) if is_float else leaf

    return jax.tree.map(in_dtype_of_params, cell.initial_carry(batch_size, hidden_dim))


def _check_params(cell: Cell, params: Any, input_dim: int, hidden_dim: int) -> None:
    key = jax.eval_shape(lambda: jax.random.key(0))
    expected = jax.eval_shape(lambda key: cell.init(key, input_dim, hidden_dim), key)
    _check_shapes("params", params, expected, {"D": input_dim, "H": hidden_dim})


def _check_carry(cell: Cell, carry: Any, batch_size: int, hidden_dim: int) -> None:
    expected = jax.eval_shape(lambda: cell.initial_carry(batch_size, hidden_dim))
    _check_shapes("carry", carry, expected, {"B": batch_size, "H": hidden_dim})


def _check_shapes(argument: str, given: Any, expected: Any, sizes: dict[str, int]) -> None:
    if jax.tree.structure(given) != jax.tree.structure(expected):
        raise ValueError(
            f"{argument} must be {jax.tree.structure(expected)}, got {jax.tree.structure(given)}"
        )
    letters = {size: letter for letter, size in sizes.items()}
    for (path, wanted), leaf in zip(
        jax.tree.leaves_with_path(expected), jax.tree.leaves(given), strict=True
    ):
        if jnp.shape(leaf) != wanted.shape:
            shape = ", ".join(letters.get(size, str(size)) for size in wanted.shape)
            raise ValueError(
                f"{argument}{jax.tree_util.keystr(path)} must be [{shape}] = {wanted.shape}, "
                f"got {jnp.shape(leaf)}"
            )
