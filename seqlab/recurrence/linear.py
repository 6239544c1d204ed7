"""A linear function with a transpose of its own.

`jax.custom_vjp` gives a function a backward pass at the price of forward mode. Here both remain:
tangents are JAX's own, and the fast backward pass runs only where JAX transposes that linear map,
as reverse mode does.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Values = list[Any]


class Maps(NamedTuple):
    """A linear map and its transpose, at a point.

    Attributes:
        apply: (point, tangents) -> tangents of the results.
        transpose: (saved, cotangents of the results) -> cotangents of the point.
        num_point: how many of the operands are the point, and
        num_saved: how many after them are `saved`; the rest are tangents.
    """

    apply: Callable[[Values, Values], Values]
    transpose: Callable[[Values, Values], Values]
    num_point: int
    num_saved: int


def with_transpose(
    function: Callable[..., Any],
    forward: Callable[..., tuple[Any, Any]],
    backward: Callable[[Any, Any], Any],
) -> Callable[..., Any]:
    """`function`, with reverse mode through `backward` and forward mode as JAX has it.

    Args:
        function: of arrays in any trees.
        forward: the same, returns (results, saved).
        backward: (saved, cotangents of the results) -> cotangents of each argument.
    """
    run = jax.custom_jvp(function)

    @run.defjvp
    def tangents_of(arguments, tangents):
        results, saved = forward(*arguments)
        point, tree = jax.tree.flatten(arguments)
        floating = [jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in point]
        saved_leaves, saved_tree = jax.tree.flatten(saved)
        result_tree = jax.tree.structure(results)

        def apply(point, tangents):
            tangents = iter(tangents)
            tangents = [
                next(tangents) if is_float else np.zeros(jnp.shape(leaf), jax.dtypes.float0)
                for leaf, is_float in zip(point, floating, strict=True)
            ]
            unflatten = jax.tree.unflatten
            _, moved = jax.jvp(function, unflatten(tree, point), unflatten(tree, tangents))
            return jax.tree.leaves(moved)

        def transpose(saved, cotangents):
            saved = jax.tree.unflatten(saved_tree, saved)
            moved = backward(saved, jax.tree.unflatten(result_tree, cotangents))
            leaves = jax.tree.leaves(moved)
            return [leaf for leaf, is_float in zip(leaves, floating, strict=True) if is_float]

        leaves = jax.tree.leaves(tangents)
        leaves = [leaf for leaf, is_float in zip(leaves, floating, strict=True) if is_float]
        maps = Maps(apply, transpose, len(point), len(saved_leaves))
        moved = linear_p.bind(*point, *saved_leaves, *leaves, maps=maps)
        return results, jax.tree.unflatten(result_tree, moved)

    return run


linear_p = Primitive("recurrence_tangents")
linear_p.multiple_results = True


def _apply(*operands, maps: Maps):
    start = maps.num_point + maps.num_saved
    return maps.apply(list(operands[: maps.num_point]), list(operands[start:]))


def _shapes(*operands, maps: Maps):
    return jax.make_jaxpr(lambda *values: _apply(*values, maps=maps))(*operands).out_avals


def _moved(operands, tangents, *, maps: Maps):
    """The derivative of a derivative, JAX's own."""
    zeros = [
        np.zeros(jnp.shape(value), jax.dtypes.float0)
        if not jnp.issubdtype(jnp.result_type(value), jnp.floating)
        else ad.instantiate_zeros(tangent)
        for value, tangent in zip(operands, tangents, strict=True)
    ]
    return jax.jvp(lambda *values: _apply(*values, maps=maps), operands, zeros)


def _transposed(cotangents, *operands, maps: Maps):
    start = maps.num_point + maps.num_saved
    saved = list(operands[maps.num_point : start])
    moved = maps.transpose(saved, [ad.instantiate_zeros(ct) for ct in cotangents])
    moved = [
        ct if ad.is_undefined_primal(operand) else None
        for ct, operand in zip(moved, operands[start:], strict=True)
    ]
    return [None] * start + moved


def _batched(operands, axes, *, maps: Maps):
    size = next(
        operand.shape[axis]
        for operand, axis in zip(operands, axes, strict=True)
        if axis is not None
    )
    start = maps.num_point + maps.num_saved
    point_axes, saved_axes = list(axes[: maps.num_point]), list(axes[maps.num_point : start])
    # Every tangent gets the axis; where its cotangent must be summed over it later, JAX does so.
    tangents = [
        batching.bdim_at_front(operand, axis, size)
        for operand, axis in zip(operands[start:], axes[start:], strict=True)
    ]
    batched = maps._replace(
        apply=jax.vmap(maps.apply, in_axes=(point_axes, 0)),
        transpose=jax.vmap(maps.transpose, in_axes=(saved_axes, 0)),
    )
    moved = linear_p.bind(*operands[:start], *tangents, maps=batched)
    return moved, [0] * len(moved)


linear_p.def_impl(_apply)
linear_p.def_abstract_eval(_shapes)
mlir.register_lowering(linear_p, mlir.lower_fun(_apply, multiple_results=True))
ad.primitive_jvps[linear_p] = _moved
ad.primitive_transposes[linear_p] = _transposed
batching.primitive_batchers[linear_p] = _batched
