"""Images on the device: they lie there as bytes, and are standardised a batch at a time."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqlab.data.augment import ChannelStatistics, channel_statistics, standardise
from seqlab.data.images import ImageDataset, Labelled


class Split(NamedTuple):
    """A split, and the statistics of the training split that it is standardised with."""

    images: jax.Array  # uint8 [N, H, W, C]
    labels: jax.Array  # int32 [N], or uint8 [N, H, W]
    statistics: ChannelStatistics


def on_device(dataset: ImageDataset) -> tuple[Split, Split, Split]:
    """Train, valid and test."""
    statistics = ChannelStatistics(*map(jnp.asarray, channel_statistics(dataset.train.images)))

    def place(split: Labelled) -> Split:
        return Split(jnp.asarray(split.images), jnp.asarray(split.labels), statistics)

    return place(dataset.train), place(dataset.valid), place(dataset.test)


def take(split: Split, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Standardised images [B, H, W, C] and labels of some rows [B]."""
    return standardise(split.images[rows], split.statistics), split.labels[rows]


def head(split: Split, most: int) -> Split:
    """The first images of a split."""
    return split._replace(images=split.images[:most], labels=split.labels[:most])


@functools.partial(jax.jit, static_argnames=("num_images", "batch_size", "count"))
def shuffled_rows(
    key: jax.Array, start: jax.Array, num_images: int, batch_size: int, count: int
) -> jax.Array:
    """The images of the steps start … start + count - 1, [count, B].

    They are read off an endless list, one shuffle of the split after the other: no image comes
    again before all others have come, whatever the batch size.
    """
    length = count * batch_size
    first, offset = jnp.divmod(start * batch_size, num_images)
    numbers = first + jnp.arange((length - 1) // num_images + 2)
    shuffles = jax.vmap(lambda n: jax.random.permutation(jax.random.fold_in(key, n), num_images))
    listed = shuffles(numbers).reshape(-1)
    return jax.lax.dynamic_slice(listed, (offset,), (length,)).reshape(count, batch_size)
