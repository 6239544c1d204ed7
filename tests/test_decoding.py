"""Greedy, sampled and beam search writing, against enumeration and a search in plain Python."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from seqlab import decoding
from seqlab.cells import CELLS
from seqlab.models.rnn import stack
from seqlab.models.sequence import LanguageModel

# What is tested is the program, not the optimiser of the compiler: this halves the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

V, L, H, END = 3, 4, 5, 0
rng = np.random.default_rng(1523)  # α, the width, and that what ended keeps its place, all matter
EMBEDDING, RECURRENT, HEAD = (rng.normal(size=s) for s in ((V, H), (H, H), (H, V)))
CARRY = rng.normal(size=(4, H))  # four rows that write differently
FIRST = np.array([1, 2, 0, 1])


def step(carry, symbols):
    """h' = tanh(h W + E[symbol]); beside is h'."""
    embedding, recurrent, head = (
        jnp.asarray(weights, carry.dtype) for weights in (EMBEDDING, RECURRENT, HEAD)
    )
    h = jnp.tanh(carry @ recurrent + embedding[symbols])
    return h, h @ head, {"h": h}


def numpy_step(h, symbol):
    h = np.tanh(h @ RECURRENT + EMBEDDING[symbol])
    logits = h @ HEAD
    return h, logits - np.log(np.exp(logits).sum())


def log_prob(row, symbols):
    """Of a sequence, and the state before each of its symbols."""
    h, last, total, states = CARRY[row], FIRST[row], 0.0, []
    for symbol in symbols:
        h, log_probs = numpy_step(h, last)
        states.append(h)
        total, last = total + log_probs[symbol], symbol
    return total, np.stack(states)


def every_sequence():
    """All that can be written: with the end symbol last and nowhere else, or of length L."""
    for n in range(1, L + 1):
        for symbols in itertools.product(range(V), repeat=n):
            if END not in symbols[:-1] and (n == L or symbols[-1] == END):
                yield symbols


def normalised(log_p, n, alpha):
    return log_p / ((5 + n) / 6) ** alpha


def python_beam(row, width, alpha):
    """Lists of (log p, symbols, h, ended); an ended one keeps its place."""
    beam = [(0.0, (), CARRY[row], False)]
    for _ in range(L):
        ended = [entry for entry in beam if entry[3]]
        grown = []
        for log_p, symbols, h, has_ended in beam:
            if has_ended:
                continue
            h, log_probs = numpy_step(h, symbols[-1] if symbols else FIRST[row])
            grown += [(log_p + log_probs[s], (*symbols, s), h, s == END) for s in range(V)]
        grown.sort(key=lambda entry: -entry[0])
        beam = ended + grown[: width - len(ended)]
    return max(beam, key=lambda entry: normalised(entry[0], len(entry[1]), alpha))[1]


def python_greedy(row):
    symbols = []
    while len(symbols) < L and END not in symbols:
        _, log_probs = numpy_step(
            log_prob(row, symbols)[1][-1] if symbols else CARRY[row],
            symbols[-1] if symbols else FIRST[row],
        )
        symbols.append(int(log_probs.argmax()))
    return tuple(symbols)


def assert_written(written, expected):
    """Symbols, lengths, probabilities and states are those of the expected sequences."""
    for row, symbols in enumerate(expected):
        n = len(symbols)
        assert tuple(written.symbols[row].tolist()) == (*symbols, *[0] * (L - n))
        assert written.lengths[row] == n
        log_p, states = log_prob(row, symbols)
        np.testing.assert_allclose(written.log_probs[row], log_p, rtol=0, atol=1e-12)
        np.testing.assert_allclose(written.beside["h"][row, :n], states, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(written.beside["h"][row, n:], 0)


def written_by(search, rows=slice(None), **options):
    run = jit(functools.partial(search, step, end=END, max_length=L, **options))
    return run(jnp.asarray(CARRY[rows]), jnp.asarray(FIRST[rows]))


def beam(width, alpha, rows=slice(None)):
    return written_by(decoding.beam_search, rows, width=width, alpha=alpha)


@pytest.mark.usefixtures("float64")
def test_greedy_writes_the_most_probable_symbol_until_the_end():
    expected = [python_greedy(row) for row in range(4)]
    assert {len(symbols) for symbols in expected} >= {1, L}
    assert_written(written_by(decoding.greedy), expected)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("width", "alpha"), [(V**L, 0.0), (V**L, 0.6), (V**L, 2.0), (31, 2.0)])
def test_beam_of_all_sequences_is_exhaustive_search(width, alpha):
    assert width >= len(list(every_sequence())) == 31

    def best(row):
        return max(every_sequence(), key=lambda s: normalised(log_prob(row, s)[0], len(s), alpha))

    assert_written(beam(width, alpha), [best(row) for row in range(4)])


def test_alpha_and_width_make_a_difference():
    """Else the tests around this one could not fail for them."""
    best = {
        alpha: [
            max(every_sequence(), key=lambda s: normalised(log_prob(row, s)[0], len(s), alpha))
            for row in range(4)
        ]
        for alpha in (0.0, 0.6, 2.0)
    }
    assert best[0.0] != best[0.6] != best[2.0]
    beams = {width: [python_beam(row, width, 1.0) for row in range(4)] for width in (1, 2, 3, 4)}
    assert beams[1] != beams[2] != beams[3] != beams[4]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_beam_is_that_of_plain_python(width, alpha):
    assert_written(beam(width, alpha), [python_beam(row, width, alpha) for row in range(4)])


@pytest.mark.usefixtures("float64")
def test_beam_of_one_is_greedy():
    greedy = written_by(decoding.greedy)
    for ours, theirs in zip(jax.tree.leaves(beam(1, 0.7)), jax.tree.leaves(greedy), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("search", ["greedy", "beam"])
def test_a_row_is_written_as_if_alone(search):
    write = functools.partial(written_by, decoding.greedy)
    if search == "beam":
        write = functools.partial(beam, 3, 0.6)
    together, alone = write(), write(rows=slice(3, 4))
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a[3], b[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("search", ["greedy", "beam"])
def test_the_loop_ends_when_every_row_has_ended(search):
    """Row r can only write END, and only after r + 1 other symbols."""
    calls = []

    def counted(carry, symbols):
        jax.debug.callback(lambda: calls.append(1))
        ends = carry == 0
        logits = jnp.where(
            ends[:, None], jnp.array([[0.0, -jnp.inf]]), jnp.array([[-jnp.inf, 0.0]])
        )
        return carry - 1, logits, None

    options = {"end": 0, "max_length": 50}
    if search == "beam":
        options |= {"width": 3, "alpha": 1.0}
    write = decoding.beam_search if search == "beam" else decoding.greedy
    run = jit(functools.partial(write, counted, **options))
    written = run(jnp.arange(3) + 1, jnp.ones(3, jnp.int32))
    jax.effects_barrier()
    assert written.lengths.tolist() == [2, 3, 4]
    assert len(calls) == 4
    assert written.beside is None


def test_nothing_ends_without_an_end_symbol():
    write = jit(functools.partial(decoding.greedy, step, end=None, max_length=6))
    written = write(jnp.asarray(CARRY, jnp.float32), jnp.asarray(FIRST))
    assert written.lengths.tolist() == [6] * 4
    assert END in written.symbols.tolist()[0] + written.symbols.tolist()[1]


# Sampling


ROWS = 20_000


def drawn_by(temperature=1.0, top_k=None, key=0, row=3):
    carry = jnp.broadcast_to(jnp.asarray(CARRY[row], jnp.float32), (ROWS, H))
    first = jnp.full(ROWS, FIRST[row])

    @jit
    def run(key, temperature):
        return decoding.sample(
            key, step, carry, first, end=None, max_length=2, temperature=temperature,
            top_k=top_k,
        )  # fmt: skip

    return run(jax.random.key(key), temperature)


def tempered(log_probs, temperature, top_k):
    """The distribution that is drawn from."""
    kept = np.argsort(-log_probs)[: top_k or V]
    weights = np.zeros(V)
    weights[kept] = np.exp(log_probs[kept] / temperature)
    return weights / weights.sum()


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, None), (0.6, None), (2.5, 2)])
def test_pairs_of_symbols_are_drawn_as_often_as_they_are_probable(temperature, top_k):
    """χ² of V² cells; a true sampler exceeds the bound once in ten thousand seeds."""
    written = drawn_by(temperature, top_k)
    h, log_probs = numpy_step(CARRY[3], FIRST[3])
    expected = np.stack([
        probability * tempered(numpy_step(h, symbol)[1], temperature, top_k)
        for symbol, probability in enumerate(tempered(log_probs, temperature, top_k))
    ])  # fmt: skip
    found = np.zeros((V, V))
    np.add.at(found, tuple(np.asarray(written.symbols).T), 1)
    possible = expected > 0
    assert not found[~possible].any()
    statistic = ((found - ROWS * expected)[possible] ** 2 / (ROWS * expected[possible])).sum()
    assert statistic < stats.chi2.ppf(1 - 1e-4, possible.sum() - 1)


def test_log_probs_are_those_of_the_network_at_any_temperature():
    written = drawn_by(temperature=3.0)
    for n in range(20):
        expected, _ = log_prob(3, written.symbols[n].tolist())
        np.testing.assert_allclose(written.log_probs[n], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 1e-6])
@pytest.mark.parametrize("top_k", [None, 2])
def test_without_temperature_sampling_is_greedy(temperature, top_k):
    written = drawn_by(temperature, top_k)
    greedy = decoding.greedy(
        step, jnp.asarray(CARRY[3:], jnp.float32), jnp.asarray(FIRST[3:]), end=None,
        max_length=2,
    )  # fmt: skip
    assert (written.symbols == greedy.symbols).all()


def test_draws_depend_on_the_key_alone():
    again, other = drawn_by(key=0), drawn_by(key=1)
    np.testing.assert_array_equal(drawn_by(key=0).symbols, again.symbols)
    assert (again.symbols != other.symbols).any()


# A network


def test_language_model_writes_what_it_finds_most_probable():
    """`step` by `step` it says what it says of the whole sequence at once."""
    model = LanguageModel(stack(CELLS["lstm"], 4, 1), 6, 4)
    params = jit(model.init)(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    params = jax.tree.map(lambda leaf: 4 * leaf, params)
    first = jnp.array([1, 5])

    @jit
    def run(params):
        step = functools.partial(model.apply, params, method="step")
        return decoding.greedy(step, model.initial_carry(2), first, end=None, max_length=7)

    written = run(params)
    given = jnp.concatenate([first[:, None], written.symbols[:, :-1]], axis=1)
    _, logits = jit(model.apply)(params, given)
    np.testing.assert_array_equal(written.symbols, logits.argmax(axis=-1))
    log_probs = jax.nn.log_softmax(logits).max(axis=-1).sum(axis=1)
    np.testing.assert_allclose(written.log_probs, log_probs, rtol=0, atol=1e-4)
