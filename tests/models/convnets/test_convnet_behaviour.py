"""Sizes of layers, images that are too small, training mode, auxiliary classifiers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import InvalidRngError
from network_variables import randomised, trace, variables

from seqlab.models.convnets import NETWORKS
from seqlab.models.convnets.resnet import ResNetCIFAR
from seqlab.models.convnets.vgg import VGG, SmallVGG

SIZES = {  # as printed in the papers and lectures
    "alexnet": {"conv1": (55, 96), "norm1": (55, 96), "pool1": (27, 96), "norm2": (27, 256)},
    "alexnet_deck": {"pool1": (27, 96), "norm1": (27, 96), "norm2": (13, 256), "pool5": (6, 256)},
    "googlenet": {
        "conv1": (112, 64),
        "pool1": (56, 64),
        "conv2": (56, 192),
        "pool2": (28, 192),
        "inception_3a": (28, 256),
        "inception_3b": (28, 480),
        "pool3": (14, 480),
        "inception_4a": (14, 512),
        "inception_4d": (14, 528),
        "inception_4e": (14, 832),
        "pool4": (7, 832),
        "inception_5a": (7, 832),
        "inception_5b": (7, 1024),
    },
    "inception_v3": {
        "conv1": (149, 32),
        "conv2": (147, 32),
        "conv3": (147, 64),
        "pool1": (73, 64),
        "conv5": (71, 192),
        "pool2": (35, 192),
        "mixed_5b": (35, 256),
        "mixed_5d": (35, 288),
        "mixed_6a": (17, 768),
        "mixed_6e": (17, 768),
        "mixed_7a": (8, 1280),
        "mixed_7c": (8, 2048),
    },
    "resnet50": {
        "conv1": (112, 64),
        "pool1": (56, 64),
        "conv2_3": (56, 256),
        "conv3_4": (28, 512),
        "conv4_6": (14, 1024),
        "conv5_3": (7, 2048),
    },
    "unet": {
        "down1_2": (568, 64),
        "down4_2": (64, 512),
        "down5_2": (28, 1024),
        "upconv4": (56, 512),
        "up4_2": (52, 512),
        "up1_2": (388, 64),
        "classes": (388, 2),
    },
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_of_layers_are_the_printed_ones(name):
    module, shape = NETWORKS[name]
    image = jax.ShapeDtypeStruct((1, *shape), "float32")
    apply = functools.partial(module.apply, capture_intermediates=True)
    _, state = jax.eval_shape(apply, variables(name), image)
    found = {}
    for layer in SIZES[name]:
        (output,) = state["intermediates"][layer]["__call__"]
        _, height, width, channels = output.shape
        assert height == width
        found[layer] = height, channels
    assert found == SIZES[name]


SMALLEST = {  # side of the smallest image, a smaller one, and what the network says of it
    "lenet5": (32, 31, "c5: window 5×5 does not fit into its input 4×4"),
    "lenet5_1998": (32, 31, "c5: window 5×5 does not fit into its input 4×4"),
    "alexnet": (67, 66, "pool5: window 3×3 does not fit into its input 2×2"),
    "alexnet_deck": (67, 66, "pool5: window 3×3 does not fit into its input 2×2"),
    "vgg11": (32, 31, "pool5: window 2×2 does not fit into its input 1×1"),
    "vgg13": (32, 31, "pool5: window 2×2 does not fit into its input 1×1"),
    "vgg16": (32, 31, "pool5: window 2×2 does not fit into its input 1×1"),
    "vgg19": (32, 31, "pool5: window 2×2 does not fit into its input 1×1"),
    "vgg_small": (8, 7, "pool3: window 2×2 does not fit into its input 1×1"),
    "googlenet": (47, 46, "pool4: window 3×3 does not fit into its input 2×2"),
    "googlenet_bn": (47, 46, "pool4: window 3×3 does not fit into its input 2×2"),
    "inception_v3": (75, 74, "mixed_7a/branch3x3_2: window 3×3 does not fit into its input 2×2"),
    **dict.fromkeys(
        [f"{kind}{depth}" for kind in ("resnet", "plain") for depth in (18, 34, 50, 101, 152)],
        (1, 0, "conv1: window 7×7 does not fit into its input 0×0 with padding 3"),
    ),
    **dict.fromkeys(
        [f"{kind}{depth}_cifar" for kind in ("resnet", "plain") for depth in (20, 56)],
        (1, 0, "conv1: window 3×3 does not fit into its input 0×0 with padding 1"),
    ),
    "unet": (188, 172, "up3_2: window 3×3 does not fit into its input 2×2"),
    "unet_small": (4, 2, "pool2: window 2×2 does not divide its input 1×1"),
}


def test_every_network_has_a_smallest_image():
    assert SMALLEST.keys() == NETWORKS.keys()


@pytest.mark.parametrize("name", SMALLEST)
def test_an_image_that_is_too_small_is_an_error_of_the_layer(name):
    module, (_, _, channels) = NETWORKS[name]
    with pytest.raises(ValueError, match="window") as error:
        trace(module, SMALLEST[name][1], channels)
    assert str(error.value).splitlines()[0] == SMALLEST[name][2]


@pytest.mark.parametrize(
    "name", ["alexnet", "vgg11", "vgg_small", "googlenet", "inception_v3", "unet"]
)
def test_the_smallest_image_fits(name):
    module, (_, _, channels) = NETWORKS[name]
    trace(module, SMALLEST[name][0], channels)


def test_odd_sizes_do_not_come_together_in_a_unet():
    with pytest.raises(ValueError, match="pool1: window 2×2 does not divide its input 567×567"):
        trace(NETWORKS["unet"].module, 571, 1)


@pytest.mark.parametrize("module", [ResNetCIFAR(n=1), SmallVGG((2,), widths=(4,))])
def test_batch_norm_uses_the_batch_in_training_and_what_it_ran_over_later(module):
    x = np.random.default_rng(2).normal(size=(3, 8, 8, 3)).astype(np.float32)
    others = np.concatenate([x[:1], 2 * x[1:]])
    start = randomised(module, jnp.asarray(x))
    train = jax.jit(functools.partial(module.apply, train=True, mutable=["batch_stats"]))
    infer = jax.jit(module.apply)

    logits, updated = train(start, jnp.asarray(x))
    jax.tree.map(assert_moved, start["batch_stats"], updated["batch_stats"])
    trained = start | updated
    np.testing.assert_array_equal(logits, train(trained, jnp.asarray(x))[0])
    assert not np.allclose(logits[0], train(start, jnp.asarray(others))[0][0], rtol=1e-3)

    inferred = infer(trained, jnp.asarray(x))
    assert not np.allclose(inferred, infer(start, jnp.asarray(x)), rtol=1e-3)
    np.testing.assert_array_equal(inferred[0], infer(trained, jnp.asarray(others))[0])


def assert_moved(before, after):
    assert np.all(before != after)


@pytest.mark.parametrize(
    ("name", "heads", "train"),
    [("googlenet", 2, True), ("googlenet_bn", 2, False), ("inception_v3", 1, True)],
)
def test_auxiliary_logits_follow_the_logits(name, heads, train):
    module, shape = NETWORKS[name]
    image = jax.ShapeDtypeStruct((5, *shape), "float32")
    rngs = {"dropout": jax.random.key(1)}
    with_heads = module.clone(auxiliary=True)
    apply = functools.partial(with_heads.apply, train=train, mutable=["batch_stats"], rngs=rngs)
    results, updated = jax.eval_shape(apply, variables(name, auxiliary=True), image)
    assert [result.shape for result in results] == [(5, 1000)] * (1 + heads)
    before = variables(name, auxiliary=True).get("batch_stats", {})
    assert jax.tree.structure(updated.get("batch_stats", {})) == jax.tree.structure(before)


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "googlenet", "unet"])
def test_dropout_asks_for_its_key_in_training_alone(name):
    module, shape = NETWORKS[name]
    image = jax.ShapeDtypeStruct((1, *shape), "float32")
    apply = functools.partial(module.apply, train=True, mutable=["batch_stats"])
    with pytest.raises(InvalidRngError, match="dropout"):
        jax.eval_shape(apply, variables(name), image)


def test_dropout_of_vgg_is_one_half_after_fc6_and_fc7():
    module = VGG((1,), widths=(4,), units=500, classes=3)
    x = jnp.asarray(np.random.default_rng(2).normal(size=(4, 4, 4, 3)), jnp.float32)
    start = randomised(module, x)
    apply = functools.partial(module.apply, capture_intermediates=True)
    rngs = {"dropout": jax.random.key(2)}
    _, state = jax.jit(functools.partial(apply, train=True, rngs=rngs))(start, x)
    for number in ("6", "7"):
        (before,) = state["intermediates"][f"fc{number}"]["__call__"]
        (after,) = state["intermediates"][f"drop{number}"]["__call__"]
        on = np.asarray(before) > 0
        kept = np.asarray(after)[on] != 0
        assert abs(kept.mean() - 0.5) < 4 * 0.5 / np.sqrt(on.sum())
        np.testing.assert_allclose(after[on][kept], 2 * before[on][kept], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_networks_compute_in_the_dtype_of_their_variables(dtype):
    for name in ("lenet5_1998", "alexnet", "unet_small"):
        module, shape = NETWORKS[name]
        cast = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), variables(name))
        image = jax.ShapeDtypeStruct((1, *shape), dtype)
        assert jax.eval_shape(module.apply, cast, image).dtype == jnp.dtype(dtype)
