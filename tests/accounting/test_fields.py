"""Receptive fields: what is derived equals the support of a gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.accounting.operations import operations

NHWC = ("NHWC", "HWIO", "NHWC")


def conv(x, size, stride=1, dilation=1, spread=1, padding="SAME", features=2):
    kernel = jnp.ones((size, size, x.shape[-1], features))
    if spread > 1:
        padding = [(size - 1, size - 1)] * 2
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        lhs_dilation=(spread, spread),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=NHWC,
    )


def pool(x, size, stride):
    """A mean, whose gradient reaches all of its window; that of a maximum reaches one element."""
    window = (1, size, size, 1)
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, (1, stride, stride, 1), "VALID")


def three(x):
    return conv(conv(conv(x, 3), 3), 3)


def strided(x):
    return conv(conv(conv(x, 7, 2), 3, 2), 3)


def pooled(x):
    return conv(pool(conv(x, 3), 2, 2), 5)


def overlapping(x):
    return pool(conv(pool(conv(x, 5, 2), 3, 2), 3), 3, 2)


def dilated(x):
    return conv(conv(x, 3, dilation=2), 3, dilation=4)


def branches(x):
    return jnp.concatenate([conv(x, 1), conv(x, 5), pool(jnp.pad(x, PAD), 3, 1)], axis=-1)


def residual(x):
    return x + conv(conv(x, 3, features=1), 3, features=1)


def up_and_down(x):
    return conv(conv(conv(x, 3, 2), 2, spread=2), 3)


def sliced(x):
    return conv(x[:, ::3, ::3], 3)


def turned(x):
    return conv(jnp.swapaxes(jnp.flip(x, 1), 1, 2), 5, 2)


def means(x):
    return conv(x, 3).mean((1, 2))


def flattened(x):
    return conv(x, 3).reshape(1, -1) @ jnp.ones((2 * x.shape[1] * x.shape[2], 4))


PAD = ((0, 0), (1, 1), (1, 1), (0, 0))
LOCAL = [three, strided, pooled, overlapping, dilated, branches, residual, up_and_down, sliced]
LOCAL += [turned]


def derived(function, size):
    image = jax.ShapeDtypeStruct((1, size, size, 1), jnp.float32)
    *_, last = operations(lambda _, x: function(x), (), [image])
    return last.outputs[0].field.sizes


def measured(function, size):
    """The extent of the non-zero gradient of elements near the middle; the largest of them."""
    x = jnp.ones((1, size, size, 1))
    y, pull = jax.vjp(function, x)
    widest = [0, 0]
    middle = [length // 2 for length in y.shape[1:3]]
    for row in range(middle[0] - 1, middle[0] + 2):
        for column in range(middle[1] - 1, middle[1] + 2):
            cotangent = jnp.zeros_like(y).at[0, row, column].set(1.0)
            support = np.argwhere(np.asarray(pull(cotangent)[0])[0, :, :, 0] != 0)
            widest = np.maximum(widest, np.ptp(support, axis=0) + 1)
    return tuple(int(extent) for extent in widest)


@pytest.mark.parametrize("function", LOCAL, ids=lambda f: f.__name__)
def test_derived_field_is_the_measured_one(function):
    assert derived(function, 61) == measured(function, 61)


@pytest.mark.parametrize("function", [means, flattened], ids=lambda f: f.__name__)
def test_what_sees_everything_says_so(function):
    size = 9
    assert all(extent >= size for extent in derived(function, size))
