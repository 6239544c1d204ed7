"""GoogLeNet for images of 224×224, as published and with batch normalisation.

Source: Szegedy et al., Going Deeper with Convolutions, CVPR 2015, Table 1, Figure 3 and section 5.
The second has the sizes of torchvision's: after Ioffe and Szegedy 2015, and with 3×3 for 5×5.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from seqlab.models.convnets.layers import (
    AveragePool,
    Convolution,
    GlobalAveragePool,
    LocalResponseNorm,
    MaxPool,
    flat,
)

# 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5, pool proj
TABLE_1 = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def convolution_relu(
    x: Float[Array, "B H W C"],
    features: int,
    window: tuple[int, int],
    stride: int = 1,
    padding: int | str = "SAME",
    *,
    train: bool,
    name: str,
) -> Float[Array, "B h w D"]:
    """Convolution with bias, ReLU."""
    return nn.relu(Convolution(features, window, stride, padding, name=name)(x))


class Inception(nn.Module):
    """1×1, 3×3 and 5×5 convolutions and a pool side by side, with 1×1 reductions (Figure 2b).

    Attributes:
        width1, reduce3, width3, reduce5, width5, pool: channels, in the order of Table 1.
        large: side of the window of the branch "5×5".
        convolution: with what follows it.
    """

    width1: int
    reduce3: int
    width3: int
    reduce5: int
    width5: int
    pool: int
    large: int = 5
    convolution: Callable[..., Array] = convolution_relu

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool = False) -> Float[Array, "B H W D"]:
        convolve, large = partial(self.convolution, train=train), self.large
        conv1 = convolve(x, self.width1, (1, 1), name="conv1x1")
        conv3 = convolve(x, self.reduce3, (1, 1), name="reduce3x3")
        conv3 = convolve(conv3, self.width3, (3, 3), name="conv3x3")
        conv5 = convolve(x, self.reduce5, (1, 1), name="reduce5x5")
        conv5 = convolve(conv5, self.width5, (large, large), name="conv5x5")
        pool = MaxPool(3, 1, padding=1, name="pool")(x)
        pool = convolve(pool, self.pool, (1, 1), name="pool_proj")
        return jnp.concatenate([conv1, conv3, conv5, pool], axis=-1)


class Auxiliary(nn.Module):
    """A classifier on an inner layer, which adds gradient where the network is deep (section 5)."""

    classes: int
    convolution: Callable[..., Array]

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool) -> Float[Array, "B K"]:
        x = AveragePool(5, 3, name="pool")(x)
        x = self.convolution(x, 128, (1, 1), train=train, name="conv")
        x = nn.relu(nn.Dense(1024, name="fc1")(flat(x)))
        x = nn.Dropout(0.7, deterministic=not train, name="drop")(x)
        return nn.Dense(self.classes, name="fc2")(x)


class GoogLeNet(nn.Module):
    """22 layers with weights, nine inception modules, and no large fully connected layer.

    The paper's last pool of 7×7 is here one of the whole map, of any size.

    Attributes:
        large: 5 as published; 3 as in torchvision.
        convolution: with what follows it: ReLU, or batch normalisation and ReLU.
        response_norm: two layers of local response normalisation, which are in Figure 3.
        dropout: before the last layer.
        auxiliary: with its auxiliary classifiers, as when it is trained; then the result is
            (logits, *auxiliary logits).
        classes: K.
    """

    large: int = 5
    convolution: Callable[..., Array] = convolution_relu
    response_norm: bool = True
    dropout: float = 0.4
    auxiliary: bool = False
    classes: int = 1000

    @nn.compact
    def __call__(
        self, images: Float[Array, "B H W C"], train: bool = False
    ) -> Float[Array, "B K"] | tuple[Float[Array, "B K"], ...]:
        convolve = partial(self.convolution, train=train)
        outputs = {}
        x = convolve(images, 64, (7, 7), 2, padding=3, name="conv1")
        x = MaxPool(3, 2, ceil=True, name="pool1")(x)
        x = LocalResponseNorm(name="norm1")(x) if self.response_norm else x
        x = convolve(x, 64, (1, 1), name="conv2_reduce")
        x = convolve(x, 192, (3, 3), name="conv2")
        x = LocalResponseNorm(name="norm2")(x) if self.response_norm else x
        x = MaxPool(3, 2, ceil=True, name="pool2")(x)
        for row, widths in TABLE_1.items():
            module = Inception(*widths, self.large, self.convolution, name=f"inception_{row}")
            x = outputs[row] = module(x, train)
            if row in ("3b", "4e"):
                x = MaxPool(3, 2, ceil=True, name=f"pool{row[0]}")(x)
        x = GlobalAveragePool(name="pool5")(x)
        x = nn.Dropout(self.dropout, deterministic=not train, name="drop")(x)
        logits = nn.Dense(self.classes, name="fc")(x)
        if not self.auxiliary:
            return logits
        heads = [
            Auxiliary(self.classes, self.convolution, name=name)(outputs[row], train)
            for name, row in (("auxiliary1", "4a"), ("auxiliary2", "4d"))
        ]
        return logits, *heads
