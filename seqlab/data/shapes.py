"""Shapes: say of every pixel whether it shows a disc, a square, a triangle or the background.

On noise lie one to three filled shapes, each of one colour, wholly in the picture and turned at
random; the later covers the earlier. Colours say nothing of the class: the outline has to be seen.

A disc with centre c and radius r is |p - c| ≤ r. A regular polygon of n sides with circumradius r
is, for the unit normals uₖ of its sides, (p - c)·uₖ ≤ r cos(π / n), all k. Both are evaluated in
whole numbers at the centre of a pixel, so that the same key gives the same bits on every machine.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from seqlab.data.images import ImageDataset, Labelled
from seqlab.data.keys import generator, split_keys
from seqlab.data.ranges import check_range, check_splits

if TYPE_CHECKING:
    import jax

CLASSES = ("background", "disc", "square", "triangle")
DISC = CLASSES.index("disc")
SIDES = {CLASSES.index("square"): 4, CLASSES.index("triangle"): 3}

MOST = 3  # shapes in a picture
SUBPIXELS = 16  # unit of length of centre and radius: pixels / SUBPIXELS
UNIT = 2**16  # length of a normal: |p - c| · UNIT fits into 31 bits up to LARGEST
LARGEST = 256
BLOCK = 64  # pictures painted at a time: what is worked on stays in the cache


@dataclass(frozen=True)
class Shapes:
    """Pictures of `size` by `size` pixels, and how many of them."""

    size: int = 64
    train_size: int = 5000
    valid_size: int = 500
    test_size: int = 1000
    seed: int = 0

    def __post_init__(self):
        check_range(16, LARGEST, size=self.size)
        check_splits(self.train_size, self.valid_size, self.test_size, self.seed)


class Scene(NamedTuple):
    """The shapes of N pictures, the first of a picture undermost; lengths in pixels / SUBPIXELS.

    Attributes:
        kinds: int8 [N, MOST] class of each shape; 0 where there is none.
        centres: int32 [N, MOST, 2], x to the right and y down from the upper left corner.
        radii: int32 [N, MOST], of the disc or of the circle around the polygon.
        angles: float64 [N, MOST] from the x axis to the normal of one side, in radians.
        colours: uint8 [N, MOST, 3].
    """

    kinds: np.ndarray
    centres: np.ndarray
    radii: np.ndarray
    angles: np.ndarray
    colours: np.ndarray


def load_shapes(config: Shapes) -> ImageDataset:
    """Three splits from three keys."""
    keys = split_keys(config.seed)
    return ImageDataset(
        train=pictures(keys.train, config.train_size, config.size),
        valid=pictures(keys.valid, config.valid_size, config.size),
        test=pictures(keys.test, config.test_size, config.size),
        classes=CLASSES,
    )


def pictures(key: "jax.Array", number: int, size: int) -> Labelled:
    """A pure function of the key.

    Returns:
        images uint8 [number, size, size, 3] and labels uint8 [number, size, size].
    """
    random = generator(key)
    scene = draw(random, number, size)
    images = random.integers(256, size=(number, size, size, 3), dtype=np.uint8)
    labels = np.zeros((number, size, size), np.uint8)
    for start in range(0, number, BLOCK):
        block = slice(start, start + BLOCK)
        paint(Scene(*(field[block] for field in scene)), images[block], labels[block])
    return Labelled(images, labels)


def draw(random: np.random.Generator, number: int, size: int) -> Scene:
    """One to three shapes for each picture, with a radius of an eighth to a quarter of its size."""
    present = np.arange(MOST) < random.integers(1, MOST + 1, size=(number, 1))
    kinds = random.integers(1, len(CLASSES), size=(number, MOST), dtype=np.int8)
    extent = size * SUBPIXELS
    radii = random.integers(extent // 8, extent // 4 + 1, size=(number, MOST), dtype=np.int32)
    return Scene(
        kinds=np.where(present, kinds, np.int8(0)),
        centres=random.integers(
            radii[..., None], extent - radii[..., None] + 1, size=(number, MOST, 2), dtype=np.int32
        ),
        radii=radii,
        angles=random.uniform(0, 2 * np.pi, size=(number, MOST)),
        colours=random.integers(256, size=(number, MOST, 3), dtype=np.uint8),
    )


def paint(scene: Scene, images: np.ndarray, labels: np.ndarray) -> None:
    """Draw the shapes of `scene` over `images`, and their classes over `labels`, in place."""
    for layer in range(MOST):
        shapes = Scene(*(field[:, layer] for field in scene))
        for kind in range(1, len(CLASSES)):
            chosen = np.flatnonzero(shapes.kinds == kind)
            covered = _covered(kind, Scene(*(field[chosen] for field in shapes)), labels.shape[1])
            picture, row, column = np.nonzero(covered)
            at = chosen[picture], row, column
            labels[at] = kind
            images[at] = shapes.colours[at[0]]


def _covered(kind: int, shapes: Scene, size: int) -> np.ndarray:
    """bool [N, size, size]: the pixels whose centre lies in the one shape of each picture."""
    centres_of_pixels = np.arange(size, dtype=np.int32) * SUBPIXELS + SUBPIXELS // 2
    right = centres_of_pixels[None, None, :] - shapes.centres[:, 0, None, None]
    down = centres_of_pixels[None, :, None] - shapes.centres[:, 1, None, None]
    radii = shapes.radii[:, None, None]
    if kind == DISC:
        return right**2 + down**2 <= radii**2
    sides = SIDES[kind]
    limit = radii * np.int32(round(UNIT * np.cos(np.pi / sides)))
    covered = np.ones((len(radii), size, size), bool)
    for side in range(sides):
        angle = shapes.angles + side * 2 * np.pi / sides
        normal_x = np.rint(UNIT * np.cos(angle)).astype(np.int32)[:, None, None]
        normal_y = np.rint(UNIT * np.sin(angle)).astype(np.int32)[:, None, None]
        covered &= right * normal_x + down * normal_y <= limit
    return covered
