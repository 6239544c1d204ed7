"""Residual networks and their plain twins, for ImageNet and for CIFAR-10.

Source: He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition, 2015 (CVPR 2016),
Table 1, Figure 5 and section 4.2. In bottlenecks the stride is in the 3×3 convolution and not in
the first 1×1, as in torchvision and most later programs ("v1.5").
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from seqlab.models.convnets.layers import (
    Convolution,
    GlobalAveragePool,
    MaxPool,
    batch_norm,
    once,
)

Shortcut = Callable[[Array, tuple[int, ...], int, bool], Array]


def projection(x: Array, shape: tuple[int, ...], stride: int, train: bool) -> Array:
    """Option B: a 1×1 convolution where the shape changes, else the input itself."""
    if x.shape == shape:
        return x
    x = Convolution(shape[-1], (1, 1), stride, use_bias=False, name="projection")(x)
    return batch_norm(train, "projection_norm")(x)


def zero_padding(x: Array, shape: tuple[int, ...], stride: int, train: bool) -> Array:
    """Option A: every `stride`-th position, and channels of zeros for those that are new."""
    new = shape[-1] - x.shape[-1]
    return jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (0, new)))


class BasicBlock(nn.Module):
    """relu(x + two 3×3 convolutions of x). Figure 5, left.

    Attributes:
        width: channels of the convolutions.
        stride: of the first.
        shortcut: what x goes through before it is added; None: nothing is added.
    """

    width: int
    stride: int = 1
    shortcut: Shortcut | None = projection

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool = False) -> Float[Array, "B h w D"]:
        convolve = partial(Convolution, self.width, (3, 3), padding=1, use_bias=False)
        y = convolve(stride=self.stride, name="conv1")(x)
        y = nn.relu(batch_norm(train, "norm1")(y))
        y = convolve(name="conv2")(y)
        y = batch_norm(train, "norm2")(y)
        if self.shortcut is None:
            return nn.relu(y)
        return once(nn.relu(y + self.shortcut(x, y.shape, self.stride, train)))


class Bottleneck(nn.Module):
    """relu(x + 1×1, 3×3 and 1×1 convolutions of x), the last four times as wide. Figure 5, right.

    Attributes:
        width: channels of the first two convolutions.
        stride: of the second.
        shortcut: what x goes through before it is added; None: nothing is added.
    """

    width: int
    stride: int = 1
    shortcut: Shortcut | None = projection

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool = False) -> Float[Array, "B h w D"]:
        convolve = partial(Convolution, use_bias=False)
        y = convolve(self.width, (1, 1), name="conv1")(x)
        y = nn.relu(batch_norm(train, "norm1")(y))
        y = convolve(self.width, (3, 3), self.stride, padding=1, name="conv2")(y)
        y = nn.relu(batch_norm(train, "norm2")(y))
        y = convolve(4 * self.width, (1, 1), name="conv3")(y)
        y = batch_norm(train, "norm3")(y)
        if self.shortcut is None:
            return nn.relu(y)
        return once(nn.relu(y + self.shortcut(x, y.shape, self.stride, train)))


Block = type[BasicBlock] | type[Bottleneck]

TABLE_1: dict[int, tuple[Block, tuple[int, ...]]] = {  # layers: block, blocks in conv2_x to conv5_x
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


class ResNet(nn.Module):
    """The networks of Table 1, for images of 224×224.

    Attributes:
        block: of which it is made.
        blocks: how many in conv2_x to conv5_x, of width 64, 128, 256 and 512.
        shortcut: `projection`, or None for the plain twin.
        classes: K.
    """

    block: Block
    blocks: tuple[int, ...]
    shortcut: Shortcut | None = projection
    classes: int = 1000

    @nn.compact
    def __call__(self, images: Float[Array, "B H W C"], train: bool = False) -> Float[Array, "B K"]:
        x = Convolution(64, (7, 7), 2, padding=3, use_bias=False, name="conv1")(images)
        x = nn.relu(batch_norm(train, "norm1")(x))
        x = MaxPool(3, 2, padding=1, name="pool1")(x)
        x = stages(x, self.block, self.blocks, 64, self.shortcut, train)
        x = GlobalAveragePool(name="pool")(x)
        return nn.Dense(self.classes, name="fc")(x)


class ResNetCIFAR(nn.Module):
    """The networks of section 4.2, for images of 32×32: 6n + 2 layers of width 16, 32 and 64.

    Attributes:
        n: blocks of two layers for each size of map; 3 gives 20 layers, 9 gives 56.
        shortcut: `zero_padding`, which has no parameters, or None for the plain twin.
        classes: K.
    """

    n: int
    shortcut: Shortcut | None = zero_padding
    classes: int = 10

    @nn.compact
    def __call__(self, images: Float[Array, "B H W C"], train: bool = False) -> Float[Array, "B K"]:
        x = Convolution(16, (3, 3), padding=1, use_bias=False, name="conv1")(images)
        x = nn.relu(batch_norm(train, "norm1")(x))
        x = stages(x, BasicBlock, (self.n,) * 3, 16, self.shortcut, train)
        x = GlobalAveragePool(name="pool")(x)
        return nn.Dense(self.classes, name="fc")(x)


def stages(
    x: Array,
    block: Block,
    blocks: tuple[int, ...],
    width: int,
    shortcut: Shortcut | None,
    train: bool,
) -> Array:
    """conv2_x and on: each stage but the first halves the map and doubles the width."""
    for stage, count in enumerate(blocks):
        for number in range(count):
            stride = 2 if stage > 0 and number == 0 else 1
            name = f"conv{stage + 2}_{number + 1}"
            x = block(width * 2**stage, stride, shortcut, name=name)(x, train)
    return x
