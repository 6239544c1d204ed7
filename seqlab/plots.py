"""Figures: one style, readable in a paper and to the colour-blind, and how they are saved.

An experiment draws with `matplotlib.figure.Figure`, never with pyplot, so that nothing is global:

    def figures(rows: list[dict[str, Any]]) -> dict[str, Figure]:
        from seqlab import plots  # here: matplotlib is only needed to draw

        figure, axes = plots.panels(1, 2)
        axes[0, 0].plot(steps, errors)
        plots.label(axes[0, 0], "Test error", "step", "%")
        return {"errors": figure}
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from seqlab.errors import InputError

# Okabe and Ito 2008: told apart with any colour vision; the yellow of eight is too pale on paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # as many: colour is never all that tells two apart

COLUMN_WIDTH = 3.4  # inches; of a paper with two columns
PAGE_WIDTH = 7.0

STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "font.size": 8,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "image.cmap": "gray",
    "image.interpolation": "auto",
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "pdf.fonttype": 42,  # letters stay letters; journals refuse the default, Type 3
    "savefig.dpi": 200,
    "svg.fonttype": "path",
    "svg.hashsalt": "seqlab",  # identifiers in an SVG are random without it
    "xtick.color": "#444444",
    "xtick.labelsize": 7.5,
    "ytick.color": "#444444",
    "ytick.labelsize": 7.5,
}

FORMATS = {  # and its metadata
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def draw(
    figures: Callable[[list[dict[str, Any]]], dict[str, Figure]],
    rows: list[dict[str, Any]],
    folder: Path,
    formats: Sequence[str] = ("png", "svg", "pdf"),
) -> list[Path]:
    """Let an experiment draw its results in the style of this file, and save what it has drawn.

    The same figure gives the same bytes, on any day.

    Args:
        figures: of an experiment: its results to figures by name.
        rows: the results.
        folder: where the files go, NAME.png and so on; made if need be.
        formats: of FORMATS.

    Returns:
        What was written.

    Raises:
        InputError: a name is no file name, or the folder cannot be written.
    """
    with _style():
        drawn = figures(rows)
        for name in drawn:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
                raise InputError(f"figure {name!r} is not a name of letters, digits, '_' and '-'")
        paths = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, figure in drawn.items():
                for suffix in formats:
                    paths.append(folder / f"{name}.{suffix}")
                    figure.savefig(paths[-1], format=suffix, metadata=FORMATS[suffix])
        except OSError as error:
            raise InputError(f"figures cannot be written to {folder}: {error.strerror}") from error
    return paths


def save(drawn: Callable[[], Figure], path: Path) -> None:
    """One figure, in the style of this file, to a new file of the format that its name ends in.

    Raises:
        OSError: it is there already, or cannot be written.
    """
    suffix = path.suffix.removeprefix(".")
    with _style():
        figure = drawn()
        with open(path, "xb") as file:
            figure.savefig(file, format=suffix, metadata=FORMATS[suffix])


@contextlib.contextmanager
def _style() -> Iterator[None]:
    """That of this file, whatever a matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def panels(
    rows: int = 1, columns: int = 1, width: float = PAGE_WIDTH, height: float | None = None
) -> tuple[Figure, np.ndarray]:
    """An empty figure and its axes [rows, columns]; width and height in inches."""
    figure = Figure(figsize=(width, height or rows * width / columns * 0.75))
    return figure, figure.subplots(rows, columns, squeeze=False)


def label(axes: Axes, title: str = "", x: str = "", y: str = "") -> None:
    """What the panel shows, and its axes with their units."""
    axes.set(title=title, xlabel=x, ylabel=y)
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend()


def picture(axes: Axes, image: np.ndarray, title: str = "", limits: tuple[float, float] = (0, 1)):
    """A picture [H, W] in grey or [H, W, 3], without ticks; `limits` are black and white."""
    axes.imshow(image, vmin=limits[0], vmax=limits[1])
    axes.set(title=title, xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)


def shaded_text(
    axes: Axes, lines: Sequence[str], shades: Sequence[Sequence[float]], most: float
) -> AxesImage:
    """Text on a ground from white to blue, letter by letter.

    Args:
        axes: as wide as a page.
        lines: of text, from above.
        shades: of each line, a value for each of its letters: 0 is white, `most` is blue.
        most: what is beyond is blue, too.

    Returns:
        The ground, for a colour bar.
    """
    width = max(map(len, lines))
    ground = np.zeros((len(lines), width))
    for row, values in enumerate(shades):
        ground[row, : len(values)] = values
    blue = LinearSegmentedColormap.from_list("white to blue", ("white", COLOURS[5]))
    shown = axes.imshow(ground, blue, aspect="auto", interpolation="nearest", vmin=0, vmax=most)
    size = min(8.0, 0.8 * PAGE_WIDTH * 72 / width / 0.6)  # a letter is 0.6 times as wide as high
    font = {"family": "DejaVu Sans Mono", "size": size, "ha": "center", "va": "center"}
    for row, line in enumerate(lines):
        for column, letter in enumerate(line):
            if not letter.isspace():
                axes.text(column, row, letter, parse_math=False, **font)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)
    return shown
