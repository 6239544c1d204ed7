"""What several networks share: sizes, convolutions that must fit, pools that have a name.

Letters: B batch, H height, W width, C channels, K classes. Images are [B, H, W, C].
Padding is the number of zeros on each side (minus infinity where a maximum is taken).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""N(0, 2 / (window · outputs)). Source: He et al. 2015, Delving Deep into Rectifiers, eq. 14."""


def output_size(size: int, window: int, stride: int = 1, padding: int = 0) -> int:
    """Positions that a window takes along one axis: (N − F + 2P)/S + 1.

    The arithmetic of the lectures, in which the window must come out at the border exactly. The
    layers of real networks leave out the rest (`MaxPool` and strided convolutions), or take it
    with a window that overlaps the border (`MaxPool` with `ceil`).

    Args:
        size: N, of the input.
        window: F.
        stride: S.
        padding: P, zeros on each side.

    Raises:
        ValueError: the result is not whole, the window is larger than the padded input, or a size
            is not positive.
    """
    for name, value in (("input", size), ("window", window), ("stride", stride)):
        if value < 1:
            raise ValueError(f"the {name} must be at least 1, not {value}")
    if padding < 0:
        raise ValueError(f"the padding must be at least 0, not {padding}")
    sizes = f"input N={size}, window F={window}, stride S={stride}" + (
        f", padding P={padding}" if padding else ""
    )
    room = size - window + 2 * padding
    if room < 0:
        raise ValueError(f"{sizes}: the window is larger than the padded input, {room + window}")
    if room % stride:
        formula = f"({size} − {window} + 2·{padding})/{stride} + 1"
        raise ValueError(f"{sizes}: {formula} = {room / stride + 1:.2f} is not whole")
    return room // stride + 1


def once(x: Array) -> Array:
    """x, computed once on a CPU and not again in every kernel that reads it.

    XLA for CPUs fuses a sum of skips into every kernel that reads it, and with it the sum before
    that, back to the first block: a step of ResNet-56 took five times as long. It does not fuse
    across a conditional, so x goes through one. In value, and elsewhere, this is the identity.
    """

    def behind_a_branch(x: Array) -> Array:
        never = jax.lax.stop_gradient(x.ravel()[0]) > jnp.inf
        return jax.lax.cond(never, lambda x: x * jnp.asarray(jnp.nan, x.dtype), lambda x: x, x)

    return jax.lax.platform_dependent(x, cpu=behind_a_branch, default=lambda x: x)


def require_fit(layer: nn.Module, x: Array, window: tuple[int, ...], padding: int) -> None:
    """Raise ValueError if the window is larger than the padded image, which JAX makes empty."""
    size = x.shape[1:-1]
    if all(n + 2 * padding >= f for n, f in zip(size, window, strict=True)):
        return
    name = "/".join(layer.path) or type(layer).__name__
    padded = f" with padding {padding}" if padding else ""
    raise ValueError(
        f"{name}: window {_times(window)} does not fit into its input {_times(size)}{padded}"
    )


def _times(sizes: tuple[int, ...]) -> str:
    return "×".join(map(str, sizes))


class Convolution(nn.Module):
    """y = x ∗ kernel + bias; an error where the window does not fit.

    Attributes:
        features: channels of the output.
        window: height and width.
        stride: between neighbouring positions of the window.
        padding: zeros on each side, "VALID" for none, or "SAME" for an output of the input's size.
        groups: parts of the channels that do not see each other.
        dilation: distance between neighbouring taps of the window.
        use_bias: add one number for each channel.
        kernel_init: draws [height, width, inputs / groups, outputs].
        bias_init: draws [outputs].
    """

    features: int
    window: tuple[int, int]
    stride: int = 1
    padding: int | str = "SAME"
    groups: int = 1
    dilation: int = 1
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = he_fan_out
    bias_init: nn.initializers.Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w D"]:
        shape = (*self.window, x.shape[-1] // self.groups, self.features)
        y = jax.lax.conv_general_dilated(
            x,
            self.param("kernel", self.kernel_init, shape),
            (self.stride, self.stride),
            self._zeros(x),
            rhs_dilation=(self.dilation, self.dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=self.groups,
        )
        if not self.use_bias:
            return y
        return y + self.param("bias", self.bias_init, (self.features,))[None, None, None]

    def _zeros(self, x: Array) -> str | list[tuple[int, int]]:
        if self.padding == "SAME":
            return "SAME"
        zeros = 0 if isinstance(self.padding, str) else self.padding
        reach = tuple((side - 1) * self.dilation + 1 for side in self.window)
        require_fit(self, x, reach, zeros)
        return [(zeros, zeros)] * 2


def batch_norm(train: bool, name: str, epsilon: float = 1e-5) -> nn.BatchNorm:
    """(x − mean)/√(variance + ε)·scale + bias over all but the channels (Ioffe and Szegedy 2015).

    Of the batch in training, else running: running ← 0.9 running + 0.1 batch. Both variances are
    sums over n positions divided by n.
    """
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=epsilon, name=name)


def convolution_norm_relu(
    x: Float[Array, "B H W C"],
    features: int,
    window: tuple[int, int],
    stride: int = 1,
    padding: int | str = "SAME",
    *,
    train: bool,
    name: str,
) -> Float[Array, "B h w D"]:
    """Convolution without bias, batch normalisation with ε = 0.001, ReLU, as in the Inceptions."""
    convolve = Convolution(features, window, stride, padding, use_bias=False, name=name)
    return nn.relu(batch_norm(train, f"{name}_norm", epsilon=1e-3)(convolve(x)))


class MaxPool(nn.Module):
    """The largest value in each window.

    What is left at the border after the last whole window is left out, or, with `ceil`, is seen by
    one more window, which overlaps the border.
    """

    window: int
    stride: int
    padding: int = 0
    ceil: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
        require_fit(self, x, (self.window, self.window), self.padding)
        borders = [(self.padding, self.padding + self._overlap(size)) for size in x.shape[1:-1]]
        return nn.max_pool(x, (self.window,) * 2, (self.stride,) * 2, borders)  # pyright: ignore

    def _overlap(self, size: int) -> int:
        extra = -(size + 2 * self.padding - self.window) % self.stride if self.ceil else 0
        return extra if extra + self.padding < self.window else 0  # else it would see nothing


class AveragePool(nn.Module):
    """The mean of each window, the zeros of the padding counted.

    What is left at the border after the last whole window is left out.
    """

    window: int
    stride: int
    padding: int = 0

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
        require_fit(self, x, (self.window, self.window), self.padding)
        borders = [(self.padding, self.padding)] * 2
        window, stride = (self.window,) * 2, (self.stride,) * 2
        return nn.pool(x, 0.0, jax.lax.add, window, stride, borders) / self.window**2


class GlobalAveragePool(nn.Module):
    """The mean of each channel over an image of any size. Source: Lin et al. 2014, section 3.2."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B C"]:
        return x.mean(axis=(1, 2))


class LocalResponseNorm(nn.Module):
    """b_i = a_i / (k + α Σ_{|j−i| ≤ n/2} a_j²)^β over neighbouring channels i, j.

    Source: Krizhevsky et al. 2012, section 3.3. (PyTorch and Caffe divide α by n.)
    """

    k: float = 2.0
    n: int = 5
    alpha: float = 1e-4
    beta: float = 0.75

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        squares = jax.lax.reduce_window(
            jnp.square(x), 0.0, jax.lax.add, (1, 1, 1, self.n), (1, 1, 1, 1), "SAME"
        )
        return x / (self.k + self.alpha * squares) ** self.beta


def flat(x: Float[Array, "B H W C"]) -> Float[Array, "B D"]:
    """All values of an image in one row, as a fully connected layer reads them."""
    return x.reshape(x.shape[0], -1)
