"""Decoders: recurrent layers that may attend to a memory as they run.

A decoder takes the embedded symbols xs [B, T, D] and its memory of the source, and returns
(carry, outputs [B, T, O], weights [B, T, S]); weights are None where it does not attend. A decoder
run symbol by symbol, its carry passed on, gives the same as over all T at once.

    decoder                     attends                         outputs
    PlainDecoder                not at all                      y_t
    AttentiveInputDecoder       before each step, by s_{t-1}    y_t
    ShowAttendTellDecoder       before each step, by s_{t-1}    x_t + y_t L_h + c_t L_z
    AttentiveOutputDecoder      after the layers, by y_t        tanh([c_t, y_t] W_c)
"""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from seqlab.cells import Cell
from seqlab.cells.base import Params, takes
from seqlab.models.attention import Attention, Memory, additive, dot, gated_additive, general
from seqlab.models.rnn import Stack, dropout, stack, symmetric_uniform
from seqlab.recurrence import Symbols, plain_unroll, unroll


class PlainDecoder(nn.Module):
    """Layers that see the source only through their initial carry. Source: Sutskever 2014.

    Attributes:
        stack: layers of one direction.
    """

    stack: Stack

    def initial_carry(self, batch_size: int) -> Any:
        return self.stack.initial_carry(batch_size)

    def remember(self, values: Float[Array, "B S M"], lengths: Int[Array, " B"] | None) -> None:
        return None

    def __call__(
        self,
        xs: Float[Array, "B T D"] | Symbols,
        memory: None,
        carry: Any,
        dropout_rate: Array | float | None = None,
    ) -> tuple[Any, Float[Array, "B T O"], None]:
        carry, ys = self.stack(xs, carry, dropout_rate=dropout_rate)
        return carry, ys, None


class AttentionParams(nn.Module):
    """The params of an attention, for all that read them."""

    attention: Attention

    @nn.compact
    def __call__(self, query_dim: int, memory_dim: int) -> Params:
        return self.param("attention", self.attention.init, query_dim, memory_dim)


def state(carry: Any) -> Float[Array, "B Q"]:
    """s: all numbers that a cell hands to its next step, side by side; of a GRU, h."""
    leaves = [leaf for leaf in jax.tree.leaves(carry) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=-1)


def attentive(cell: Cell, attention: Attention) -> Callable:
    """The step of a cell that attends by its own state:

        c_t, α_t = attend(s_{t-1}, memory)
        s_t, y_t = step(s_{t-1}, [x_t, c_t])

    or, where params have a matrix W_j, step(s_{t-1}, [x_t, c_t] W_j). It returns s_t and
    (y_t, c_t, α_t).
    """

    def step(params: Any, carry: Any, x: Array) -> tuple[Any, tuple[Array, Array, Array]]:
        context, weights = attention.attend(params["attention"], state(carry), params["memory"])
        joined = jnp.concatenate([x, context], axis=-1)
        if "w_j" in params:
            joined = joined @ params["w_j"]
        carry, y = cell.step(params["cell"], carry, joined)
        return carry, (y, context, weights)

    return step


class AttentiveRNN(nn.Module):
    """One cell over time that attends before each step. See `attentive`.

    For a cell that uses x without a matrix, as MUT1 and MUT2 do, W_j projects the input to the
    cell's width.
    """

    cell: Cell
    units: int
    attention: Attention

    def setup(self):
        self.scores = AttentionParams(self.attention)

    def initial_carry(self, batch_size: int) -> Any:
        return self.cell.initial_carry(batch_size, self.units)

    def remember(self, values: Float[Array, "B S M"], lengths: Int[Array, " B"] | None) -> Memory:
        return self.attention.remember(self._scores(values), values, lengths)

    @nn.compact
    def __call__(
        self, xs: Float[Array, "B T D"] | Symbols, memory: Memory, carry: Any
    ) -> tuple[Any, tuple[Array, Array, Array]]:
        width = xs.shape[-1] + memory.values.shape[-1]
        params = {"attention": self._scores(memory.values), "memory": memory}
        if not takes(self.cell, width, self.units):
            init = symmetric_uniform(width)
            params["w_j"] = self.param("w_j", init, (width, self.units), xs.dtype)
            width = self.units
        params["cell"] = self.param("cell", self.cell.init, width, self.units)
        run = plain_unroll if self.is_initializing() else unroll
        return run(attentive(self.cell, self.attention), params, carry, xs)

    def _scores(self, values: Array) -> Params:
        s = jax.eval_shape(lambda: state(self.cell.initial_carry(1, self.units)))
        return self.scores(s.shape[1], values.shape[-1])


class AttentiveStack(nn.Module):
    """A layer that attends, and layers on top of it, which read its y alone.

    Returns (carry, (ys [B, T, H], contexts [B, T, M], weights [B, T, S])).
    """

    first: AttentiveRNN
    above: Stack

    def initial_carry(self, batch_size: int) -> Any:
        return self.first.initial_carry(batch_size), self.above.initial_carry(batch_size)

    @nn.compact
    def __call__(
        self,
        xs: Float[Array, "B T D"] | Symbols,
        memory: Memory,
        carry: Any,
        dropout_rate: Array | float | None = None,
    ) -> tuple[Any, tuple[Array, Array, Array]]:
        first, above = carry
        first, (ys, contexts, weights) = self.first(xs, memory, first)
        if dropout_rate is not None:
            ys = dropout(self.make_rng("dropout"), dropout_rate, ys)
        above, ys = self.above(ys, above, dropout_rate=dropout_rate)
        return (first, above), (ys, contexts, weights)


class AttentiveInputDecoder(nn.Module):
    """The context is part of the first layer's input. Source: Bahdanau et al. 2015.

    The paper's maxout layer between y_t and the logits is left out.
    """

    stack: AttentiveStack

    def initial_carry(self, batch_size: int) -> Any:
        return self.stack.initial_carry(batch_size)

    def remember(self, values: Float[Array, "B S M"], lengths: Int[Array, " B"] | None) -> Memory:
        return self.stack.first.remember(values, lengths)

    def __call__(
        self,
        xs: Float[Array, "B T D"] | Symbols,
        memory: Memory,
        carry: Any,
        dropout_rate: Array | float | None = None,
    ) -> tuple[Any, Float[Array, "B T O"], Float[Array, "B T S"]]:
        carry, (ys, _, weights) = self.stack(xs, memory, carry, dropout_rate)
        return carry, ys, weights


class ShowAttendTellDecoder(nn.Module):
    """The context enters the first layer's input; symbol and context enter the output.

        output_t = x_t + y_t L_h + c_t L_z

    Source: Xu et al. 2015, equation 7, whose L_o is the head.
    """

    stack: AttentiveStack

    def initial_carry(self, batch_size: int) -> Any:
        return self.stack.initial_carry(batch_size)

    def remember(self, values: Float[Array, "B S M"], lengths: Int[Array, " B"] | None) -> Memory:
        return self.stack.first.remember(values, lengths)

    @nn.compact
    def __call__(
        self,
        xs: Float[Array, "B T D"] | Symbols,
        memory: Memory,
        carry: Any,
        dropout_rate: Array | float | None = None,
    ) -> tuple[Any, Float[Array, "B T O"], Float[Array, "B T S"]]:
        carry, (ys, contexts, weights) = self.stack(xs, memory, carry, dropout_rate)
        xs = xs.rows() if isinstance(xs, Symbols) else xs
        width = xs.shape[-1]
        from_y = nn.Dense(width, use_bias=False, name="l_h")(ys)
        from_context = nn.Dense(width, use_bias=False, name="l_z")(contexts)
        return carry, xs + from_y + from_context, weights


class AttentiveOutputDecoder(nn.Module):
    """Each output of the layers attends; the recurrence does not depend on the context.

        c_t, α_t = attend(y_t, memory)
        output_t = tanh([c_t, y_t] W_c)

    Source: Luong et al. 2015, global attention, equation 5; without input feeding.
    """

    stack: Stack
    attention: Attention

    def setup(self):
        self.units = self.stack.layers[-1].units
        self.scores = AttentionParams(self.attention)
        self.w_c = nn.Dense(self.units, use_bias=False)

    def initial_carry(self, batch_size: int) -> Any:
        return self.stack.initial_carry(batch_size)

    def remember(self, values: Float[Array, "B S M"], lengths: Int[Array, " B"] | None) -> Memory:
        return self.attention.remember(self._scores(values), values, lengths)

    def __call__(
        self,
        xs: Float[Array, "B T D"] | Symbols,
        memory: Memory,
        carry: Any,
        dropout_rate: Array | float | None = None,
    ) -> tuple[Any, Float[Array, "B T O"], Float[Array, "B T S"]]:
        carry, ys = self.stack(xs, carry, dropout_rate=dropout_rate)
        attend = functools.partial(self.attention.attend, self._scores(memory.values))
        contexts, weights = jax.vmap(attend, in_axes=(1, None), out_axes=1)(ys, memory)
        return carry, jnp.tanh(self.w_c(jnp.concatenate([contexts, ys], axis=-1))), weights

    def _scores(self, values: Array) -> Params:
        return self.scores(self.units, values.shape[-1])


Decoder: TypeAlias = (
    PlainDecoder | AttentiveInputDecoder | ShowAttendTellDecoder | AttentiveOutputDecoder
)


def attentive_stack(
    cell: Cell, units: int, num_layers: int, attention: Attention
) -> AttentiveStack:
    """`num_layers` layers of one cell, all of the same width, of which the first attends."""
    return AttentiveStack(AttentiveRNN(cell, units, attention), stack(cell, units, num_layers - 1))


def no_attention(cell: Cell, units: int, num_layers: int) -> PlainDecoder:
    return PlainDecoder(stack(cell, units, num_layers))


def bahdanau(cell: Cell, units: int, num_layers: int) -> AttentiveInputDecoder:
    return AttentiveInputDecoder(attentive_stack(cell, units, num_layers, additive))


def show_attend_tell(cell: Cell, units: int, num_layers: int) -> ShowAttendTellDecoder:
    return ShowAttendTellDecoder(attentive_stack(cell, units, num_layers, gated_additive))


def luong_dot(cell: Cell, units: int, num_layers: int) -> AttentiveOutputDecoder:
    return AttentiveOutputDecoder(stack(cell, units, num_layers), dot)


def luong_general(cell: Cell, units: int, num_layers: int) -> AttentiveOutputDecoder:
    return AttentiveOutputDecoder(stack(cell, units, num_layers), general)


DECODERS: dict[str, Callable[[Cell, int, int], Decoder]] = {
    "no_attention": no_attention,
    "bahdanau": bahdanau,
    "show_attend_tell": show_attend_tell,
    "luong_dot": luong_dot,
    "luong_general": luong_general,
}
