"""Moving digits: what is said of a clip, against what can be seen in it."""

import itertools

import jax
import numpy as np
import pytest

from seqlab import data
from seqlab.data import Examples, Labelled, MovingDigits, images, moving_digits
from seqlab.data.fingerprint import fingerprint
from seqlab.data.moving_digits import DIGIT, DIRECTIONS, MOTIONS, Clips
from seqlab.errors import InputError

RANDOM = np.random.default_rng(0)
MNIST = Labelled(
    RANDOM.integers(4, 256, (60, 28, 28, 1), np.uint8),  # no pixel is black when halved
    RANDOM.permutation(np.arange(60) % 10).astype(np.int32),
)
WHOLE = MovingDigits(seen=100, size=35)


@pytest.fixture(scope="module")
def clips() -> Clips:
    return moving_digits.clips(jax.random.key(0), 150, WHOLE, MNIST)


def places(clip: np.ndarray) -> list[tuple[int, int]]:
    """x and y of the one digit in each frame, from what is not black."""
    found = []
    for frame in clip:
        rows, columns = np.nonzero(frame.any(axis=1))[0], np.nonzero(frame.any(axis=0))[0]
        assert (np.ptp(rows), np.ptp(columns)) == (DIGIT - 1, DIGIT - 1)
        assert np.count_nonzero(frame) == DIGIT**2
        found.append((int(columns[0]), int(rows[0])))
    return found


def halved(picture: np.ndarray) -> np.ndarray:
    grey = picture[..., 0].astype(int)
    return np.array(
        [
            [grey[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].sum() // 4 for x in range(14)]
            for y in range(14)
        ]
    )


def test_a_frame_is_one_digit_that_changes_once_into_another(clips):
    pictures = {halved(p).astype(np.uint8).tobytes(): n for n, p in enumerate(MNIST.images)}
    changes = set()
    for frames, digits in zip(clips.frames, clips.digits, strict=True):
        shown = []
        for frame, (x, y) in zip(frames, places(frames), strict=True):
            shown.append(pictures[frame[y : y + DIGIT, x : x + DIGIT].tobytes()])
        assert digits.tolist() == [MNIST.labels[n] for n in shown]
        (change,) = np.flatnonzero(np.diff(shown)) + 1
        assert digits[change - 1] != digits[change]
        changes.add(int(change))
    assert changes == set(range(4, 13))  # the middle half of 16 frames


def said(before: tuple[int, int], after: tuple[int, int]) -> str:
    right, down = after[0] - before[0], after[1] - before[1]
    if right == down == 0:
        return "still"
    if abs(right) >= abs(down):
        return "right" if right > 0 else "left"
    return "down" if down > 0 else "up"


def test_a_direction_is_the_step_that_is_seen(clips):
    for frames, directions in zip(clips.frames, clips.directions, strict=True):
        seen = places(frames)
        steps = [said(*pair) for pair in itertools.pairwise(seen)]
        assert [DIRECTIONS[n] for n in directions[1:]] == steps
    assert set(np.unique(clips.directions)) == set(range(len(DIRECTIONS)))


def test_motions_are_told_by_how_the_path_turns(clips):
    """The sense of rotation of circles, straight swings, and whole steps between walls."""
    room = WHOLE.size - DIGIT
    for frames, motion in zip(clips.frames, clips.motions, strict=True):
        path = np.array(places(frames), float)
        steps = np.diff(path, axis=0)
        # y is down: with the clock is from right to down.
        turning = steps[:-1, 0] * steps[1:, 1] - steps[:-1, 1] * steps[1:, 0]
        name = MOTIONS[motion]
        if name == "bounces":
            for axis in range(2):
                sizes = np.abs(steps[:, axis])
                whole = sizes.max()
                assert whole in (1, 2, 3)
                for step in np.flatnonzero(sizes != whole):  # reflected in mid-step
                    near = path[step : step + 2, axis]
                    assert near.min() < whole or near.max() > room - whole
        elif name == "swings":
            spread = np.linalg.svd(path - path.mean(axis=0), compute_uv=False)
            assert spread[1] < 0.5 * len(path) ** 0.5  # a line but for rounding
        else:
            assert np.sign(turning.sum()) == (1 if name == "clockwise" else -1)
            assert np.abs(turning).sum() < 1.5 * abs(turning.sum())
    assert np.bincount(clips.motions).min() > 20


def test_so_much_of_a_frame_is_seen(clips):
    config = MovingDigits(seen=25, size=35)
    dim = moving_digits.clips(jax.random.key(0), 150, config, MNIST)
    seen = dim.frames > 0
    np.testing.assert_array_equal(dim.frames[seen], clips.frames[seen])
    assert seen.sum() / (clips.frames > 0).sum() == pytest.approx(0.25, abs=0.005)
    one, two = seen[0, 0], seen[0, 1]
    assert not np.array_equal(one, two)
    for field in ("motions", "directions", "digits"):
        np.testing.assert_array_equal(getattr(dim, field), getattr(clips, field))


@pytest.fixture
def small(monkeypatch) -> dict[str, Labelled]:
    """MNIST of three splits that have no picture in common."""
    splits = {
        name: Labelled(MNIST.images[start::3], np.arange(20, dtype=np.int32) % 10)
        for start, name in enumerate(("train", "valid", "test"))
    }
    whole = images.ImageDataset(**splits, classes=tuple("0123456789"))
    monkeypatch.setattr(images, "load_images", lambda config: whole)
    return splits


def config(says: str, seed: int = 0) -> MovingDigits:
    return MovingDigits(says, 8, seen=100, train_size=70, valid_size=5, test_size=6, seed=seed)


def test_each_split_has_digits_and_paths_of_its_own(small):
    dataset = data.load(config("motion"))
    for name, size in (("train", 70), ("valid", 5), ("test", 6)):
        examples = dataset._asdict()[name]
        assert isinstance(examples, Examples)
        assert examples.inputs.lengths.tolist() == [8] * size
        pictures = {halved(p).astype(np.uint8).tobytes() for p in small[name].images}
        frames = examples.inputs.values
        assert frames.shape == (8 * size, 32, 32)
        for frame, (x, y) in zip(frames, places(frames), strict=True):
            assert frame[y : y + DIGIT, x : x + DIGIT].tobytes() in pictures


def test_what_is_said_is_of_the_same_clips(small):
    of = {says: data.load(config(says)) for says in ("motion", "direction", "digit")}
    for name, key in zip(
        ("train", "valid", "test"), jax.random.split(jax.random.key(0), 3), strict=True
    ):
        examples = {says: dataset._asdict()[name] for says, dataset in of.items()}
        number = len(examples["motion"].targets)
        clips = moving_digits.clips(key, number, config("motion"), small[name])
        for says in of:
            found = examples[says].inputs.values.reshape(clips.frames.shape)
            np.testing.assert_array_equal(found, clips.frames)
        np.testing.assert_array_equal(examples["motion"].targets, clips.motions)
        for says, labels in (("direction", clips.directions), ("digit", clips.digits)):
            values, lengths = examples[says].targets
            np.testing.assert_array_equal(values.reshape(number, 8), labels)
            assert lengths.tolist() == [8] * number
    assert {says: dataset.classes for says, dataset in of.items()} == moving_digits.CLASSES


@pytest.mark.usefixtures("small")
def test_a_clip_is_a_function_of_the_seed():
    first, again, other = (fingerprint(data.load(config("digit", seed))) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"says": "motions"}, r"says: no target 'motions'\. Did you mean 'motion'\?"),
        ({"frames": 3}, "frames must be 4 or more, not 3"),
        ({"size": 27}, "size must be from 28 to 256, not 27"),
        ({"seen": 0}, "seen must be from 1 to 100, not 0"),
        ({"seen": 101}, "seen must be from 1 to 100, not 101"),
        ({"test_size": 0}, "test_size must be 1 or more, not 0"),
        ({"seed": -1}, "seed must be from 0 to "),
    ],
)
def test_what_cannot_be_is_refused(fields, complaint):
    with pytest.raises(InputError, match=f"^{complaint}"):
        MovingDigits(**fields)
