"""Building blocks and whole small networks against torch, forward, on the same random variables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from network_variables import randomised

from seqlab.models.convnets import NETWORKS
from seqlab.models.convnets.googlenet import Inception
from seqlab.models.convnets.inception import MIXED, Mixed
from seqlab.models.convnets.layers import Convolution, LocalResponseNorm, MaxPool, batch_norm
from seqlab.models.convnets.resnet import BasicBlock, Bottleneck, zero_padding
from seqlab.models.convnets.unet import UNet

torch = pytest.importorskip("torch")
import torch_networks as twin  # noqa: E402


def drawn(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def assert_close(ours, theirs):
    theirs = np.asarray(theirs)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize(
    ("stride", "padding", "groups", "dilation"),
    [(1, 0, 1, 1), (2, 1, 2, 1), (1, 2, 4, 2), (3, 3, 2, 1)],
)
def test_convolution(stride, padding, groups, dilation):
    layer = Convolution(8, (3, 5), stride, padding, groups, dilation)
    x = drawn(2, 9, 11, 4)
    variables = randomised(layer, x)
    settings = {"stride": stride, "padding": padding, "groups": groups, "dilation": dilation}
    theirs = twin.convolution(variables["params"], twin.nchw(x), **settings)
    assert_close(layer.apply(variables, x), twin.nhwc(theirs))


def test_local_response_norm():
    x = 50 * drawn(2, 3, 3, 9)
    norm = torch.nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2)  # its alpha is n of ours
    assert_close(LocalResponseNorm().apply({}, x), twin.nhwc(norm(twin.nchw(x))))


@pytest.mark.parametrize("size", [6, 7])
@pytest.mark.parametrize("setting", [(2, 2, 0), (3, 2, 0), (3, 2, 1), (2, 3, 0), (2, 3, 1)])
def test_max_pool_in_ceil_mode(size, setting):
    x = drawn(1, size, size, 2) - 5
    theirs = torch.nn.functional.max_pool2d(twin.nchw(x), *setting, ceil_mode=True)
    assert_close(MaxPool(*setting, ceil=True).apply({}, x), twin.nhwc(theirs))


def test_batch_norm_in_evaluation():
    x = drawn(2, 3, 3, 4)
    layer = batch_norm(train=False, name="norm")
    v = randomised(layer, x)
    theirs = twin.norm(v["params"], v["batch_stats"], twin.nchw(x))
    assert_close(layer.apply(v, x), twin.nhwc(theirs))


def test_batch_norm_in_training():
    """The same output; torch's running variance is that of n - 1, ours that of n."""
    x = drawn(2, 3, 3, 4)
    layer = batch_norm(train=True, name="norm")
    v = randomised(layer, x)
    mean, var = (twin.tensor(v["batch_stats"][key]) for key in ("mean", "var"))
    scale, bias = (twin.tensor(v["params"][key]) for key in ("scale", "bias"))
    old_var = var.numpy().copy()
    theirs = torch.nn.functional.batch_norm(twin.nchw(x), mean, var, scale, bias, training=True)
    ours, updated = layer.apply(v, x, mutable=["batch_stats"])
    assert_close(ours, twin.nhwc(theirs))
    assert_close(updated["batch_stats"]["mean"], mean.numpy())
    n = 2 * 3 * 3
    of_n = 0.9 * old_var + (var.numpy() - 0.9 * old_var) * (n - 1) / n
    assert_close(updated["batch_stats"]["var"], of_n)


def test_inception_module():
    x = drawn(2, 6, 6, 8)
    module = Inception(3, 4, 5, 2, 6, 7)
    v = randomised(module, x)
    assert_close(module.apply(v, x), twin.nhwc(twin.inception(v["params"], twin.nchw(x))))


@pytest.mark.parametrize("name", ["mixed_5b", "mixed_6a", "mixed_6b", "mixed_7a", "mixed_7c"])
def test_modules_of_inception_v3(name):
    x = drawn(1, 5, 5, 8)
    module = Mixed(dict(MIXED)[name])
    v = randomised(module, x, False)
    ours = jax.jit(module.apply, static_argnums=2)(v, x, False)
    theirs = twin.inception_v3_module(name, v["params"], v["batch_stats"], twin.nchw(x))
    assert_close(ours, twin.nhwc(theirs))


@pytest.mark.parametrize(("channels", "stride"), [(8, 1), (4, 1), (8, 2)])
@pytest.mark.parametrize(
    ("block", "width", "body"), [(BasicBlock, 8, "basic_body"), (Bottleneck, 2, "bottleneck_body")]
)
def test_residual_blocks(block, width, body, channels, stride):
    x = drawn(2, 7, 7, channels)
    body = {"basic_body": twin.basic_body, "bottleneck_body": twin.bottleneck_body}[body]
    module = block(width, stride)
    v = randomised(module, x)
    inputs = v["params"], v["batch_stats"], twin.nchw(x), stride
    assert ("projection" in v["params"]) == ((channels, stride) != (8, 1))
    theirs = torch.relu(body(*inputs) + twin.projection(*inputs))
    assert_close(module.apply(v, x), twin.nhwc(theirs))
    plain = module.clone(shortcut=None)
    assert_close(plain.apply(v, x), twin.nhwc(torch.relu(body(*inputs))))


@pytest.mark.parametrize(("size", "features", "stride"), [(6, 8, 2), (7, 8, 2), (6, 4, 1)])
def test_shortcut_of_option_a(size, features, stride):
    x = drawn(2, size, size, 4)
    side = -(-size // stride)
    ours = zero_padding(x, (2, side, side, features), stride, False)
    assert_close(ours, twin.nhwc(twin.option_a(twin.nchw(x), features, stride)))


def test_unet_without_padding():
    """Two levels of the published network: 20 → 16, 8 → 4, and up with the middle 8 of the 16."""
    x = drawn(1, 20, 20, 1)
    module = UNet(widths=(4, 8), classes=2)
    v = randomised(module, x)
    p = v["params"]

    def twice(x, name):
        for number in (1, 2):
            x = torch.relu(twin.convolution(p[f"{name}_{number}"], x))
        return x

    first = twice(twin.nchw(x), "down1")
    up = twin.up_convolution(p["upconv1"], twice(torch.max_pool2d(first, 2), "down2"))
    middle = torch.cat([first[:, :, 4:12, 4:12], up], dim=1)
    theirs = twin.convolution(p["classes"], twice(middle, "up1"))
    assert_close(jax.jit(module.apply)(v, x), twin.nhwc(theirs))


NETWORK_TWINS = {
    "lenet5": twin.lenet5,
    "lenet5_1998": twin.lenet5_1998,
    "vgg_small": twin.vgg_small,
    "resnet20_cifar": twin.resnet20_cifar,
}


@pytest.mark.parametrize("name", NETWORK_TWINS)
def test_whole_networks(name):
    module, shape = NETWORKS[name]
    x = drawn(2, *shape)
    v = randomised(module, x)
    theirs = NETWORK_TWINS[name](v["params"], v.get("batch_stats"), twin.nchw(x))
    assert_close(jax.jit(module.apply)(v, x), theirs.numpy())


def test_the_small_unet():
    module = NETWORKS["unet_small"].module
    x = drawn(2, 16, 16, 3)
    v = randomised(module, x)
    theirs = twin.unet_small(v["params"], {}, twin.nchw(x))
    assert_close(jax.jit(module.apply)(v, x), twin.nhwc(theirs))
