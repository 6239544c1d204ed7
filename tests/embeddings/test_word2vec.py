"""Word2vec against loops over single words, and what it is to learn."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from seqlab import epochs, interruption
from seqlab.embeddings import fitting, word2vec
from seqlab.embeddings.corpus import Corpus, Words
from seqlab.embeddings.fitting import Word2vec
from seqlab.embeddings.word2vec import OBJECTIVES, Fixed, Sampling, Vectors

RNG = np.random.default_rng(0)
B, N, W, D, K = 2, 4, 2, 3, 5
M = N + 2 * W


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def by_hand(name, words, contexts, negatives, near, share) -> tuple[float, int]:
    """The loss, prediction by prediction."""
    total, count = 0.0, 0
    for b, i in np.ndindex(B, N):
        seen = [j for j in range(M) if near[b, i, j]]
        if name == "cbow" and seen:
            given, told = sum(words[b, j] for j in seen) / len(seen), [contexts[b, i]]
        else:
            given, told = words[b, i], [contexts[b, j] for j in seen]
        for context in told:
            count += 1
            total -= log_sigmoid(given @ context)
            total -= share * sum(log_sigmoid(-given @ negative) for negative in negatives)
    return total, count


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_is_that_of_each_prediction(name):
    wide, run = RNG.normal(size=(B, M, D)), RNG.normal(size=(B, N, D))
    words, contexts = (wide, run) if name == "cbow" else (run, wide)
    negatives, near = RNG.normal(size=(K, D)), RNG.random((B, N, M)) < 0.4
    near[0, 1] = False  # a word without neighbours
    arguments = [jnp.asarray(a, jnp.float32) for a in (words, contexts, negatives, near)]
    total, count = OBJECTIVES[name].loss(*arguments, 0.3)
    expected = by_hand(name, words, contexts, negatives, near, 0.3)
    np.testing.assert_allclose((float(total), float(count)), expected, rtol=1e-5)


def test_neighbours_are_within_reach_and_in_the_line():
    window, lines = 3, np.sort(RNG.integers(-1, 2, (400, 16)))
    near = np.asarray(word2vec.neighbours(jax.random.key(0), jnp.asarray(lines), window))
    reached = []
    for b, i in np.ndindex(400, 16 - 2 * window):
        place = i + window
        seen = np.flatnonzero(near[b, i])
        if lines[b, place] < 0:
            assert not len(seen)
            continue
        farthest = max(abs(seen - place), default=0)
        inside = [
            j
            for j in range(16)
            if 0 < abs(j - place) <= farthest and lines[b, j] == lines[b, place]
        ]
        assert seen.tolist() == inside
        if len(set(lines[b, place - window : place + window + 1])) == 1:
            reached.append(farthest)
    shares = np.bincount(reached, minlength=window + 1)[1:] / len(reached)
    np.testing.assert_allclose(shares, 1 / window, atol=0.08)


def test_words_are_kept_in_order_and_thinned_by_frequency():
    counts = np.array([4000, 900, 90, 10])
    words = Words(
        RNG.permutation(np.repeat(np.arange(4, dtype=np.int32), counts)),
        np.arange(counts.sum(), dtype=np.int32),  # each names its place
    )
    sampling = Sampling(subsample=0.01, runs=2, length=8)
    text = word2vec.text(words, counts, sampling.subsample)
    places = word2vec.num_steps(words, counts, sampling) * 16
    ids, lines = map(np.asarray, word2vec.kept(jax.random.key(1), text, places, window=3))
    assert len(ids) == places + 6
    assert (lines[:3] == -1).all()
    assert (lines[-3:] == -1).all()
    found = lines[lines >= 0]
    assert (np.diff(found) > 0).all()
    np.testing.assert_array_equal(ids[lines >= 0], words.ids[found])
    for word, count in enumerate(counts):
        ratio = 0.01 * counts.sum() / count
        share = min(1.0, math.sqrt(ratio) + ratio)
        found = int((ids[lines >= 0] == word).sum())
        assert abs(found - count * share) <= 5 * math.sqrt(count * share * (1 - share)), word


def test_negatives_are_drawn_by_the_power_of_their_counts():
    counts = np.array([1000, 300, 30, 1])
    words = Words(np.zeros(40, np.int32), np.zeros(40, np.int32))
    sampling = Sampling(window=1, shared=5000, runs=1, length=4)
    text = word2vec.text(words, counts, subsample=1.0)
    fixed = Fixed(OBJECTIVES["cbow"], sampling, 10)
    draw, at = word2vec._batches(fixed, text, jax.random.key(0))
    first = jax.tree.map(lambda a: a[0], at)
    drawn = np.bincount(np.asarray(jax.jit(draw)(first).negatives), minlength=4)
    expected = counts**0.75 / (counts**0.75).sum() * 5000
    assert stats.chisquare(drawn, expected).pvalue > 1e-3


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_epoch_is_gradient_descent_on_the_whole_tables(name):
    size = 6
    counts = np.full(size, 5)
    words = Words(
        RNG.integers(size, size=30).astype(np.int32),
        np.repeat(np.arange(3, dtype=np.int32), 10),
    )
    sampling = Sampling(window=W, negatives=3, shared=K, subsample=1.0, runs=B, length=N)
    text = word2vec.text(words, counts, sampling.subsample)
    fixed = Fixed(OBJECTIVES[name], sampling, word2vec.num_steps(words, counts, sampling))
    tables = Vectors(*(jnp.asarray(RNG.normal(0, 0.5, (size, D)), jnp.float32) for _ in range(2)))
    key, rates = jax.random.key(3), jnp.linspace(0.1, 0.05, fixed.steps)

    draw, batches = word2vec._batches(fixed, text, key)
    params, totals, number, read = tables, 0.0, 0.0, []

    def loss(params, batch):
        ids, near, negatives = batch
        first, second = (ids, ids[:, W:-W]) if name == "cbow" else (ids[:, W:-W], ids)
        given, told = params.words[first], params.contexts[second]
        return fixed.objective.loss(given, told, params.contexts[negatives], near, 3 / K)

    draw, slope = jax.jit(draw), jax.jit(jax.value_and_grad(loss, has_aux=True))
    for n in range(fixed.steps):
        batch = draw(jax.tree.map(lambda a, n=n: a[n], batches))
        read.append(np.asarray(batch.near.sum((1, 2)) > 0))
        (total, count), gradient = slope(params, batch)
        params = jax.tree.map(lambda p, g, n=n: p - rates[n] * g, params, gradient)
        totals, number = totals + float(total), number + float(count)
    assert fixed.steps == 4
    assert np.concatenate(read).sum() == 8  # every run was read, and all words of the text

    copied = jax.tree.map(jnp.copy, tables)
    state = word2vec.State(jnp.zeros((), jnp.int32), copied)
    state, mean = word2vec.train_epoch(fixed, state, text, key, rates)
    assert float(mean) == pytest.approx(totals / number, rel=1e-5)
    assert int(state.step) == fixed.steps
    for ours, expected in zip(state.params, params, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)
    still = word2vec.train_epoch(
        fixed, word2vec.State(state.step, jax.tree.map(jnp.copy, tables)), text, key, 0 * rates
    )[1]
    assert float(word2vec.mean_loss(fixed, tables, text, key)) == pytest.approx(float(still))


def test_a_long_step_is_shortened():
    rows = RNG.normal(size=(6, D)) * np.array([[0.1], [1], [2], [9], [90], [0]])
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    expected = np.where(lengths > 2.5, 2.5 * rows / np.maximum(lengths, 1e-9), rows)
    found = word2vec._short(jnp.asarray(rows, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


# A training


def two_topics(lines: int = 300) -> Corpus:
    """Lines of six words, all of them from the first ten words or all from the last ten."""
    ids = [RNG.integers(10, size=6) + 10 * (n % 2) for n in range(lines)]
    words = Words(
        np.concatenate(ids).astype(np.int32), np.repeat(np.arange(lines, dtype=np.int32), 6)
    )
    counts = np.bincount(words.ids, minlength=20)
    return Corpus(words, words, tuple("abcdefghijklmnopqrst"), counts)


TINY = Sampling(window=3, shared=8, subsample=1.0, runs=4, length=8)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_words_of_a_topic_become_alike(name):
    rate = {"cbow": 0.5, "skip_gram": 0.1}[name]
    config = Word2vec(name, dim=4, epochs=15, learning_rate=rate, sampling=TINY)
    vectors, metrics = fitting.fit(config, two_topics(), seed=0)
    rows = word2vec.summed(vectors)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = rows @ rows.T
    same = np.kron(np.eye(2), np.ones((10, 10))) > 0
    assert cosines[same].min() > cosines[~same].max()
    assert metrics["valid_nll"] < 6 * math.log(2)  # that of vectors that are 0
    assert metrics["epochs"] == 15


def test_a_resumed_training_is_the_unbroken_one(tmp_path):
    config = Word2vec("cbow", dim=4, epochs=3, learning_rate=0.05, sampling=TINY)
    text = two_topics(40)
    _, unbroken = fitting.fit(config, text, seed=5)
    interruption.request()
    with pytest.raises(KeyboardInterrupt):
        fitting.fit(config, text, seed=5, folder=tmp_path)
    interruption.forget()
    vectors, resumed = fitting.fit(config, text, seed=5, folder=tmp_path)
    for metric in ("params_sha256", "valid_nll", "train_nll", "steps"):
        assert resumed[metric] == unbroken[metric]
    kept = epochs.restore_best(tmp_path, vectors)
    np.testing.assert_array_equal(kept.words, vectors.words)
    assert fitting.fit(config, text, seed=6)[1]["params_sha256"] != unbroken["params_sha256"]


def test_the_rate_falls_in_a_line():
    config = Word2vec(epochs=2, learning_rate=0.4)
    found = np.concatenate([fitting.rates(config, 5, epoch) for epoch in range(2)])
    np.testing.assert_allclose(found, 0.4 * (1 - np.arange(10) / 10), rtol=1e-6)
    assert (fitting.rates(config, 100_000, 1) > 0).all()
