"""A training of word2vec, epoch by epoch, each of which is one program."""

import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqlab import checkpoint, interruption
from seqlab.embeddings import word2vec
from seqlab.embeddings.corpus import Corpus
from seqlab.embeddings.word2vec import Fixed, Sampling, State, Vectors
from seqlab.epochs import BEST
from seqlab.history import Diverged, Log, device_seconds, params_sha256

LOWEST = 1e-4  # of the learning rate, at the end


@dataclass(frozen=True)
class Word2vec:
    """Which vectors are learnt, and how.

    Attributes:
        objective: cbow or skip_gram.
        dim: d.
        epochs: the learning rate falls in a straight line over all of them.
        learning_rate: at the beginning.
        sampling: what is drawn.
    """

    objective: str = "cbow"
    dim: int = 100
    epochs: int = 10
    learning_rate: float = 0.5
    sampling: Sampling = field(default_factory=Sampling)


def initial(key: jax.Array, size: int, dim: int) -> State:
    """Words from U[-1/2d, 1/2d], contexts 0, as the program of 2013 begins."""
    words = jax.random.uniform(key, (size, dim), minval=-0.5, maxval=0.5) / dim
    return State(jnp.zeros((), jnp.int32), Vectors(words, jnp.zeros((size, dim))))


def rates(config: Word2vec, steps: int, epoch: int) -> np.ndarray:
    """The learning rates of the steps of an epoch, from 0."""
    done = (epoch * steps + np.arange(steps)) / (config.epochs * steps)
    return (config.learning_rate * np.maximum(1 - done, LOWEST)).astype(np.float32)


def fit(
    config: Word2vec, corpus: Corpus, seed: int, folder: Path | None = None
) -> tuple[Vectors, dict[str, Any]]:
    """Train to the end; the vectors of the last epoch, and metrics.

    Validation does not choose an epoch: its loss rises long before the vectors get worse.

    Args:
        config: which.
        corpus: the words.
        seed: of the vectors to begin with, and of all that is drawn.
        folder: where the log and the checkpoints go, one an epoch, and are resumed from; the
            vectors are left in `folder/best`. None writes nothing.

    Raises:
        Diverged: a loss was not finite.
        KeyboardInterrupt: after a signal, when the epoch is saved.
    """
    sampling, counts = config.sampling, corpus.counts
    objective = word2vec.OBJECTIVES[config.objective]
    fixed = Fixed(objective, sampling, word2vec.num_steps(corpus.train, counts, sampling))
    valid = fixed._replace(steps=word2vec.num_steps(corpus.valid, counts, sampling))
    train_text = word2vec.text(corpus.train, counts, sampling.subsample)
    valid_text = word2vec.text(corpus.valid, counts, sampling.subsample)
    for_words, for_epochs, for_valid = jax.random.split(jax.random.key(seed), 3)

    log = Log(folder)
    state = log.resume(initial(for_words, len(counts), config.dim))
    with interruption.at_boundaries() as interrupted:
        while len(log.epochs) < config.epochs:
            epoch = len(log.epochs)
            key = jax.random.fold_in(for_epochs, epoch)
            rate = jnp.asarray(rates(config, fixed.steps, epoch))
            began, step = time.perf_counter(), int(state.step)
            state, loss = word2vec.train_epoch(fixed, state, train_text, key, rate)
            train_loss = float(loss)
            seconds = time.perf_counter() - began
            valid_loss = float(word2vec.mean_loss(valid, state.params, valid_text, for_valid))
            if not np.isfinite(train_loss + valid_loss):
                raise Diverged(step)
            log.append(
                step=int(state.step),
                epoch=epoch + 1,
                train_loss=train_loss,
                valid_nll=valid_loss,
                learning_rate=float(rate[0]),
                seconds=seconds,
                seconds_per_step=seconds / fixed.steps,
            )
            log.commit(int(state.step), state)
            if interrupted():
                raise KeyboardInterrupt

    if folder is not None:
        checkpoint.save(folder / BEST, int(state.step), state.params, keep=1)
    typical = statistics.median(epoch["seconds"] for epoch in log.epochs)  # the first compiles
    return state.params, {
        "valid_nll": log.epochs[-1]["valid_nll"],
        "train_nll": log.epochs[-1]["train_loss"],
        "epochs": len(log.epochs),
        "steps": int(state.step),
        "device_seconds": device_seconds(log.lines),
        "words_per_second": len(corpus.train.ids) / typical,
        "params_sha256": params_sha256(state.params),
    }
