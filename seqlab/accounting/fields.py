"""Receptive fields: how much of the input an element of an array sees, operation by operation."""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil
from typing import Any, NamedTuple


class Field(NamedTuple):
    """What of the input one element depends on.

    Attributes:
        sizes: extent along each spatial axis of the input, borders not considered.
        axes: for each axis of the array that runs along one of the input's: which one, and by how
            many positions of the input its neighbours lie apart.
    """

    sizes: tuple[int, ...]
    axes: dict[int, tuple[int, Fraction]]


def of_input(shape: Sequence[int]) -> Field | None:
    """An input [B, space …, C] sees one position of itself; others have no space."""
    if len(shape) < 3:
        return None
    space = range(1, len(shape) - 1)
    return Field((1,) * len(space), {axis: (axis - 1, Fraction(1)) for axis in space})


def through(eqn: Any, inputs: Sequence[Field | None]) -> Field | None:
    """The field after an operation.

    A window of k taps, d apart, over neighbours j apart widens a field by (k - 1)·d·j, and a stride
    of s makes the neighbours s·j apart. A sum over an axis sees all of it.
    """
    seen = [field for field in inputs if field is not None]
    if not seen:
        return None
    name, settings = eqn.primitive.name, eqn.params
    shapes = [tuple(atom.aval.shape) for atom in eqn.invars]
    out_shape = tuple(eqn.outvars[0].aval.shape)
    first = next(number for number, field in enumerate(inputs) if field is not None)
    field, shape = seen[0], shapes[first]
    if name == "conv_general_dilated" and first == 0:
        return _convolution(field, settings, shapes)
    if name.startswith("reduce_window") or name == "cumsum":
        return _windows(field, settings, shape)
    if name == "transpose":
        moved = settings["permutation"]
        return _moved(field, {old: new for new, old in enumerate(moved)}, shape)
    if name == "broadcast_in_dim":
        return _moved(field, dict(enumerate(settings["broadcast_dimensions"])), shape)
    if name == "squeeze":
        kept = [axis for axis in range(len(shape)) if axis not in settings["dimensions"]]
        return _moved(field, {old: new for new, old in enumerate(kept)}, shape)
    if name.startswith(("reduce_", "arg")) and "axes" in settings:
        kept = [axis for axis in range(len(shape)) if axis not in settings["axes"]]
        return _moved(field, {old: new for new, old in enumerate(kept)}, shape)
    if name == "dot_general":
        return _product(field, settings, first, shape)
    if name == "slice":
        strides = settings["strides"] or (1,) * len(shape)
        axes = {a: (i, jump * strides[a]) for a, (i, jump) in field.axes.items()}
        return Field(field.sizes, axes)
    if name in ("pad", "concatenate", "dynamic_slice", "rev"):
        return _merged(seen)
    if len(out_shape) == len(shape) and all(out_shape[axis] == shape[axis] for axis in field.axes):
        return _merged([f for f, s in zip(inputs, shapes, strict=True) if f and s == shape])
    return _moved(field, {}, shape)


def _convolution(field: Field, settings: Any, shapes: Sequence[tuple[int, ...]]) -> Field:
    numbers = settings["dimension_numbers"]
    sizes, axes = list(field.sizes), {}
    for number, axis in enumerate(numbers.lhs_spec[2:]):
        if axis not in field.axes:
            continue
        along, jump = field.axes[axis]
        taps = (shapes[1][numbers.rhs_spec[2 + number]] - 1) * settings["rhs_dilation"][number]
        spread = settings["lhs_dilation"][number]  # of a transposed convolution: zeros in between
        sizes[along] += ceil((ceil((taps + 1) / spread) - 1) * jump)
        axes[numbers.out_spec[2 + number]] = (
            along,
            jump * settings["window_strides"][number] / spread,
        )
    return Field(tuple(sizes), axes)


def _windows(field: Field, settings: Any, shape: tuple[int, ...]) -> Field:
    if "window_dimensions" not in settings:
        return field
    sizes, axes = list(field.sizes), {}
    dilation = settings.get("window_dilation") or (1,) * len(shape)
    for axis, (along, jump) in field.axes.items():
        taps = (settings["window_dimensions"][axis] - 1) * dilation[axis]
        sizes[along] += ceil(taps * jump)
        axes[axis] = along, jump * settings["window_strides"][axis]
    return Field(tuple(sizes), axes)


def _moved(field: Field, places: dict[int, int], shape: tuple[int, ...]) -> Field:
    """Axes under their new numbers; one that has no place any more is seen whole."""
    sizes, axes = list(field.sizes), {}
    for axis, (along, jump) in field.axes.items():
        if axis in places:
            axes[places[axis]] = along, jump
        else:
            sizes[along] += ceil((shape[axis] - 1) * jump)
    return Field(tuple(sizes), axes)


def _product(field: Field, settings: Any, side: int, shape: tuple[int, ...]) -> Field:
    contracted, batch = (pair[side] for pair in settings["dimension_numbers"])
    free = [axis for axis in range(len(shape)) if axis not in (*contracted, *batch)]
    places = {axis: number for number, axis in enumerate([*batch, *free])}
    if side == 0:
        return _moved(field, places, shape)
    return _moved(field, {axis: places[axis] for axis in batch}, shape)


def _merged(seen: Sequence[Field]) -> Field:
    sizes = tuple(max(size) for size in zip(*(field.sizes for field in seen), strict=True))
    return Field(sizes, seen[0].axes)
