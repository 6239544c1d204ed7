"""What a data set is, in one number."""

import hashlib

import numpy as np

from seqlab.data.stream import Dataset


def fingerprint(dataset: Dataset) -> str:
    """The sha256 over everything in `dataset`: a result keeps it to say what it was measured on."""
    digest = hashlib.sha256()
    digest.update(repr((dataset.symbols, dataset.channels, dataset.start)).encode())
    for stream in (dataset.train, dataset.valid, dataset.test):
        for array in stream:
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
