"""What is done to a batch of images before a network sees it: pure functions, to be jitted."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

PADDING = 4  # pixels on each side


class ChannelStatistics(NamedTuple):
    """Mean and standard deviation of every channel, float32 [C], of pixels between 0 and 1."""

    mean: np.ndarray | jax.Array
    std: np.ndarray | jax.Array


def channel_statistics(images: np.ndarray) -> ChannelStatistics:
    """Over all pixels of uint8 images [N, H, W, C]; to be asked of the train split alone.

    Exact up to the last rounding: from the counts of the 256 values. A channel of one value has no
    deviation to divide by, and gets 1.
    """
    counts = np.stack(
        [np.bincount(channel.ravel(), minlength=256) for channel in np.moveaxis(images, -1, 0)]
    )
    share = counts / counts.sum(axis=1, keepdims=True)
    values = np.arange(256) / 255
    mean = share @ values
    std = np.sqrt((share * (values[None, :] - mean[:, None]) ** 2).sum(axis=1))
    std = np.where((counts > 0).sum(axis=1) > 1, std, 1.0)
    return ChannelStatistics(mean.astype(np.float32), std.astype(np.float32))


def standardise(images: jax.Array, statistics: ChannelStatistics) -> jax.Array:
    """(x / 255 - mean) / std by channel; uint8 [B, H, W, C] to float32 of the same shape."""
    mean = jnp.reshape(statistics.mean, (1, 1, 1, -1))
    std = jnp.reshape(statistics.std, (1, 1, 1, -1))
    return (images.astype(jnp.float32) / 255 - mean) / std


def pad_crop_flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """A random shift of up to 4 pixels, and left and right exchanged with probability 1/2.

    Each image gets 4 zero pixels on each side, then a crop of the former size is taken at random,
    all 81 places alike. Meant to come after `standardise`, so that the border is the mean of the
    train split; the paper subtracts the mean of every pixel before it pads, we that of a channel.

    Args:
        key: decides all; every image draws a place and a flip of its own.
        images: [B, H, W, C], of any type.

    Returns:
        The same shape and type.

    Source: He, Zhang, Ren and Sun 2015 (ResNet), section 4.2, after Lee et al. 2015.
    """
    place_key, flip_key = jax.random.split(key)
    batch, *shape = images.shape
    border = (PADDING, PADDING)
    padded = jnp.pad(images, ((0, 0), border, border, (0, 0)))
    places = jax.random.randint(place_key, (batch, 2), 0, 2 * PADDING + 1)
    crop = jax.vmap(
        lambda image, place: jax.lax.dynamic_slice(image, (place[0], place[1], 0), shape)
    )
    cropped = crop(padded, places)
    flipped = jax.random.bernoulli(flip_key, shape=(batch, 1, 1, 1))
    return jnp.where(flipped, cropped[:, :, ::-1], cropped)
