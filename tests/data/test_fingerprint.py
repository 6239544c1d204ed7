"""The fingerprint sees everything that a result depends on."""

import hashlib

import numpy as np

from seqlab.data.fingerprint import fingerprint
from seqlab.data.images import ImageDataset, Labelled
from seqlab.data.stream import Dataset, Stream


def test_fingerprint_changes_with_everything_in_the_data_set():
    def stream() -> Stream:
        return Stream(np.arange(6, dtype=np.int32), np.ones(6, dtype=bool))

    dataset = Dataset(stream(), stream(), stream(), ("a", "b"), channels=2, start=0)
    reference = fingerprint(dataset)
    assert fingerprint(Dataset(*dataset)) == reference
    changed_value, changed_score = stream(), stream()
    changed_value.values[5] = 0
    changed_score.scored[0] = False
    changes = [
        dataset._replace(symbols=("a", "c")),
        dataset._replace(symbols=None),
        dataset._replace(channels=3),
        dataset._replace(start=1),
        dataset._replace(train=Stream(stream().values[::-1], stream().scored)),
        dataset._replace(train=Stream(stream().values.reshape(2, 3), stream().scored)),
        dataset._replace(train=Stream(stream().values.view(np.uint32), stream().scored)),
        *(dataset._replace(**{split: changed_value}) for split in ("train", "valid", "test")),
        *(dataset._replace(**{split: changed_score}) for split in ("train", "valid", "test")),
    ]
    assert len({reference, *map(fingerprint, changes)}) == len(changes) + 1


def test_fingerprint_of_a_stream_is_the_one_that_results_already_hold():
    train = Stream(np.arange(3, dtype=np.int32), np.ones(3, dtype=bool))
    dataset = Dataset(train, train, train, ("a", "b", "c"), channels=3, start=1)
    digest = hashlib.sha256(b"(('a', 'b', 'c'), 3, 1)")
    for _ in range(3):
        digest.update(b"((3,), '<i4')" + train.values.tobytes())
        digest.update(b"((3,), '|b1')" + train.scored.tobytes())
    assert fingerprint(dataset) == digest.hexdigest()


def test_fingerprint_of_images_changes_with_everything():
    def split() -> Labelled:
        images = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
        return Labelled(images, np.array([0, 1], np.int32))

    dataset = ImageDataset(split(), split(), split(), ("cat", "dog"))
    changed_pixel, changed_label = split(), split()
    changed_pixel.images[1, 1, 1, 2] += 1
    changed_label.labels[1] = 0
    changes = [
        dataset._replace(classes=("dog", "cat")),
        dataset._replace(train=split()._replace(images=split().images.reshape(2, 2, 3, 2))),
        *(dataset._replace(**{name: changed_pixel}) for name in ("train", "valid", "test")),
        *(dataset._replace(**{name: changed_label}) for name in ("train", "valid", "test")),
    ]
    assert len({fingerprint(dataset), *map(fingerprint, changes)}) == len(changes) + 1
