"""Networks around a recurrent stack: embedding, stack, output head. The five wirings of the two:

      one to one   one to many    many to one     many to many            many to many, aligned

          y         y  y  y             y               y  y  y               y  y  y
          ↑         ↑  ↑  ↑             ↑               ↑  ↑  ↑               ↑  ↑  ↑
          ■         ■→ ■→ ■       ■→ ■→ ■         ■→ ■→ ■→ ■→ ■               ■→ ■→ ■
          ↑         ↑             ↑  ↑  ↑         ↑  ↑  ↑                     ↑  ↑  ↑
          x         x             x  x  x         x  x  x                     x  x  x

    one to one      `Tagger` around a stack of no layers: y_t = head(embedding(x_t))
    one to many     `ConditionedDecoder`, in seq2seq.py
    many to one     `Classifier`
    delayed         `EncoderDecoder`, in seq2seq.py: many to one, then one to many
    aligned         `Tagger`; `LanguageModel` and `FramePredictor`, whose y_t is the next x

Rows may differ in length: nothing that stands past `lengths` has an effect on what stands before.
"""

from typing import Any, Literal, TypeAlias, get_args

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from seqlab.errors import InputError, nearest
from seqlab.models.attention import masked_softmax
from seqlab.models.rnn import Stack, dropout, real_steps, symmetric_uniform
from seqlab.recurrence import Symbols


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

    def step(self, carry: Any, symbols: Int[Array, " B"]) -> tuple[Any, Float[Array, "B V"], None]:
        """One symbol of each row, as `seqlab.decoding` asks for it."""
        carry, logits = self(symbols[:, None], carry)
        return carry, logits[:, 0], None


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

    def step(self, carry: Any, frames: UInt8[Array, "B C"]) -> tuple[Any, Float[Array, "B C"]]:
        """One frame of each row, as `seqlab.decoding.sample_frames` asks for it."""
        carry, logits = self(frames[:, None], carry)
        return carry, logits[:, 0]


class SymbolEmbedding(nn.Module):
    """x_t = table[symbol_t].

    Attributes:
        num_symbols: V.
        width: D.
    """

    num_symbols: int
    width: int

    @nn.compact
    def __call__(
        self,
        symbols: Int[Array, "B T"],
        lengths: Int[Array, " B"] | None = None,
        dropout_rate: Array | float | None = None,
    ) -> Float[Array, "B T D"] | Symbols:
        shape = self.num_symbols, self.width
        table = self.param("embedding", symmetric_uniform(self.width), shape)
        xs = Symbols(_without_padding(symbols, lengths), table)
        if dropout_rate is None:
            return xs
        return dropout(self.make_rng("dropout"), dropout_rate, xs.rows())


class OneHot(nn.Module):
    """x_t = 1 at symbol_t, 0 elsewhere: an embedding that is not learnt.

    Attributes:
        num_symbols: V.
    """

    num_symbols: int

    def __call__(
        self,
        symbols: Int[Array, "B T"],
        lengths: Int[Array, " B"] | None = None,
        dropout_rate: Array | float | None = None,
    ) -> Symbols:
        """Dropout does not apply to one-hot inputs."""
        return Symbols(_without_padding(symbols, lengths), jnp.eye(self.num_symbols))


class FrameEmbedding(nn.Module):
    """x_t = frame_t W + b.

    Attributes:
        width: D.
    """

    width: int

    @nn.compact
    def __call__(
        self,
        frames: Float[Array, "B T C"],
        lengths: Int[Array, " B"] | None = None,
        dropout_rate: Array | float | None = None,
    ) -> Float[Array, "B T D"]:
        dense = nn.Dense(self.width, kernel_init=symmetric_uniform(self.width), name="dense")
        xs = dense(_without_padding(frames, lengths))
        if dropout_rate is None:
            return xs
        return dropout(self.make_rng("dropout"), dropout_rate, xs)


Embedding: TypeAlias = SymbolEmbedding | OneHot | FrameEmbedding
Pooling = Literal["last", "mean", "attention"]


class Tagger(nn.Module):
    """p(class of step t | all steps that the stack reads for it) = softmax(y_t W + b).

    Attributes:
        embedding: of the inputs, [B, T] symbols or [B, T, C] frames.
        stack: the recurrent layers; bidirectional ones read all steps for each.
        num_classes: K.
    """

    embedding: Embedding
    stack: Stack
    num_classes: int

    @nn.compact
    def __call__(
        self,
        inputs: Int[Array, "B T"] | Float[Array, "B T C"],
        lengths: Int[Array, " B"] | None = None,
        dropout_rate: Array | float | None = None,
    ) -> Float[Array, "B T K"]:
        xs = self.embedding(inputs, lengths, dropout_rate)
        _, ys = self.stack(xs, lengths=lengths, dropout_rate=dropout_rate)
        return nn.Dense(self.num_classes, name="head")(ys)


class Classifier(nn.Module):
    """p(class | all steps) = softmax(r W + b), r one summary of the outputs y of the stack:

        last        y_n, n the last step that the layer reads: of the backward direction, the first
        mean        Σ_t y_t / n
        attention   Σ_t α_t y_t,  α = softmax(v · tanh(y_t W_a + b_a))

    Source of the last: Yang et al. 2016, equations 5 to 7.

    Attributes:
        embedding: of the inputs, [B, T] symbols or [B, T, C] frames.
        stack: the recurrent layers.
        num_classes: K; 1 for a regression.
        pooling: which summary, a `Pooling`.
    """

    embedding: Embedding
    stack: Stack
    num_classes: int
    pooling: str = "last"

    @nn.compact
    def __call__(
        self,
        inputs: Int[Array, "B T"] | Float[Array, "B T C"],
        lengths: Int[Array, " B"] | None = None,
        dropout_rate: Array | float | None = None,
    ) -> Float[Array, "B K"]:
        xs = self.embedding(inputs, lengths, dropout_rate)
        _, ys = self.stack(xs, lengths=lengths, dropout_rate=dropout_rate)
        if self.pooling == "last":
            summary = self.stack.final(ys, lengths)
        elif self.pooling == "mean":
            summary = mean(ys, lengths)
        elif self.pooling == "attention":
            weights = masked_softmax(self._scores(ys), lengths)
            self.sow("intermediates", "attention", weights)  # for callers that collect it
            summary = jnp.einsum("bt,bth->bh", weights, ys)
        else:
            names = get_args(Pooling)
            raise InputError(f"no pooling {self.pooling!r}.{nearest(self.pooling, names)}")
        return nn.Dense(self.num_classes, name="head")(summary)

    def _scores(self, ys: Float[Array, "B T H"]) -> Float[Array, "B T"]:
        hidden = nn.tanh(nn.Dense(ys.shape[-1], name="attention_hidden")(ys))
        return nn.Dense(1, use_bias=False, name="attention_score")(hidden)[:, :, 0]


def mean(ys: Float[Array, "B T H"], lengths: Int[Array, " B"] | None) -> Float[Array, "B H"]:
    """Σ_t y_t / n over the real steps; 0 where there is none."""
    if lengths is None:
        return ys.mean(axis=1)
    count = jnp.maximum(lengths, 1).astype(ys.dtype)
    return _without_padding(ys, lengths).sum(axis=1) / count[:, None]


def _without_padding(inputs: Array, lengths: Array | None) -> Array:
    if lengths is None:
        return inputs
    real = real_steps(lengths, inputs.shape[1])
    return jnp.where(real.reshape(real.shape + (1,) * (inputs.ndim - 2)), inputs, 0)
