"""Word2vec: vectors that predict a word from its neighbours (CBOW) or the reverse (skip-gram).

Each step reads B runs of n words and the w words on either side of a run. Who is whose neighbour is
a matrix of 0 and 1 for each run, so that every sum over a window is a product of matrices. The
negatives are drawn once a step and shared by its words, which makes one product of them, too. Of
the two tables, only rows that a step has read are written.

Source: Mikolov et al. 2013, Distributed Representations of Words and Phrases; negatives shared in
    a step, Ji et al. 2016, Parallelizing Word2Vec in Shared and Distributed Memory.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import softplus
from jaxtyping import Array, Float, Int

from seqlab.embeddings.corpus import Words

LONGEST = 2.5  # norm of the update of a row


class Vectors(NamedTuple):
    """Of each word two, float32 [V, d]: its own, and that of a context."""

    words: Array
    contexts: Array


def summed(vectors: Vectors) -> np.ndarray:
    """One vector a word, v + v', [V, d].

    Two words are then alike where each is a context of the other, too.

    Source: Pennington et al. 2014, GloVe; Levy et al. 2015, Improving Distributional Similarity.
    """
    return np.asarray(vectors.words) + np.asarray(vectors.contexts)


class State(NamedTuple):
    """What is trained, and after how many steps."""

    step: Array
    params: Vectors


@dataclass(frozen=True)
class Sampling:
    """What is drawn, and how much of it at a time.

    Attributes:
        window: w; each word draws how far it sees, from 1 to w.
        negatives: k for each prediction.
        shared: negatives that are drawn for a step; each counts k / shared in every prediction.
        subsample: t; of a word with frequency f, √(t/f) + t/f are kept in an epoch.
        runs: B.
        length: n.
    """

    window: int = 5
    negatives: int = 5
    shared: int = 64
    subsample: float = 1e-4
    runs: int = 16
    length: int = 16


class Text(NamedTuple):
    """A text, and with what probability its words are drawn.

    Attributes:
        ids, lines: int32 [N], as `corpus.Words` has them.
        keep: [V], of an occurrence to be read in an epoch.
        cumulative: [V], Σ up to each word of the probability of being a negative.
    """

    ids: Array
    lines: Array
    keep: Array
    cumulative: Array


# What is predicted


def of_neighbours(ids: Int[Array, "B m"], window: int) -> tuple[Array, Array]:
    """Whose vectors a step of CBOW reads: of words, and of contexts."""
    return ids, ids[:, window:-window]


def of_centres(ids: Int[Array, "B m"], window: int) -> tuple[Array, Array]:
    """Whose vectors a step of skip-gram reads: of words, and of contexts."""
    return ids[:, window:-window], ids


def cbow_loss(
    words: Float[Array, "B m d"],
    contexts: Float[Array, "B n d"],
    negatives: Float[Array, "K d"],
    near: Float[Array, "B n m"],
    share: float,
) -> tuple[Array, Array]:
    """A word from the mean of its neighbours: the sum of losses, and of how many predictions.

        h_i = Σ_j near_ij v_j / Σ_j near_ij,    -log σ(h_i·v'_i) - k E_neg log σ(-h_i·v'_neg)

    The gradient of the mean is divided by the number of neighbours, as it should be and as that
    of the original program is not (İrsoy et al. 2021); so rates are higher than there.
    """
    count = near.sum(-1)
    h = (near / jnp.maximum(count, 1)[..., None]) @ words
    told = softplus(-jnp.sum(h * contexts, -1))
    others = softplus(h @ negatives.T).sum(-1)
    seen = (count > 0).astype(h.dtype)
    return jnp.sum(seen * (told + share * others)), seen.sum()


def skip_gram_loss(
    words: Float[Array, "B n d"],
    contexts: Float[Array, "B m d"],
    negatives: Float[Array, "K d"],
    near: Float[Array, "B n m"],
    share: float,
) -> tuple[Array, Array]:
    """Each neighbour from a word: the sum of losses, and of how many predictions.

    Σ_j near_ij (-log σ(v_i·v'_j) - k E_neg log σ(-v_i·v'_neg))
    """
    told = near * softplus(-words @ contexts.swapaxes(1, 2))
    others = near.sum(-1) * softplus(words @ negatives.T).sum(-1)
    return told.sum() + share * others.sum(), near.sum()


class Objective(NamedTuple):
    """Which rows of the two tables a step reads, and its loss."""

    rows: Callable[[Array, int], tuple[Array, Array]]
    loss: Callable[..., tuple[Array, Array]]


OBJECTIVES = {
    "cbow": Objective(of_neighbours, cbow_loss),
    "skip_gram": Objective(of_centres, skip_gram_loss),
}


# What is drawn


def text(words: Words, counts: np.ndarray, subsample: float) -> Text:
    """A split, with the probabilities that follow from the counts of train, [V].

    Negatives are drawn with count^0.75. Subsampling is that of the program of 2013.
    """
    ratio = subsample * counts.sum() / counts
    keep = np.minimum(np.sqrt(ratio) + ratio, 1.0)
    cumulative = np.cumsum(counts**0.75)
    as_float = (np.asarray(p, np.float32) for p in (keep, cumulative / cumulative[-1]))
    return Text(jnp.asarray(words.ids), jnp.asarray(words.lines), *map(jnp.asarray, as_float))


def num_steps(words: Words, counts: np.ndarray, sampling: Sampling) -> int:
    """Steps of an epoch: room for six standard deviations more words than are kept on average."""
    keep = np.asarray(text(words, counts, sampling.subsample).keep, np.float64)[words.ids]
    most = keep.sum() + 6 * math.sqrt((keep * (1 - keep)).sum())
    return math.ceil(min(most, len(words.ids)) / (sampling.runs * sampling.length))


def kept(key: Array, text: Text, places: int, window: int) -> tuple[Array, Array]:
    """What is read of a text in an epoch, ids and lines, with `window` empty places at both ends.

    The words beside one that is left out move together. An empty place has line -1.
    """
    chosen = jax.random.uniform(key, text.ids.shape) < text.keep[text.ids]
    (found,) = jnp.nonzero(chosen, size=places, fill_value=len(text.ids))
    ids = text.ids.at[found].get(mode="fill", fill_value=0)
    lines = text.lines.at[found].get(mode="fill", fill_value=-1)
    return jnp.pad(ids, window), jnp.pad(lines, window, constant_values=-1)


def neighbours(key: Array, lines: Int[Array, "B m"], window: int) -> Float[Array, "B n m"]:
    """1 where a word of a run sees the other: as far as it has drawn, in its own line."""
    run = lines[:, window:-window]
    places = jnp.arange(lines.shape[1])
    own = places[window:-window]
    distance = jnp.abs(places[None, None] - own[None, :, None])
    reach = jax.random.randint(key, run.shape, 1, window + 1)[..., None]
    there = (distance > 0) & (distance <= reach)
    there &= (run[..., None] == lines[:, None]) & (run[..., None] >= 0)
    return there.astype(jnp.float32)


# Training


class Fixed(NamedTuple):
    """What is compiled in."""

    objective: Objective
    sampling: Sampling
    steps: int


@functools.partial(jax.jit, static_argnames="fixed", donate_argnames="state")
def train_epoch(
    fixed: Fixed, state: State, text: Text, key: Array, rates: Float[Array, " S"]
) -> tuple[State, Array]:
    """Once through the text, its runs in a random order; the mean loss of a prediction.

        row -= s · min(1, 2.5 / |s|),    s = rate · gradient

    The gradient of a negative is a sum over the words of the step, and could run away.
    """

    draw, batches = _batches(fixed, text, key)

    def step(params: Vectors, at: Any) -> tuple[Vectors, tuple[Array, Array]]:
        rate, batch = at[0], draw(at[1])
        rows, chosen = _rows(fixed, params, batch)
        loss = functools.partial(_loss, fixed, batch)
        (total, count), gradient = jax.value_and_grad(loss, has_aux=True)(rows)
        steps = jax.tree.map(lambda g: -_short(rate * g), gradient)
        params = jax.tree.map(lambda p, i, s: p.at[i].add(s), params, chosen, steps)
        return params, (total, count)

    params, (totals, counts) = jax.lax.scan(step, state.params, (rates, batches))
    return State(state.step + fixed.steps, params), totals.sum() / counts.sum()


@functools.partial(jax.jit, static_argnames="fixed")
def mean_loss(fixed: Fixed, params: Vectors, text: Text, key: Array) -> Array:
    """The mean loss of a prediction, as `train_epoch` draws them, of vectors that stay."""
    draw, batches = _batches(fixed, text, key)

    def step(sums: tuple[Array, Array], at: Any) -> tuple[tuple[Array, Array], None]:
        batch = draw(at)
        rows, _ = _rows(fixed, params, batch)
        total, count = _loss(fixed, batch, rows)
        return (sums[0] + total, sums[1] + count), None

    (total, count), _ = jax.lax.scan(step, (jnp.zeros(()), jnp.zeros(())), batches)
    return total / count


def _short(steps: Float[Array, "R d"]) -> Array:
    """Rows of a length of at most LONGEST."""
    lengths = jnp.linalg.norm(steps, axis=-1, keepdims=True)
    return steps / jnp.maximum(lengths / LONGEST, 1.0)


class _Batch(NamedTuple):
    ids: Array  # [B, m]
    near: Array  # [B, n, m]
    negatives: Array  # [K]


def _batches(fixed: Fixed, text: Text, key: Array) -> tuple[Callable[[Any], _Batch], Any]:
    """What draws a batch, and what to hand to it at each step."""
    sampling, steps = fixed.sampling, fixed.steps
    for_words, for_order, for_steps = jax.random.split(key, 3)
    places = steps * sampling.runs * sampling.length
    ids, lines = kept(for_words, text, places, sampling.window)
    order = jax.random.permutation(for_order, steps * sampling.runs)
    wide = jnp.arange(sampling.length + 2 * sampling.window)[None]

    def draw(at: tuple[Array, Array]) -> _Batch:
        runs, key = at
        places = runs[:, None] * sampling.length + wide
        for_reach, for_negatives = jax.random.split(key)
        chance = jax.random.uniform(for_negatives, (sampling.shared,))
        negatives = jnp.searchsorted(text.cumulative, chance).astype(jnp.int32)
        near = neighbours(for_reach, lines[places], sampling.window)
        return _Batch(ids[places], near, negatives)

    return draw, (order.reshape(steps, sampling.runs), jax.random.split(for_steps, steps))


def _rows(fixed: Fixed, params: Vectors, batch: _Batch) -> tuple[Vectors, Vectors]:
    """The vectors that a step reads, and their numbers.

    Contexts and negatives together: a table that is read twice is copied before it is written.
    """
    words, contexts = fixed.objective.rows(batch.ids, fixed.sampling.window)
    chosen = Vectors(words.ravel(), jnp.concatenate([contexts.ravel(), batch.negatives]))
    return jax.tree.map(lambda p, i: p[i], params, chosen), chosen


def _loss(fixed: Fixed, batch: _Batch, rows: Vectors) -> tuple[Array, Array]:
    objective, sampling, _ = fixed
    words, contexts = objective.rows(batch.ids, sampling.window)
    own, negatives = rows.contexts[: contexts.size], rows.contexts[contexts.size :]
    shaped = (rows.words.reshape(*words.shape, -1), own.reshape(*contexts.shape, -1))
    share = sampling.negatives / sampling.shared
    return objective.loss(*shaped, negatives, batch.near, share)
