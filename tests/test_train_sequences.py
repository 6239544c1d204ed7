"""A batch of padded sequences teaches what the sequences teach one by one."""

import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seqlab import buckets, checkpoint, epochs, history, interruption, train_buckets
from seqlab import train_sequences as ts
from seqlab.cells import CELLS
from seqlab.data.examples import Examples, Ragged
from seqlab.models.decoders import DECODERS
from seqlab.models.rnn import stack
from seqlab.models.seq2seq import ConditionedDecoder, EncoderDecoder
from seqlab.models.sequence import Classifier, SymbolEmbedding, Tagger
from seqlab.optim import Schedule, Settings

SYMBOLS, CLASSES, UNITS, BEGIN = 7, 3, 4, 0
SETTINGS = Settings(learning_rate=1.0, clip_norm=1.0, init_scale=1.0, dropout_rate=None, seed=0)


def sequences(rng, lengths, most):
    lengths = np.asarray(lengths, np.int32)
    return Ragged(rng.integers(0, most, lengths.sum()).astype(np.int32), lengths)


def examples(kind: str, size: int, seed: int) -> Examples:
    rng = np.random.default_rng(seed)
    lengths = rng.choice([1, 4, 7], size)  # few, as each is compiled by those that go alone
    inputs = sequences(rng, lengths, SYMBOLS)
    if kind == "class":
        last = np.cumsum(lengths) - 1
        return Examples(inputs, (inputs.values[last] % CLASSES).astype(np.int32))
    if kind == "tag":
        return Examples(inputs, Ragged((inputs.values % CLASSES).astype(np.int32), inputs.lengths))
    if kind == "first tags":  # of all but the last symbol, or of as many as there are
        return Examples(inputs, sequences(rng, np.maximum(lengths - 1, 1), CLASSES))
    return Examples(inputs, sequences(rng, rng.choice([2, 5], size), CLASSES))


def program(kind: str) -> ts.Program:
    embedding, layers = SymbolEmbedding(SYMBOLS, UNITS), stack(CELLS["gru"], UNITS, 1)
    if kind == "class":
        return ts.Program(Classifier(embedding, layers, CLASSES), ts.MANY_TO_ONE, "sgd")
    if kind in ("tag", "first tags"):
        return ts.Program(Tagger(embedding, layers, CLASSES), ts.ALIGNED, "sgd")
    writer = DECODERS["luong_dot"](CELLS["gru"], UNITS, 1)
    model = EncoderDecoder(embedding, layers, ConditionedDecoder(writer, CLASSES, UNITS))
    return ts.Program(model, ts.DELAYED, "sgd")


KINDS = ("class", "tag", "first tags", "translation")


def one_by_one(kind: str, of: ts.Program, params, data: Examples) -> list[tuple[float, bool]]:
    """The nll of every target and whether it is the most probable, no sequence ever padded."""
    found, at, target_at = [], 0, 0
    apply = jax.jit(of.model.apply)
    for n, length in enumerate(data.inputs.lengths):
        source = jnp.asarray(data.inputs.values[at : at + length])[None]
        at += length
        if isinstance(data.targets, Ragged):
            size = data.targets.lengths[n]
            wanted = data.targets.values[target_at : target_at + size]
            target_at += size
        else:
            wanted = data.targets[n : n + 1]
        given = [source, jnp.array([length])]
        if kind == "translation":
            given.append(jnp.array([[BEGIN, *wanted[:-1]]], jnp.int32))
        said = apply(params, *given)
        logits = said[0][0] if kind == "translation" else (said if kind == "class" else said[0])
        log_probs = jax.nn.log_softmax(logits)
        for place, target in enumerate(wanted):
            best = int(log_probs[place].argmax()) == target
            found.append((-float(log_probs[place, target]), best))
    return found


def begun(of: ts.Program, data: Examples) -> train_buckets.TrainState:
    padded = buckets.padded(data, 1, BEGIN)
    return ts.init_state(of, jax.tree.map(jnp.asarray, SETTINGS), padded[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("num_buckets", "batch_size"), [(1, 4), (3, 5), (2, 64)])
def test_metrics_are_those_of_every_sequence_alone(kind, num_buckets, batch_size):
    of, data = program(kind), examples(kind, 13, 1)
    params = begun(of, data).params
    alone = one_by_one(kind, of, params, data)
    sums = train_buckets.sums(
        ts.LEARNING, of, params, buckets.padded(data, num_buckets, BEGIN), batch_size
    )
    assert float(sums["count"]) == len(alone)
    assert float(sums["nll"]) == pytest.approx(sum(nll for nll, _ in alone), rel=1e-5)
    assert float(sums["accuracy"]) == sum(best for _, best in alone)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_that_of_the_mean_over_all_targets(kind):
    """With a row that is absent, and without clipping: plain gradient descent."""
    of, data = program(kind), examples(kind, 5, 2)
    state = begun(of, data)
    (bucket,) = buckets.padded(data, 1, BEGIN)
    rows = jnp.array([0, 1, buckets.ABSENT, 2, 3, 4], jnp.int32)
    settings = jax.tree.map(jnp.asarray, SETTINGS._replace(clip_norm=1e9))
    step = jax.jit(ts.train_step, static_argnums=0)
    after, loss = step(of, settings, state, buckets.take(bucket, rows))

    def mean_loss(params):
        logits = of.wiring.logits(of.model.apply(params, *of.wiring.arguments(bucket)))
        logits = logits[:, : bucket.targets.shape[1]]
        nll = optax.softmax_cross_entropy_with_integer_labels(logits, bucket.targets)
        return jnp.sum(nll * bucket.scored.astype(nll.dtype)) / bucket.scored.sum().astype(
            nll.dtype
        )

    expected, grads = jax.jit(jax.value_and_grad(mean_loss))(state.params)
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    moved = jax.tree.map(lambda p, g: p - g, state.params, grads)
    for ours, theirs in zip(jax.tree.leaves(after.params), jax.tree.leaves(moved), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_a_batch_without_rows_changes_nothing():
    of, data = program("tag"), examples("tag", 4, 3)
    (bucket,) = buckets.padded(data, 1, BEGIN)
    settings = jax.tree.map(jnp.asarray, SETTINGS)
    nobody = jnp.full(4, buckets.ABSENT, jnp.int32)
    everybody = jnp.arange(4, dtype=jnp.int32)
    steps = functools.partial(train_buckets.train_steps, ts.LEARNING, of, settings)
    once, _ = steps(begun(of, data), bucket, everybody[None])
    padded, _ = steps(begun(of, data), bucket, jnp.stack([nobody, everybody, nobody]))
    assert int(once.step) == int(padded.step) == 1
    for one, other in zip(jax.tree.leaves(once), jax.tree.leaves(padded), strict=True):
        np.testing.assert_array_equal(one, other)


def test_init_scale_scales_matrices():
    of, data = program("class"), examples("class", 4, 4)
    (bucket,) = buckets.padded(data, 1)
    whole, half = (
        ts.init_state(of, jax.tree.map(jnp.asarray, SETTINGS._replace(init_scale=s)), bucket).params
        for s in (1.0, 0.5)
    )
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(half), strict=True):
        np.testing.assert_allclose(other, one * (0.5 if one.ndim > 1 else 1.0))


# A whole training

SPLITS = ts.Splits(*(examples("class", size, seed) for seed, size in enumerate((70, 21, 17))))
CONFIG = ts.SequenceTrainConfig(4, 2, Schedule(max_epochs=5, patience=9, halvings=1))


def fit(folder, dropout_rate=0.05):
    settings = SETTINGS._replace(dropout_rate=dropout_rate)
    return ts.fit(program("class"), settings, SPLITS, CONFIG, folder, keep_best=True)


def timeless(values):
    return {name: value for name, value in values.items() if "seconds" not in name}


def log(folder):
    return [timeless(json.loads(line)) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    return timeless(fit(folder)), log(folder), folder


def test_it_learns_what_there_is_to_learn(unbroken):
    metrics, lines, _ = unbroken
    assert metrics["test_accuracy"] > 0.7
    assert metrics["steps"] == 5 * 18  # 70 examples in two buckets, batches of four
    rates = [line["learning_rate"] for line in lines if "epoch" in line]
    assert rates == pytest.approx([1.0, 1.0, 1.0, 1.0, 0.5])


def test_stopped_at_every_boundary_it_ends_with_the_same_bits(unbroken, tmp_path, monkeypatch):
    steps = train_buckets.train_steps

    def signalled(*arguments):
        interruption.request()
        return steps(*arguments)

    monkeypatch.setattr(train_buckets, "train_steps", signalled)
    found, stops = None, 0
    while found is None:
        try:
            found = timeless(fit(tmp_path))
        except KeyboardInterrupt:
            stops += 1
        finally:
            interruption.forget()
    assert (found, log(tmp_path)) == unbroken[:2]
    assert stops == sum("epoch" not in line for line in unbroken[1])


def test_the_parameters_that_are_left_are_those_that_were_tested(unbroken):
    metrics, _, folder = unbroken
    of = program("class")
    like = begun(of, SPLITS.train).params
    found = checkpoint.restore(folder / epochs.BEST, like)
    assert found is not None
    step, params = found
    ends = {line["epoch"]: line["step"] for line in unbroken[1] if "epoch" in line}
    assert step == ends[metrics["best_epoch"]]
    alone = one_by_one("class", of, params, SPLITS.test)
    assert metrics["test_nll"] == pytest.approx(np.mean([nll for nll, _ in alone]), rel=1e-5)
    assert metrics["test_accuracy"] == np.mean([best for _, best in alone])


# What looks at what has been trained


def seen_logits(of: ts.Program, params, batch: buckets.Batch):
    return of.wiring.logits(of.model.apply(params, *of.wiring.arguments(batch)))


@pytest.mark.parametrize("kind", ["class", "tag"])
def test_outputs_are_those_of_every_sequence_alone_and_in_their_order(kind):
    of, data = program(kind), examples(kind, 13, 5)
    params = begun(of, data).params
    logits = ts.outputs(seen_logits, of, params, data, batch_size=5)
    assert len(logits) == len(data.inputs.lengths)
    log_probs = np.asarray(jax.nn.log_softmax(logits))
    targets = buckets.rectangle(data).targets
    scored = np.asarray(buckets.rectangle(data).scored)
    nll = -np.take_along_axis(log_probs, np.asarray(targets)[..., None], -1)[..., 0][scored]
    alone = [value for value, _ in one_by_one(kind, of, params, data)]
    np.testing.assert_allclose(nll, alone, rtol=1e-5, atol=1e-6)


def look(params) -> dict:
    """Everything there is to see: the tested loss, by another way, and the bits."""
    alone = one_by_one("class", program("class"), params, SPLITS.test)
    return {"seen_nll": np.mean([nll for nll, _ in alone]), "seen": history.params_sha256(params)}


# The first epoch is the best: whoever looks at the last parameters is found out.
WORSE_AND_WORSE = ts.SequenceTrainConfig(4, 2, Schedule(max_epochs=3, patience=9, halvings=0))


def looked_at(folder):
    too_fast = SETTINGS._replace(learning_rate=30.0, clip_norm=100.0)
    return timeless(
        ts.fit(program("class"), too_fast, SPLITS, WORSE_AND_WORSE, folder, 0, False, look)
    )


@pytest.fixture(scope="module")
def looked_at_once():
    return looked_at(None)


def test_the_best_parameters_are_looked_at(looked_at_once):
    found = looked_at_once
    assert found["best_epoch"] < found["epochs"]
    assert found["seen_nll"] == pytest.approx(found["test_nll"], rel=1e-5)
    assert found["seen"] != found["params_sha256"]


def test_whoever_resumes_after_the_best_epoch_looks_at_the_same(
    looked_at_once, tmp_path, monkeypatch
):
    best, steps, dispatches = (
        looked_at_once["best_epoch"],
        train_buckets.train_steps,
        itertools.count(),
    )
    an_epoch = len(
        buckets.shuffled(buckets.padded(SPLITS.train, 2), 4, train_buckets.STEPS_PER_DISPATCH, 0, 0)
    )

    def signalled(*arguments):
        if next(dispatches) == best * an_epoch:
            interruption.request()
        return steps(*arguments)

    monkeypatch.setattr(train_buckets, "train_steps", signalled)
    try:
        with pytest.raises(KeyboardInterrupt):
            looked_at(tmp_path)
    finally:
        interruption.forget()
    assert looked_at(tmp_path) == looked_at_once
    assert looked_at(tmp_path) == looked_at_once, "all of it was done already"
    checkpoint.discard(tmp_path / epochs.BEST)
    with pytest.raises(checkpoint.CheckpointError, match=r"no checkpoint in .*best"):
        looked_at(tmp_path)


def test_two_seeds_see_other_orders():
    padded = buckets.padded(SPLITS.train, CONFIG.num_buckets)
    order = functools.partial(buckets.shuffled, padded, 4, train_buckets.STEPS_PER_DISPATCH)
    assert [w.rows.tolist() for w in order(0, 0)] != [w.rows.tolist() for w in order(1, 0)]
