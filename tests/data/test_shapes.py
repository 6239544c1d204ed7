"""Shapes against a painter who asks of every pixel, shape by shape, whether it is inside."""

import math

import jax
import numpy as np
import pytest

from seqlab import data
from seqlab.data import Shapes, shapes
from seqlab.data.fingerprint import fingerprint
from seqlab.data.shapes import CLASSES, MOST, SUBPIXELS, Scene
from seqlab.errors import InputError

VERTICES = {"square": 4, "triangle": 3}


def corners(name: str, centre: np.ndarray, radius: float, normal: float) -> list[tuple]:
    """A corner lies half a side further than the middle of that side."""
    number = VERTICES[name]
    angles = [normal + math.pi / number + 2 * math.pi * k / number for k in range(number)]
    return [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles]


def inside(polygon: list[tuple], x: float, y: float) -> bool:
    """A ray to the right crosses the outline an odd number of times."""
    crossings = 0
    for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
            crossings += 1
    return crossings % 2 == 1


def painted(scene: Scene, picture: int, image: np.ndarray) -> np.ndarray:
    """The mask of one picture; its colours go over `image`."""
    size = len(image)
    mask = np.zeros((size, size), np.uint8)
    for layer in range(MOST):
        kind, centre, radius, angle, colour = (field[picture, layer] for field in scene)
        if kind == 0:
            continue
        centre, radius = centre / SUBPIXELS, radius / SUBPIXELS
        name = CLASSES[kind]
        for row in range(size):
            for column in range(size):
                x, y = column + 0.5, row + 0.5
                if name == "disc":
                    covered = math.hypot(x - centre[0], y - centre[1]) <= radius
                else:
                    covered = inside(corners(name, centre, radius, angle), x, y)
                if covered:
                    mask[row, column] = kind
                    image[row, column] = colour
    return mask


@pytest.mark.parametrize("size", [24, 33])
def test_pixels_are_those_of_the_slow_painter(size):
    scene = shapes.draw(np.random.default_rng(size), 30, size)
    background = np.random.default_rng(1).integers(256, size=(30, size, size, 3), dtype=np.uint8)
    images, labels = background.copy(), np.zeros((30, size, size), np.uint8)
    shapes.paint(scene, images, labels)
    assert set(scene.kinds.ravel().tolist()) == {0, 1, 2, 3}
    for picture in range(30):
        expected = background[picture].copy()
        mask = painted(scene, picture, expected)
        np.testing.assert_array_equal(labels[picture], mask)
        np.testing.assert_array_equal(images[picture], expected)
    assert {tuple(np.unique(mask)) for mask in labels} >= {(0, 1, 2), (0, 1, 3), (0, 2, 3)}


def test_scenes_have_one_to_three_shapes_that_lie_in_the_picture():
    size = 64
    scene = shapes.draw(np.random.default_rng(0), 6000, size)
    present = scene.kinds > 0
    assert (present[:, :-1] >= present[:, 1:]).all()  # from the first layer on
    number = np.bincount(present.sum(axis=1), minlength=4)
    assert number[0] == 0
    assert (abs(number[1:] - 2000) < 4 * math.sqrt(6000 * 2 / 9)).all()
    kinds = np.bincount(scene.kinds[present])
    expected = kinds.sum() / 3
    assert (abs(kinds[1:] - expected) < 4 * math.sqrt(expected * 2 / 3)).all()
    assert (scene.radii.min(), scene.radii.max()) == (size * SUBPIXELS / 8, size * SUBPIXELS / 4)
    radii = scene.radii[..., None]
    assert (scene.centres >= radii).all()
    assert (scene.centres + radii <= size * SUBPIXELS).all()


def test_largest_pictures_do_not_overflow():
    size = shapes.LARGEST
    extent = size * SUBPIXELS
    kinds = np.array([[1, 0, 0], [2, 0, 0], [3, 0, 0]], np.int8)
    scene = Scene(
        kinds=kinds,
        centres=np.full((3, MOST, 2), extent // 4, np.int32),
        radii=np.full((3, MOST), extent // 4, np.int32),
        angles=np.full((3, MOST), 5.5),
        colours=np.zeros((3, MOST, 3), np.uint8),
    )
    labels = np.zeros((3, size, size), np.uint8)
    shapes.paint(scene, np.zeros((3, size, size, 3), np.uint8), labels)
    radius = size / 4
    areas = (math.pi * radius**2, 2 * radius**2, 3 * math.sqrt(3) / 4 * radius**2)
    assert (labels > 0).sum(axis=(1, 2)) == pytest.approx(areas, rel=0.005)


def test_same_key_same_bits_and_splits_have_nothing_in_common():
    config = Shapes(size=16, train_size=150, valid_size=20, test_size=30)
    data.check(config)
    dataset = data.load(config)
    assert fingerprint(dataset) == fingerprint(data.load(config))
    others = (Shapes(16, 150, 20, 30, seed=1), Shapes(17, 150, 20, 30), Shapes(16, 151, 20, 30))
    assert fingerprint(dataset) not in {fingerprint(data.load(other)) for other in others}
    for split, number in zip(dataset[:3], (150, 20, 30), strict=True):
        assert split.images.shape == (number, 16, 16, 3)
        assert split.labels.shape == (number, 16, 16)
        assert split.images.dtype == split.labels.dtype == np.uint8
    assert dataset.classes == ("background", "disc", "square", "triangle")
    pictures = [picture.tobytes() for split in dataset[:3] for picture in split.images]
    masks = [mask.tobytes() for split in dataset[:3] for mask in split.labels]
    assert len(set(pictures)) == len(set(masks)) == 200


def test_background_is_noise_and_says_nothing_of_the_shapes():
    images, labels = shapes.pictures(jax.random.key(3), 200, 32)
    noise = images[labels == 0].astype(int)
    assert noise.mean(axis=0) == pytest.approx([127.5] * 3, abs=1)
    assert noise.std(axis=0) == pytest.approx([math.sqrt((256**2 - 1) / 12)] * 3, rel=0.01)
    assert abs(np.corrcoef(noise[:-1, 0], noise[1:, 0])[0, 1]) < 0.02


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"size": 15}, "size must be from 16 to 256, not 15"),
        ({"size": 257}, "size must be from 16 to 256, not 257"),
        ({"train_size": 0}, "train_size must be 1 or more, not 0"),
        ({"seed": -1}, "seed must be from 0 to 4294967295, not -1"),
    ],
)
def test_impossible_numbers_are_refused(fields, problem):
    with pytest.raises(InputError, match=problem):
        Shapes(**fields)
