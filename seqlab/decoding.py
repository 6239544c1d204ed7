"""Decoding, symbol by symbol: greedy, by sampling, by beam search.

A network is one function of a carry and the symbols that were last written:

    step(carry, symbols [N]) -> (carry, logits [N, V], beside)

Log-probabilities are logits, too. `beside` is any tree of arrays [N, ...] that belongs to the
symbol written next, such as the weights of an attention; None where there is nothing. Every leaf of
the carry has the axis N first.

The shapes of a result are fixed by `max_length`, L; the loop ends when every row has ended. All are
pure functions to be called under `jax.jit`. `sample_frames` draws frames of notes instead.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

Step: TypeAlias = Callable[[Any, Array], tuple[Any, Array, Any]]


class Written(NamedTuple):
    """What was written.

    Attributes:
        symbols: [B, L], the end symbol with them; 0 past `lengths`.
        lengths: [B], how many symbols there are, n. A row that did not end has L.
        log_probs: [B], Σ_t log p(symbol_t | symbols before it), by the network.
        beside: what the steps returned beside, [B, L, ...]; 0 past `lengths`.
    """

    symbols: Int[Array, "B L"]
    lengths: Int[Array, " B"]
    log_probs: Float[Array, " B"]
    beside: Any


def greedy(
    step: Step, carry: Any, first: Int[Array, " B"], *, end: int | None, max_length: int
) -> Written:
    """Write the most probable symbol, again and again.

    Args:
        step: see above.
        carry: before `first`.
        first: what each row begins with, which is not part of what is written.
        end: the symbol that ends a row; None: none does.
        max_length: L.
    """

    def most_probable(t: Array, log_probs: Array) -> Array:
        return log_probs.argmax(axis=-1)

    return _write(step, carry, first, end, max_length, most_probable)


def sample(
    key: PRNGKeyArray,
    step: Step,
    carry: Any,
    first: Int[Array, " B"],
    *,
    end: int | None,
    max_length: int,
    temperature: Array | float = 1.0,
    top_k: int | None = None,
) -> Written:
    """Draw each symbol from softmax(logits / temperature).

    Args:
        key: of the draws; that of step t is folded from it.
        step, carry, first, end, max_length: see `greedy`.
        temperature: a value of the program. At 0 the most probable symbol is drawn.
        top_k: draw from the k most probable symbols alone.
    """
    # At 0: of (log_probs - highest) / tiny, all but the highest are -∞.
    tiny = jnp.finfo(jnp.float32).tiny

    def drawn(t: Array, log_probs: Array) -> Array:
        now = jax.random.fold_in(key, t)
        if top_k is None:
            scores = log_probs - log_probs.max(axis=-1, keepdims=True)
            return jax.random.categorical(now, scores / jnp.maximum(temperature, tiny))
        values, symbols = lax.top_k(log_probs, top_k)
        chosen = jax.random.categorical(
            now, (values - values[:, :1]) / jnp.maximum(temperature, tiny)
        )
        return jnp.take_along_axis(symbols, chosen[:, None], axis=-1)[:, 0]

    return _write(step, carry, first, end, max_length, drawn)


def sample_frames(
    key: PRNGKeyArray,
    step: Callable[[Any, Array], tuple[Any, Array]],
    carry: Any,
    first: UInt8[Array, "B C"],
    *,
    length: int,
    temperature: Array | float = 1.0,
) -> UInt8[Array, "B L C"]:
    """Draw each channel of a frame from σ(logit / temperature), frame by frame.

    Args:
        key: of the draws; that of step t is folded from it.
        step: (carry, frames [N, C]) -> (carry, logits [N, C]).
        carry: before `first`.
        first: what each row begins with, which is not part of what is drawn.
        length: L.
        temperature: a value of the program. At 0 a channel is 1 where that is more probable.
    """
    tiny = jnp.finfo(jnp.float32).tiny

    def drawn(state: tuple[Any, Array], t: Array) -> tuple[tuple[Any, Array], Array]:
        carry, logits = step(*state)
        # u < σ(logit / τ) where τ log(u / (1 - u)) < logit: nothing is divided by 0.
        u = jax.random.uniform(jax.random.fold_in(key, t), logits.shape, minval=tiny)
        frames = (temperature * jax.scipy.special.logit(u) < logits).astype(first.dtype)
        return (carry, frames), frames

    _, frames = lax.scan(drawn, (carry, first), jnp.arange(length, dtype=jnp.int32))
    return frames.swapaxes(0, 1)


class _Loop(NamedTuple):
    t: Array
    carry: Any
    last: Array  # the symbol that goes in next
    ended: Array
    written: Written


def _write(
    step: Step,
    carry: Any,
    first: Array,
    end: int | None,
    max_length: int,
    choose: Callable[[Array, Array], Array],
) -> Written:
    def body(now: _Loop) -> _Loop:
        carry, logits, beside = step(now.carry, now.last)
        log_probs = jax.nn.log_softmax(logits)
        symbols = choose(now.t, log_probs).astype(first.dtype)
        gained = jnp.take_along_axis(log_probs, symbols[:, None], axis=-1)[:, 0]
        written = Written(
            symbols=_put(now.written.symbols, now.t, symbols, now.ended),
            lengths=now.written.lengths + jnp.where(now.ended, 0, 1),
            log_probs=now.written.log_probs + jnp.where(now.ended, 0.0, gained),
            beside=jax.tree.map(
                lambda stack, value: _put(stack, now.t, value, now.ended),
                now.written.beside,
                beside,
            ),
        )
        ended = now.ended | _ends(symbols, end)
        return _Loop(now.t + 1, carry, symbols, ended, written)

    def goes_on(now: _Loop) -> Array:
        return (now.t < max_length) & ~now.ended.all()

    ended = jnp.zeros(first.shape, bool)
    empty = _empty(step, carry, first, max_length)
    return lax.while_loop(goes_on, body, _Loop(jnp.array(0), carry, first, ended, empty)).written


def beam_search(
    step: Step,
    carry: Any,
    first: Int[Array, " B"],
    *,
    width: int,
    alpha: float,
    end: int | None,
    max_length: int,
) -> Written:
    """The best of `width` sequences that are written side by side.

        score = log p / ((5 + n) / 6)^α

    At each step the most probable continuations are kept. A sequence that has ended keeps its
    place, and fewer places are left to the others, as in Sutskever et al. 2014: with one place this
    is `greedy`. In the end the score decides. Source of the score: Wu et al. 2016, equation 14.

    Args:
        step: see above, of rows N = B · width: row b · width + k is place k of row b. What it
            closes over has to be `repeated` to that.
        carry: before `first`, of B rows.
        width: how many places, W.
        alpha: α; 0 compares log p itself, and short sequences win.
        first, end, max_length: see `greedy`.
    """
    batch_size = first.shape[0]
    rows = jnp.arange(batch_size, dtype=jnp.int32)[:, None]
    carry, first = repeated((carry, first), width)

    def body(now: _Loop) -> _Loop:
        carry, logits, beside = step(now.carry, now.last)
        num_symbols = logits.shape[-1]
        # A sequence that has ended has one continuation, itself, ranked before all others.
        itself = jnp.arange(num_symbols)[None, :] == 0
        gained = jnp.where(
            now.ended[:, None], jnp.where(itself, 0.0, -jnp.inf), jax.nn.log_softmax(logits)
        )
        totals = (now.written.log_probs[:, None] + gained).reshape(batch_size, -1)
        stays = (now.ended[:, None] & itself).reshape(batch_size, -1)
        _, best = lax.top_k(jnp.where(stays, jnp.inf, totals), width)

        parents = (rows * width + best // num_symbols).reshape(-1)
        symbols = (best % num_symbols).reshape(-1).astype(first.dtype)
        carry, beside, ended, written = jax.tree.map(
            lambda leaf: leaf[parents], (carry, beside, now.ended, now.written)
        )
        log_probs = jnp.take_along_axis(totals, best, axis=1).reshape(-1)
        written = Written(
            symbols=_put(written.symbols, now.t, symbols, ended),
            lengths=written.lengths + jnp.where(ended, 0, 1),
            log_probs=log_probs,
            beside=jax.tree.map(
                lambda stack, value: _put(stack, now.t, value, ended), written.beside, beside
            ),
        )
        # An empty place (log p = -∞) must not end, or it would keep its place.
        ended |= _ends(symbols, end) & ~jnp.isneginf(log_probs)
        return _Loop(now.t + 1, carry, symbols, ended, written)

    def goes_on(now: _Loop) -> Array:
        there = ~jnp.isneginf(now.written.log_probs)
        return (now.t < max_length) & (there & ~now.ended).any()

    empty = _empty(step, carry, first, max_length)
    # All places of a row would begin alike: all but the first begin empty (log p = -∞).
    is_first = jnp.tile(jnp.arange(width) == 0, batch_size)
    empty = empty._replace(log_probs=jnp.where(is_first, empty.log_probs, -jnp.inf))
    ended = jnp.zeros(first.shape, bool)
    start = _Loop(jnp.array(0), carry, first, ended, empty)
    written = lax.while_loop(goes_on, body, start).written

    lengths = written.lengths.astype(written.log_probs.dtype)
    scores = written.log_probs / ((5 + lengths) / 6) ** alpha
    best = jnp.arange(batch_size) * width + scores.reshape(batch_size, width).argmax(axis=1)
    return jax.tree.map(lambda leaf: leaf[best], written)


def repeated(tree: Any, width: int) -> Any:
    """Each row of every leaf [B, ...] `width` times: [B · width, ...]."""
    return jax.tree.map(lambda leaf: jnp.repeat(leaf, width, axis=0), tree)


def _empty(step: Step, carry: Any, first: Array, max_length: int) -> Written:
    _, logits, beside = jax.eval_shape(step, carry, first)
    size = first.shape[0]
    return Written(
        symbols=jnp.zeros((size, max_length), first.dtype),
        lengths=jnp.zeros(size, jnp.int32),
        log_probs=jnp.zeros(size, logits.dtype),
        beside=jax.tree.map(
            lambda leaf: jnp.zeros((size, max_length, *leaf.shape[1:]), leaf.dtype), beside
        ),
    )


def _put(stack: Array, t: Array, values: Array, ended: Array) -> Array:
    """values [N, ...] at step t of a stack [N, L, ...], in the rows that have not ended."""
    ended = ended.reshape(ended.shape + (1,) * (values.ndim - 1))
    return stack.at[:, t].set(jnp.where(ended, stack[:, t], values))


def _ends(symbols: Array, end: int | None) -> Array:
    return jnp.zeros(symbols.shape, bool) if end is None else symbols == end
