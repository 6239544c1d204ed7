"""Networks that write a sequence: one to many, and many to many with a delay.

Both are trained by teacher forcing: the symbols they are given are the targets, one step late.
What a row is padded with has no effect on the steps before it. To generate, run them symbol by
symbol; see `seqlab.decoding`:

    memory, carry = model.apply(params, source, lengths, method="encode")
    step = functools.partial(model.apply, params, memory, method="step")
    written = decoding.greedy(step, carry, first, end=END, max_length=50)

`decoding.beam_search` takes the carry as it is, and a step of `decoding.repeated(memory, width)`.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from seqlab.models.decoders import Decoder
from seqlab.models.rnn import Stack, symmetric_uniform
from seqlab.models.sequence import Embedding, SymbolEmbedding


class Bridge(nn.Module):
    """The carry of a decoder, made from a summary: each array of it is tanh(summary W + b).

    Leaves that are not floating point keep the cell's initial value. Source: Bahdanau et al. 2015,
    appendix A.2.2; Xu et al. 2015, section 3.1.2.
    """

    @nn.compact
    def __call__(self, summary: Float[Array, "B D"], initial_carry: Any) -> Any:
        init = symmetric_uniform(summary.shape[-1])

        def bridged(leaf: Array) -> Array:
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                return leaf
            made = jnp.tanh(nn.Dense(leaf[0].size, kernel_init=init)(summary))
            return made.reshape(leaf.shape).astype(leaf.dtype)

        return jax.tree.map(bridged, initial_carry)


class ConditionedDecoder(nn.Module):
    """One to many: p(next symbol | all symbols so far, features) = softmax(output_t W + b).

    The first carry is made from one vector, or from the mean of a grid of them; at every step the
    decoder may attend to the grid. A vector is a grid of one place.

    Attributes:
        decoder: an entry of `seqlab.models.decoders.DECODERS`, called.
        num_symbols: V.
        width: columns of the embedding.
    """

    decoder: Decoder
    num_symbols: int
    width: int

    def setup(self):
        self.embedding = SymbolEmbedding(self.num_symbols, self.width)
        self.bridge = Bridge()
        self.head = nn.Dense(self.num_symbols, kernel_init=symmetric_uniform(self.width))

    def __call__(
        self,
        features: Float[Array, "B D"] | Float[Array, "B L D"],
        symbols: Int[Array, "B T"],
        dropout_rate: Array | float | None = None,
    ) -> tuple[Float[Array, "B T V"], Float[Array, "B T L"] | None]:
        """Logits, and the weights α with which each step looks at each place of the grid."""
        memory, carry = self.encode(features)
        _, logits, weights = self.decode(memory, carry, symbols, dropout_rate)
        return logits, weights

    def encode(self, features: Float[Array, "B D"] | Float[Array, "B L D"]) -> tuple[Any, Any]:
        """What the decoder keeps of the features, and its first carry."""
        grid = features[:, None] if features.ndim == 2 else features
        return self.begin(grid.mean(axis=1), grid, None)

    def begin(
        self,
        summary: Float[Array, "B D"],
        values: Float[Array, "B S M"],
        lengths: Int[Array, " B"] | None,
    ) -> tuple[Any, Any]:
        """As `encode`, where there is a summary already and the places may be padded."""
        initial_carry = self.decoder.initial_carry(summary.shape[0])
        return self.decoder.remember(values, lengths), self.bridge(summary, initial_carry)

    def decode(
        self,
        memory: Any,
        carry: Any,
        symbols: Int[Array, "B T"],
        dropout_rate: Array | float | None = None,
    ) -> tuple[Any, Float[Array, "B T V"], Float[Array, "B T S"] | None]:
        xs = self.embedding(symbols, None, dropout_rate)
        carry, outputs, weights = self.decoder(xs, memory, carry, dropout_rate)
        return carry, self.head(outputs), weights

    def step(
        self, memory: Any, carry: Any, symbols: Int[Array, " B"]
    ) -> tuple[Any, Float[Array, "B V"], Float[Array, "B S"] | None]:
        """One symbol of each row, as `seqlab.decoding` asks for it."""
        carry, logits, weights = self.decode(memory, carry, symbols[:, None])
        return carry, logits[:, 0], None if weights is None else weights[:, 0]


class EncoderDecoder(nn.Module):
    """Many to many with a delay: many to one, then one to many.

    The decoder's first carry is made from the last output of the encoder (of the backward
    direction, the first); its memory is all outputs of the encoder. Source: Sutskever et al. 2014;
    with attention, Bahdanau et al. 2015 and Luong et al. 2015.

    Attributes:
        embedding: of the source, [B, S] symbols or [B, S, C] frames.
        encoder: recurrent layers of one direction or of both.
        decoder: what writes.
    """

    embedding: Embedding
    encoder: Stack
    decoder: ConditionedDecoder

    def __call__(
        self,
        source: Int[Array, "B S"] | Float[Array, "B S C"],
        lengths: Int[Array, " B"] | None,
        symbols: Int[Array, "B T"],
        dropout_rate: Array | float | None = None,
    ) -> tuple[Float[Array, "B T V"], Float[Array, "B T S"] | None]:
        """Logits, and the weights α with which each step looks at each step of the source."""
        memory, carry = self.encode(source, lengths, dropout_rate)
        _, logits, weights = self.decoder.decode(memory, carry, symbols, dropout_rate)
        return logits, weights

    def encode(
        self,
        source: Int[Array, "B S"] | Float[Array, "B S C"],
        lengths: Int[Array, " B"] | None,
        dropout_rate: Array | float | None = None,
    ) -> tuple[Any, Any]:
        """What the decoder keeps of the source, and its first carry."""
        xs = self.embedding(source, lengths, dropout_rate)
        _, ys = self.encoder(xs, lengths=lengths, dropout_rate=dropout_rate)
        return self.decoder.begin(self.encoder.final(ys, lengths), ys, lengths)

    def step(
        self, memory: Any, carry: Any, symbols: Int[Array, " B"]
    ) -> tuple[Any, Float[Array, "B V"], Float[Array, "B S"] | None]:
        """One symbol of each row, as `seqlab.decoding` asks for it."""
        return self.decoder.step(memory, carry, symbols)
