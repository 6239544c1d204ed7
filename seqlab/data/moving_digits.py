"""Moving digits: short films of an MNIST digit that moves on a path and turns into another.

A clip shows three things, and a single frame of it at most one: which digit it is (it changes
once), where it is going, and on which kind of path.

    bounces         p_t = p_0 + v t, reflected where the frame ends
    swings          p_t = c + a sin(ω t + φ)
    clockwise       p_t = c + r (cos(ω t + φ), sin(ω t + φ)), y down
    anticlockwise   the same with -ω

Source: after Srivastava et al. 2015, Unsupervised Learning of Video Representations; the paths, the
labels and the change are seqlab's.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from seqlab.data import images
from seqlab.data.examples import ExampleDataset, Examples, Ragged
from seqlab.data.images import Images, Labelled
from seqlab.data.keys import generator, split_keys
from seqlab.data.ranges import check_range, check_splits
from seqlab.errors import InputError, nearest

if TYPE_CHECKING:
    import jax

MOTIONS = ("bounces", "swings", "clockwise", "anticlockwise")
DIRECTIONS = ("still", "right", "down", "left", "up")
DIGITS = tuple("0123456789")
CLASSES = {"motion": MOTIONS, "direction": DIRECTIONS, "digit": DIGITS}

DIGIT = 14  # pixels of a side: MNIST, halved
SLOWEST, FASTEST = 1, 3  # pixels a frame in each direction, of what bounces
PERIODS = 8, 16  # frames of a round, or of a swing to and fro
BLOCK = 64  # clips painted at a time
SHARES = 256  # which pixels are seen is drawn in so many parts


@dataclass(frozen=True)
class MovingDigits:
    """The target: the `motion` of a clip, or the `direction` or the `digit` of each frame.

    Clips have `frames` frames of `size` by `size` pixels. Of every frame `seen` percent of the
    pixels are seen, drawn at random; the others are black.
    """

    says: str = "motion"
    frames: int = 16
    size: int = 32
    seen: int = 50
    train_size: int = 2000
    valid_size: int = 300
    test_size: int = 1000
    seed: int = 0

    def __post_init__(self):
        if self.says not in CLASSES:
            raise InputError(f"says: no target {self.says!r}.{nearest(self.says, CLASSES)}")
        check_range(4, frames=self.frames)
        check_range(2 * DIGIT, 256, size=self.size)
        check_range(1, 100, seen=self.seen)
        check_splits(self.train_size, self.valid_size, self.test_size, self.seed)


class Paths(NamedTuple):
    """Where the digits of M clips are, the upper left corner, in pixels from that of the frame.

    Attributes:
        motions: int32 [M].
        positions: int32 [M, T + 1, 2], (x, y); the first is before the clip and is not seen.
    """

    motions: np.ndarray
    positions: np.ndarray


class Clips(NamedTuple):
    """M clips and all that is known of them.

    Attributes:
        frames: uint8 [M, T, S, S].
        motions: int32 [M].
        directions: int32 [M, T], of the step from the frame before: where x or y changes most,
            x if both change as much.
        digits: int32 [M, T].
    """

    frames: np.ndarray
    motions: np.ndarray
    directions: np.ndarray
    digits: np.ndarray


def load(config: MovingDigits) -> ExampleDataset:
    """Three splits from three keys, each of the digits of a split of MNIST of its own.

    Inputs are frames, uint8 [N, S, S]; targets a motion of each clip, or a class of each frame.

    Raises:
        InputError: MNIST is not there or is damaged; names the command that prepares it.
    """
    mnist, keys = images.load_images(Images("mnist")), split_keys(config.seed)
    sizes = config.train_size, config.valid_size, config.test_size
    examples = [
        _examples(clips(key, size, config, digits), config.says)
        for key, size, digits in zip(keys, sizes, mnist[:3], strict=True)
    ]
    return ExampleDataset(*examples, symbols=(), classes=CLASSES[config.says])


def check(config: MovingDigits) -> None:
    """Raise the InputError that `load` would raise, before any work has started."""
    images.check(Images("mnist"))


def clips(key: "jax.Array", number: int, config: MovingDigits, mnist: Labelled) -> Clips:
    """A pure function of the key and of the digits, of which there are some of every class.

    Each clip shows one of them, and from a frame of its middle half on one of another class.
    """
    random = generator(key)
    paths = draw(random, number, config.frames, config.size - DIGIT)
    shown = _shown(random, number, config.frames, mnist.labels)
    frames = np.zeros((number, config.frames, config.size, config.size), np.uint8)
    for start in range(0, number, BLOCK):
        block = slice(start, start + BLOCK)
        _paint(frames[block], paths.positions[block, 1:], halved(mnist.images[shown[block]]))
    frames *= (
        random.integers(SHARES, size=frames.shape, dtype=np.uint8) < SHARES * config.seen // 100
    )
    steps = np.diff(paths.positions, axis=1)
    return Clips(frames, paths.motions, directions(steps), mnist.labels[shown])


def draw(random: np.random.Generator, number: int, frames: int, room: int) -> Paths:
    """Paths on which x and y stay from 0 to `room`."""
    motions = random.integers(len(MOTIONS), size=number, dtype=np.int32)
    times = np.arange(frames + 1)[:, None]

    start = random.integers(room + 1, size=(number, 1, 2))
    speed = random.integers(SLOWEST, FASTEST + 1, size=(number, 1, 2))
    speed *= random.choice((-1, 1), size=(number, 1, 2))
    bounced = room - np.abs((start + speed * times) % (2 * room) - room)

    radius = random.integers(room // 4, room // 2 + 1, size=(number, 1, 1))
    centre = random.integers(radius, room - radius + 1, size=(number, 1, 2))
    period = random.integers(PERIODS[0], PERIODS[1] + 1, size=(number, 1, 1))
    turned = 2 * np.pi * times / period
    begin, way = random.uniform(0, 2 * np.pi, size=(2, number, 1, 1))
    swings = radius * np.sin(turned + begin) * np.concatenate([np.cos(way), np.sin(way)], axis=2)
    clockwise, anticlockwise = (
        radius * np.concatenate([np.cos(angle), np.sin(angle)], axis=2)
        for angle in (begin + turned, begin - turned)
    )
    of_each = [bounced, *(centre + np.rint(way) for way in (swings, clockwise, anticlockwise))]
    which = motions[:, None, None]
    return Paths(motions, np.choose(which, [p.astype(np.int32) for p in of_each]))


def directions(steps: np.ndarray) -> np.ndarray:
    """int32: which of DIRECTIONS a step [..., 2] of (x, y) goes in."""
    right, down = steps[..., 0], steps[..., 1]
    sideways = np.where(right > 0, DIRECTIONS.index("right"), DIRECTIONS.index("left"))
    upright = np.where(down > 0, DIRECTIONS.index("down"), DIRECTIONS.index("up"))
    moved = np.where(np.abs(right) >= np.abs(down), sideways, upright)
    return np.where((steps == 0).all(axis=-1), DIRECTIONS.index("still"), moved).astype(np.int32)


def halved(pictures: np.ndarray) -> np.ndarray:
    """uint8 [..., 28, 28, 1] to [..., 14, 14], each pixel the mean of four, rounded down."""
    fours = pictures.reshape(*pictures.shape[:-3], DIGIT, 2, DIGIT, 2)
    return (fours.sum(axis=(-3, -1), dtype=np.uint16) // 4).astype(np.uint8)


def _shown(random: np.random.Generator, number: int, frames: int, labels: np.ndarray) -> np.ndarray:
    """[M, T]: the place, among the pictures of MNIST, of the one that each frame shows."""
    first = random.integers(len(labels), size=number)
    # Another class, and any picture of it.
    other = (labels[first] + random.integers(1, len(DIGITS), size=number)) % len(DIGITS)
    by_class = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=len(DIGITS))
    starts = np.cumsum(counts) - counts
    second = by_class[starts[other] + random.integers(counts[other])]
    changes = random.integers(frames // 4, frames - frames // 4 + 1, size=(number, 1))
    return np.where(np.arange(frames) < changes, first[:, None], second[:, None])


def _paint(frames: np.ndarray, positions: np.ndarray, digits: np.ndarray) -> None:
    """Lay digits [M, T, 14, 14] over black frames, in place."""
    clip, time = np.ogrid[: frames.shape[0], : frames.shape[1]]
    side = np.arange(DIGIT)
    rows = positions[..., 1, None, None] + side[:, None]
    columns = positions[..., 0, None, None] + side
    frames[clip[..., None, None], time[..., None, None], rows, columns] = digits


def _examples(clips: Clips, says: str) -> Examples:
    number, frames, *shape = clips.frames.shape
    lengths = np.full(number, frames, np.int32)
    inputs = Ragged(clips.frames.reshape(-1, *shape), lengths)
    if says == "motion":
        return Examples(inputs, clips.motions)
    of_frames = clips.directions if says == "direction" else clips.digits
    return Examples(inputs, Ragged(of_frames.reshape(-1), lengths))
