"""AlexNet for images of 227×227: as published, on two GPUs, and as lectures have it, as one column.

Source: Krizhevsky, Sutskever and Hinton, ImageNet Classification with Deep Convolutional Neural
Networks, NIPS 2012, section 3.5. (The paper says 224; its first layer takes 227.)
"""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from seqlab.models.convnets.layers import Convolution, LocalResponseNorm, MaxPool, flat

gaussian = nn.initializers.normal(0.01)
ones = nn.initializers.ones  # biases that start ReLU in its linear part, section 5


class AlexNet(nn.Module):
    """Five convolutions and three fully connected layers, ReLU, overlapping pools, dropout 0.5.

    Attributes:
        towers: 2 as published: conv2, conv4 and conv5 see the half of the maps that lies on their
            GPU; 1 for the same widths in one column.
        norm_first: normalise before each pool, as the paper does, or after it, as the lectures.
        classes: K.
    """

    towers: int = 2
    norm_first: bool = True
    classes: int = 1000

    @nn.compact
    def __call__(self, images: Float[Array, "B H W C"], train: bool = False) -> Float[Array, "B K"]:
        split = {"groups": self.towers, "bias_init": ones}
        x = convolution("conv1", 96, 11, stride=4, padding="VALID")(images)
        x = normalise_and_pool(nn.relu(x), "1", self.norm_first)
        x = convolution("conv2", 256, 5, padding=2, **split)(x)
        x = normalise_and_pool(nn.relu(x), "2", self.norm_first)
        x = nn.relu(convolution("conv3", 384, 3, padding=1)(x))
        x = nn.relu(convolution("conv4", 384, 3, padding=1, **split)(x))
        x = nn.relu(convolution("conv5", 256, 3, padding=1, **split)(x))
        x = flat(MaxPool(3, 2, name="pool5")(x))
        for number in ("6", "7"):
            dense = nn.Dense(4096, kernel_init=gaussian, bias_init=ones, name=f"fc{number}")
            x = nn.relu(dense(x))
            x = nn.Dropout(0.5, deterministic=not train, name=f"drop{number}")(x)
        return nn.Dense(self.classes, kernel_init=gaussian, name="fc8")(x)


def normalise_and_pool(x: Array, number: str, norm_first: bool) -> Array:
    norm, pool = LocalResponseNorm(name=f"norm{number}"), MaxPool(3, 2, name=f"pool{number}")
    return pool(norm(x)) if norm_first else norm(pool(x))


def convolution(name: str, features: int, window: int, **settings: Any) -> Convolution:
    return Convolution(features, (window, window), kernel_init=gaussian, name=name, **settings)
