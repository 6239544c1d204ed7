"""What `unroll` makes of a cell, as text for people."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn, Literal, Var

from seqlab.cells import Cell
from seqlab.recurrence import platform
from seqlab.recurrence.parts import widths
from seqlab.recurrence.plain import plain_unroll
from seqlab.recurrence.program import loops
from seqlab.recurrence.split import CARRY, INPUT, PARAMS, CannotSplit, Group, Split, shape_of, split
from seqlab.recurrence.unroll import unroll

SIGNS = {"add": " + ", "sub": " − ", "mul": "⊙", "div": " / "}
NAMES = {"logistic": "σ"}


def explain(
    cell: Cell, batch_size: int = 20, time: int = 35, input_dim: int = 128, hidden_dim: int = 128
) -> str:
    """What of a cell runs once, what for all T, what in the loop, and what that saves.

    The operations and products per step are counted in the compiled programs of a forward and
    backward pass, ours beside that of the plain scan; FLOPs are those of matrix products.

    Args:
        cell: an entry of `CELLS`, or a cell of one's own.
        batch_size, time, input_dim, hidden_dim: B, T, D and H.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    params = jax.eval_shape(lambda key: cell.init(key, input_dim, hidden_dim), key)
    carry = jax.eval_shape(lambda: cell.initial_carry(batch_size, hidden_dim))
    x = jax.ShapeDtypeStruct((batch_size, input_dim), jnp.zeros(()).dtype)
    try:
        parts, _, _ = split(cell.step, params, carry, x, time)
    except CannotSplit as reason:
        return f"runs as a plain scan: {reason}."
    name = _naming(parts, params, carry)
    lines = [
        *_part("once", _once(parts)),
        *_part(f"for all T = {time} at once", _inputs(parts, name, batch_size * time)),
        *_part("in each step", _loop(parts, name)),
        *_part("after the backward loop", _gradients(parts, batch_size * time)),
        "",
        *_counts(cell, parts, params, carry, x, time),
    ]
    return "\n".join(lines)


def _part(title: str, content: list[str]) -> list[str]:
    return [title, *(f"    {line}" for line in content or ["nothing"])]


def _once(parts: Split) -> list[str]:
    return _operations(parts.equations[PARAMS])


def _inputs(parts: Split, name: Callable, rows: int) -> list[str]:
    groups = parts.groups_of(INPUT)
    if platform.current().inputs_apart:
        groups = [
            group._replace(products=(product,)) for group in groups for product in group.products
        ]
    products = [_product(group, name, rows) for group in groups]
    return [*products, *_operations(_others(parts, INPUT))]


def _loop(parts: Split, name: Callable) -> list[str]:
    products = [
        _product(group, name, shape_of(group.lhs).shape[0]) for group in parts.groups_of(CARRY)
    ]
    return [*products, *_operations(_others(parts, CARRY))]


def _gradients(parts: Split, rows: int) -> list[str]:
    num_products = len(parts.groups_of(INPUT)) + len(parts.groups_of(CARRY))
    plural = "s" * (num_products != 1)
    lines = [f"{num_products} product{plural} over T·B = {rows} rows: the gradients of all weights"]
    return lines if num_products else []


def _product(group: Group, name: Callable, rows: int) -> str:
    weights = [name(p.rhs) + ("ᵀ" if p.transposed else "") for p in group.products]
    side_by_side = weights[0] if len(weights) == 1 else f"[{' '.join(weights)}]"
    shape = f"[{rows}, {shape_of(group.lhs).shape[1]}] @ [{shape_of(group.lhs).shape[1]}, "
    return f"{name(group.lhs)} @ {side_by_side}   {shape}{sum(widths(group))}]"


def _others(parts: Split, kind: int) -> list[JaxprEqn]:
    return [eqn for eqn in parts.equations[kind] if eqn.outvars[0] not in parts.groups]


def _operations(equations: list[JaxprEqn]) -> list[str]:
    counts = Counter(NAMES.get(eqn.primitive.name, eqn.primitive.name) for eqn in equations)
    return [", ".join(f"{n} {name}" for name, n in counts.most_common())] if counts else []


def _naming(parts: Split, params: Any, carry: Any) -> Callable[[Var | Literal], str]:
    """Names of variables as the equation has them; of what is computed, its last operations."""

    def leaves(tree: Any, default: str) -> list[str]:
        paths = [jax.tree_util.keystr(path, simple=True, separator=".")
                 for path, _ in jax.tree.leaves_with_path(tree)]  # fmt: skip
        return [path or default for path in paths]

    names = dict(zip(parts.params, leaves(params, "w"), strict=True))
    names |= dict(zip(parts.carry, leaves(carry, "h"), strict=True))
    names |= dict(zip(parts.inputs, ["x"], strict=True))
    made_by = {
        var: eqn for equations in parts.equations.values() for eqn in equations
        for var in eqn.outvars
    }  # fmt: skip

    def name(atom: Var | Literal, depth: int = 2) -> str:
        if isinstance(atom, Literal):
            return f"{atom.val}"
        if atom in names:
            return names[atom]
        eqn = made_by[atom]
        if depth == 0:
            return "…"
        if eqn.primitive.name in SIGNS:
            sign = SIGNS[eqn.primitive.name]
            return f"({sign.join(name(operand, depth - 1) for operand in eqn.invars)})"
        called = NAMES.get(eqn.primitive.name, eqn.primitive.name)
        return f"{called}({', '.join(name(operand, depth - 1) for operand in eqn.invars)})"

    return name


def _counts(
    cell: Cell, parts: Split, params: Any, carry: Any, x: jax.ShapeDtypeStruct, time: int
) -> list[str]:
    """Operations, products and FLOPs of each step, of both programs."""
    batch_size, input_dim = x.shape
    xs = jax.ShapeDtypeStruct((batch_size, time, input_dim), x.dtype)

    def flops(kind: int) -> float:
        groups = parts.groups_of(kind)
        return sum(2e-6 * batch_size * shape_of(group.lhs).shape[1] * sum(widths(group))
                   for group in groups)  # fmt: skip

    recurrent, everything = flops(CARRY), flops(INPUT) + flops(CARRY)
    per_step = {"plain scan": (everything, 2 * everything), "seqlab": (recurrent, recurrent)}
    lines = [f"{'per step':<16}{'forward loop':<42}backward loop"]
    for program, run in (("plain scan", plain_unroll), ("seqlab", unroll)):

        def value(params, carry, xs, run=run):
            return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(run(cell, params, carry, xs)))

        gradient = jax.jit(jax.grad(value, argnums=(0, 1, 2)))
        found = loops(gradient.lower(params, carry, xs).compile().as_text() or "")
        cells = [
            f"{loop.ops} operations, {loop.dots} product{'s' * (loop.dots != 1)}, {flop:.1f} MFLOP"
            for loop, flop in zip(found, per_step[program], strict=True)
        ]
        lines.append(f"{program:<16}{cells[0]:<42}{cells[1]}")
    return lines
