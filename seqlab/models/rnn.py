"""Recurrent layers: one cell's params, stacks of them, both directions of time.

Every layer takes xs [B, T, D], or the `Symbols` that stand for them, and returns
(carry, ys [B, T, H]); `initial_carry(batch_size)` is the carry before the first step, and
`final(ys, lengths)` the output [B, H] at the last real step that the layer reads of each row.
"""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from seqlab.cells import Cell
from seqlab.cells.base import takes
from seqlab.recurrence import Symbols, plain_unroll, unroll


def symmetric_uniform(width: int) -> nn.initializers.Initializer:
    """U[-1/√width, 1/√width], the range that all weights of the comparison are drawn from."""

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -1 / math.sqrt(width), 1 / math.sqrt(width))

    return init


def dropout(key: Array, rate: Array | float, x: Array) -> Array:
    """Zero each element with probability `rate` and scale the rest by 1/(1 - rate).

    `rate` is a value, not a constant of the program, so that one compilation serves every rate.
    Source: Srivastava et al. 2014.
    """
    keep = 1.0 - rate
    return jnp.where(jax.random.bernoulli(key, keep, x.shape), x / keep, jnp.zeros((), x.dtype))


def real_steps(lengths: Int[Array, " B"], time: int) -> Bool[Array, "B T"]:
    """Which of `time` steps are among the first lengths[b] of their row."""
    return jnp.arange(time, dtype=lengths.dtype)[None, :] < lengths[:, None]


class RNN(nn.Module):
    """One cell over time. The layer owns the cell's flat dict of params.

    For a cell that uses x without a matrix, as MUT1 and MUT2 do, W_j projects an input of another
    width than H to H.

    Attributes:
        cell: an entry of `seqlab.cells.CELLS`, or a cell of one's own.
        units: H.
        reverse: read time from the end to the start.
    """

    cell: Cell
    units: int
    reverse: bool = False

    def initial_carry(self, batch_size: int) -> Any:
        return self.cell.initial_carry(batch_size, self.units)

    def final(
        self, ys: Float[Array, "B T H"], lengths: Int[Array, " B"] | None
    ) -> Float[Array, "B H"]:
        if self.reverse:
            return ys[:, 0]
        if lengths is None:
            return ys[:, -1]
        last = jnp.maximum(lengths - 1, 0)  # of a row of length 0 every y is 0
        return jnp.take_along_axis(ys, last[:, None, None], axis=1)[:, 0]

    @nn.compact
    def __call__(
        self,
        xs: Float[Array, "B T D"] | Symbols,
        carry: Any = None,
        lengths: Int[Array, " B"] | None = None,
    ) -> tuple[Any, Float[Array, "B T H"]]:
        width = xs.shape[-1]
        if not takes(self.cell, width, self.units):
            w_j = self.param("w_j", symmetric_uniform(width), (width, self.units), xs.dtype)
            xs = _projected(xs, w_j)
        params = self.param("cell", self.cell.init, xs.shape[-1], self.units)
        if carry is None:
            carry = self.initial_carry(xs.shape[0])
        run = plain_unroll if self.is_initializing() else unroll  # init asks for shapes alone
        return run(self.cell, params, carry, xs, lengths=lengths, reverse=self.reverse)


def _projected(xs: Array | Symbols, w: Array) -> Array | Symbols:
    if isinstance(xs, Symbols):
        return dataclasses.replace(xs, table=xs.table @ w)
    return xs @ w


class Bidirectional(nn.Module):
    """Two layers that read the same input, one in each direction; their outputs stand side by side.

    y_t = [forward y_t, backward y_t], H = the sum of both. Source: Schuster and Paliwal 1997.
    """

    forward: RNN
    backward: RNN

    def initial_carry(self, batch_size: int) -> Any:
        return self.forward.initial_carry(batch_size), self.backward.initial_carry(batch_size)

    def final(
        self, ys: Float[Array, "B T H"], lengths: Int[Array, " B"] | None
    ) -> Float[Array, "B H"]:
        forward, backward = jnp.split(ys, [self.forward.units], axis=-1)
        finals = self.forward.final(forward, lengths), self.backward.final(backward, lengths)
        return jnp.concatenate(finals, axis=-1)

    @nn.compact
    def __call__(
        self,
        xs: Float[Array, "B T D"] | Symbols,
        carry: Any = None,
        lengths: Int[Array, " B"] | None = None,
    ) -> tuple[Any, Float[Array, "B T H"]]:
        forward_carry, backward_carry = (None, None) if carry is None else carry
        forward_carry, forward_ys = self.forward(xs, forward_carry, lengths)
        backward_carry, backward_ys = self.backward(xs, backward_carry, lengths)
        return (forward_carry, backward_carry), jnp.concatenate([forward_ys, backward_ys], axis=-1)


class Stack(nn.Module):
    """Layers on top of each other: the outputs of one are the inputs of the next.

    With a `dropout_rate` each layer's output is dropped out before it is passed up; the recurrent
    connections are left alone. A stack of no layers returns its input.
    Source: Zaremba et al. 2014.
    """

    layers: tuple[RNN | Bidirectional, ...]

    def initial_carry(self, batch_size: int) -> Any:
        return tuple(layer.initial_carry(batch_size) for layer in self.layers)

    def final(
        self, ys: Float[Array, "B T H"], lengths: Int[Array, " B"] | None
    ) -> Float[Array, "B H"]:
        return self.layers[-1].final(ys, lengths)

    @nn.compact
    def __call__(
        self,
        xs: Float[Array, "B T D"] | Symbols,
        carry: Any = None,
        lengths: Int[Array, " B"] | None = None,
        dropout_rate: Array | float | None = None,
    ) -> tuple[Any, Float[Array, "B T H"]]:
        carries = (None,) * len(self.layers) if carry is None else carry
        new_carries = []
        ys: Any = xs
        for layer, layer_carry in zip(self.layers, carries, strict=True):
            layer_carry, ys = layer(ys, layer_carry, lengths)
            if dropout_rate is not None:
                ys = dropout(self.make_rng("dropout"), dropout_rate, ys)
            new_carries.append(layer_carry)
        return tuple(new_carries), ys.rows() if isinstance(ys, Symbols) else ys


def stack(cell: Cell, units: int, num_layers: int) -> Stack:
    """`num_layers` layers of one cell, all of the same width."""
    return Stack(tuple(RNN(cell, units) for _ in range(num_layers)))


def bidirectional_stack(cell: Cell, units: int, num_layers: int) -> Stack:
    """`num_layers` bidirectional layers of one cell, `units` in each direction."""
    return Stack(
        tuple(
            Bidirectional(RNN(cell, units), RNN(cell, units, reverse=True))
            for _ in range(num_layers)
        )
    )
