"""U-Net: a class for each pixel.

Source: Ronneberger, Fischer and Brox, U-Net: Convolutional Networks for Biomedical Image
Segmentation, MICCAI 2015, Figure 1.
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from seqlab.models.convnets.layers import Convolution, MaxPool

he_fan_in = nn.initializers.he_normal()


class UNet(nn.Module):
    """A contracting and an expanding path, joined by a skip connection at each level.

    Attributes:
        widths: channels of each level, from the full size down.
        padding: of the 3×3 convolutions: "VALID" as published, so that the result is smaller than
            the image (388 of 572) and the maps from the way down are cropped, or "SAME".
        dropout: after the convolutions of the two lowest levels.
        classes: K.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    padding: str = "VALID"
    dropout: float = 0.5
    classes: int = 2

    @nn.compact
    def __call__(
        self, images: Float[Array, "B H W C"], train: bool = False
    ) -> Float[Array, "B h w K"]:
        x, skips, levels = images, [], len(self.widths)
        for level, width in enumerate(self.widths, start=1):
            x = two_convolutions(x, width, self.padding, f"down{level}")
            if level >= levels - 1:
                x = nn.Dropout(self.dropout, deterministic=not train, name=f"drop{level}")(x)
            if level < levels:
                skips.append(x)
                x = halve(x, f"pool{level}")
        for level in reversed(range(1, levels)):
            width, skip = self.widths[level - 1], skips.pop()
            x = nn.ConvTranspose(
                width, (2, 2), (2, 2), "VALID", kernel_init=he_fan_in, name=f"upconv{level}"
            )(x)
            x = jnp.concatenate([crop(skip, x.shape), x], axis=-1)
            x = two_convolutions(x, width, self.padding, f"up{level}")
        return Convolution(self.classes, (1, 1), kernel_init=he_fan_in, name="classes")(x)


def two_convolutions(x: Array, width: int, padding: str, name: str) -> Array:
    convolve = partial(Convolution, width, (3, 3), padding=padding, kernel_init=he_fan_in)
    x = nn.relu(convolve(name=f"{name}_1")(x))
    return nn.relu(convolve(name=f"{name}_2")(x))


def halve(x: Array, name: str) -> Array:
    """A 2×2 pool; rows and columns must be even, or the upsampled map would not match the skip."""
    _, height, width, _ = x.shape
    if height % 2 or width % 2:
        raise ValueError(f"{name}: window 2×2 does not divide its input {height}×{width}")
    return MaxPool(2, 2, name=name)(x)


def crop(x: Array, shape: tuple[int, ...]) -> Array:
    """The middle of images, of the height and width of `shape`."""
    _, height, width, _ = shape
    top, left = (x.shape[1] - height) // 2, (x.shape[2] - width) // 2
    return x[:, top : top + height, left : left + width]
