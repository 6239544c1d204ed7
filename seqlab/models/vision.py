"""Networks for pictures and words: captioning and visual question answering.

The eye turns a picture into a grid of features. A decoder begins with a summary of the grid, and
may attend to it at each word that it writes or reads.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from seqlab.models.decoders import Decoder
from seqlab.models.seq2seq import Bridge, ConditionedDecoder
from seqlab.models.sequence import SymbolEmbedding


class Eye(nn.Module):
    """A grid of features: convolutions of 3 x 3, each followed by ReLU, of pixels from -1 to 1.

    The features of each place are normalised in the end, so that what reads them is not saturated.

    Attributes:
        halving: channels of the first ones, each of which halves height and width.
        keeping: channels of those after them, which see more of the picture at each place.
    """

    halving: tuple[int, ...] = (16, 32, 64)
    keeping: tuple[int, ...] = (64,)

    @nn.compact
    def __call__(self, images: UInt8[Array, "N H W C"]) -> Float[Array, "N h w D"]:
        xs = images.astype(jnp.float32) / 127.5 - 1
        strides = [(channels, 2) for channels in self.halving]
        strides += [(channels, 1) for channels in self.keeping]
        for channels, stride in strides:
            dense = nn.Dense(channels, kernel_init=nn.initializers.he_normal())
            xs = nn.relu(dense(patches(xs, stride)))
        return nn.LayerNorm()(xs)


def patches(images: Float[Array, "N H W C"], stride: int) -> Float[Array, "N h w 9*C"]:
    """What a kernel of 3 x 3 sees at every place, or every second: h = ⌈H / stride⌉, zeros around.

    A convolution is then one matrix product. XLA's own convolution takes twenty times as long on a
    CPU inside a loop, which is where the steps of a dispatch run.
    """
    out = [-(-size // stride) for size in images.shape[1:3]]
    ends = [stride * (n - 1) + 1 for n in out]
    rims = [end + 2 - size for end, size in zip(ends, images.shape[1:3], strict=True)]
    around = [(0, 0), *((rim // 2, rim - rim // 2) for rim in rims), (0, 0)]
    padded = jnp.pad(images, around)
    seen = [
        padded[:, row : row + ends[0] : stride, column : column + ends[1] : stride]
        for row in range(3)
        for column in range(3)
    ]
    return jnp.concatenate(seen, axis=-1)


def grid_of(eye: Eye, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the grid that an eye sees in a picture."""
    shape = jax.ShapeDtypeStruct((1, height, width, 3), jnp.uint8)
    seen: Any = jax.eval_shape(eye.init_with_output, jax.random.key(0), shape)[0]
    return seen.shape[1], seen.shape[2]


def places(grid: Float[Array, "B h w D"]) -> Float[Array, "B L D"]:
    """The places of a grid side by side, row by row: L = h w."""
    return grid.reshape(grid.shape[0], -1, grid.shape[-1])


class Captioner(nn.Module):
    """One to many: p(next word | all words so far, picture).

    The first carry is made from the maximum of each feature over the grid; with attention each word
    looks at the grid.

    Source: Xu et al. 2015, where the first carry is of the mean; without attention, Vinyals et al.
    2015, where the picture is the first input instead.

    Attributes:
        eye: what is seen.
        decoder: what writes.
    """

    eye: Eye
    decoder: ConditionedDecoder

    def __call__(
        self,
        pictures: UInt8[Array, "B H W C"],
        symbols: Int[Array, "B T"],
        dropout_rate: Array | float | None = None,
    ) -> tuple[Float[Array, "B T V"], Float[Array, "B T L"] | None]:
        """Logits, and the weights α with which each word looks at each place of the grid."""
        memory, carry = self.encode(pictures)
        _, logits, weights = self.decoder.decode(memory, carry, symbols, dropout_rate)
        return logits, weights

    def encode(self, pictures: UInt8[Array, "B H W C"]) -> tuple[Any, Any]:
        """What the decoder keeps of the pictures, and its first carry."""
        grid = places(self.eye(pictures))
        return self.decoder.begin(grid.max(axis=1), grid, None)

    def step(
        self, memory: Any, carry: Any, symbols: Int[Array, " B"]
    ) -> tuple[Any, Float[Array, "B V"], Float[Array, "B L"] | None]:
        """One word of each row, as `seqlab.decoding` asks for it."""
        return self.decoder.step(memory, carry, symbols)


class Answerer(nn.Module):
    """Many to one: what is answered to a question about a picture.

        p(answer | question, picture) = softmax((tanh(o W_o + b_o) * tanh(c W_c + b_c)) W + b)

    o is the decoder's output at the last word of the question, and the decoder that of a captioner,
    which reads here; c is what is seen at that word: the mean of the grid, or with attention
    Σ_l α_l grid_l.

    Source: Antol et al. 2015, VQA, for the product; Zhu et al. 2016, Visual7W, for a reader that
    begins with the picture and looks at it at each word.

    Attributes:
        eye: what is seen.
        decoder: what reads, an entry of `seqlab.models.decoders.DECODERS`, called.
        num_symbols: V, words of the questions.
        width: columns of their embedding, and of the product.
        num_classes: K, answers.
    """

    eye: Eye
    decoder: Decoder
    num_symbols: int
    width: int
    num_classes: int

    @nn.compact
    def __call__(
        self,
        pictures: UInt8[Array, "B H W C"],
        question: Int[Array, "B T"],
        lengths: Int[Array, " B"],
        dropout_rate: Array | float | None = None,
    ) -> tuple[Float[Array, "B K"], Float[Array, "B T L"] | None]:
        """Logits, and the weights α with which each word looks at each place of the grid."""
        grid = places(self.eye(pictures))
        seen = grid.mean(axis=1)
        carry = Bridge()(seen, self.decoder.initial_carry(grid.shape[0]))
        memory: Any = self.decoder.remember(grid, None)
        xs = SymbolEmbedding(self.num_symbols, self.width)(question, lengths, dropout_rate)
        _, outputs, weights = self.decoder(xs, memory, carry, dropout_rate)
        if weights is not None:
            seen = jnp.einsum("bl,bld->bd", at_last(weights, lengths), grid)
        said = jnp.tanh(nn.Dense(self.width, name="w_o")(at_last(outputs, lengths)))
        said *= jnp.tanh(nn.Dense(self.width, name="w_c")(seen))
        return nn.Dense(self.num_classes, name="head")(said), weights


def at_last(values: Float[Array, "B T D"], lengths: Int[Array, " B"]) -> Float[Array, "B D"]:
    """The value at the last step of each row; at its first where the row has length 0."""
    last = jnp.maximum(lengths - 1, 0)
    return jnp.take_along_axis(values, last[:, None, None], axis=1)[:, 0]
