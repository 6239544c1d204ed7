"""Attention: what a decoder reads of a memory, as pure functions of params.

An attention scores each place s of a memory against a query, and reads the weighted mean:

    e_s = score(query, memory_s)
    α   = softmax(e), over the real places alone
    c   = Σ_s α_s memory_s

Shapes, beside B, T and H:

    S  places of the memory: steps of a source, or the L cells of an image's grid
    M  columns of the memory
    Q  columns of the query
    A  columns of the keys

To add a score, write one `Attention` and one line in `ATTENTIONS`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import sigmoid
from jax.numpy import tanh
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from seqlab.cells import symbols
from seqlab.cells.base import Params
from seqlab.errors import InputError
from seqlab.models.rnn import real_steps


class Memory(NamedTuple):
    """What is attended to.

    Attributes:
        values: [B, S, M].
        keys: [B, S, A], what a score needs of the values.
        lengths: [B], how many leading places of each row are real; None means all S.
    """

    values: Array
    keys: Array
    lengths: Array | None


class Attention(NamedTuple):
    """A way to attend: pure functions that know nothing of time.

    Attributes:
        init: (key, query_dim, memory_dim) -> params, a flat dict keyed by the equation's symbols.
        keys: (params, values [B, S, M]) -> keys [B, S, A], all that does not depend on a query.
        attend: (params, query [B, Q], memory) -> (context [B, M], weights [B, S]).
    """

    init: Callable[[PRNGKeyArray, int, int], Params]
    keys: Callable[[Params, Array], Array]
    attend: Callable[[Params, Array, Memory], tuple[Array, Array]]

    def remember(
        self, params: Params, values: Float[Array, "B S M"], lengths: Int[Array, " B"] | None
    ) -> Memory:
        """The memory of some values; what they hold past lengths (even NaN) has no effect."""
        if lengths is not None:
            values = jnp.where(real_steps(lengths, values.shape[1])[:, :, None], values, 0.0)
        return Memory(values, self.keys(params, values), lengths)


def masked_softmax(
    scores: Float[Array, "B S"], lengths: Int[Array, " B"] | None
) -> Float[Array, "B S"]:
    """softmax over the first lengths[b] scores of each row; 0 past them.

    A row of length 0 is 0 everywhere.
    """
    if lengths is None:
        return jax.nn.softmax(scores)
    real = real_steps(lengths, scores.shape[1])
    # Not -inf, which would give NaN for a row of length 0.
    lowest = jnp.finfo(scores.dtype).min
    return jnp.where(real, jax.nn.softmax(jnp.where(real, scores, lowest)), 0.0)


def _read(scores: Array, memory: Memory) -> tuple[Array, Array]:
    weights = masked_softmax(scores, memory.lengths)
    return jnp.einsum("bs,bsm->bm", weights, memory.values), weights


# Each is its equation.


def _keys(params: Params, values: Float[Array, "B S M"]) -> Float[Array, "B S A"]:
    """u_s = memory_s W_m"""
    return values @ params["w_m"]


def _additive(
    params: Params, query: Float[Array, "B Q"], memory: Memory
) -> tuple[Float[Array, "B M"], Float[Array, "B S"]]:
    """e_s = v · tanh(q W_q + u_s)"""
    p = symbols(params)
    scores = tanh((query @ p.w_q)[:, None, :] + memory.keys) @ params["v"]
    return _read(scores, memory)


def _gated_additive(
    params: Params, query: Float[Array, "B Q"], memory: Memory
) -> tuple[Float[Array, "B M"], Float[Array, "B S"]]:
    """c = β Σ_s α_s memory_s,  β = σ(q · w_β + b_β)"""
    context, weights = _additive(params, query, memory)
    gate = sigmoid(query @ params["w_beta"][:, None] + params["b_beta"][None])
    return gate * context, weights


def _same_keys(params: Params, values: Float[Array, "B S M"]) -> Float[Array, "B S M"]:
    """u_s = memory_s"""
    return values


def _dot(
    params: Params, query: Float[Array, "B A"], memory: Memory
) -> tuple[Float[Array, "B M"], Float[Array, "B S"]]:
    """e_s = q · u_s"""
    return _read(jnp.einsum("ba,bsa->bs", query, memory.keys), memory)


# The params, each drawn from U[-1/√n, 1/√n] with fan-in n; biases are 0.


def _drawn(key: PRNGKeyArray, **shapes: tuple[int, ...]) -> Params:
    keys = jax.random.split(key, len(shapes))
    params = {}
    for key, (name, shape) in zip(keys, shapes.items(), strict=True):
        bound = 1 / math.sqrt(shape[0])
        params[name] = jax.random.uniform(key, shape, minval=-bound, maxval=bound)
    return params


def _additive_init(key: PRNGKeyArray, query_dim: int, memory_dim: int) -> Params:
    return _drawn(key, w_q=(query_dim, query_dim), w_m=(memory_dim, query_dim), v=(query_dim,))


def _gated_additive_init(key: PRNGKeyArray, query_dim: int, memory_dim: int) -> Params:
    scores, gate = jax.random.split(key)
    params = _additive_init(scores, query_dim, memory_dim)
    return params | _drawn(gate, w_beta=(query_dim,)) | {"b_beta": jnp.zeros(1)}


def _general_init(key: PRNGKeyArray, query_dim: int, memory_dim: int) -> Params:
    return _drawn(key, w_m=(memory_dim, query_dim))


def _dot_init(key: PRNGKeyArray, query_dim: int, memory_dim: int) -> Params:
    if query_dim != memory_dim:
        raise InputError(
            f"dot attention needs a query as wide as the memory, got {query_dim} and {memory_dim}: "
            "general attention has a matrix between them"
        )
    return {}


additive = Attention(_additive_init, _keys, _additive)
"""e_s = v · tanh(q W_q + memory_s W_m). Source: Bahdanau et al. 2015, appendix A.1.2."""

gated_additive = Attention(_gated_additive_init, _keys, _gated_additive)
"""Additive, and c = σ(q · w_β + b_β) Σ_s α_s memory_s. Source: Xu et al. 2015, section 4.2.1."""

dot = Attention(_dot_init, _same_keys, _dot)
"""e_s = q · memory_s, for M = Q. Source: Luong et al. 2015, equation 8."""

general = Attention(_general_init, _keys, _dot)
"""e_s = q · memory_s W_m. Source: Luong et al. 2015, equation 8."""

ATTENTIONS: dict[str, Attention] = {
    "additive": additive,
    "gated_additive": gated_additive,
    "dot": dot,
    "general": general,
}


def doubly_stochastic(
    weights: Float[Array, "B T S"], where: Bool[Array, "B T"]
) -> Float[Array, " B"]:
    """Σ_s (1 - Σ_t α_ts)²: over a whole caption, each place is looked at about once.

    Source: Xu et al. 2015, equation 14, of which this is the second term without its λ.

    Args:
        weights: α.
        where: which words are real; the others do not count as looks.
    """
    looks = jnp.where(where[:, :, None], weights, 0.0).sum(axis=1)
    return jnp.square(1.0 - looks).sum(axis=-1)
