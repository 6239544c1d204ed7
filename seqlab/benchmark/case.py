"""What is computed, and what every implementation of it has to agree on."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqlab.cells import CELLS

WORKLOADS = ("forward", "forward+backward", "training step")
CLIP_NORM = 5.0
# So high that the update is larger than the params and shows its own rounding, not theirs.
CHECKED_RATE = 100.0


class Precision(NamedTuple):
    """The arithmetic of a case.

    Attributes:
        dtype: of params, inputs and carry.
        matmul: what JAX calls the precision of a product.
        tolerance: the largest `relative_error` allowed from the plain scan in float32. In bfloat16
            it covers the rounding of a sum over a thousand steps; a wrong equation is off by more.
    """

    dtype: str
    matmul: str
    tolerance: float


PRECISIONS = {
    "float32": Precision("float32", "highest", 1e-5),
    "tf32": Precision("float32", "tensorfloat32", 5e-3),
    "bfloat16": Precision("bfloat16", "default", 0.1),
}


@dataclass(frozen=True)
class Shape:
    """B, T, D and H."""

    batch_size: int
    time: int
    input_dim: int
    hidden_dim: int

    def __str__(self) -> str:
        return f"{self.batch_size}×{self.time}, {self.input_dim} → {self.hidden_dim}"


class Case(NamedTuple):
    """One computation with its numbers.

    ys = the cell over xs. "forward" is ys; "forward+backward" the gradients of Σ ys⊙weights with
    respect to params and xs; "training step" these, clipped by their global norm, and SGD.

    Attributes:
        cell: a name in CELLS.
        shape: B, T, D, H.
        precision: a name in PRECISIONS.
        workload: one of WORKLOADS.
        params: by symbol; float32 arrays of values that the dtype of the precision can hold.
        xs: [B, T, D], likewise.
        weights: [B, T, H], likewise.
    """

    cell: str
    shape: Shape
    precision: str
    workload: str
    params: dict[str, np.ndarray]
    xs: np.ndarray
    weights: np.ndarray


class Program(NamedTuple):
    """An implementation of a case, compiled and ready.

    Attributes:
        call: compute once; an accelerator may still be at it when this returns.
        wait: until what `call` returned is there.
        outputs: the results as float32 arrays: "ys"; or "d_xs" and, by symbol, "d_…" the gradients
            or "update_…" what a training step at `CHECKED_RATE` adds. None of a floor.
        facts: what there is to record of it, JSON values.
    """

    call: Callable[[], Any]
    wait: Callable[[Any], None]
    outputs: Callable[[], dict[str, np.ndarray]]
    facts: dict[str, Any]


class Disagreement(Exception):
    """An implementation computes something else, so its time is meaningless."""


def draw(cell: str, shape: Shape, precision: str, workload: str, seed: int = 0) -> Case:
    """A case with numbers of its own: params, biases too, from U[-1/√H, 1/√H]; the rest normal.

    Raises:
        ValueError: the cell does not take D and H.
    """
    batch_size, time, input_dim, hidden_dim = (
        shape.batch_size,
        shape.time,
        shape.input_dim,
        shape.hidden_dim,
    )
    generator = np.random.default_rng(seed)

    def rounded(values: np.ndarray) -> np.ndarray:
        dtype = jnp.bfloat16 if PRECISIONS[precision].dtype == "bfloat16" else np.float32
        return values.astype(dtype).astype(np.float32)

    bound = hidden_dim**-0.5
    params = {
        symbol: rounded(generator.uniform(-bound, bound, leaf.shape))
        for symbol, leaf in param_shapes(cell, shape).items()
    }
    xs = rounded(generator.normal(size=(batch_size, time, input_dim)))
    weights = rounded(generator.normal(size=(batch_size, time, hidden_dim)))
    return Case(cell, shape, precision, workload, params, xs, weights)


@functools.cache
def param_shapes(cell: str, shape: Shape) -> dict[str, jax.ShapeDtypeStruct]:
    """The params of a cell, without their numbers."""
    return jax.eval_shape(
        lambda: CELLS[cell].init(jax.random.key(0), shape.input_dim, shape.hidden_dim)
    )


def relative_error(values: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> float:
    """‖a − b‖ / ‖b‖ of the array in which it is largest; nan where there is one.

    Raises:
        ValueError: they do not have the same arrays.
    """
    if _shapes(values) != _shapes(reference):
        raise ValueError(f"not the same arrays: {_shapes(values)} and {_shapes(reference)}")
    tiny = np.finfo(np.float32).tiny
    errors = [
        np.linalg.norm(values[name] - b) / max(float(np.linalg.norm(b)), tiny)
        for name, b in reference.items()
    ]
    return float(np.max(errors))


def _shapes(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in sorted(arrays.items())}


def checked_error(case: Case, program: Program, reference: Mapping[str, np.ndarray]) -> float:
    """The relative error of an implementation of a case.

    Raises:
        Disagreement: it is larger than the precision allows.
    """
    tolerance = PRECISIONS[case.precision].tolerance
    error = relative_error(program.outputs(), reference)
    if not error <= tolerance:
        raise Disagreement(
            f"{case.workload} of {case.cell} by {program.facts['version']} is off by {error:.1e} "
            f"from the plain scan in float32; {tolerance:.0e} is allowed in {case.precision}"
        )
    return error
