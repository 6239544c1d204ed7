"""LeNet-5 for digits of 32×32 pixels: as it is taught, and as it was published.

Source: LeCun, Bottou, Bengio and Haffner, Gradient-Based Learning Applied to Document Recognition,
Proceedings of the IEEE 1998, section II.B, Figure 2.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from seqlab.models.convnets.layers import Convolution, MaxPool, flat, require_fit


class LeNet5(nn.Module):
    """The layers of 1998 with what is usual now: all maps connected, max pooling, ReLU, softmax.

    Attributes:
        classes: K.
    """

    classes: int = 10

    @nn.compact
    def __call__(self, images: Float[Array, "B H W C"], train: bool = False) -> Float[Array, "B K"]:
        x = nn.relu(Convolution(6, (5, 5), padding="VALID", name="c1")(images))
        x = MaxPool(2, 2, name="s2")(x)
        x = nn.relu(Convolution(16, (5, 5), padding="VALID", name="c3")(x))
        x = MaxPool(2, 2, name="s4")(x)
        x = nn.relu(Convolution(120, (5, 5), padding="VALID", name="c5")(x))
        x = nn.relu(nn.Dense(84, name="f6")(flat(x)))
        return nn.Dense(self.classes, name="output")(x)


# Table I: which maps of S2 each map of C3 sees, in groups that see equally many.
TABLE_I = {
    "three": ((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 0), (5, 0, 1)),
    "four": (
        (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 0), (4, 5, 0, 1), (5, 0, 1, 2),
        (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    ),
    "six": ((0, 1, 2, 3, 4, 5),),
}  # fmt: skip


class LeNet5Of1998(nn.Module):
    """LeNet-5 as published, with 60,000 trained parameters.

    The result is minus the squared distance of F6 to the code of each class, so that the largest
    is the nearest. The paper's codes are drawn characters of 7×12 pixels; here they are others,
    which lie as far from each other as ±1 codes can (`paley_codes`).
    """

    @nn.compact
    def __call__(self, images: Float[Array, "B H W C"], train: bool = False) -> Float[Array, "B K"]:
        x = _convolution(6, name="c1")(images)
        x = scaled_tanh(Subsampling(name="s2")(scaled_tanh(x)))
        x = PartialConvolution(name="c3")(x)
        x = scaled_tanh(Subsampling(name="s4")(scaled_tanh(x)))
        x = scaled_tanh(_convolution(120, name="c5")(x))
        x = scaled_tanh(nn.Dense(84, kernel_init=uniform_by_fan_in, name="f6")(flat(x)))
        return -Distances(name="output")(x)


def scaled_tanh(x: Array) -> Array:
    """1.7159 tanh(2/3 x), which is 1 at 1 and -1 at -1 (appendix A)."""
    return 1.7159 * jnp.tanh(2 / 3 * x)


def uniform_by_fan_in(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """U[-2.4/F, 2.4/F], F the inputs of a unit (appendix A)."""
    limit = 2.4 / math.prod(shape[:-1])
    return jax.random.uniform(key, shape, dtype, -limit, limit)


def _convolution(features: int, groups: int = 1, *, name: str) -> Convolution:
    return Convolution(
        features,
        (5, 5),
        padding="VALID",
        groups=groups,
        kernel_init=uniform_by_fan_in,
        name=name,
    )


class PartialConvolution(nn.Module):
    """C3: 16 maps, each a 5×5 convolution of those six maps that Table I names."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 6"]) -> Float[Array, "B h w 16"]:
        maps = [
            _convolution(len(seen), groups=len(seen), name=name)(x[..., np.ravel(seen)])
            for name, seen in TABLE_I.items()
        ]
        return jnp.concatenate(maps, axis=-1)


class Subsampling(nn.Module):
    """coefficient · (sum of 2×2 values) + bias, both trained, one of each for a map."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
        require_fit(self, x, (2, 2), 0)
        maps = x.shape[-1]
        coefficient = self.param("coefficient", nn.initializers.constant(1 / 4), (maps,))
        bias = self.param("bias", nn.initializers.zeros, (maps,))
        sums = nn.pool(x, 0.0, jax.lax.add, (2, 2), (2, 2), "VALID")
        return coefficient[None, None, None] * sums + bias[None, None, None]


class Distances(nn.Module):
    """y_i = Σ_j (x_j − code_ij)², the radial basis functions of ten fixed codes (equation 7)."""

    @nn.compact
    def __call__(self, x: Float[Array, "B D"]) -> Float[Array, "B K"]:
        codes = jnp.asarray(paley_codes(x.shape[-1], 10), x.dtype)
        return jnp.square(x[:, None, :] - codes[None]).sum(axis=-1)


def paley_codes(length: int, count: int) -> np.ndarray:
    """±1 codes [count, length], any two of which differ in exactly half of their places.

    Rows of the Hadamard matrix of order q + 1 with q = 3 mod 4 a prime, here q = 83: entry (i, j)
    says whether j − i is a square modulo q. Source: Paley 1933.
    """
    q = length - 1
    squares = {i * i % q for i in range(1, q)}
    character = np.array([0] + [1 if i in squares else -1 for i in range(1, q)])
    places = np.arange(q)
    inner = character[(places[None] - places[:count, None]) % q]
    inner[np.arange(count), np.arange(count)] = -1
    return np.concatenate([np.ones((count, 1), int), inner], axis=1)
