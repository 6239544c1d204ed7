"""Inception-v3 for images of 299×299.

Source: Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016,
Table 1 and Figures 5 to 8 and 10. Where the paper is silent (widths inside the modules) the sizes
are those of the authors' program, as torchvision has them.
"""

from enum import Enum
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from seqlab.models.convnets.layers import (
    AveragePool,
    GlobalAveragePool,
    MaxPool,
    convolution_norm_relu,
)


class Conv(NamedTuple):
    """A convolution with batch normalisation and ReLU."""

    features: int
    height: int
    width: int
    stride: int = 1
    padding: str = "SAME"


class Fork(NamedTuple):
    """Two convolutions of one input, side by side."""

    a: Conv
    b: Conv


class Pool(Enum):
    """Of 3×3."""

    AVERAGE = "stride 1, the same size"
    MAXIMUM = "stride 2, which halves the map"


Step = Conv | Fork | Pool


class Branch(NamedTuple):
    """One step after the other."""

    name: str
    steps: tuple[Step, ...]


def branch(name: str, *steps: Step) -> Branch:
    return Branch(name, steps)


STEM = (  # Table 1
    ("conv1", Conv(32, 3, 3, 2, "VALID")),
    ("conv2", Conv(32, 3, 3, 1, "VALID")),
    ("conv3", Conv(64, 3, 3)),
    ("pool1", Pool.MAXIMUM),
    ("conv4", Conv(80, 1, 1)),
    ("conv5", Conv(192, 3, 3, 1, "VALID")),
    ("pool2", Pool.MAXIMUM),
)


def figure_5(pool: int) -> tuple[Branch, ...]:
    """5×5, and two 3×3 in its place, on 35×35."""
    return (
        branch("branch1x1", Conv(64, 1, 1)),
        branch("branch5x5", Conv(48, 1, 1), Conv(64, 5, 5)),
        branch("branch3x3_double", Conv(64, 1, 1), Conv(96, 3, 3), Conv(96, 3, 3)),
        branch("branch_pool", Pool.AVERAGE, Conv(pool, 1, 1)),
    )


def figure_6(inner: int) -> tuple[Branch, ...]:
    """7×7 as 1×7 and 7×1, on 17×17."""
    reduce, across, down = Conv(inner, 1, 1), Conv(inner, 1, 7), Conv(inner, 7, 1)
    return (
        branch("branch1x1", Conv(192, 1, 1)),
        branch("branch7x7", reduce, across, Conv(192, 7, 1)),
        branch("branch7x7_double", reduce, down, across, down, Conv(192, 1, 7)),
        branch("branch_pool", Pool.AVERAGE, Conv(192, 1, 1)),
    )


THREE_AS_TWO = Fork(Conv(384, 1, 3), Conv(384, 3, 1))

FIGURE_7 = (  # 3×3 as 1×3 and 3×1 side by side, on 8×8
    branch("branch1x1", Conv(320, 1, 1)),
    branch("branch3x3", Conv(384, 1, 1), THREE_AS_TWO),
    branch("branch3x3_double", Conv(448, 1, 1), Conv(384, 3, 3), THREE_AS_TWO),
    branch("branch_pool", Pool.AVERAGE, Conv(192, 1, 1)),
)

FIGURE_10 = {  # from one size of map to the next: convolutions and a pool of stride 2
    17: (
        branch("branch3x3", Conv(384, 3, 3, 2, "VALID")),
        branch("branch3x3_double", Conv(64, 1, 1), Conv(96, 3, 3), Conv(96, 3, 3, 2, "VALID")),
        branch("branch_pool", Pool.MAXIMUM),
    ),
    8: (
        branch("branch3x3", Conv(192, 1, 1), Conv(320, 3, 3, 2, "VALID")),
        branch(
            "branch7x7",
            Conv(192, 1, 1), Conv(192, 1, 7), Conv(192, 7, 1), Conv(192, 3, 3, 2, "VALID"),
        ),
        branch("branch_pool", Pool.MAXIMUM),
    ),
}  # fmt: skip

MIXED = (
    ("mixed_5b", figure_5(pool=32)),
    ("mixed_5c", figure_5(pool=64)),
    ("mixed_5d", figure_5(pool=64)),
    ("mixed_6a", FIGURE_10[17]),
    ("mixed_6b", figure_6(inner=128)),
    ("mixed_6c", figure_6(inner=160)),
    ("mixed_6d", figure_6(inner=160)),
    ("mixed_6e", figure_6(inner=192)),
    ("mixed_7a", FIGURE_10[8]),
    ("mixed_7b", FIGURE_7),
    ("mixed_7c", FIGURE_7),
)


def apply(step: Step, x: Array, train: bool, name: str) -> Array:
    match step:
        case Conv(features, height, width, stride, padding):
            window = (height, width)
            return convolution_norm_relu(
                x, features, window, stride, padding, train=train, name=name
            )
        case Fork(a, b):
            sides = [apply(a, x, train, f"{name}a"), apply(b, x, train, f"{name}b")]
            return jnp.concatenate(sides, axis=-1)
        case Pool.AVERAGE:
            return AveragePool(3, 1, padding=1, name=name)(x)
        case Pool.MAXIMUM:
            return MaxPool(3, 2, name=name)(x)


class Mixed(nn.Module):
    """Branches side by side."""

    branches: tuple[Branch, ...]

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool) -> Float[Array, "B h w D"]:
        outputs = []
        for name, steps in self.branches:
            y = x
            for number, step in enumerate(steps, start=1):
                y = apply(step, y, train, f"{name}_{number}")
            outputs.append(y)
        return jnp.concatenate(outputs, axis=-1)


class Auxiliary(nn.Module):
    """The classifier on the last 17×17 map (Figure 8)."""

    classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool) -> Float[Array, "B K"]:
        x = AveragePool(5, 3, name="pool1")(x)
        x = convolution_norm_relu(x, 128, (1, 1), train=train, name="conv1")
        x = convolution_norm_relu(x, 768, (5, 5), padding="VALID", train=train, name="conv2")
        x = GlobalAveragePool(name="pool2")(x)
        return nn.Dense(self.classes, name="fc")(x)


class InceptionV3(nn.Module):
    """A stem of convolutions, eleven modules on maps of 35×35, 17×17 and 8×8, one last layer.

    Attributes:
        auxiliary: with its auxiliary classifier, as when it is trained; then the result is
            (logits, auxiliary logits).
        classes: K.
    """

    auxiliary: bool = False
    classes: int = 1000

    @nn.compact
    def __call__(
        self, images: Float[Array, "B H W C"], train: bool = False
    ) -> Float[Array, "B K"] | tuple[Float[Array, "B K"], ...]:
        x = images
        outputs = {}
        for name, step in STEM:
            x = apply(step, x, train, name)
        for name, branches in MIXED:
            x = outputs[name] = Mixed(branches, name=name)(x, train)
        x = GlobalAveragePool(name="pool3")(x)
        x = nn.Dropout(0.5, deterministic=not train, name="drop")(x)
        logits = nn.Dense(self.classes, name="fc")(x)
        if not self.auxiliary:
            return logits
        return logits, Auxiliary(self.classes, name="auxiliary")(outputs["mixed_6e"], train)
