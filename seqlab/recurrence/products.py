"""Matrix products of many rows, and their gradients."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array

from seqlab.recurrence import platform


class Precision(NamedTuple):
    """How a product is computed.

    Attributes:
        dtype: what both sides are rounded to first; None leaves them.
        precision: as of `jax.lax.dot_general`.
        out: the dtype of the result. Sums are in float32 at least.
    """

    dtype: DTypeLike | None
    precision: Any
    out: DTypeLike


def multiply(how: Precision, lhs: Array, rhs: Array) -> Array:
    """lhs [..., K] @ rhs [K, N]."""
    return _dot(how, _rounded(how, lhs), _rounded(how, rhs), how.out)


def _rounded(how: Precision, side: Array) -> Array:
    return side if how.dtype is None else side.astype(how.dtype)


def _dot(how: Precision, lhs: Array, rhs: Array, out: DTypeLike) -> Array:
    # bfloat16 sides, a float32 sum: what a matrix unit does anyway, if it is asked.
    half = lhs.dtype.itemsize == 2
    product = lax.dot_general(
        lhs,
        rhs,
        (((lhs.ndim - 1,), (0,)), ((), ())),
        precision=how.precision,
        preferred_element_type=jnp.float32 if half else None,
    )
    return product.astype(out)


def multiply_all(how: Precision, lhs: Array, weights: tuple[Array, ...]) -> tuple[Array, ...]:
    """lhs [T, B, K] times each weight [K, N], as one product where that is faster."""
    if platform.current().inputs_apart:
        return tuple(multiply(how, lhs, weight) for weight in weights)
    merged = multiply(how, lhs, beside(weights))
    return pieces(merged, [weight.shape[1] for weight in weights])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def with_one_gradient(how: Precision, lhs: Array, weights: tuple[Array, ...]) -> tuple[Array, ...]:
    """`multiply_all`, whose gradients are one product each as well."""
    return multiply_all(how, lhs, weights)


def _back(how, saved, cotangents):
    lhs, weights = saved
    cotangent = beside(cotangents)
    d_lhs = multiply(how._replace(out=lhs.dtype), cotangent, beside(weights).T)
    d_weights = weight_gradient(how, lhs, cotangent).astype(weights[0].dtype)
    return d_lhs, pieces(d_weights, [weight.shape[1] for weight in weights])


with_one_gradient.defvjp(
    lambda how, lhs, weights: (multiply_all(how, lhs, weights), (lhs, weights)), _back
)


def take_rows(table: Array, ids: Array) -> Array:
    """table [V, N] and ids [T, B, 1] give [T, B, N]."""
    return jnp.take(table, ids[..., 0], axis=0, mode="clip")


@jax.custom_vjp
def take_rows_back_by_product(table: Array, ids: Array) -> Array:
    """`take_rows`; the gradient of the table is a product, which gives the same bits every time."""
    return take_rows(table, ids)


def _rows_back(saved, d_rows):
    table, ids = saved
    chosen = jnp.arange(len(table), dtype=ids.dtype)[:, None] == ids.reshape(1, -1)
    d_rows = d_rows.reshape(-1, d_rows.shape[-1])
    exact = Precision(None, jax.lax.Precision.HIGHEST, table.dtype)
    return _dot(exact, chosen.astype(d_rows.dtype), d_rows, table.dtype), None


take_rows_back_by_product.defvjp(
    lambda table, ids: (take_rows(table, ids), (table, ids)), _rows_back
)


class Rules(NamedTuple):
    """How the input part computes its products and lookups."""

    multiply_all: Callable[..., Any]
    take_rows: Callable[..., Any]


def weight_gradient(how: Precision, lhs: Array, cotangent: Array) -> Array:
    """lhsᵀ @ cotangent, summed over all rows of [T, B, K] and [T, B, N], in float32 at least."""
    columns = _rounded(how, lhs).reshape(-1, lhs.shape[-1]).T
    rows = _rounded(how, cotangent).reshape(-1, cotangent.shape[-1])
    if platform.current().transpose_before_product:
        columns = lax.optimization_barrier(columns)
    return _dot(how, columns, rows, jnp.float32 if rows.dtype.itemsize == 2 else rows.dtype)


AS_JAX = Rules(multiply_all, take_rows)
ONE_GRADIENT = Rules(with_one_gradient, take_rows_back_by_product)


def sum_to(like: jax.ShapeDtypeStruct, stack: Array) -> Array:
    """A stack [T, ...] summed over T and every axis that is 1 in `like`, in float32 at least."""
    axes = [n + 1 for n, size in enumerate(like.shape) if size != stack.shape[n + 1]]
    wide = jnp.float32 if stack.dtype.itemsize == 2 else stack.dtype
    total = jnp.sum(stack, axis=(0, *axes), dtype=wide)
    return total.reshape(like.shape).astype(like.dtype)


def beside(arrays: tuple[Array, ...] | list[Array]) -> Array:
    """Arrays [..., N] side by side."""
    return arrays[0] if len(arrays) == 1 else jnp.concatenate(arrays, axis=-1)


def pieces(array: Array, widths: list[int]) -> tuple[Array, ...]:
    """The inverse of `beside`."""
    stops = [sum(widths[: n + 1]) for n in range(len(widths))]
    return tuple(
        lax.slice_in_dim(array, stop - width, stop, axis=-1)
        for width, stop in zip(widths, stops, strict=True)
    )
