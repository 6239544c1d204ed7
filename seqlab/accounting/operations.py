"""The operations of a traced function, one after the other: calls entered, loops counted.

Every array is a `Value` that remembers what it comes from: whether from the data, from which
parameters, and from how wide a field of the input.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr

from seqlab.accounting import fields
from seqlab.accounting.fields import Field


class Value:
    """An array of the traced function. Compared by identity.

    Attributes:
        shape, dtype: of the array.
        data: whether it depends on the inputs, and not on parameters and constants alone.
        leaves: the numbers of the parameters it is computed from.
        field: what of the input it sees; None where that is not a matter of space.
    """

    def __init__(
        self,
        aval: Any,
        data: bool,
        leaves: frozenset[int] = frozenset(),
        field: Field | None = None,
    ):
        self.shape: tuple[int, ...] = tuple(aval.shape)
        self.dtype = aval.dtype
        self.data = data
        self.leaves = leaves
        self.field = field


class Operation(NamedTuple):
    """One primitive operation.

    Attributes:
        primitive: its name in JAX, such as conv_general_dilated.
        settings: its parameters, such as strides.
        inputs, outputs: the arrays; numbers written in the program are inputs, too.
        repeats: how often it runs, from the trip counts of the loops around it.
        scope: the module path it was traced under, without the outermost module.
    """

    primitive: str
    settings: dict[str, Any]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    repeats: int
    scope: tuple[str, ...]


class Untold(ValueError):
    """The number of times a loop runs is decided while it runs."""


def operations(function: Callable[..., Any], params: Any, inputs: Sequence[Any]) -> list[Operation]:
    """Trace function(params, *inputs), abstractly: nothing is computed and nothing allocated.

    Args:
        function: any JAX function.
        params: a tree of arrays or of `jax.ShapeDtypeStruct`; its leaves are numbered in order.
        inputs: arrays or `jax.ShapeDtypeStruct`; the axes between the first and the last are
            taken for space.

    Raises:
        Untold: there is a while loop whose trip count is not known before it runs.
    """
    traced = jax.make_jaxpr(function)(params, *inputs)
    num_params = len(jax.tree.leaves(params))
    arguments = [
        Value(var.aval, data=False, leaves=frozenset([number]))
        if number < num_params
        else Value(var.aval, data=True, field=fields.of_input(var.aval.shape))
        for number, var in enumerate(traced.jaxpr.invars)
    ]
    found: list[Operation] = []
    _walk(traced, arguments, 1, (), found.append)
    return found


def inner(eqn: Any) -> ClosedJaxpr | None:
    """The jaxpr that a call runs; None for an operation that is not a call."""
    programs = [
        setting for setting in eqn.params.values() if isinstance(setting, ClosedJaxpr | Jaxpr)
    ]
    if len(programs) != 1 or eqn.primitive.name in ("scan", "while", "reduce"):
        return None
    program = programs[0]
    if isinstance(program, Jaxpr):
        program = ClosedJaxpr(program, ())
    return program if len(program.jaxpr.invars) == len(eqn.invars) else None


def _walk(
    program: Any,
    arguments: Sequence[Value],
    repeats: int,
    outer: tuple[str, ...],
    emit: Callable[[Operation], None],
) -> list[Value]:
    known: dict[Any, Value] = dict(zip(program.jaxpr.invars, arguments, strict=True))
    for var, constant in zip(program.jaxpr.constvars, program.consts, strict=True):
        known[var] = Value(jax.typeof(constant), data=False)

    def read(atom: Any) -> Value:
        return known[atom] if atom in known else Value(atom.aval, data=False)

    for eqn in program.jaxpr.eqns:
        inputs = [
            Value(atom.aval, data=False) if hasattr(atom, "val") else read(atom)
            for atom in eqn.invars
        ]
        path = str(eqn.source_info.name_stack)
        names = outer + (tuple(path.split("/")) if path else ())
        name = eqn.primitive.name
        called = inner(eqn)
        if called is not None:
            outputs = _walk(called, inputs, repeats, names, emit)
        elif name == "scan":
            outputs = _scan(eqn, inputs, repeats, names, emit)
        elif name == "while":
            raise Untold("it has a while loop, whose trip count is not known before it runs")
        elif name == "cond":
            outputs = _branch(eqn, inputs, repeats, names, emit)
        else:
            data = any(value.data for value in inputs)
            leaves = frozenset().union(*(value.leaves for value in inputs))
            seen = fields.through(eqn, [value.field for value in inputs])
            outputs = [Value(var.aval, data, leaves, seen) for var in eqn.outvars]
            emit(
                Operation(name, dict(eqn.params), tuple(inputs), tuple(outputs), repeats, names[1:])
            )
        known |= zip(eqn.outvars, outputs, strict=True)
    return [
        Value(atom.aval, data=False) if hasattr(atom, "val") else read(atom)
        for atom in program.jaxpr.outvars
    ]


def _scan(eqn: Any, inputs: list[Value], repeats: int, names: Any, emit: Any) -> list[Value]:
    """The body once, each of its operations counted as often as it runs."""
    body, length = eqn.params["jaxpr"], eqn.params["length"]
    num_consts, num_carry = eqn.params["num_consts"], eqn.params["num_carry"]
    avals = [var.aval for var in body.jaxpr.invars]
    arguments = [
        Value(aval, value.data, value.leaves) for aval, value in zip(avals, inputs, strict=True)
    ]
    arguments[:num_consts] = inputs[:num_consts]
    while True:  # until the carry depends on all that a step brings into it
        outputs = _walk(body, arguments, repeats * length, names, lambda _: None)
        changed = False
        for number, after in enumerate(outputs[:num_carry], num_consts):
            before = arguments[number]
            data, leaves = before.data or after.data, before.leaves | after.leaves
            changed |= (data, leaves) != (before.data, before.leaves)
            arguments[number] = Value(before, data, leaves)
        if not changed:
            break
    outputs = _walk(body, arguments, repeats * length, names, emit)
    return [
        Value(var.aval, value.data, value.leaves)
        for var, value in zip(eqn.outvars, outputs, strict=True)
    ]


def _branch(eqn: Any, inputs: list[Value], repeats: int, names: Any, emit: Any) -> list[Value]:
    """Of several branches the one with most operations that multiply: the dearest case."""
    branches = []
    for branch in eqn.params["branches"]:
        found: list[Operation] = []
        outputs = _walk(branch, inputs[1:], repeats, names, found.append)
        branches.append((sum(map(macs, found)), found, outputs))
    _, found, outputs = max(branches, key=lambda branch: branch[0])
    for operation in found:
        emit(operation)
    return outputs


def macs(operation: Operation) -> int:
    """Multiply-adds of a convolution or a product; 0 for all else.

    Convolution: every output element takes one for each weight of its own filter, those that meet
    the zeros of the padding included. A transposed convolution takes one for each weight and input
    element. Product [.., M, K] @ [.., K, N]: M·K·N for each of the batch.
    """
    if operation.primitive == "conv_general_dilated":
        return _convolution_macs(operation, padding=True)
    if operation.primitive == "dot_general":
        (contracted, _), _ = operation.settings["dimension_numbers"]
        left = operation.inputs[0].shape
        depth = math.prod(left[axis] for axis in contracted)
        return operation.repeats * math.prod(operation.outputs[0].shape) * depth
    return 0


def macs_inside(operation: Operation) -> int:
    """The same, without what a convolution multiplies with the zeros of the padding.

    This is what XLA counts.
    """
    if operation.primitive == "conv_general_dilated":
        return _convolution_macs(operation, padding=False)
    return macs(operation)


def _convolution_macs(operation: Operation, padding: bool) -> int:
    settings, (image, kernel), (output,) = operation.settings, operation.inputs, operation.outputs
    numbers = settings["dimension_numbers"]
    axes = zip(numbers.lhs_spec[2:], numbers.rhs_spec[2:], numbers.out_spec[2:], strict=True)
    taps = 1
    for number, (axis, kernel_axis, output_axis) in enumerate(axes):
        taps *= _taps(
            image.shape[axis],
            kernel.shape[kernel_axis],
            output.shape[output_axis],
            settings["window_strides"][number],
            settings["padding"][number][0],
            settings["lhs_dilation"][number],
            settings["rhs_dilation"][number],
            padding,
        )
    batch = output.shape[numbers.out_spec[0]] // settings["batch_group_count"]
    features = kernel.shape[numbers.rhs_spec[0]] * kernel.shape[numbers.rhs_spec[1]]
    return operation.repeats * batch * features * taps


@functools.cache
def _taps(
    size: int,
    window: int,
    positions: int,
    stride: int,
    before: int,
    spread: int,
    dilation: int,
    padding: bool,
) -> int:
    """Pairs of output position and tap along one axis, the zeros between inputs left out."""
    return sum(
        place % spread == 0 and (padding or 0 <= place <= (size - 1) * spread)
        for position in range(positions)
        for tap in range(window)
        for place in [position * stride - before + tap * dilation]
    )
