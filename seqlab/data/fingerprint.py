"""What a data set is, in one number."""

import hashlib

import numpy as np

from seqlab.data.examples import ExampleDataset
from seqlab.data.images import ImageDataset
from seqlab.data.series import SeriesDataset
from seqlab.data.stream import Dataset


def fingerprint(dataset: Dataset | ImageDataset | ExampleDataset | SeriesDataset) -> str:
    """The sha256 over everything in `dataset`: a result keeps it to say what it was measured on."""
    import jax

    digest = hashlib.sha256()
    digest.update(repr(dataset[3:]).encode())  # what is not a split
    for split in (dataset.train, dataset.valid, dataset.test):
        for array in jax.tree.leaves(split):
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
