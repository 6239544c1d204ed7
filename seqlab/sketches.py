"""Drawings as steps of a pen: with an end step, drawn by a network, and as SVG."""

import functools
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from seqlab.data.examples import Examples, Ragged
from seqlab.data.strokes import StrokeDataset
from seqlab.models import mixture
from seqlab.models.sketch import STEP, SketchVAE, Unconditional, first_steps, num_latents

DOWN, UP, END = range(mixture.PENS)

Line = list[tuple[float, float]]


class Drawings(NamedTuple):
    """Three splits with an end step after each drawing, as they are trained on.

    Attributes:
        quantum: spacing of the grid on which drawings are stored, in the unit of their offsets. A
            density of grid points is unbounded, so they are dequantised by noise of this width.
        longest: N_max, steps of the longest drawing of train, the end not counted.
    """

    train: Examples
    valid: Examples
    test: Examples
    quantum: float
    longest: int


def drawings(dataset: StrokeDataset) -> Drawings:
    """Drawings with end steps; the quantum is 1 in the unit of the file."""
    return Drawings(
        *(_with_end(split.inputs) for split in (dataset.train, dataset.valid, dataset.test)),
        quantum=1 / dataset.scale,
        longest=int(dataset.train.inputs.lengths.max()),
    )


def _with_end(strokes: Ragged) -> Examples:
    """Steps of five numbers, and the same with an end behind them, which is to be said."""
    steps = five(strokes.values)
    ends = np.zeros((len(strokes.lengths), STEP), np.float32)
    ends[:, 2 + END] = 1
    wanted = np.insert(steps, np.cumsum(strokes.lengths), ends, axis=0)
    return Examples(Ragged(steps, strokes.lengths), Ragged(wanted, strokes.lengths + 1))


def five(strokes: np.ndarray) -> np.ndarray:
    """[N, 3] as [N, 5]: the pen one-hot."""
    pens = np.eye(mixture.PENS, dtype=np.float32)[strokes[:, 2].astype(np.int32)]
    return np.concatenate([strokes[:, :2], pens], axis=1, dtype=np.float32)


def single_gaussian(drawings: Drawings) -> dict[str, float]:
    """Nats a drawing, and a point, of test: one Gaussian and the pens' frequencies, of train."""
    train, test = drawings.train, drawings.test
    offsets = train.inputs.values[:, :2].astype(np.float64)
    # The noise on the grid has the variance of a uniform of that width, and moves no mean.
    covariance = np.cov(offsets.T, bias=True) + np.eye(2) * drawings.quantum**2 / 12
    assert isinstance(train.targets, Ragged)
    assert isinstance(test.targets, Ragged)
    pens = train.targets.values[:, 2:].sum(axis=0, dtype=np.float64)
    error = test.inputs.values[:, :2] - offsets.mean(axis=0)
    inverse = np.linalg.inv(covariance)
    squares = np.einsum("ni,ij,nj->n", error, inverse, error)
    squares += np.trace(inverse) * drawings.quantum**2 / 12
    density = np.log(2 * np.pi) + 0.5 * np.log(np.linalg.det(covariance)) + 0.5 * squares
    of_pens = test.targets.values[:, 2:].sum(axis=0) @ -np.log(pens / pens.sum())
    total = float(density.sum() + of_pens)
    return {"drawing": total / len(test.inputs.lengths), "point": total / len(error)}


# Drawn by a network


@functools.partial(jax.jit, static_argnames=("model", "length"))
def draw(
    model: Unconditional | SketchVAE,
    params: Any,
    key: Array,
    z: Float[Array, "B Z"],
    temperature: Array | float,
    length: int,
) -> Float[Array, "B L 5"]:
    """Draw until the end is said, `length` steps at most; past its end a drawing is all end.

    Args:
        model: what draws.
        params: of it.
        key: of the draws.
        z: what is to be drawn, a row for each drawing; of an unconditional one, of no columns.
        temperature: 0 for the most probable step, 1 for the density as it was learnt.
        length: L.
    """
    batch_size = z.shape[0]
    after_end = jnp.zeros((batch_size, STEP)).at[:, 2 + END].set(1.0)

    step_of_model: Any = functools.partial(model.apply, params, method="step")

    def step(state: Any, number: Array) -> tuple[Any, Array]:
        carry, last, ended = state
        carry, said = step_of_model(carry, last, z)
        density = mixture.split(said)
        now = jax.random.fold_in(key, number)
        offsets, pens = mixture.sample(now, density, temperature)
        drawn = jnp.concatenate([offsets, jax.nn.one_hot(pens, mixture.PENS)], axis=-1)
        ended |= pens == END
        drawn = jnp.where(ended[:, None], after_end, drawn)
        return (carry, drawn, ended), drawn

    carry = model.apply(params, z, method="begin")
    start = carry, first_steps(batch_size), jnp.zeros(batch_size, bool)
    _, drawn = jax.lax.scan(step, start, jnp.arange(length, dtype=jnp.int32))
    return drawn.swapaxes(0, 1)


def from_prior(model: Unconditional | SketchVAE, key: Array, count: int) -> Float[Array, "B Z"]:
    """Latents from the prior: z ~ N(0, 1)."""
    return jax.random.normal(key, (count, num_latents(model)))


def strokes(drawn: Float[Array, "B L 5"]) -> list[list[list[float]]]:
    """Each drawing as [Δx, Δy, pen] up to its end, as JSON takes it, to three decimals."""
    steps = np.asarray(drawn, np.float64)
    found = []
    for rows in steps:
        pens = rows[:, 2:].argmax(axis=1)
        count = int(np.argmax(pens == END)) if (pens == END).any() else len(rows)
        kept = np.column_stack([rows[:count, :2].round(3), pens[:count]])
        found.append([[dx, dy, int(pen)] for dx, dy, pen in kept.tolist()])
    return found


# On paper


def lines(drawing: list[list[float]]) -> list[Line]:
    """What the pen leaves: places joined until it is lifted; y grows downwards, as on a screen."""
    found: list[Line] = [[]]
    places = itertools.accumulate(drawing, lambda at, step: (at[0] + step[0], at[1] + step[1], 0))
    for (x, y, *_), (_, _, pen) in zip(places, drawing, strict=True):
        found[-1].append((x, y))
        if pen == UP:
            found.append([])
    return [line for line in found if line]


def svg(drawings: list[list[list[float]]], cell: float = 120.0, margin: float = 10.0) -> str:
    """Drawings side by side, each as large as its cell; a line of one place is a dot.

    Args:
        drawings: of (Δx, Δy, pen).
        cell: width and height that a drawing has, in pixels.
        margin: around it.
    """
    paths = []
    for number, drawing in enumerate(drawings):
        left = number * cell
        for line in fitted(lines(drawing), cell - 2 * margin):
            points = " L".join(f"{left + margin + x:.2f} {margin + y:.2f}" for x, y in line)
            paths.append(f'<path d="M{points}{" z" * (len(line) == 1)}"/>')
    width = cell * len(drawings)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {cell:g}" '
        f'width="{width:g}" height="{cell:g}" fill="none" stroke="black" stroke-width="1.5" '
        'stroke-linecap="round" stroke-linejoin="round">\n' + "\n".join(paths) + "\n</svg>\n"
    )


def fitted(drawing: list[Line], size: float) -> list[Line]:
    """In the middle of a square of that size, as large as it fits; proportions are kept."""
    if not drawing:
        return []
    places = np.array(list(itertools.chain.from_iterable(drawing)))
    low, high = places.min(axis=0), places.max(axis=0)
    extent = float((high - low).max())
    scale = size / extent if extent > 0 else 0.0
    shift = (size - scale * (high - low)) / 2 - scale * low
    return [[(scale * x + shift[0], scale * y + shift[1]) for x, y in line] for line in drawing]


def write_svg(path: Path, drawings: list[list[list[float]]]) -> None:
    """A new file.

    Raises:
        OSError: it is there already, or cannot be written.
    """
    with open(path, "x", encoding="utf-8") as file:
        file.write(svg(drawings))
