"""Augmentation against loops over images and pixels."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.data.augment import (
    PADDING,
    channel_statistics,
    pad_crop_flip,
    standardise,
)

SHIFTS = range(-PADDING, PADDING + 1)


def shifted(image: np.ndarray, down: int, right: int, flip: bool) -> np.ndarray:
    """Pixel by pixel: what comes from outside of the image is zero."""
    height, width, _ = image.shape
    result = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            at = (row + down, (width - 1 - column if flip else column) + right)
            if 0 <= at[0] < height and 0 <= at[1] < width:
                result[row, column] = image[at]
    return result


@pytest.mark.parametrize(("shape", "dtype"), [((6, 7, 3), np.float32), ((5, 9, 1), np.uint8)])
def test_every_image_is_one_of_its_162_shifts_and_all_are_as_frequent(shape, dtype):
    batch = 4000
    image = np.arange(1, 1 + np.prod(shape)).reshape(shape).astype(dtype)  # no pixel twice, no zero
    name = {
        shifted(image, down, right, flip).tobytes(): (down, right, flip)
        for down in SHIFTS
        for right in SHIFTS
        for flip in (False, True)
    }
    assert len(name) == 2 * 81
    augmented = jax.jit(pad_crop_flip)(jax.random.key(0), jnp.broadcast_to(image, (batch, *shape)))
    assert augmented.dtype == dtype
    counts = Counter(name[result.tobytes()] for result in np.asarray(augmented))
    expected = batch / len(name)
    chi_squared = sum((counts[case] - expected) ** 2 / expected for case in name.values())
    assert chi_squared < 161 + 4 * np.sqrt(2 * 161)  # mean and deviation of chi-squared
    assert abs(sum(n for (*_, flip), n in counts.items() if flip) - batch / 2) < 4 * batch**0.5 / 2


def test_images_keep_their_places_in_the_batch_and_the_key_decides():
    images = np.zeros((16, 12, 12, 1), np.float32) + np.arange(1, 17)[:, None, None, None]
    augment = jax.jit(pad_crop_flip)
    first, second = (np.asarray(augment(jax.random.key(seed), images)) for seed in (1, 2))
    for number, picture in enumerate(first, start=1):
        assert set(np.unique(picture)) <= {0, number}
        assert (picture == number).any()
    assert len({(picture != 0).tobytes() for picture in first}) > 8  # each draws for itself
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(augment(jax.random.key(1), images), first)


def test_standardised_train_split_has_mean_zero_and_deviation_one():
    random = np.random.default_rng(0)
    images = random.integers((0, 50, 200), (256, 60, 256), size=(50, 8, 9, 3), dtype=np.uint8)
    statistics = channel_statistics(images)
    scaled = images.astype(np.float64) / 255
    np.testing.assert_allclose(statistics.mean, scaled.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(statistics.std, scaled.std(axis=(0, 1, 2)), rtol=1e-6)
    assert statistics.mean.dtype == statistics.std.dtype == np.float32
    standardised = jax.jit(standardise)(images, statistics)
    assert standardised.dtype == jnp.float32
    expected = (scaled - scaled.mean(axis=(0, 1, 2))) / scaled.std(axis=(0, 1, 2))
    np.testing.assert_allclose(standardised, expected, atol=2e-5)


def test_channel_of_one_value_becomes_zero():
    images = np.zeros((3, 4, 4, 2), np.uint8)
    images[..., 0] = 77
    images[0, ..., 1] = 255
    standardised = np.asarray(standardise(images, channel_statistics(images)))
    assert np.isfinite(standardised).all()
    np.testing.assert_allclose(standardised[..., 0], 0, atol=1e-6)
