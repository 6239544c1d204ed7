"""Six filters made by hand, on one picture: what each lets through, and what its weights sum to.

Claim: a filter of a few weights blurs, sharpens or finds edges, by its weights alone: weights that
sum to 1 keep the brightness, weights that sum to 0 respond to change only, and in one direction if
rows or columns are equal. A convolutional layer learns such weights instead of being given them.

    python launch.py run filters         seconds; every budget is the same
    python launch.py plot filters        the picture and its six answers

Protocol: a picture that is drawn here, 256×256 in grey; `jax.lax.conv`, no padding, which does not
flip the filter (so that the signs of the edge filters are those of the deck's figure). A response
is described by its mean and variance, by its differences between neighbours in four directions
relative to those of the picture under it, and by its correlation with the slope of the picture
across and down.

Source: the deck "Tensorflow day 3", convolution filters, weights to four decimals as printed.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqlab import results
from seqlab.errors import InputError, nearest
from seqlab.tables import Column, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Filter(NamedTuple):
    """Weights as printed, what they are for, and by which metrics of an answer that is seen."""

    title: str
    weights: tuple[tuple[float, ...], ...]
    effect: str
    holds: Callable[[dict[str, float]], bool]


DIRECTIONS = {"across": (0, 1), "down": (1, 0), "down_right": (1, 1), "down_left": (1, -1)}


def _keeps_the_brightness(m: dict[str, float]) -> bool:
    return abs(m["mean"] - m["picture_mean"]) < 1e-3


def _blurs(m: dict[str, float]) -> bool:
    return _keeps_the_brightness(m) and max(m[name] for name in DIRECTIONS) < 1


def _sharpens(m: dict[str, float]) -> bool:
    return _keeps_the_brightness(m) and min(m[name] for name in DIRECTIONS) > 1


def _finds_horizontal_edges(m: dict[str, float]) -> bool:
    return m["slope_down"] < -0.9 and abs(m["slope_across"]) < 0.1


def _finds_vertical_edges(m: dict[str, float]) -> bool:
    return m["slope_across"] < -0.9 and abs(m["slope_down"]) < 0.1


def _blurs_along_a_diagonal(m: dict[str, float]) -> bool:
    return m["down_right"] < 0.8 * m["down_left"] and _blurs(m)


FILTERS = {
    "box": Filter("Box", ((1 / 9,) * 3,) * 3, "blurs", _blurs),
    "gaussian": Filter(
        "Gaussian",
        (
            (0.0000, 0.0000, 0.0002, 0.0000, 0.0000),
            (0.0000, 0.0113, 0.0837, 0.0113, 0.0000),
            (0.0002, 0.0837, 0.6187, 0.0837, 0.0002),
            (0.0000, 0.0113, 0.0837, 0.0113, 0.0000),
            (0.0000, 0.0000, 0.0002, 0.0000, 0.0000),
        ),
        "blurs a little",
        _blurs,
    ),
    "sharpen": Filter(
        "Sharpening", ((0, -1, 0), (-1, 5, -1), (0, -1, 0)), "adds to every difference", _sharpens
    ),
    "horizontal_edge": Filter(
        "Horizontal edge",
        ((1, 1, 1), (0, 0, 0), (-1, -1, -1)),
        "answers to the slope down alone",
        _finds_horizontal_edges,
    ),
    "vertical_edge": Filter(
        "Vertical edge",
        ((1, 0, -1), (1, 0, -1), (1, 0, -1)),
        "answers to the slope across alone",
        _finds_vertical_edges,
    ),
    "motion": Filter(
        "Motion",
        (
            (0.0304, 0.0501, 0, 0, 0),
            (0.0501, 0.1771, 0.0519, 0, 0),
            (0, 0.0519, 0.1771, 0.0519, 0),
            (0, 0, 0.0519, 0.1771, 0.0501),
            (0, 0, 0, 0.0501, 0.0304),
        ),
        "blurs, most along its diagonal",
        _blurs_along_a_diagonal,
    ),
}


@dataclass(frozen=True)
class Trial:
    """One filter on the picture."""

    filter: str


def trials(budget: str) -> list[Trial]:
    """Every filter, whatever the budget."""
    return [Trial(name) for name in FILTERS]


def check(trial: Trial) -> None:
    """Raise InputError for a filter that there is not."""
    if trial.filter not in FILTERS:
        raise InputError(f"no filter {trial.filter!r}.{nearest(trial.filter, FILTERS)}")


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Apply the filter and describe its answer. Nothing is kept in the folder."""
    weights = np.array(FILTERS[trial.filter].weights)
    return describe(picture(), weights, np.asarray(answer(picture(), weights)))


def answer(image: np.ndarray, weights: np.ndarray) -> jax.Array:
    """What a filter [F, F] makes of an image [H, W]: [H − F + 1, W − F + 1]."""
    batch, kernel = (jnp.asarray(array, jnp.float32)[None, None] for array in (image, weights))
    return jax.lax.conv(batch, kernel, (1, 1), "VALID", precision="highest")[0, 0]


def describe(image: np.ndarray, weights: np.ndarray, response: np.ndarray) -> dict[str, float]:
    """The metrics of an answer; those of its differences are relative to the picture's own."""
    margin = len(weights) // 2
    below = image[margin:-margin, margin:-margin].astype(np.float64)
    response = response.astype(np.float64)
    gains = {
        name: _differences(response, *step) / _differences(below, *step)
        for name, step in DIRECTIONS.items()
    }
    down, across = np.gradient(below)
    return {
        "weight_sum": math.fsum(weights.flat),
        "mean": float(response.mean()),
        "variance": float(response.var()),
        "picture_mean": float(below.mean()),
        "picture_variance": float(below.var()),
        **gains,
        "slope_across": float(np.corrcoef(response.flat, across.flat)[0, 1]),
        "slope_down": float(np.corrcoef(response.flat, down.flat)[0, 1]),
    }


def _differences(image: np.ndarray, down: int, across: int) -> float:
    """The mean square of the differences between neighbours in one direction."""
    height, width = image.shape
    rows, columns = slice(down, None), slice(max(across, 0), width + min(across, 0))
    from_columns = slice(max(-across, 0), width + min(-across, 0))
    return float(np.mean((image[rows, columns] - image[: height - down, from_columns]) ** 2))


# The table and the figure

COLUMNS = (
    Column("filter", "filter"),
    Column("size", "size"),
    Column("weight_sum", "sum", ".4f"),
    Column("mean", "mean", ".4f"),
    Column("variance", "variance", ".4f"),
    Column("across", "across", ".2f"),
    Column("down", "down", ".2f"),
    Column("down_right", "down right", ".2f"),
    Column("down_left", "down left", ".2f"),
    Column("slope_across", "slope across", ".2f"),
    Column("slope_down", "slope down", ".2f"),
    Column("effect", "is said to"),
    Column("verdict", "verdict"),
    Column("weights", "weights", data_only=True),
)

NOTES = (
    "across … down left: mean square of the differences between neighbours in this direction, "
    "divided by the picture's. slope: correlation with the picture's own slope in this direction.",
    "The sums of Gaussian and Motion are those of the weights as printed, to four decimals.",
)


def table(rows: list[dict[str, Any]]) -> Table:
    """A line a filter: its weights, what they do, whether that is what is said of it."""
    lines, weights = [], []
    by_filter = {row["config"]["filter"]: row for row in rows}
    for name, filter in FILTERS.items():
        if name not in by_filter:
            continue
        row = by_filter[name]
        verdict = row["status"]
        if verdict == results.DONE:
            verdict = "agrees" if filter.holds(row["metrics"]) else "differs"
        size = f"{len(filter.weights)}×{len(filter.weights)}"
        about = {"filter": filter.title, "size": size, "effect": filter.effect}
        about |= {"verdict": verdict, "weights": filter.weights}
        keys = {column.key for column in COLUMNS}
        lines.append(about | {key: v for key, v in row["metrics"].items() if key in keys})
        weights.append(f"{filter.title}: {' | '.join(map(_row, filter.weights))}")
    done = [row["metrics"] for row in rows if row["status"] == results.DONE]
    picture = [
        f"The picture: mean {m['picture_mean']:.4f}, variance {m['picture_variance']:.4f}."
        for m in done[:1]
    ]
    return Table("Filters made by hand", COLUMNS, tuple(lines), notes=(*NOTES, *picture, *weights))


def _row(weights: tuple[float, ...]) -> str:
    return " ".join(map(_weight, weights))


def _weight(value: float) -> str:
    return "1/9" if value == 1 / 9 else f"{value:.4g}".replace("0.", ".")


def figures(rows: list[dict[str, Any]]) -> dict[str, "Figure"]:
    """The picture, and what each filter makes of it above the filter's weights."""
    from matplotlib.figure import Figure

    from seqlab import plots

    done = {row["config"]["filter"] for row in rows if row["status"] == results.DONE}
    figure = Figure(figsize=(plots.PAGE_WIDTH, 4.1))
    grid = figure.add_gridspec(2, 5)
    large = figure.add_subplot(grid[:, :2], anchor="N")
    plots.picture(large, picture(), "Picture")
    for place, (name, filter) in enumerate(FILTERS.items()):
        if name not in done:
            continue
        weights = np.array(filter.weights)
        response = np.asarray(answer(picture(), weights))
        # where the weights sum to 0, the grey in the middle is no answer
        largest = float(np.abs(response).max())
        limits = (0.0, 1.0) if weights.sum() > 0.5 else (-largest, largest)
        axes = figure.add_subplot(grid[place // 3, 2 + place % 3])
        plots.picture(axes, response, filter.title, limits)
        axes.set_xlabel(_matrix(filter.weights), family="DejaVu Sans Mono", fontsize=5)
    return {"filters": figure}


def _matrix(weights: tuple[tuple[float, ...], ...]) -> str:
    width = max(len(_weight(value)) for row in weights for value in row)
    return "\n".join(" ".join(_weight(value).rjust(width) for value in row) for row in weights)


# The picture

SIZE = 256

LETTERS = (  # C, N, N: strokes from (x, y) to (x, y)
    ((0.15, 0.08), (0.08, 0.08)),
    ((0.08, 0.08), (0.08, 0.22)),
    ((0.08, 0.22), (0.15, 0.22)),
    ((0.20, 0.22), (0.20, 0.08)),
    ((0.20, 0.08), (0.28, 0.22)),
    ((0.28, 0.22), (0.28, 0.08)),
    ((0.33, 0.22), (0.33, 0.08)),
    ((0.33, 0.08), (0.41, 0.22)),
    ((0.41, 0.22), (0.41, 0.08)),
)


@functools.cache
def picture() -> np.ndarray:
    """A house, a sun, a target, a fence and three letters, [256, 256] float32 from 0 to 1.

    Every shape is painted by its signed distance, in heights of the picture, and so has edges of
    one pixel: straight ones, slanted ones and round ones, beside slow gradients.
    """
    y, x = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE

    def disc(cx: float, cy: float, radius: float) -> np.ndarray:
        return np.hypot(x - cx, y - cy) - radius

    def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
        return np.maximum.reduce([left - x, x - right, top - y, y - bottom])

    def stroke(start: tuple[float, float], end: tuple[float, float], width: float) -> np.ndarray:
        along = np.array(end) - start
        at = ((x - start[0]) * along[0] + (y - start[1]) * along[1]) / (along @ along)
        at = np.clip(at, 0, 1)
        return np.hypot(x - start[0] - at * along[0], y - start[1] - at * along[1]) - width / 2

    ground = 0.66 + 0.04 * np.sin(7 * x) - y
    roof = np.maximum(y - 0.50, np.abs(x - 0.33) * 0.75 + 0.32 - y)
    shapes = [
        (disc(0.80, 0.18, 0.10), 1.0),
        (ground, 0.42 + 0.25 * (y - 0.66)),
        (box(0.16, 0.50, 0.50, 0.80), 0.80 - 0.15 * (x - 0.16)),
        (roof, 0.22),
        *(
            (stroke((0.16, edge), (0.50, edge), 0.006), 0.62)
            for edge in np.arange(0.53, 0.80, 0.03)
        ),
        (box(0.21, 0.57, 0.29, 0.66), 0.12),
        (stroke((0.25, 0.57), (0.25, 0.66), 0.008), 0.9),
        (stroke((0.21, 0.615), (0.29, 0.615), 0.008), 0.9),
        (box(0.37, 0.60, 0.45, 0.80), 0.30),
        (disc(0.435, 0.71, 0.008), 0.95),
        *((disc(0.76, 0.62, 0.15 - 0.025 * ring), float(ring % 2)) for ring in range(6)),
        *((stroke((post, 0.84), (post, 0.97), 0.014), 0.92) for post in np.arange(0.05, 1, 0.045)),
        (stroke((0, 0.875), (1, 0.875), 0.012), 0.85),
        (stroke((0, 0.935), (1, 0.935), 0.012), 0.85),
        *((stroke(start, end, 0.022), 0.05) for start, end in LETTERS),
    ]
    canvas = 0.55 + 0.35 * y / 0.66
    for distance, shade in shapes:
        covered = np.clip(0.5 - distance * SIZE, 0, 1)
        canvas = canvas * (1 - covered) + shade * covered
    return np.clip(canvas, 0, 1).astype(np.float32)
