"""What follows the backward loop: gradients, from the cotangents that it has stacked."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Var
from jaxtyping import Array

from seqlab.recurrence.backward import Source
from seqlab.recurrence.parts import Parts, Values, is_float, widths
from seqlab.recurrence.products import pieces, sum_to, weight_gradient
from seqlab.recurrence.split import shape_of


def products_gradient(parts: Parts, left_sides: Values, d_groups: Values) -> list[Array | None]:
    """d_rhs = lhsᵀ @ d_result over all T·B rows, for every product of the loop."""
    gradients: dict[Var, Array] = {}
    for group, lhs, d_result in zip(parts.groups, left_sides, d_groups, strict=True):
        d_merged = weight_gradient(parts.how(group), lhs, d_result)
        d_weights = pieces(d_merged, widths(group))
        for product, d_rhs in zip(group.products, d_weights, strict=True):
            d_rhs = (d_rhs.T if product.transposed else d_rhs).astype(shape_of(product.rhs).dtype)
            known = gradients.get(product.rhs)
            gradients[product.rhs] = d_rhs if known is None else known + d_rhs
    return [gradients.get(var) for var in parts.split.from_params]


def sums_gradient(
    parts: Parts, sources: list[Source], stacks: Values, merged: bool
) -> list[Array | None]:
    """A term of a sum has the sum's cotangent, here summed over all T·B rows.

    `merged`: sum all columns of a stack, then slice out those of each term. If sliced first,
    XLA:CPU would write the slices to memory for all T.
    """
    gradients: dict[Var, Array] = {}
    for var, source in zip(parts.sums.values(), sources, strict=True):
        like = shape_of(var)
        if merged and source.columns is not None and like.shape[-1] > 1:
            stack = stacks[source.stack]
            wide = jax.ShapeDtypeStruct((*like.shape[:-1], stack.shape[-1]), like.dtype)
            gradient = lax.slice_in_dim(sum_to(wide, stack), *source.columns, axis=-1)
        else:
            gradient = sum_to(like, found(stacks, source))
        known = gradients.get(var)
        gradients[var] = gradient if known is None else known + gradient
    return [gradients.get(var) for var in parts.split.from_params]


def found(stacks: Values, source: Source) -> Array:
    stack = stacks[source.stack]
    if source.columns is None:
        return stack
    return lax.slice_in_dim(stack, *source.columns, axis=-1)


def every(d_floats: Values, variables: list[Var], stacks: Values) -> list[Any]:
    """Cotangents of all values, from those of the floating-point ones."""
    remaining = iter(d_floats)
    return [
        next(remaining) if is_float(var) else np.zeros(stack.shape, jax.dtypes.float0)
        for var, stack in zip(variables, stacks, strict=True)
    ]


def total(terms: tuple[Array | None, ...]) -> Array:
    present = [term for term in terms if term is not None]
    if present[0].dtype == jax.dtypes.float0:
        return present[0]
    return functools.reduce(jnp.add, present)
