"""Rows of an accounting table: one a layer, from the operations of a traced function."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from seqlab.accounting.operations import Operation, macs, macs_inside

CONVOLUTION, PRODUCT, POOL, OTHER, INPUT = "convolution", "product", "pool", "other", "input"

MULTIPLIES = ("conv_general_dilated", "dot_general", "gather", "mul")
NONLINEARITIES = ("max", "min", "clamp", "tanh", "logistic", "erf")


class Row(NamedTuple):
    """What one layer costs.

    Attributes:
        layer: module path; for a cell, the symbol of its equation.
        kind: convolution, product (of matrices), pool, input, or other (has parameters alone).
        output_shape: of one image or sequence, without the batch.
        activations: elements of its outputs, for the whole batch and all steps of time; a bias or
            a non-linearity is taken to overwrite them, and a normalisation, too.
        params: all that is trained.
        weights: of these, without biases and without the scale and shift of normalisations.
        macs: multiply-adds for the whole batch, those with the zeros of the padding included.
        macs_inside: without these.
        receptive_field: extents along the axes of space, borders not considered; None where
            there is no space.
    """

    layer: str
    kind: str
    output_shape: tuple[int, ...]
    activations: int
    params: int
    weights: int
    macs: int
    macs_inside: int
    receptive_field: tuple[int, ...] | None


class Leaf(NamedTuple):
    """A parameter: the keys that lead to it, and its shape."""

    path: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def leaves_of(params: Any) -> list[Leaf]:
    """The parameters of a tree, in the order of its leaves."""
    return [
        Leaf(tuple(str(getattr(key, "key", getattr(key, "idx", key))) for key in path), leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    ]


def rows(
    operations: Sequence[Operation],
    leaves: Sequence[Leaf | None],
    inputs: dict[str, tuple[int, ...]],
    batch: int,
) -> list[Row]:
    """The table of a traced function.

    A layer is what shares a weight: convolutions and products go by the module that owns the
    weight, pools and products without one by the module that they were traced in. A module that
    multiplies by several weights, as a cell does, has a row for each.

    Args:
        operations: of the function.
        leaves: its parameters; None for one that is not trained, such as a running mean.
        inputs: name and shape of each input.
        batch: B; a first axis of this length is left out of the shapes.
    """
    owners = _owners(operations, leaves)
    table = {
        name: [Row(name, INPUT, _one(shape, batch), math.prod(shape), 0, 0, 0, 0, None)]
        for name, shape in inputs.items()
    }
    taken: Counter[str] = Counter(table)
    for operation in operations:
        kind = _kind(operation)
        used = {owners[leaf] for leaf in _read(operation) if leaf in owners}
        if kind == OTHER:
            for name in used if any(value.data for value in operation.inputs) else ():
                table.setdefault(name, [])
                _note_shape(table, name, operation, batch)
            continue
        weight = _weight(operation, leaves)
        name = owners[weight] if weight is not None else _unowned(operation, kind, taken)
        table.setdefault(name, []).append(_row(operation, name, kind, batch))
    for owner in owners.values():
        table.setdefault(owner, [])
    sizes = _sizes(owners, leaves, operations)
    return [_joined(name, parts, *sizes.get(name, (0, 0))) for name, parts in table.items()]


def _row(operation: Operation, name: str, kind: str, batch: int) -> Row:
    (result, *_) = operation.outputs
    return Row(
        name,
        kind,
        ((operation.repeats,) if operation.repeats > 1 else ()) + _one(result.shape, batch),
        0 if kind == OTHER else operation.repeats * math.prod(result.shape),
        0,
        0,
        macs(operation),
        macs_inside(operation),
        result.field.sizes if result.field else None,
    )


def _joined(name: str, parts: list[Row], params: int, weights: int) -> Row:
    """What one layer does in several operations, as one row."""
    if not parts:
        return Row(name, OTHER, (), 0, params, weights, 0, 0, None)
    last = parts[-1]
    kinds = {part.kind for part in parts} - {OTHER} or {OTHER}
    return last._replace(
        kind=min(kinds),
        activations=sum(part.activations for part in parts),
        params=params,
        weights=weights,
        macs=sum(part.macs for part in parts),
        macs_inside=sum(part.macs_inside for part in parts),
    )


def _note_shape(table: dict[str, list[Row]], name: str, operation: Operation, batch: int) -> None:
    """The output shape of a layer without product is that of the last operation with its params."""
    if all(part.kind == OTHER for part in table[name]):
        table[name] = [_row(operation, name, OTHER, batch)]


def _one(shape: tuple[int, ...], batch: int) -> tuple[int, ...]:
    return shape[1:] if shape and shape[0] == batch else shape


def _kind(operation: Operation) -> str:
    data = any(value.data for value in operation.inputs)
    if not data:
        return OTHER
    if operation.primitive == "conv_general_dilated":
        return CONVOLUTION
    if operation.primitive == "dot_general":
        return PRODUCT
    return POOL if _is_pool(operation) else OTHER


def _is_pool(operation: Operation) -> bool:
    """A window, or a whole axis, of space: between the first axis and the last."""
    shape = operation.inputs[0].shape
    if len(shape) < 3 or len(operation.outputs) != 1:
        return False
    space = set(range(1, len(shape) - 1))
    if operation.primitive.startswith("reduce_window"):
        window = operation.settings["window_dimensions"]
        return {axis for axis, length in enumerate(window) if length > 1} <= space
    if operation.primitive in ("reduce_sum", "reduce_max"):
        return set(operation.settings["axes"]) == space
    return False


def _read(operation: Operation) -> set[int]:
    """Parameters that an operation reads on the side that is not data."""
    return set().union(*(value.leaves for value in operation.inputs if not value.data))


def _weight(operation: Operation, leaves: Sequence[Leaf | None]) -> int | None:
    """The largest of the parameters that the data is multiplied by."""
    candidates = [leaf for leaf in sorted(_read(operation)) if leaves[leaf] is not None]
    return max(candidates, key=lambda leaf: leaves[leaf].size, default=None)  # pyright: ignore


def _owners(operations: Sequence[Operation], leaves: Sequence[Leaf | None]) -> dict[int, str]:
    """The layer that each trained parameter belongs to."""
    multiplied = {
        weight
        for operation in operations
        if _kind(operation) in (CONVOLUTION, PRODUCT)
        for weight in [_weight(operation, leaves)]
        if weight is not None
    }
    num_weights = Counter(leaves[weight].path[:-1] for weight in multiplied)  # pyright: ignore
    owners = {}
    for number, leaf in enumerate(leaves):
        if leaf is not None:
            module = leaf.path[:-1]
            path = module if module and num_weights[module] <= 1 else leaf.path
            owners[number] = "/".join(path) or f"parameter {number}"
    return owners


def _sizes(
    owners: dict[int, str], leaves: Sequence[Leaf | None], operations: Sequence[Operation]
) -> dict[str, tuple[int, int]]:
    """Parameters and weights of each layer."""
    weights = {
        leaf
        for operation in operations
        if operation.primitive in MULTIPLIES and any(value.data for value in operation.inputs)
        for leaf in _read(operation)
    }
    sizes: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for number, owner in owners.items():
        params, counted = sizes[owner]
        leaf = leaves[number]
        assert leaf is not None
        is_weight = number in weights and leaf.path[-1] != "scale"  # Linen's name in normalisations
        sizes[owner] = params + leaf.size, counted + is_weight * leaf.size
    return sizes


def _unowned(operation: Operation, kind: str, taken: Counter[str]) -> str:
    """A name for what has no weight: its module, or what it does there."""
    name = "/".join(operation.scope) or kind
    taken[name] += 1
    return name if taken[name] == 1 else f"{name} ({taken[name]})"


def elements(row_list: Sequence[Row], kinds: Sequence[str]) -> int:
    """Activations of the rows of these kinds."""
    return sum(row.activations for row in row_list if row.kind in kinds)


def nonlinear_elements(operations: Sequence[Operation]) -> int:
    """Outputs of non-linearities, where each has a copy of its own."""
    return sum(
        operation.repeats * math.prod(operation.outputs[0].shape)
        for operation in operations
        if operation.primitive in NONLINEARITIES and operation.outputs[0].shape
        if any(value.data for value in operation.inputs)
    )
