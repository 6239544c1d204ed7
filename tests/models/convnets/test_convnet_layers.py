"""Layers that networks share, against loops in numpy."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.models.convnets.layers import (
    AveragePool,
    Convolution,
    GlobalAveragePool,
    LocalResponseNorm,
    MaxPool,
    output_size,
)
from seqlab.models.convnets.lenet import (
    TABLE_I,
    Distances,
    PartialConvolution,
    Subsampling,
    paley_codes,
    scaled_tanh,
)


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_output_size_counts_the_places_of_a_window():
    """Every whole result up to 12 inputs is the number of places; the others are errors."""
    for size, window, stride, padding in itertools.product(
        range(1, 13), range(1, 9), range(1, 5), range(3)
    ):
        last = size + 2 * padding - window
        if last < 0 or last % stride:
            with pytest.raises(ValueError, match=f"N={size}, window F={window}, stride S={stride}"):
                output_size(size, window, stride, padding)
        else:
            places = len(range(0, last + 1, stride))
            assert output_size(size, window, stride, padding) == places


def test_output_size_of_the_lectures():
    assert [output_size(7, 3, 1), output_size(7, 3, 2), output_size(32, 5)] == [5, 3, 28]
    assert output_size(227, 11, stride=4) == 55
    assert output_size(7, 3, 1, padding=1) == 7
    with pytest.raises(ValueError, match=r"N=7, .*F=3, .*S=3.* = 2\.33 is not whole"):
        output_size(7, 3, 3)


@pytest.mark.parametrize(
    ("sizes", "named"),
    [((0, 3), "input"), ((7, 0), "window"), ((7, 3, 0), "stride"), ((7, 3, 1, -1), "padding")],
)
def test_output_size_rejects_sizes_that_are_none(sizes, named):
    with pytest.raises(ValueError, match=rf"the {named} must be at least \d, not -?\d"):
        output_size(*sizes)


def windows(x, window, stride, padding, ceil, fill):
    """Windows by place; with `ceil` also one that starts inside and overlaps the border."""
    size = x.shape[1]
    padded = np.pad(x, ((0, 0), (padding, 99), (padding, 99), (0, 0)), constant_values=fill)
    last = size + 2 * padding - window
    starts = [start for start in range(0, size + padding, stride) if start <= last]
    if ceil and starts[-1] < last and starts[-1] + stride < size + padding:
        starts.append(starts[-1] + stride)
    for (i, top), (j, left) in itertools.product(enumerate(starts), enumerate(starts)):
        yield (i, j), len(starts), padded[:, top : top + window, left : left + window]


POOLS = [
    (size, window, stride, padding, ceil)
    for size, (window, stride, padding), ceil in itertools.product(
        (5, 6), ((2, 2, 0), (3, 2, 0), (3, 2, 1), (2, 3, 0), (2, 3, 1)), (False, True)
    )
]


@pytest.mark.parametrize(("size", "window", "stride", "padding", "ceil"), POOLS)
def test_max_pool(size, window, stride, padding, ceil):
    x = drawn(2, size, size, 3) - 5  # below 0: a zero of the padding would show
    ours = np.asarray(MaxPool(window, stride, padding, ceil).apply({}, jnp.asarray(x)))
    found = {}
    for place, count, values in windows(x, window, stride, padding, ceil, -np.inf):
        found[place] = values.max(axis=(1, 2))
        assert ours.shape == (2, count, count, 3)
    for (i, j), value in found.items():
        np.testing.assert_array_equal(ours[:, i, j], value)


@pytest.mark.parametrize("sizes", [(5, 2, 2, 0), (6, 3, 2, 0), (5, 3, 1, 1)])
def test_average_pool_counts_the_zeros_of_the_padding(sizes):
    x = drawn(2, sizes[0], sizes[0], 3)
    ours = np.asarray(AveragePool(*sizes[1:]).apply({}, jnp.asarray(x)))
    for (i, j), count, values in windows(x, *sizes[1:], False, 0):
        assert ours.shape == (2, count, count, 3)
        expected = values.sum(axis=(1, 2)) / sizes[1] ** 2
        np.testing.assert_allclose(ours[:, i, j], expected, rtol=1e-5, atol=1e-6)


def test_global_average_pool():
    x = drawn(2, 3, 5, 4)
    ours = GlobalAveragePool().apply({}, jnp.asarray(x))
    np.testing.assert_allclose(ours, x.reshape(2, 15, 4).sum(axis=1) / 15, rtol=1e-5, atol=1e-6)


def test_local_response_norm():
    """With large values, so that each of the four constants matters."""
    x = 50 * drawn(2, 2, 2, 9)
    ours = np.asarray(LocalResponseNorm().apply({}, jnp.asarray(x)))
    for i in range(9):
        near = [j for j in range(9) if abs(i - j) <= 2]
        scale = (2 + 1e-4 * sum(x[..., j].astype(float) ** 2 for j in near)) ** 0.75
        np.testing.assert_allclose(ours[..., i], x[..., i] / scale, rtol=1e-5)


def convolved(x, kernel, stride, padding, groups, dilation):
    """Every product of a convolution, one output at a time."""
    _, size, _, channels = x.shape
    window, _, _, features = kernel.shape
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    reach = dilation * (window - 1) + 1
    places = range(0, size + 2 * padding - reach + 1, stride)
    result = np.zeros((x.shape[0], len(places), len(places), features))
    inputs, outputs = channels // groups, features // groups
    for (i, top), (j, left) in itertools.product(enumerate(places), enumerate(places)):
        patch = x[:, top : top + reach : dilation, left : left + reach : dilation]
        for feature in range(features):
            first = feature // outputs * inputs
            seen = patch[..., first : first + inputs]
            result[:, i, j, feature] = (seen * kernel[None, ..., feature]).sum(axis=(1, 2, 3))
    return result


@pytest.mark.parametrize(
    ("stride", "padding", "groups", "dilation"),
    [(1, 0, 1, 1), (2, 1, 2, 1), (1, 2, 4, 2), (3, "VALID", 2, 1), (1, "SAME", 1, 2)],
)
def test_convolution(stride, padding, groups, dilation):
    layer = Convolution(
        8,
        (3, 3),
        stride,
        padding,
        groups=groups,
        dilation=dilation,
    )
    x = drawn(2, 7, 7, 4)
    kernel, bias = drawn(3, 3, 4 // groups, 8, seed=1), drawn(8, seed=2)
    ours = layer.apply({"params": {"kernel": kernel, "bias": bias}}, jnp.asarray(x))
    zeros = {"VALID": 0, "SAME": dilation}.get(padding, padding)
    expected = convolved(x, kernel, stride, zeros, groups, dilation) + bias[None, None, None]
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def test_convolutions_are_drawn_by_what_goes_out():
    """N(0, 2 / (window · outputs)), whatever goes in."""
    layer = Convolution(64, (3, 3), use_bias=False)
    kernel = np.asarray(layer.init(jax.random.key(0), jnp.zeros((1, 3, 3, 96)))["params"]["kernel"])
    assert kernel.std() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.02)
    assert abs(kernel.mean()) < 4 * kernel.std() / math.sqrt(kernel.size)


@pytest.mark.parametrize(
    ("layer", "size", "message"),
    [
        (MaxPool(3, 2), 2, "MaxPool: window 3×3 does not fit into its input 2×2"),
        (MaxPool(3, 2, ceil=True), 2, "MaxPool: window 3×3 does not fit into its input 2×2"),
        (AveragePool(4, 1, 1), 1, "AveragePool: window 4×4 .* input 1×1 with padding 1"),
        (Subsampling(), 1, "Subsampling: window 2×2 does not fit into its input 1×1"),
        (Convolution(1, (1, 7), padding="VALID"), 6, "Convolution: window 1×7 .* input 6×6"),
        (Convolution(1, (3, 3), padding=1, dilation=2), 2, "5×5 .* 2×2 with padding 1"),
    ],
)
def test_a_window_that_does_not_fit_is_an_error(layer, size, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(layer.init, jax.random.key(0), jnp.zeros((1, size, size, 1)))


PRINTED_TABLE_I = (
    "X...XXX..XXXX.XX",
    "XX...XXX..XXXX.X",
    "XXX...XXX..X.XXX",
    ".XXX..XXXX..X.XX",
    "..XXX..XXXX.XX.X",
    "...XXX..XXXX.XXX",
)


def test_connections_of_c3_are_the_printed_table():
    maps = [seen for group in TABLE_I.values() for seen in group]
    printed = [{row for row in range(6) if PRINTED_TABLE_I[row][m] == "X"} for m in range(16)]
    assert [set(seen) for seen in maps] == printed
    assert sum(map(len, maps)) == 60


def test_c3_against_a_scalar_loop():
    x = drawn(1, 6, 6, 6)
    params = {
        name: {
            "kernel": drawn(5, 5, len(group[0]), len(group), seed=1),
            "bias": drawn(len(group), seed=2),
        }
        for name, group in TABLE_I.items()
    }
    ours = np.asarray(PartialConvolution().apply({"params": params}, jnp.asarray(x)))
    assert ours.shape == (1, 2, 2, 16)
    number = 0
    for name, group in TABLE_I.items():
        for m, seen in enumerate(group):
            for top, left in itertools.product(range(2), range(2)):
                value = float(params[name]["bias"][m])
                for i, j, k in itertools.product(range(5), range(5), range(len(seen))):
                    weight = float(params[name]["kernel"][i, j, k, m])
                    value += weight * float(x[0, top + i, left + j, seen[k]])
                assert ours[0, top, left, number] == pytest.approx(value, rel=1e-4, abs=1e-4)
            number += 1


def test_subsampling_against_a_loop():
    x, coefficient, bias = drawn(2, 5, 4, 3), drawn(3, seed=1), drawn(3, seed=2)
    params = {"coefficient": coefficient, "bias": bias}
    ours = np.asarray(Subsampling().apply({"params": params}, jnp.asarray(x)))
    assert ours.shape == (2, 2, 2, 3)
    for i, j, c in itertools.product(range(2), range(2), range(3)):
        four = sum(x[:, 2 * i + a, 2 * j + b, c] for a in (0, 1) for b in (0, 1))
        np.testing.assert_allclose(
            ours[:, i, j, c], coefficient[c] * four + bias[c], rtol=1e-4, atol=1e-5
        )


def test_scaled_tanh_keeps_one():
    np.testing.assert_allclose(scaled_tanh(jnp.array([-1.0, 0.0, 1.0])), [-1, 0, 1], atol=1e-4)


def test_codes_differ_in_half_of_their_places():
    codes = paley_codes(84, 10)
    np.testing.assert_array_equal(codes @ codes.T, 84 * np.eye(10))
    assert set(codes.ravel()) == {-1, 1}


def test_distances_to_codes():
    x = drawn(2, 84)
    codes = paley_codes(84, 10)
    expected = [
        [sum((x[b, i] - codes[k, i]) ** 2 for i in range(84)) for k in range(10)] for b in (0, 1)
    ]
    np.testing.assert_allclose(Distances().apply({}, jnp.asarray(x)), expected, rtol=1e-5)
    assert not Distances().init(jax.random.key(0), jnp.asarray(x))
