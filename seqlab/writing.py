"""Beam search over many sources or pictures, in batches."""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt8

from seqlab import decoding
from seqlab.data.examples import BEGIN, END, UNKNOWN, Examples, Ragged
from seqlab.decoding import Written
from seqlab.errors import InputError
from seqlab.models.seq2seq import EncoderDecoder
from seqlab.models.vision import Captioner

BATCH_SIZE = 100
STEP = 8  # lengths of sources are padded to a multiple of it: a program is compiled for each


class Marks(NamedTuple):
    """The numbers of the special symbols: the beginning, the end, and one that is never written.

    References have <unk> for rare words: a network that wrote it there would score undeservedly.
    """

    begin: int
    end: int
    unknown: int


@dataclass(frozen=True)
class Search:
    """The settings of `decoding.beam_search`; of width 1 it is greedy."""

    width: int = 5
    alpha: float = 0.6
    max_length: int = 60


def check(search: Search) -> None:
    """Raise InputError for a search that cannot be run."""
    for name in ("width", "max_length"):
        if getattr(search, name) < 1:
            raise InputError(f"search.{name} must be above 0, not {getattr(search, name)}")


class Line(NamedTuple):
    """One written sequence.

    Attributes:
        symbols: n of them, without the mark at the end.
        weights: [n, S], how each looked at the source; None without attention.
    """

    symbols: list[int]
    weights: np.ndarray | None


def marks(classes: tuple[str, ...]) -> Marks:
    return Marks(*map(classes.index, (BEGIN, END, UNKNOWN)))


def ended(examples: Examples, end: int) -> Examples:
    """Each target with the mark at its end, as a decoder is to write it."""
    assert isinstance(examples.targets, Ragged)
    values, lengths = examples.targets
    values = np.insert(values, np.cumsum(lengths), end)
    return examples._replace(targets=Ragged(values, lengths + 1))


@functools.partial(jax.jit, static_argnames=("model", "marks", "search"))
def write(
    model: EncoderDecoder | Captioner,
    params: Any,
    given: tuple[Array, ...],
    marks: Marks,
    search: Search,
) -> Written:
    """The best of each row that beam search finds.

    Args:
        model: what writes.
        params: of it.
        given: what it encodes: source [B, S] and lengths [B], or pictures [B, H, W, 3].
        marks: of the beginning and the end.
        search: how wide, how long.
    """
    memory, carry = model.apply(params, *given, method="encode")
    memory = decoding.repeated(memory, search.width)
    step_of_model: Any = functools.partial(model.apply, params, memory, method="step")

    def step(carry: Any, symbols: Array) -> tuple[Any, Array, Any]:
        carry, logits, weights = step_of_model(carry, symbols)
        return carry, logits.at[:, marks.unknown].set(-jnp.inf), weights

    return decoding.beam_search(
        step,
        carry,
        jnp.full(given[0].shape[0], marks.begin, jnp.int32),
        width=search.width,
        alpha=search.alpha,
        end=marks.end,
        max_length=search.max_length,
    )


def lines(
    model: EncoderDecoder, params: Any, sources: Ragged, marks: Marks, search: Search
) -> list[Line]:
    """What is written of each source, in their order, in batches of similar length."""
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
        given = jnp.asarray(padded), jnp.asarray(lengths)
        written = jax.tree.map(np.asarray, write(model, params, given, marks, search))
        for place, row in enumerate(rows):
            found[int(row)] = _line(written, place, int(sources.lengths[row]), marks.end)
    return [found[row] for row in range(len(order))]


def captions(
    model: Captioner,
    params: Any,
    pictures: UInt8[np.ndarray, "N H W 3"],
    marks: Marks,
    search: Search,
) -> list[Line]:
    """What is written of each picture, in their order."""
    found = []
    batch_size = min(BATCH_SIZE, len(pictures))
    for first in range(0, len(pictures), BATCH_SIZE):
        some = pictures[first : first + BATCH_SIZE]
        batch = np.zeros((batch_size, *pictures.shape[1:]), np.uint8)
        batch[: len(some)] = some
        written = write(model, params, (jnp.asarray(batch),), marks, search)
        written = jax.tree.map(np.asarray, written)
        found += [_line(written, place, None, marks.end) for place in range(len(some))]
    return found


def _line(written: Written, place: int, size: int | None, end: int) -> Line:
    """A row of a batch; `size` places of the source are real."""
    symbols = written.symbols[place, : written.lengths[place]]
    if len(symbols) and symbols[-1] == end:
        symbols = symbols[:-1]
    weights = written.beside
    if weights is not None:
        weights = weights[place, : len(symbols), :size]
    return Line(symbols.tolist(), weights)
