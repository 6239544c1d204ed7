"""Sequences of unequal length on the device: padded in buckets of similar length, in exact batches.

A bucket is a shape, and a program is compiled for each. What pads them is in no loss and no metric:
places beyond a sequence's end, rows beyond a split's last sequence, batches beyond its last row.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqlab.data.examples import Examples, Ragged

ABSENT = -1  # a row that no sequence is in


class Pictures(NamedTuple):
    """What each of B rows looks at.

    Attributes:
        images: uint8 [N, H, W, 3], those of a whole split.
        numbers: int32 [B].
    """

    images: jax.Array
    numbers: jax.Array

    def of_rows(self) -> jax.Array:
        """uint8 [B, H, W, 3]."""
        return self.images[self.numbers]


class Batch(NamedTuple):
    """B sequences, or all of a bucket. Rows are taken by `take` alone: pictures are not by row.

    Attributes:
        inputs: int32 [B, S] symbols, float32 [B, S, C], or uint8 [B, S, H, W].
        lengths: int32 [B].
        targets: int32 [B, U]: a class (U = 1), a tag for each of the first symbols (U ≤ S), a
            translation; or float32 [B, 1, C], measurements.
        previous: int32 [B, U], the targets one place later, a decoder's input in teacher forcing.
        scored: bool [B, U].
        pictures: None where nothing is looked at.
    """

    inputs: jax.Array
    lengths: jax.Array
    targets: jax.Array
    previous: jax.Array
    scored: jax.Array
    pictures: Pictures | None = None


def padded(examples: Examples, num_buckets: int, begin: int = 0) -> list[Batch]:
    """All examples, in buckets of about as many, from the shortest to the longest.

    Args:
        examples: M sequences.
        num_buckets: at most; there are fewer where there are fewer lengths.
        begin: what a decoder is given before its first symbol.
    """
    lengths, targets = examples.inputs.lengths, _sequences(examples)
    order = np.lexsort((targets.lengths, lengths))
    cuts = np.unique(np.linspace(0, len(order), num_buckets + 1).astype(int))
    images = _images(examples)
    return [
        _bucket(examples, targets, images, order[start:end], begin)
        for start, end in itertools.pairwise(cuts)
    ]


def rectangle(examples: Examples) -> Batch:
    """All examples in their order, padded to the longest."""
    rows = np.arange(len(examples.inputs.lengths))
    return _bucket(examples, _sequences(examples), _images(examples), rows, begin=0)


def _images(examples: Examples) -> jax.Array | None:
    """On the device once, for all buckets."""
    return None if examples.shown is None else jnp.asarray(examples.shown.images)


def _sequences(examples: Examples) -> Ragged:
    """The targets, those of one each as sequences of one."""
    targets = examples.targets
    if isinstance(targets, Ragged):
        return targets
    return Ragged(targets, np.ones(len(targets), np.int32))


def _bucket(
    examples: Examples, targets: Ragged, images: jax.Array | None, rows: np.ndarray, begin: int
) -> Batch:
    inputs, pictures = examples.inputs, None
    if examples.shown is not None and images is not None:
        pictures = Pictures(images, jnp.asarray(examples.shown.numbers[rows]))
    wanted = _rectangle(targets, rows)
    previous = np.full(wanted.shape[:2], begin, np.int32)
    if wanted.ndim == 2:
        previous[:, 1:] = wanted[:, :-1]
    width = np.arange(wanted.shape[1], dtype=np.int32)
    return Batch(
        jnp.asarray(_rectangle(inputs, rows)),
        jnp.asarray(inputs.lengths[rows]),
        jnp.asarray(wanted),
        jnp.asarray(previous),
        jnp.asarray(width < targets.lengths[rows, None]),
        pictures,
    )


def _rectangle(ragged: Ragged, rows: np.ndarray) -> np.ndarray:
    """[rows, longest, …], zeros behind the ends."""
    starts = np.cumsum(ragged.lengths) - ragged.lengths
    lengths = ragged.lengths[rows]
    places = np.arange(max(lengths.max(initial=1), 1))
    inside = places < lengths[:, None]
    found = ragged.values[np.where(inside, starts[rows, None] + places, 0)]
    return np.where(inside.reshape(inside.shape + (1,) * (found.ndim - 2)), found, 0).astype(
        ragged.values.dtype
    )


def take(bucket: Batch, rows: jax.Array) -> Batch:
    """The batch of some rows [B] of a bucket; nothing of an absent one is scored."""
    some = jnp.maximum(rows, 0)
    batch = jax.tree.map(lambda leaf: leaf[some], bucket._replace(pictures=None))
    present = (rows != ABSENT).reshape(-1, *(1,) * (batch.scored.ndim - 1))
    pictures = bucket.pictures
    if pictures is not None:
        pictures = pictures._replace(numbers=pictures.numbers[some])
    return batch._replace(scored=batch.scored & present, pictures=pictures)


class Work(NamedTuple):
    """Some batches of one bucket: rows [count, B]."""

    bucket: int
    rows: np.ndarray


def in_order(buckets: Sequence[Batch], batch_size: int, count: int) -> list[Work]:
    """Every example once."""
    return [work for n, bucket in enumerate(buckets) for work in _cut(n, bucket, batch_size, count)]


def shuffled(
    buckets: Sequence[Batch], batch_size: int, count: int, seed: int, epoch: int
) -> list[Work]:
    """Every example once, in batches of similar length, batches in any order.

    A function of its arguments, so that a training that was interrupted in mid-epoch goes on in the
    same order.
    """
    rng = np.random.default_rng((seed, epoch))
    works = [
        work for n, bucket in enumerate(buckets) for work in _cut(n, bucket, batch_size, count, rng)
    ]
    return [works[n] for n in rng.permutation(len(works))]


def _cut(
    number: int,
    bucket: Batch,
    batch_size: int,
    count: int,
    rng: np.random.Generator | None = None,
) -> Iterator[Work]:
    size = len(bucket.lengths)
    rows = np.arange(size, dtype=np.int32) if rng is None else rng.permutation(size)
    num_batches = -(-size // batch_size)
    each = min(count, num_batches)
    whole = np.full(-(-num_batches // each) * each * batch_size, ABSENT, np.int32)
    whole[:size] = rows
    for part in whole.reshape(-1, each, batch_size):
        yield Work(number, part)
