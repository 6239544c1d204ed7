"""The accounting of every network: published counts, closed forms, the compiler's FLOPs."""

import math

import jax
import numpy as np
import pytest
from mac_oracles import MACS

from seqlab.accounting import account, of_module
from seqlab.accounting.compiled import forward, lowered_flops
from seqlab.accounting.operations import macs, operations
from seqlab.models.convnets import NETWORKS


@pytest.fixture(scope="module")
def counted():
    known = {}

    def of(name):
        if name not in known:
            network = NETWORKS[name]
            known[name] = account(of_module(name, network.module, network.input_shape))
        return known[name]

    return of


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_account_for_every_parameter(name, counted):
    network = NETWORKS[name]
    image = jax.ShapeDtypeStruct((1, *network.input_shape), np.float32)
    variables = jax.eval_shape(lambda x: network.module.init(jax.random.key(0), x), image)
    params = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
    totals = counted(name).totals
    assert totals.params == sum(row.params for row in counted(name).rows) == params
    paths = jax.tree_util.tree_leaves_with_path(variables["params"])
    kernels = sum(math.prod(leaf.shape) for path, leaf in paths if path[-1].key == "kernel")
    coefficients = 6 + 16 if name == "lenet5_1998" else 0  # of its trained subsampling
    assert totals.weights == kernels + coefficients


@pytest.mark.parametrize("name", NETWORKS)
def test_macs_are_those_of_the_papers_tables(name, counted):
    assert counted(name).totals.macs == MACS[name]


DEEP = ("resnet101", "resnet152", "plain50", "plain101", "plain152")  # seconds to lower each


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in DEEP)) for n in NETWORKS]
)
def test_the_compiler_counts_the_same_but_for_element_wise_work(name, counted):
    """XLA leaves out the zeros of the padding, and adds what is no multiply-add."""
    network = NETWORKS[name]
    subject = of_module(name, network.module, network.input_shape)
    inputs = list(subject.inputs.values())
    found = operations(subject.function, subject.variables, inputs)
    elements = sum(
        operation.repeats * math.prod(array.shape) * _window(operation)
        for operation in found
        if not macs(operation)
        for array in (*operation.inputs, *operation.outputs)
    )
    flops = lowered_flops(forward(subject))
    inside = 2 * counted(name).totals.macs_inside
    assert inside <= flops <= inside + elements


def _window(operation):
    return math.prod(operation.settings.get("window_dimensions", (1,)))


def test_batch_multiplies_activations_and_macs_and_nothing_else():
    network = NETWORKS["vgg_small"]
    one, five = (
        account(of_module("x", network.module, network.input_shape, batch)) for batch in (1, 5)
    )
    for name, value in one.totals._asdict().items():
        scale = 1 if name in ("params", "weights") else 5
        assert getattr(five.totals, name) == scale * value
    for row, rows in zip(one.rows, five.rows, strict=True):
        assert rows.output_shape == row.output_shape
        assert (rows.params, rows.macs) == (row.params, 5 * row.macs)


def field_of_resnet(blocks, convolutions):
    """Along one axis, from Table 1 of He et al.: each window adds (size - 1) steps of its input.

    `convolutions`: the windows of a block; the first of a stage takes the stride at its first 3.
    """
    field, step = 7 + 2 * 2, 4  # conv1 and pool1
    for stage, count in enumerate(blocks):
        for block in range(count):
            stride = 2 if stage and not block else 1
            for window in convolutions:
                field += (window - 1) * step
                if window == 3:
                    step, stride = step * stride, 1
    return field


# Extents of the last layer that is local, in positions of the input. The first three: Araujo,
# Norris and Sim 2019, Computing Receptive Fields of Convolutional Neural Networks, Table 1.
FIELDS = {
    "alexnet": 195,
    "vgg16": 212,
    "inception_v3": 1311,
    "resnet18": field_of_resnet((2, 2, 2, 2), (3, 3)),
    "resnet50": field_of_resnet((3, 4, 6, 3), (1, 3, 1)),
    "resnet101": field_of_resnet((3, 4, 23, 3), (1, 3, 1)),
}


@pytest.mark.parametrize("name", FIELDS)
def test_receptive_fields_are_the_published_ones(name, counted):
    local = [
        row.receptive_field
        for row in counted(name).rows
        if len(row.output_shape) == 3 and row.receptive_field
    ]
    widest = tuple(max(extents) for extents in zip(*local, strict=True))
    assert widest == (FIELDS[name], FIELDS[name])


VGG16_MEMORY = (
    [150_528, 3_211_264, 3_211_264, 802_816, 1_605_632, 1_605_632, 401_408]
    + [802_816] * 3
    + [200_704, 401_408, 401_408, 401_408, 100_352, 100_352, 100_352, 100_352, 25_088]
    + [4_096, 4_096, 1_000]
)


def test_vgg16_by_every_definition(counted):
    vgg16 = counted("vgg16")
    assert [row.activations for row in vgg16.rows] == VGG16_MEMORY
    totals = vgg16.totals
    assert totals.macs == 15_470_264_320
    assert sum(row.macs for row in vgg16.rows if row.kind == "convolution") == 15_346_630_656
    assert totals.activations == 15_237_608
    assert totals.outputs == 13_556_712
    assert totals.with_nonlinearities == 28_793_320
    assert totals.activation_bytes == 4 * 15_237_608
