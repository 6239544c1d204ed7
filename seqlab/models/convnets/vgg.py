"""VGG networks for images of 224×224, and a small one for images of 28×28 and 32×32.

Source: Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition,
ICLR 2015, Table 1 (columns A, B, D and E) and section 3.1.
"""

import flax.linen as nn
from jaxtyping import Array, Float

from seqlab.models.convnets.layers import (
    Convolution,
    GlobalAveragePool,
    MaxPool,
    batch_norm,
    flat,
)

WIDTHS = (64, 128, 256, 512, 512)

COLUMNS = {  # of Table 1, by their number of layers: convolutions of each block
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


class VGG(nn.Module):
    """Blocks of 3×3 convolutions with ReLU, a 2×2 pool after each; three fully connected layers.

    Attributes:
        convolutions: of each block, such as `COLUMNS[16]`.
        widths: channels of each block.
        units: of fc6 and fc7, which have dropout 0.5.
        classes: K.
    """

    convolutions: tuple[int, ...]
    widths: tuple[int, ...] = WIDTHS
    units: int = 4096
    classes: int = 1000

    @nn.compact
    def __call__(self, images: Float[Array, "B H W C"], train: bool = False) -> Float[Array, "B K"]:
        x = images
        blocks = zip(self.convolutions, self.widths, strict=True)
        for block, (count, width) in enumerate(blocks, start=1):
            for layer in range(1, count + 1):
                x = nn.relu(Convolution(width, (3, 3), padding=1, name=f"conv{block}_{layer}")(x))
            x = MaxPool(2, 2, name=f"pool{block}")(x)
        x = flat(x)
        for number in ("6", "7"):
            x = nn.relu(nn.Dense(self.units, kernel_init=gaussian, name=f"fc{number}")(x))
            x = nn.Dropout(0.5, deterministic=not train, name=f"drop{number}")(x)
        return nn.Dense(self.classes, kernel_init=gaussian, name="fc8")(x)


gaussian = nn.initializers.normal(0.01)


class SmallVGG(nn.Module):
    """VGG's blocks for small images, in our own sizes: with batch normalisation, one last layer.

    About 10 million multiply-adds and 73,000 params on 32×32×3.

    Attributes:
        convolutions: of each block.
        widths: channels of each block.
        classes: K.
    """

    convolutions: tuple[int, ...] = (2, 2, 2)
    widths: tuple[int, ...] = (16, 32, 64)
    classes: int = 10

    @nn.compact
    def __call__(self, images: Float[Array, "B H W C"], train: bool = False) -> Float[Array, "B K"]:
        x = images
        blocks = zip(self.convolutions, self.widths, strict=True)
        for block, (count, width) in enumerate(blocks, start=1):
            for layer in range(1, count + 1):
                name = f"{block}_{layer}"
                x = Convolution(width, (3, 3), padding=1, use_bias=False, name=f"conv{name}")(x)
                x = nn.relu(batch_norm(train, f"norm{name}")(x))
            x = MaxPool(2, 2, name=f"pool{block}")(x)
        x = GlobalAveragePool(name="pool")(x)
        return nn.Dense(self.classes, name="fc")(x)
