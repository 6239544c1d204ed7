"""Pictures in results, and where a network looked in them, word by word."""

import base64
import io
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def png(image: np.ndarray) -> str:
    """A picture [H, W, 3] as text, as small as PNG makes it."""
    import PIL.Image  # when a result is kept

    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def from_png(text: str) -> np.ndarray:
    """The picture that `png` has written."""
    import PIL.Image

    content = io.BytesIO(base64.b64decode(text))
    return np.asarray(PIL.Image.open(content, formats=["PNG"]))


def looked_at(
    title: str,
    kept: Sequence[Mapping[str, Any]],
    headings: Sequence[str],
    words: Sequence[Sequence[str]],
) -> "Figure":
    """A row for each picture: the picture, and a copy per word, light where the word looks.

    Args:
        title: of the figure.
        kept: of each line the `picture`, as `png` writes it, and the `weights` [T, L] of its words
            over the places of a `grid` [h, w], row by row; none without attention.
        headings: of each line, what stands over its picture.
        words: of each line.
    """
    from seqlab import plots

    longest = max(len(one["weights"]) for one in kept)
    pictures = [from_png(one["picture"]) for one in kept]
    height, width, _ = pictures[0].shape
    columns = 1 + longest if longest else len(kept)
    lines = len(kept) if longest else 1
    panel_height = plots.PAGE_WIDTH / columns * height / width + 0.25
    figure, axes = plots.panels(lines, columns, height=lines * panel_height + 0.35)
    if not longest:
        for panel, picture, heading in zip(axes[0], pictures, headings, strict=True):
            plots.picture(panel, picture, heading)
            panel.title.set_fontsize(6)
    else:
        rows = zip(axes, pictures, headings, words, kept, strict=True)
        for line, picture, heading, of_line, one in rows:
            plots.picture(line[0], picture, heading)
            line[0].title.set_fontsize(6)
            for panel, word, weights in itertools.zip_longest(line[1:], of_line, one["weights"]):
                _light(panel, picture, word, weights, one["grid"])
    figure.suptitle(title, fontsize=8)
    return figure


def _light(
    panel: Any,
    picture: np.ndarray,
    word: str | None,
    weights: list[float] | None,
    grid: list[int],
) -> None:
    from seqlab import plots

    if word is None or weights is None:
        panel.set_axis_off()
        return
    plots.picture(panel, picture, word)
    panel.title.set_fontsize(6)
    height, width, _ = picture.shape
    looked = np.array(weights).reshape(grid)
    dark = 1 - looked / max(float(looked.max()), 1e-9)
    where = (-0.5, width - 0.5, height - 0.5, -0.5)
    panel.imshow(np.zeros_like(dark), alpha=0.85 * dark, extent=where, interpolation="bilinear")
