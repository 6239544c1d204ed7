"""Networks that predict a sequence step by step: embedding, recurrent stack, output head."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from seqlab.models.rnn import Stack, dropout
from seqlab.recurrence import Symbols


def symmetric_uniform(width: int) -> nn.initializers.Initializer:
    """U[-1/√width, 1/√width], the range that all weights of the comparison are drawn from."""

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -1 / math.sqrt(width), 1 / math.sqrt(width))

    return init


class LanguageModel(nn.Module):
    """p(next symbol | all symbols so far) = softmax(y_t W + b), y = stack(embedding[symbols]).

    Attributes:
        stack: the recurrent layers.
        num_symbols: V.
        width: columns of the embedding; MUT1 and MUT2 need it equal to their units.
    """

    stack: Stack
    num_symbols: int
    width: int

    def initial_carry(self, batch_size: int) -> Any:
        return self.stack.initial_carry(batch_size)

    @nn.compact
    def __call__(
        self,
        symbols: Int[Array, "B T"],
        carry: Any = None,
        dropout_rate: Array | float | None = None,
    ) -> tuple[Any, Float[Array, "B T V"]]:
        init = symmetric_uniform(self.width)
        embed = nn.Embed(self.num_symbols, self.width, embedding_init=init, name="embedding")
        xs = Symbols(symbols, embed.embedding)
        if dropout_rate is not None:
            xs = dropout(self.make_rng("dropout"), dropout_rate, xs.rows())
        carry, ys = self.stack(xs, carry, dropout_rate=dropout_rate)
        logits = nn.Dense(self.num_symbols, kernel_init=init, name="head")(ys)
        return carry, logits


class FramePredictor(nn.Module):
    """p(next frame | all frames so far) = σ(y_t W + b), a Bernoulli a channel.

    y = stack(frames W_e + b_e).

    Attributes:
        stack: the recurrent layers.
        num_channels: C, 88 for the notes of a piano.
        width: what a frame is embedded to; MUT1 and MUT2 need it equal to their units.
    """

    stack: Stack
    num_channels: int
    width: int

    def initial_carry(self, batch_size: int) -> Any:
        return self.stack.initial_carry(batch_size)

    @nn.compact
    def __call__(
        self,
        frames: UInt8[Array, "B T C"],
        carry: Any = None,
        dropout_rate: Array | float | None = None,
    ) -> tuple[Any, Float[Array, "B T C"]]:
        init = symmetric_uniform(self.width)
        xs = nn.Dense(self.width, kernel_init=init, name="embedding")(frames.astype(jnp.float32))
        if dropout_rate is not None:
            xs = dropout(self.make_rng("dropout"), dropout_rate, xs)
        carry, ys = self.stack(xs, carry, dropout_rate=dropout_rate)
        logits = nn.Dense(self.num_channels, kernel_init=init, name="head")(ys)
        return carry, logits
