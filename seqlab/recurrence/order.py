"""The order of computation, where it decides how much memory a program needs at its peak."""

from typing import Any, TypeVar

import jax
import jax.custom_batching
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

Tree = TypeVar("Tree")


def after(done: Any, values: Tree) -> Tree:
    """`values`; whatever is computed from them waits for `done`.

    XLA:CPU drops every `optimization_barrier` before it schedules, merges what the two sides of it
    have in common, and computes everything as early as it can. What is needed only after both loops
    would thus be held throughout them. A value that really depends on `done` has to wait.

    Args:
        done: arrays in any tree.
        values: the same; those that are not floating point do not wait.
    """
    firsts = [leaf.ravel()[0].astype(jnp.float32) for leaf in _floats(done) if leaf.size]
    if not firsts:
        return values
    never = _above_infinity(lax.stop_gradient(sum(firsts[1:], start=firsts[0])))

    def waiting(value: Any) -> Any:
        if not jnp.issubdtype(value.dtype, jnp.floating):
            return value
        return jnp.where(never, jnp.asarray(jnp.nan, value.dtype), value)

    return jax.tree.map(waiting, values)


def _floats(tree: Any) -> list[Array]:
    leaves = jax.tree.leaves(tree)
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]


@jax.custom_batching.custom_vmap
def _above_infinity(number: Float[Array, ""]) -> Bool[Array, ""]:
    """False, which no compiler can prove."""
    return number > jnp.inf


@_above_infinity.def_vmap
def _one_for_all(axis_size: int, in_batched: list[bool], numbers: Float[Array, " N"]):
    """One answer does: what waits for it keeps its own shape under `jax.vmap`."""
    return _above_infinity(numbers[0]), False
