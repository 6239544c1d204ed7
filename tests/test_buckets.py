"""Batches hold every example once, and nothing of the padding."""

import jax.numpy as jnp
import numpy as np
import pytest

from seqlab import buckets
from seqlab.buckets import ABSENT
from seqlab.data.examples import Examples, Ragged, Shown

BEGIN = 99


def ragged(rng, lengths, low=1):
    lengths = np.asarray(lengths, np.int32)
    return Ragged(rng.integers(low, 50, lengths.sum()).astype(np.int32), lengths)


def rows_of(sequences: Ragged) -> list[list]:
    ends = np.cumsum(sequences.lengths)
    return [
        sequences.values[end - length : end].tolist()
        for end, length in zip(ends, sequences.lengths, strict=True)
    ]


@pytest.fixture
def translations():
    """As many sequences of as many lengths, and of each another sequence."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 30, 101)
    return Examples(ragged(rng, lengths), ragged(rng, rng.integers(1, 20, 101)))


def read_back(bucket: buckets.Batch) -> list[tuple]:
    """Each row's input, targets and what a decoder is given, up to their ends."""
    found = []
    for row in range(len(bucket.lengths)):
        size, scored = int(bucket.lengths[row]), np.asarray(bucket.scored[row])
        num_targets = int(scored.sum())
        assert scored[:num_targets].all(), "targets stand at the beginning"
        inputs = np.asarray(bucket.inputs[row])
        assert not inputs[size:].any(), "padding is zero"
        found.append(
            (
                inputs[:size].tolist(),
                np.asarray(bucket.targets[row])[:num_targets].tolist(),
                np.asarray(bucket.previous[row])[:num_targets].tolist(),
            )
        )
    return found


@pytest.mark.parametrize("num_buckets", [1, 3, 7, 500])
def test_every_example_is_in_one_bucket_as_it_was(translations, num_buckets):
    padded = buckets.padded(translations, num_buckets, BEGIN)
    assert len(padded) <= min(num_buckets, 101)
    found = [row for bucket in padded for row in read_back(bucket)]
    sources, targets = rows_of(translations.inputs), rows_of(translations.targets)
    expected = [(s, t, [BEGIN, *t[:-1]]) for s, t in zip(sources, targets, strict=True)]
    assert sorted(map(repr, found)) == sorted(map(repr, expected))
    longest = [int(bucket.lengths.max()) for bucket in padded]
    assert longest == sorted(longest)
    for bucket, longest_there in zip(padded, longest, strict=True):
        assert bucket.inputs.shape[1] == longest_there, "no column is all padding"
        assert bucket.scored.any(axis=0).all()


def test_a_class_is_a_target_of_one_place():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 23).astype(np.int32)
    examples = Examples(ragged(rng, rng.integers(1, 9, 23)), labels)
    found = [row for bucket in buckets.padded(examples, 4) for row in read_back(bucket)]
    pairs = zip(rows_of(examples.inputs), labels.tolist(), strict=True)
    assert sorted((row, label) for row, [label], _ in found) == sorted(pairs)


def test_measurements_keep_their_channels():
    rng = np.random.default_rng(2)
    lengths = np.array([3, 1, 2], np.int32)
    inputs = Ragged(rng.normal(size=(6, 2)).astype(np.float32), lengths)
    wanted = rng.normal(size=(3, 4)).astype(np.float32)
    (bucket,) = buckets.padded(Examples(inputs, wanted), 1)
    assert bucket.inputs.shape == (3, 3, 2)
    assert bucket.targets.shape == (3, 1, 4)
    for row, of in enumerate([1, 2, 0]):  # from the shortest to the longest
        start = [0, 3, 4][of]
        size = lengths[of]
        np.testing.assert_array_equal(
            bucket.inputs[row, :size], inputs.values[start : start + size]
        )
        np.testing.assert_array_equal(bucket.targets[row, 0], wanted[of])


def drawn(works) -> list[tuple[int, int]]:
    return [(w.bucket, row) for w in works for row in w.rows.flat if row != ABSENT]


@pytest.mark.parametrize("batch_size", [1, 7, 32, 200])
@pytest.mark.parametrize("count", [1, 8])
def test_an_epoch_has_every_example_once(translations, batch_size, count):
    padded = buckets.padded(translations, 5)
    everybody = [(n, row) for n, bucket in enumerate(padded) for row in range(len(bucket.lengths))]
    in_order = buckets.in_order(padded, batch_size, count)
    assert drawn(in_order) == everybody
    epochs = [buckets.shuffled(padded, batch_size, count, 0, epoch) for epoch in (0, 1)]
    for works in (in_order, *epochs):
        assert all(work.rows.shape[1] == batch_size and len(work.rows) <= count for work in works)
        # Batches are full but for the last of a bucket, so that no step is made for fewer rows.
        partial = [w.bucket for w in works for row in w.rows if ABSENT in row and (row >= 0).any()]
        assert len(partial) == len(set(partial))
        shapes = {(work.bucket, work.rows.shape) for work in works}
        assert len(shapes) == len(padded), "a bucket is one program"
    assert sorted(drawn(epochs[0])) == sorted(drawn(epochs[1])) == everybody
    assert drawn(epochs[0]) != drawn(epochs[1])


def test_the_order_is_a_function_of_seed_and_epoch(translations):
    padded = buckets.padded(translations, 5)

    def order(seed, epoch):
        return drawn(buckets.shuffled(padded, 7, 2, seed, epoch))

    assert order(3, 4) == order(3, 4)
    assert len({repr(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_nothing_of_an_absent_row_is_scored(translations):
    (bucket,) = buckets.padded(translations, 1)
    batch = buckets.take(bucket, jnp.array([5, ABSENT, 7], jnp.int32))
    assert not batch.scored[1].any()
    for place, row in ((0, 5), (2, 7)):
        for name in ("inputs", "lengths", "targets", "previous", "scored"):
            np.testing.assert_array_equal(getattr(batch, name)[place], getattr(bucket, name)[row])


@pytest.mark.parametrize("num_buckets", [1, 4])
def test_every_sequence_keeps_its_picture(translations, num_buckets):
    """The picture of a sequence is as bright as its first symbol."""
    sources = rows_of(translations.inputs)
    firsts, numbers = np.unique([row[0] for row in sources], return_inverse=True)
    images = np.broadcast_to(firsts[:, None, None, None], (len(firsts), 2, 3, 3)).astype(np.uint8)
    shown = translations._replace(shown=Shown(images, numbers.astype(np.int32)))
    padded = buckets.padded(shown, num_buckets)
    for work in buckets.shuffled(padded, 8, 2, 0, 0):
        for rows in work.rows:
            batch = buckets.take(padded[work.bucket], jnp.asarray(rows))
            assert batch.pictures is not None
            seen = np.asarray(batch.pictures.of_rows())
            assert seen.shape == (8, 2, 3, 3)
            np.testing.assert_array_equal(seen[:, 0, 0, 0], batch.inputs[:, 0])
