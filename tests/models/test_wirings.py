"""The five wirings against loops in NumPy, and against one sequence at a time."""

import functools
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seqlab import decoding
from seqlab.cells import CELLS
from seqlab.errors import InputError
from seqlab.models.decoders import DECODERS
from seqlab.models.rnn import Stack, bidirectional_stack, stack
from seqlab.models.seq2seq import ConditionedDecoder, EncoderDecoder
from seqlab.models.sequence import Classifier, FrameEmbedding, Pooling, SymbolEmbedding, Tagger

BATCH, TIME, WIDTH, UNITS, CLASSES, CHANNELS = 3, 5, 3, 4, 6, 2
SOURCE_SYMBOLS, TARGET_SYMBOLS, TARGETS = 7, 6, 4
LENGTHS = jnp.array([5, 3, 1])
POOLINGS = get_args(Pooling)

# What is tested is the program, not the optimiser of the compiler: this halves the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def integers(high, *shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(high, size=shape), jnp.int32)


def drawn(model, *inputs, seed=1):
    """Params in which nothing is zero, biases included, of the default float."""
    rng = np.random.default_rng(seed)
    with jax.enable_x64(False):
        inputs = [jnp.zeros(x.shape, int if x.dtype == jnp.int32 else float) for x in inputs]
        shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), float), shapes)


SOURCE = integers(SOURCE_SYMBOLS, BATCH, TIME)
TARGET = integers(TARGET_SYMBOLS, BATCH, TARGETS, seed=1)
FRAMES = np.random.default_rng(3).normal(size=(BATCH, TIME, CHANNELS))
IS_PADDING = np.arange(TIME)[None] >= np.asarray(LENGTHS)[:, None]


def classifier(pooling):
    layers = bidirectional_stack(CELLS["gru"], UNITS, 1)
    return Classifier(SymbolEmbedding(SOURCE_SYMBOLS, WIDTH), layers, CLASSES, pooling)


def tagger():
    return Tagger(FrameEmbedding(WIDTH), bidirectional_stack(CELLS["gru"], UNITS, 1), CLASSES)


def one_to_many(decoder, cell="gru", num_layers=1):
    layers = DECODERS[decoder](CELLS[cell], UNITS, num_layers)
    return ConditionedDecoder(layers, TARGET_SYMBOLS, WIDTH)


def encoder_decoder(decoder, cell="gru", num_layers=1):
    """The encoder is as wide as the decoder, so that `dot` may take part."""
    encoder = bidirectional_stack(CELLS[cell], UNITS // 2, 1)
    embedding = SymbolEmbedding(SOURCE_SYMBOLS, WIDTH)
    return EncoderDecoder(embedding, encoder, one_to_many(decoder, cell, num_layers))


# Decoders, against their equations


def softmax(scores):
    exps = np.exp(scores - scores.max())
    return exps / exps.sum()


def attended(p, query, values):
    """Context and weights of one query by the params there are."""
    if "v" in p:
        scores = [p["v"] @ np.tanh(query @ p["w_q"] + place @ p["w_m"]) for place in values]
    elif "w_m" in p:
        scores = [query @ (place @ p["w_m"]) for place in values]
    else:
        scores = [query @ place for place in values]
    weights = softmax(np.array(scores))
    context = sum(a * place for a, place in zip(weights, values, strict=True))
    if "w_beta" in p:
        context = context * sigmoid(query @ p["w_beta"] + p["b_beta"])
    return context, weights


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def rnn_by_hand(p, carry, x):
    (h,) = carry
    h = np.tanh(x @ p["w_xh"] + h @ p["w_hh"] + p["b_h"])
    return [h], h


def lstm_by_hand(p, carry, x):
    c, h = carry
    i, f, o = (sigmoid(x @ p["w_x" + g] + h @ p["w_h" + g] + p["b_" + g]) for g in "ifo")
    c = f * c + i * np.tanh(x @ p["w_xg"] + h @ p["w_hg"] + p["b_g"])
    h = o * np.tanh(c)
    return [c, h], h


BY_HAND = {"rnn": (rnn_by_hand, 1), "lstm": (lstm_by_hand, 2)}  # and how many arrays a carry is


def decoder_by_hand(name, cell, params, summary, values, symbols):
    """Logits and weights of one row; all its places are real. Two layers."""
    apply, size = BY_HAND[cell]
    dense = params["bridge"]
    made = [
        np.tanh(summary @ dense[f"Dense_{n}"]["kernel"] + dense[f"Dense_{n}"]["bias"])
        for n in range(2 * size)
    ]
    first, second = made[:size], made[size:]
    inside = params["decoder"]
    layers = inside["stack"]
    by_input = "first" in layers
    cells = (
        (layers["first"]["cell"], layers["above"]["layers_0"]["cell"])
        if by_input
        else (layers["layers_0"]["cell"], layers["layers_1"]["cell"])
    )
    logits, all_weights = [], []
    for symbol in symbols:
        x = seen = params["embedding"]["embedding"][symbol]
        weights = None
        if by_input:
            query = np.concatenate(first)
            context, weights = attended(layers["first"]["scores"]["attention"], query, values)
            seen = np.concatenate([x, context])
        first, y = apply(cells[0], first, seen)
        second, y = apply(cells[1], second, y)
        if name == "show_attend_tell":
            y = x + y @ inside["l_h"]["kernel"] + context @ inside["l_z"]["kernel"]
        elif name.startswith("luong"):
            context, weights = attended(inside["scores"]["attention"], y, values)
            y = np.tanh(np.concatenate([context, y]) @ inside["w_c"]["kernel"])
        logits.append(y @ params["head"]["kernel"] + params["head"]["bias"])
        all_weights.append(weights)
    return np.stack(logits), all_weights


def both_ways(model):
    """All symbols at once, and one by one."""

    @jit
    def run(params, source, lengths, symbols):
        at_once = model.apply(params, source, lengths, symbols)
        memory, carry = model.apply(params, source, lengths, method="encode")

        def step(carry, symbols):
            carry, *written = model.apply(params, memory, carry, symbols, method="step")
            return carry, tuple(written)

        _, one_by_one = jax.lax.scan(step, carry, symbols.T)
        return at_once, jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), one_by_one)

    return run


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("name", "cell"), [*((name, "lstm") for name in DECODERS), ("bahdanau", "rnn")]
)
def test_encoder_decoder_is_that_of_its_equations_at_once_and_by_steps(name, cell):
    model = encoder_decoder(name, cell, num_layers=2)
    params = drawn(model, SOURCE, LENGTHS, TARGET)
    (logits, weights), one_by_one = both_ways(model)(params, SOURCE, LENGTHS, TARGET)
    at_once = jax.tree.leaves((logits, weights))
    for a, b in zip(at_once, jax.tree.leaves(one_by_one), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)
    numbers = jax.tree.map(np.asarray, params["params"])
    embedded = jnp.asarray(numbers["embedding"]["embedding"][np.asarray(SOURCE)])
    encode = jit(model.encoder.apply)
    _, ys = encode({"params": params["params"]["encoder"]}, embedded, None, LENGTHS)
    for b, n in enumerate(LENGTHS.tolist()):
        values = np.asarray(ys[b, :n])
        summary = np.concatenate([values[-1, : UNITS // 2], values[0, UNITS // 2 :]])
        expected, alphas = decoder_by_hand(
            name, cell, numbers["decoder"], summary, values, np.asarray(TARGET[b])
        )
        np.testing.assert_allclose(logits[b], expected, rtol=0, atol=1e-12)
        if name == "no_attention":
            assert weights is None
        else:
            np.testing.assert_allclose(weights[b, :, :n], np.stack(alphas), rtol=0, atol=1e-13)
            np.testing.assert_array_equal(weights[b, :, n:], 0)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["no_attention", "show_attend_tell"])
def test_conditioned_decoder_begins_with_the_vector_or_the_mean_of_the_grid(name):
    model = one_to_many(name, "rnn", num_layers=2)
    grid = jnp.asarray(np.random.default_rng(4).normal(size=(BATCH, 6, 5)))
    params = drawn(model, grid, TARGET)
    numbers = jax.tree.map(np.asarray, params["params"])
    apply = jit(model.apply)
    logits, weights = apply(params, grid, TARGET)
    of_vector, _ = apply(params, grid[:, 0], TARGET)
    places = np.asarray(grid)
    for b in range(BATCH):
        expected, alphas = decoder_by_hand(
            name, "rnn", numbers, places[b].mean(axis=0), places[b], np.asarray(TARGET[b])
        )
        np.testing.assert_allclose(logits[b], expected, rtol=0, atol=1e-12)
        if weights is not None:
            np.testing.assert_allclose(weights[b], np.stack(alphas), rtol=0, atol=1e-13)
        expected, _ = decoder_by_hand(
            name, "rnn", numbers, places[b, 0], places[b, :1], np.asarray(TARGET[b])
        )
        np.testing.assert_allclose(of_vector[b], expected, rtol=0, atol=1e-12)


# Summaries and steps, against NumPy


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("pooling", POOLINGS)
def test_classifier_pools_the_real_steps(pooling):
    model = classifier(pooling)
    params = drawn(model, SOURCE, LENGTHS)
    logits = jit(model.apply)(params, SOURCE, LENGTHS)
    p = jax.tree.map(np.asarray, params["params"])
    embedded = jnp.asarray(p["embedding"]["embedding"][np.asarray(SOURCE)])
    layers = {"params": params["params"]["stack"]}
    _, ys = jit(model.stack.apply)(layers, embedded, None, LENGTHS)
    for b, n in enumerate(LENGTHS.tolist()):
        real = np.asarray(ys[b, :n])
        if pooling == "last":
            summary = np.concatenate([real[n - 1, :UNITS], real[0, UNITS:]])
        elif pooling == "mean":
            summary = sum(real) / n
        else:
            hidden = real @ p["attention_hidden"]["kernel"] + p["attention_hidden"]["bias"]
            weights = softmax((np.tanh(hidden) @ p["attention_score"]["kernel"])[:, 0])
            summary = sum(a * y for a, y in zip(weights, real, strict=True))
        expected = summary @ p["head"]["kernel"] + p["head"]["bias"]
        np.testing.assert_allclose(logits[b], expected, rtol=0, atol=1e-13)


@pytest.mark.usefixtures("float64")
def test_tagger_is_a_head_on_every_step():
    model, frames = tagger(), jnp.asarray(FRAMES)
    params = drawn(model, frames, LENGTHS)
    logits = jit(model.apply)(params, frames, LENGTHS)
    p = jax.tree.map(np.asarray, params["params"])
    embedded = (
        np.asarray(frames) @ p["embedding"]["dense"]["kernel"] + p["embedding"]["dense"]["bias"]
    )
    layers = {"params": params["params"]["stack"]}
    _, ys = jit(model.stack.apply)(layers, jnp.asarray(embedded), None, LENGTHS)
    expected = np.asarray(ys) @ p["head"]["kernel"] + p["head"]["bias"]
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-13)


@pytest.mark.usefixtures("float64")
def test_one_to_one_is_a_stack_of_no_layers():
    model = Tagger(SymbolEmbedding(SOURCE_SYMBOLS, WIDTH), Stack(()), CLASSES)
    params = drawn(model, SOURCE)
    p = jax.tree.map(np.asarray, params["params"])
    expected = (
        p["embedding"]["embedding"][np.asarray(SOURCE)] @ p["head"]["kernel"] + p["head"]["bias"]
    )
    np.testing.assert_allclose(model.apply(params, SOURCE), expected, rtol=0, atol=1e-13)


def test_unknown_pooling_names_the_nearest():
    with pytest.raises(InputError, match=r"no pooling 'meen'\. Did you mean 'mean'"):
        jax.eval_shape(classifier("meen").init, jax.random.key(0), SOURCE)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_a_stack_of_no_layers_pools_real_symbols_alone(pooling):
    model = Classifier(SymbolEmbedding(SOURCE_SYMBOLS, WIDTH), Stack(()), CLASSES, pooling)
    params = drawn(model, SOURCE, LENGTHS)
    logits = jit(model.apply)(params, SOURCE, LENGTHS)
    for b, n in enumerate(LENGTHS.tolist()):
        alone = model.apply(params, SOURCE[b : b + 1, :n])
        np.testing.assert_allclose(logits[b], alone[0], rtol=0, atol=1e-13)


# Nothing depends on padding

CASES = {
    **{f"classifier by {p}": (functools.partial(classifier, p), SOURCE) for p in POOLINGS},
    "tagger": (tagger, FRAMES),
    **{d: (functools.partial(encoder_decoder, d), SOURCE) for d in DECODERS},
}


def more_for(name, rows=slice(None)):
    """What a model takes after its source and lengths."""
    return (TARGET[rows],) if name in DECODERS else ()


def scored(model, params, source, lengths, more):
    """A loss, and the outputs; those of a tagger past lengths do not count."""
    outputs = model.apply(params, source, lengths, *more)
    if isinstance(model, Tagger) and lengths is not None:
        real = np.arange(source.shape[1], dtype=np.int32)[None] < lengths[:, None]
        outputs = jnp.where(real[:, :, None], outputs, 0.0)
    return sum(jnp.sin(leaf).sum() for leaf in jax.tree.leaves(outputs)), outputs


@functools.cache
def case(name):
    """A model, its params, and its loss, outputs and gradient; compiled once for all tests."""
    make, source = CASES[name]
    model = make()
    params = drawn(model, source, LENGTHS, *more_for(name))

    @jit
    def run(params, source):
        graded = jax.value_and_grad(scored, argnums=1, has_aux=True)
        return graded(model, params, source, LENGTHS, more_for(name))

    return model, params, jnp.asarray(source), run


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", CASES)
def test_what_padding_holds_changes_no_bit_of_outputs_or_gradients(name):
    _, params, source, run = case(name)
    padding = IS_PADDING.reshape(IS_PADDING.shape + (1,) * (source.ndim - 2))
    contents = (0, 5, -3) if source.dtype == jnp.int32 else (0.0, 1e6, np.nan)
    results = [
        jax.tree.leaves(run(params, jnp.where(padding, jnp.asarray(content, source.dtype), source)))
        for content in contents
    ]
    assert all(np.isfinite(leaf).all() for leaf in results[0])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", CASES)
def test_a_row_is_computed_as_if_alone_and_unpadded(name):
    model, params, source, run = case(name)
    (_, together), _ = run(params, source)
    b, n = 1, 3
    assert LENGTHS[b] == n < TIME
    _, alone = jit(functools.partial(scored, model))(
        params, source[b : b + 1, :n], None, more_for(name, slice(b, b + 1))
    )
    for a, whole in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
        cut = tuple(slice(size) for size in a.shape[1:])
        np.testing.assert_allclose(whole[b][cut], a[0], rtol=0, atol=1e-13)
        rest = np.array(whole[b])
        rest[cut] = 0
        np.testing.assert_array_equal(rest, 0)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", CASES)
def test_every_parameter_has_a_gradient_that_finite_differences_confirm(name):
    _, params, source, run = case(name)
    _, gradient = run(params, source)
    rng = np.random.default_rng(5)
    flat, tree = jax.tree.flatten(params)
    size = 1e-6
    for n, leaf in enumerate(jax.tree.leaves(gradient)):
        along = rng.normal(size=leaf.shape)

        def at(step, n=n, along=along):
            moved = [*flat[:n], flat[n] + step * along, *flat[n + 1 :]]
            return run(jax.tree.unflatten(tree, moved), source)[0][0]

        difference = (at(size) - at(-size)) / (2 * size)
        np.testing.assert_allclose(np.vdot(leaf, along), difference, rtol=1e-5, atol=1e-7)
        assert np.abs(leaf).max() > 1e-9


@pytest.mark.parametrize("name", DECODERS)
def test_no_step_of_a_decoder_sees_a_later_symbol(name):
    model = one_to_many(name)
    grid = jnp.asarray(np.random.default_rng(4).normal(size=(BATCH, 3, UNITS)), jnp.float32)
    params = drawn(model, grid, TARGET)
    apply = jit(model.apply)
    logits, _ = apply(params, grid, TARGET)
    other = TARGET.at[:, 2:].set((TARGET[:, 2:] + 1) % TARGET_SYMBOLS)
    changed, _ = apply(params, grid, other)
    np.testing.assert_array_equal(logits[:, :2], changed[:, :2])
    assert (np.abs(logits[:, 2:] - changed[:, 2:]).max(axis=(1, 2)) > 1e-3).all()


# Every cell, every wiring


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_trains_in_every_wiring(cell):
    """Shapes of a gradient step, one layer each; MUT1 and MUT2 need x as wide as h."""
    cell = CELLS[cell]

    def written(name, width):
        decoder = ConditionedDecoder(DECODERS[name](cell, UNITS, 1), TARGET_SYMBOLS, width)
        # One that attends by its input reads symbol and context side by side: together H.
        encoder = stack(cell, UNITS - width or UNITS, 1)
        return EncoderDecoder(FrameEmbedding(UNITS - width or UNITS), encoder, decoder)

    layers, frames = bidirectional_stack(cell, UNITS, 1), jnp.asarray(FRAMES, jnp.float32)
    cases = [
        (Classifier(SymbolEmbedding(SOURCE_SYMBOLS, UNITS), layers, CLASSES), SOURCE, ()),
        (Tagger(FrameEmbedding(UNITS), stack(cell, UNITS, 1), CLASSES), frames, ()),
        (written("luong_dot", UNITS), frames, (TARGET,)),
        (written("bahdanau", UNITS // 2), frames, (TARGET,)),
    ]
    for model, source, more in cases:
        shapes = jax.eval_shape(model.init, jax.random.key(0), source, LENGTHS, *more)

        def loss(params, model=model, source=source, more=more):
            return scored(model, params, source, LENGTHS, more)[0]

        assert jax.eval_shape(jax.grad(loss), shapes) == shapes


# Dropout


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["classifier by mean", "tagger", "bahdanau"])
def test_dropout_of_rate_zero_is_none_and_the_rate_is_a_value(name):
    model, params, source, plain = case(name)

    @jit
    def run(rate):
        rngs = {"dropout": jax.random.key(3)}
        more = more_for(name)
        return jax.tree.leaves(model.apply(params, source, LENGTHS, *more, rate, rngs=rngs))[0]

    expected = jax.tree.leaves(plain(params, source)[0][1])[0]
    ours = run(0.0)
    if name == "tagger":
        ours = np.where(IS_PADDING[:, :, None], 0, ours)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-13)
    assert (np.asarray(run(0.5)) != np.asarray(run(0.4))).any()
    assert run._cache_size() == 1


# Learning


@pytest.mark.parametrize("name", ["no_attention", "bahdanau"])
def test_it_learns_to_write_twenty_sequences_backwards(name):
    """Symbols 2 to 9; 0 is the end and the padding, 1 the start."""
    rng = np.random.default_rng(0)
    lengths = jnp.asarray(rng.integers(2, 6, size=20), jnp.int32)
    real = np.arange(5)[None] < np.asarray(lengths)[:, None]
    written = np.where(real, rng.integers(2, 10, size=(20, 5)), 0)
    backwards = np.zeros((20, 6), int)
    for row, n in enumerate(lengths.tolist()):
        backwards[row, :n] = written[row, :n][::-1]
    source, target = jnp.asarray(written, jnp.int32), jnp.asarray(backwards, jnp.int32)
    given = jnp.pad(target[:, :-1], ((0, 0), (1, 0)), constant_values=1)
    where = np.arange(6)[None] <= np.asarray(lengths)[:, None]
    model = EncoderDecoder(
        SymbolEmbedding(10, 16),
        bidirectional_stack(CELLS["gru"], 16, 1),
        ConditionedDecoder(DECODERS[name](CELLS["gru"], 32, 1), 10, 16),
    )
    optimiser = optax.adam(0.02)

    @jit
    def learn(key):
        params = model.init(key, source, lengths, given)

        def loss(params):
            logits, _ = model.apply(params, source, lengths, given)
            nll = optax.softmax_cross_entropy_with_integer_labels(logits, target)
            return jnp.where(where, nll, 0.0).mean()

        def update(state, _):
            params, moments = state
            value, gradient = jax.value_and_grad(loss)(params)
            with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer
                updates, moments = optimiser.update(gradient, moments)
            return (optax.apply_updates(params, updates), moments), value

        (params, _), losses = jax.lax.scan(update, (params, optimiser.init(params)), length=150)
        return params, losses

    params, losses = learn(jax.random.key(0))
    assert losses[0] > 1.5
    assert losses[-1] < 0.1

    @jit
    def write(params):
        memory, carry = model.apply(params, source, lengths, method="encode")
        step = functools.partial(model.apply, params, memory, method="step")
        return decoding.greedy(step, carry, jnp.ones(20, jnp.int32), end=0, max_length=6)

    written = write(params)
    np.testing.assert_array_equal(written.lengths, np.asarray(lengths) + 1)
    np.testing.assert_array_equal(written.symbols, target)
    if name == "bahdanau":
        looks = np.asarray(written.beside)
        assert looks.shape == (20, 6, 5)
        np.testing.assert_allclose(looks.sum(axis=2), where, rtol=0, atol=1e-6)
