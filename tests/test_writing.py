"""What is written of many sources is what is written of each alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab import decoding, writing
from seqlab.cells import CELLS
from seqlab.data.examples import BEGIN, END, UNKNOWN, Examples, Ragged
from seqlab.models.decoders import DECODERS
from seqlab.models.rnn import bidirectional_stack
from seqlab.models.seq2seq import ConditionedDecoder, EncoderDecoder
from seqlab.models.sequence import SymbolEmbedding
from seqlab.writing import Marks, Search

SYMBOLS, CLASSES, UNITS = 7, 6, 4
MARKS = Marks(begin=1, end=2, unknown=0)
SEARCH = Search(width=3, alpha=0.6, max_length=9)


def translator(attention: str) -> EncoderDecoder:
    writer = DECODERS[attention](CELLS["gru"], UNITS, 1)
    return EncoderDecoder(
        SymbolEmbedding(SYMBOLS, UNITS),
        bidirectional_stack(CELLS["gru"], UNITS, 1),
        ConditionedDecoder(writer, CLASSES, UNITS),
    )


def drawn(model: EncoderDecoder):
    """Params that write sequences of several lengths."""
    one = jnp.zeros((1, 1), jnp.int32)
    params = model.init(jax.random.key(3), one, jnp.ones(1, jnp.int32), one)
    params = jax.tree.map(lambda p: 6 * p, params)
    head = params["params"]["decoder"]["head"]
    head["bias"] = head["bias"].at[MARKS.end].add(-3.0)  # else most would end at once
    return params


@pytest.mark.parametrize("attention", ["no_attention", "luong_general"])
def test_each_source_is_written_as_if_it_were_alone(attention, monkeypatch):
    monkeypatch.setattr(writing, "BATCH_SIZE", 4)  # so that there are batches
    model, rng = translator(attention), np.random.default_rng(0)
    params = drawn(model)
    lengths = np.array([9, 1, 4, 17, 2, 4], np.int32)
    sources = Ragged(rng.integers(0, SYMBOLS, lengths.sum()).astype(np.int32), lengths)
    lines = writing.lines(model, params, sources, MARKS, SEARCH)
    assert len(lines) == len(lengths)
    assert len({tuple(line.symbols) for line in lines}) > 2

    for line, end, length in zip(lines, np.cumsum(lengths), lengths, strict=True):
        source = jnp.asarray(sources.values[end - length : end])[None]
        memory, carry = model.apply(params, source, None, method="encode")
        memory = decoding.repeated(memory, SEARCH.width)

        def step(carry, symbols, memory=memory):
            carry, logits, weights = model.apply(params, memory, carry, symbols, method="step")
            unknown = jnp.arange(logits.shape[-1])[None] == MARKS.unknown
            return carry, jnp.where(unknown, -1e9, logits), weights

        alone = decoding.beam_search(
            step, carry, jnp.array([MARKS.begin]), width=3, alpha=0.6, end=MARKS.end, max_length=9
        )
        symbols = alone.symbols[0, : alone.lengths[0]].tolist()
        ends = bool(symbols) and symbols[-1] == MARKS.end
        assert line.symbols == (symbols[:-1] if ends else symbols)
        if attention == "no_attention":
            assert line.weights is None
        else:
            assert line.weights.shape == (len(line.symbols), length)
            expected = alone.beside[0, : len(line.symbols)]
            np.testing.assert_allclose(line.weights, expected, atol=1e-5)
            np.testing.assert_allclose(line.weights.sum(axis=1), 1, atol=1e-5)


def test_every_target_gets_its_mark():
    targets = Ragged(np.array([3, 4, 5], np.int32), np.array([2, 0, 1], np.int32))
    inputs = Ragged(np.array([0, 0, 0], np.int32), np.array([1, 1, 1], np.int32))
    ended = writing.ended(Examples(inputs, targets), end=9)
    assert ended.targets.values.tolist() == [3, 4, 9, 9, 5, 9]
    assert ended.targets.lengths.tolist() == [3, 1, 2]
    assert ended.inputs is inputs


def test_marks_are_found_by_their_names():
    assert writing.marks((UNKNOWN, BEGIN, END, "a")) == Marks(begin=1, end=2, unknown=0)
