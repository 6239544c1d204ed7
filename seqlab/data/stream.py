"""What every data source hands to training: one long stream per split."""

from typing import NamedTuple

import numpy as np


class Stream(NamedTuple):
    """N positions to be predicted, each from those before it.

    Attributes:
        values: int32 [N] symbol numbers, or uint8 [N, C] frames of 0 and 1.
        scored: bool [N], true where the prediction of this position enters loss and metrics.
    """

    values: np.ndarray
    scored: np.ndarray


class Dataset(NamedTuple):
    """Three splits and what their values mean.

    Attributes:
        train, valid, test: the streams.
        symbols: the vocabulary, `symbols[i]` is what number i stands for; None for frames.
        channels: V for symbols, C for frames.
        start: what is fed before the first position: a symbol number, or 0 for a silent frame.
    """

    train: Stream
    valid: Stream
    test: Stream
    symbols: tuple[str, ...] | None
    channels: int
    start: int


def frequencies_nll(dataset: Dataset, split: Stream) -> float:
    """Nats per scored symbol of a split, by the unigram model of train with add-one smoothing.

    p(s) = (count of s + 1) / (N + V)
    """
    counts = np.bincount(dataset.train.values[dataset.train.scored], minlength=dataset.channels) + 1
    return float(-np.log(counts / counts.sum())[split.values[split.scored]].mean())
