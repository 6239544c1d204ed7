"""A traced program as a graph of arrays, with calls inlined and dead code removed."""

import math
from collections.abc import Sequence
from typing import Any

from seqlab.accounting.operations import inner

VIEWS = frozenset(
    "reshape squeeze expand_dims bitcast_convert_type transpose dynamic_update_slice".split()  # noqa: SIM905
)
"""Another way to read the same memory, folded into what reads it, or written in place."""


class Array:
    """An array of the traced program; `given` if it is there before the program starts."""

    def __init__(self, aval: Any, given: bool = False):
        itemsize = getattr(aval.dtype, "itemsize", 8)  # a random key has none
        self.aval = aval
        self.bytes = math.prod(aval.shape) * itemsize
        self.given = given
        self.made_by: Node | None = None


class Node:
    """An operation of the traced program."""

    def __init__(self, name: str, settings: Any, inputs: list[Array], outputs: list[Array]):
        self.name = name
        self.settings = settings
        self.inputs = inputs
        self.outputs = outputs
        for output in outputs:
            output.made_by = self


def flatten(program: Any, arguments: Sequence[Array], nodes: list[Node]) -> list[Array]:
    """All operations in their order, calls entered; loops stay as they are."""
    known = dict(zip(program.jaxpr.invars, arguments, strict=True))
    for var in program.jaxpr.constvars:
        known[var] = Array(var.aval, given=True)

    def read(atom: Any) -> Array:
        return Array(atom.aval, given=True) if hasattr(atom, "val") else known[atom]

    for eqn in program.jaxpr.eqns:
        inputs = [read(atom) for atom in eqn.invars]
        called = inner(eqn)
        if called is not None:
            outputs = flatten(called, inputs, nodes)
        elif eqn.primitive.name == "optimization_barrier":
            outputs = [_barrier(array, nodes) for array in inputs]
        else:
            outputs = [Array(var.aval) for var in eqn.outvars]
            nodes.append(Node(eqn.primitive.name, eqn.params, inputs, outputs))
        known |= zip(eqn.outvars, outputs, strict=True)
    return [read(atom) for atom in program.jaxpr.outvars]


def _barrier(array: Array, nodes: list[Node]) -> Array:
    """An array that nothing is fused across: it is written to memory, once."""
    if array.given:
        return array
    output = Array(array.aval)
    nodes.append(Node("optimization_barrier", {}, [array], [output]))
    return output


def needed(nodes: list[Node], results: list[Array]) -> list[Node]:
    wanted, kept = {id(array) for array in results}, []
    for node in reversed(nodes):
        if any(id(output) in wanted for output in node.outputs):
            kept.append(node)
            wanted |= {id(array) for array in node.inputs}
    return kept[::-1]


def seen_through(array: Array) -> Array:
    while array.made_by is not None and array.made_by.name in VIEWS:
        array = array.made_by.inputs[0]
    return array
