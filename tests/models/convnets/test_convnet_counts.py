"""Parameters of every network against published counts, and against closed forms."""

import math

import jax
import pytest
from mac_oracles import MACS
from network_variables import leaves, variables

from seqlab.models.convnets import NETWORKS

PARAMS = {  # with biases and normalisation
    "lenet5": 61_706,
    "lenet5_1998": 60_000,
    "alexnet": 60_965_224,
    "alexnet_deck": 62_378_344,
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg_small": 9 * (3 * 16 + 16 * (16 + 32) + 32 * (32 + 64) + 64 * 64) + 4 * 112 + 650,
    "googlenet": 6_998_552,
    "googlenet_bn": 6_624_904,
    "inception_v3": 23_834_568,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "unet": 31_030_658,
}

WEIGHTS = {  # kernels alone
    "lenet5": 61_470,
    "alexnet": 60_954_656,
    "alexnet_deck": 62_367_776,
    "vgg16": 138_344_128,
    "vgg19": 143_652_544,
    "googlenet": 6_990_272,
}

PUBLISHED_MACS = {
    "vgg16": 15_470_264_320,
    "vgg19": 19_632_062_464,
    "alexnet": 724_406_816,
    "alexnet_deck": 1_135_256_096,
    "lenet5": 416_520,
    "googlenet": 1_582_671_872,
    "googlenet_bn": 1_498_376_192,
}

PUBLISHED_GIGAMACS = {
    "inception_v3": "5.713",
    "resnet18": "1.814",
    "resnet34": "3.664",
    "resnet50": "4.089",
    "resnet101": "7.801",
    "resnet152": "11.514",
}

VGG16_WEIGHTS = {
    "conv1_1": 1_728,
    "conv1_2": 36_864,
    "conv2_1": 73_728,
    "conv2_2": 147_456,
    "conv3_1": 294_912,
    "conv3_2": 589_824,
    "conv3_3": 589_824,
    "conv4_1": 1_179_648,
    "conv4_2": 2_359_296,
    "conv4_3": 2_359_296,
    "conv5_1": 2_359_296,
    "conv5_2": 2_359_296,
    "conv5_3": 2_359_296,
    "fc6": 102_760_448,
    "fc7": 16_777_216,
    "fc8": 4_096_000,
}


def total(params):
    return sum(map(math.prod, leaves(params).values()))


def projections(params):
    return {path: shape for path, shape in leaves(params).items() if "/projection" in path}


@pytest.mark.parametrize("name", PARAMS)
def test_params(name):
    assert total(variables(name)["params"]) == PARAMS[name]


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(name):
    params = leaves(variables(name)["params"])
    kernels = [math.prod(shape) for path, shape in params.items() if path.endswith("kernel")]
    assert sum(kernels) == WEIGHTS[name]


@pytest.mark.parametrize("name", ["resnet20_cifar", "resnet56_cifar"])
def test_params_of_cifar_networks(name):
    """6n + 2 layers: He et al. 2015, section 4.2; "0.27M" and "0.85M" in Table 6."""
    n = (int(name.removeprefix("resnet").removesuffix("_cifar")) - 2) // 6
    wide = 2 * n * 16**2 + 16 * 32 + (2 * n - 1) * 32**2 + 32 * 64 + (2 * n - 1) * 64**2
    norms = 2 * 16 + 2 * n * 2 * (16 + 32 + 64)
    count = total(variables(name)["params"])
    assert count == 9 * (3 * 16 + wide) + norms + 64 * 10 + 10
    assert f"{count / 1e6:.2f}" == {3: "0.27", 9: "0.85"}[n]


def test_params_of_the_small_unet():
    """Depth 3: two 3×3 a level and direction, 2×2 up, 1×1 to 4 classes, all with biases."""
    down = 9 * (3 * 16 + 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64) + 2 * (16 + 32 + 64)
    up = 4 * (64 * 32 + 32 * 16) + 32 + 16
    merged = 9 * (64 * 32 + 32 * 32 + 32 * 16 + 16 * 16) + 2 * (32 + 16)
    assert total(variables("unet_small")["params"]) == down + up + merged + 16 * 4 + 4


def test_vgg16_layer_by_layer():
    params = leaves(variables("vgg16")["params"])
    ours = {
        path.removesuffix("/kernel"): math.prod(shape)
        for path, shape in params.items()
        if path.endswith("/kernel")
    }
    assert ours == VGG16_WEIGHTS


@pytest.mark.parametrize(
    ("name", "count"),
    [("googlenet_bn", 13_004_888), ("inception_v3", 27_161_264)],
)
def test_params_with_auxiliary_classifiers(name, count):
    assert total(variables(name, auxiliary=True)["params"]) == count


@pytest.mark.parametrize("name", ["googlenet", "googlenet_bn", "inception_v3"])
def test_auxiliary_classifiers_only_add_modules_named_so(name):
    with_heads = leaves(variables(name, auxiliary=True)["params"])
    heads = {path for path in with_heads if path.startswith("auxiliary")}
    assert len({path.split("/")[0] for path in heads}) == (1 if name == "inception_v3" else 2)
    without = {path: shape for path, shape in with_heads.items() if path not in heads}
    assert without == leaves(variables(name)["params"])


@pytest.mark.parametrize("name", [name for name in NETWORKS if name.startswith("plain")])
def test_plain_twin_has_the_layers_of_its_residual_network(name):
    residual = NETWORKS[name.replace("plain", "resnet")]
    assert NETWORKS[name] == residual._replace(module=residual.module.clone(shortcut=None))
    assert residual.module.shortcut is not None


@pytest.mark.parametrize("name", ["plain18", "plain34", "plain50", "plain20_cifar"])
def test_plain_twin_is_the_residual_network_without_projections(name):
    residual = variables(name.replace("plain", "resnet"))
    plain = variables(name)
    for collection in ("params", "batch_stats"):
        shortcuts = projections(residual[collection])
        expected = leaves(residual[collection]).items() - shortcuts.items()
        assert leaves(plain[collection]).items() == expected
    kernels = [path for path in projections(residual["params"]) if path.endswith("kernel")]
    stages_that_project = {"plain18": 3, "plain34": 3, "plain50": 4, "plain20_cifar": 0}
    assert len(kernels) == stages_that_project[name]


@pytest.mark.parametrize("name", PUBLISHED_MACS)
def test_closed_forms_of_multiply_adds_are_the_published_figures(name):
    assert MACS[name] == PUBLISHED_MACS[name]


@pytest.mark.parametrize("name", PUBLISHED_GIGAMACS)
def test_closed_forms_of_multiply_adds_round_to_the_published_figures(name):
    assert f"{MACS[name] / 1e9:.3f}" == PUBLISHED_GIGAMACS[name]


def test_every_network_has_its_multiply_adds_in_closed_form():
    assert MACS.keys() == NETWORKS.keys()


@pytest.mark.parametrize("name", PARAMS)
def test_all_variables_are_float32(name):
    kinds = {leaf.dtype.name for leaf in jax.tree.leaves(variables(name))}
    assert kinds == {"float32"}
