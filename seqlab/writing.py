"""What an encoder-decoder writes of many sources, by beam search, in batches of similar length."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from seqlab import decoding
from seqlab.data.examples import BEGIN, END, Examples, Ragged
from seqlab.decoding import Written
from seqlab.models.seq2seq import EncoderDecoder

BATCH_SIZE = 100
STEP = 8  # lengths of sources are padded to a multiple of it: a program is compiled for each


class Marks(NamedTuple):
    """The numbers of the symbols that a written sequence begins with and ends in."""

    begin: int
    end: int


class Search(NamedTuple):
    """Of `decoding.beam_search`."""

    width: int = 5
    alpha: float = 0.6
    max_length: int = 60


class Line(NamedTuple):
    """One written sequence.

    Attributes:
        symbols: n of them, without the mark at the end.
        weights: [n, S], how each looked at the source; None without attention.
    """

    symbols: list[int]
    weights: np.ndarray | None


def marks(classes: tuple[str, ...]) -> Marks:
    return Marks(classes.index(BEGIN), classes.index(END))


def ended(examples: Examples, end: int) -> Examples:
    """Each target with the mark at its end, as a decoder is to write it."""
    assert isinstance(examples.targets, Ragged)
    values, lengths = examples.targets
    values = np.insert(values, np.cumsum(lengths), end)
    return examples._replace(targets=Ragged(values, lengths + 1))


@functools.partial(jax.jit, static_argnames=("model", "marks", "search"))
def write(
    model: EncoderDecoder,
    params: Any,
    source: Int[Array, "B S"],
    lengths: Int[Array, " B"],
    marks: Marks,
    search: Search,
) -> Written:
    """The best of each row that beam search finds."""
    memory, carry = model.apply(params, source, lengths, method="encode")
    memory = decoding.repeated(memory, search.width)
    step: Any = functools.partial(model.apply, params, memory, method="step")
    return decoding.beam_search(
        step,
        carry,
        jnp.full(source.shape[0], marks.begin, jnp.int32),
        width=search.width,
        alpha=search.alpha,
        end=marks.end,
        max_length=search.max_length,
    )


def lines(
    model: EncoderDecoder, params: Any, sources: Ragged, marks: Marks, search: Search
) -> list[Line]:
    """What is written of each source, in their order."""
    found: dict[int, Line] = {}
    starts = np.cumsum(sources.lengths) - sources.lengths
    order = np.argsort(sources.lengths, kind="stable")
    for first in range(0, len(order), BATCH_SIZE):
        rows = order[first : first + BATCH_SIZE]
        size = -(-max(int(sources.lengths[rows[-1]]), 1) // STEP) * STEP
        padded = np.zeros((min(BATCH_SIZE, len(order)), size), np.int32)
        lengths = np.ones(len(padded), np.int32)
        for place, row in enumerate(rows):
            length = lengths[place] = sources.lengths[row]
            padded[place, :length] = sources.values[starts[row] : starts[row] + length]
        written = write(model, params, jnp.asarray(padded), jnp.asarray(lengths), marks, search)
        written = jax.tree.map(np.asarray, written)
        for place, row in enumerate(rows):
            symbols = written.symbols[place, : written.lengths[place]]
            if len(symbols) and symbols[-1] == marks.end:
                symbols = symbols[:-1]
            weights = written.beside
            if weights is not None:
                weights = weights[place, : len(symbols), : sources.lengths[row]]
            found[int(row)] = Line(symbols.tolist(), weights)
    return [found[row] for row in range(len(order))]
