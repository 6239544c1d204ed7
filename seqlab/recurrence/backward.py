"""One step backward as a program: which values it needs, and where its results are."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Var, jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr

from seqlab.recurrence.parts import Cotangents, Parts, Step, Values, widths
from seqlab.recurrence.split import shape_of


class Source(NamedTuple):
    """Where the cotangent of a value is after the backward loop.

    Attributes:
        stack: index into the stacks that the loop has written.
        columns: first column and end in it; None for all.
    """

    stack: int
    columns: tuple[int, int] | None = None


class Backward(NamedTuple):
    """One step backward, pruned to the arguments it uses.

    Attributes:
        call: (from_params, weights transposed, step, d_carry, d_outputs), flat, as used ->
            d_carry, stacked values.
        used: which of those, as a tree of bools.
        sources: where each cotangent other than the carry's is found among the stacked values.
    """

    call: Callable
    used: tuple
    sources: Cotangents


def trace_backward(parts: Parts) -> Backward:
    """Trace one step backward and prune it."""
    split = parts.split
    step = Step(shapes_of(split.carry), shapes_of(split.from_inputs), shapes_of(parts.known))
    weights = [
        jax.ShapeDtypeStruct(
            (sum(widths(group)), shape_of(group.lhs).shape[1]),
            parts.product_dtype or shape_of(group.lhs).dtype,
        )
        for group in parts.groups
    ]
    arguments = (
        shapes_of(split.from_params), weights, step, shapes_of(split.carry_out),
        shapes_of(split.outputs),
    )  # fmt: skip
    closed, shapes = jax.make_jaxpr(parts.backward, return_shape=True)(*arguments)
    jaxpr, used = dce_jaxpr(closed.jaxpr, [True] * len(closed.out_avals))
    used = jax.tree.unflatten(jax.tree.structure(arguments), used)

    num_carry = len(split.carry)
    made_of = {
        eqn.outvars[0]: eqn.invars
        for eqn in jaxpr.eqns
        if eqn.primitive.name == "concatenate"
        and eqn.params["dimension"] == shape_of(eqn.outvars[0]).ndim - 1
    }
    atoms = jax.tree.unflatten(jax.tree.structure(shapes), jaxpr.outvars)
    stacked: list[Any] = list(dict.fromkeys(atoms.groups))  # merged: pieces of them are found below
    columns = {}
    for n, atom in enumerate(stacked):
        start = 0
        for piece in made_of.get(atom, ()):
            stop = start + shape_of(piece).shape[-1]
            columns.setdefault(piece, Source(n, (start, stop)))
            start = stop

    def source(atom) -> Source:
        if isinstance(atom, Var) and atom in columns:
            return columns[atom]
        if atom not in stacked:
            stacked.append(atom)
        return Source(stacked.index(atom))

    sources = Cotangents([], *[[source(atom) for atom in part] for part in atoms[1:]])
    pruned = jaxpr.replace(outvars=[*jaxpr.outvars[:num_carry], *stacked])
    function = jaxpr_as_fun(ClosedJaxpr(pruned, closed.consts))

    def call(*flat: Any) -> tuple[Values, Values]:
        results = function(*flat)
        return results[:num_carry], results[num_carry:]

    return Backward(call, used, sources)


def trace_meetings(parts: Parts) -> Step:
    """Which values of a step the gradient of `Parts.meetings` uses, as a tree of bools."""
    split = parts.split
    step = Step(shapes_of(split.carry), shapes_of(split.from_inputs), shapes_of(parts.known))
    d_borders = shapes_of(parts.borders)
    arguments = shapes_of(split.from_params), step, d_borders

    def gradient(from_params, step, d_borders):
        def own(values):
            return parts.meetings(values, from_params, step)

        _, pull, left_sides = jax.vjp(own, from_params, has_aux=True)
        return pull(d_borders), left_sides

    closed = jax.make_jaxpr(gradient)(*arguments)
    _, used = dce_jaxpr(closed.jaxpr, [True] * len(closed.out_avals))
    return jax.tree.unflatten(jax.tree.structure(arguments), used)[1]


def shapes_of(variables: list) -> list[jax.ShapeDtypeStruct]:
    return [shape_of(variable) for variable in variables]
