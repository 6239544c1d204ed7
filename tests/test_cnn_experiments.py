"""What is counted and measured of convolutions, next to what is printed of them."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import filter_sizes, inception_accounting
from seqlab import tables
from seqlab.errors import InputError
from seqlab.trial import BUDGETS, as_dict, trial_id


def row(trial, metrics: dict, status: str = "DONE") -> dict:
    return {
        "trial_id": trial_id(trial),
        "config": as_dict(trial),
        "status": status,
        "metrics": metrics,
    }


# filter_sizes


@pytest.fixture(scope="module")
def stacks() -> list[dict]:
    return [row(trial, filter_sizes.run(trial)) for trial in filter_sizes.trials("smoke")]


def test_weights_operations_and_field_of_every_stack(stacks):
    assert len(stacks) == 4
    for found in stacks:
        window, layers = found["config"]["window"], found["config"]["layers"]
        field = layers * (window - 1) + 1
        assert found["metrics"] == {
            "weights": layers * window**2,
            "macs": layers * window**2,
            "height": field,
            "width": field,
            "seen": field**2,
            "nonlinearities": layers - 1,
        }


def test_what_is_measured_is_seen_by_moving_each_input():
    """The other way round: an input is seen if the output moves with it."""
    stack = filter_sizes.Stack(3, 2, 4)
    shape = (1, 9, 9, 4)
    rng = np.random.default_rng(7)
    image = jnp.asarray(rng.normal(size=shape), jnp.float32)
    kernels = jnp.asarray(rng.normal(size=(2, 3, 3, 4, 4)), jnp.float32)
    variables = {"params": {f"Conv_{i}": {"kernel": kernel} for i, kernel in enumerate(kernels)}}
    places = jnp.arange(81)
    moved = jnp.where(
        jax.nn.one_hot(places, 81).reshape(81, 9, 9, 1) > 0, image + 0.5, image
    )  # one pixel in each
    outputs = jax.jit(stack.apply)(variables, jnp.concatenate([image, moved]))
    middle = np.asarray(outputs)[:, 4, 4, 0]
    expected = (np.abs(middle[1:] - middle[0]) > 1e-6).reshape(9, 9)
    np.testing.assert_array_equal(filter_sizes.support(stack, shape), expected)
    assert expected.sum() == 25


def test_support_is_no_rectangle_where_the_network_sees_none():
    class Dilated(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Conv(2, (3, 3), kernel_dilation=(2, 3))(x)

    expected = np.zeros((11, 11), bool)
    expected[3:8:2, 2:9:3] = True
    np.testing.assert_array_equal(filter_sizes.support(Dilated(), (1, 11, 11, 2)), expected)


def test_two_convolutions_are_one_where_relu_does_nothing():
    """Without ReLU two 3×3 are one 5×5: the convolution of their weights."""
    stack = filter_sizes.Stack(3, 2, 1)
    first, second = np.random.default_rng(0).uniform(0.1, 1, size=(2, 3, 3)).astype(np.float32)
    kernels = {f"Conv_{i}": {"kernel": w[:, :, None, None]} for i, w in enumerate((first, second))}
    large = np.zeros((5, 5), np.float32)
    for y in range(3):
        for x in range(3):
            large[y : y + 3, x : x + 3] += second[y, x] * first
    image = np.random.default_rng(1).uniform(0.1, 1, size=(1, 9, 9, 1)).astype(np.float32)
    one = filter_sizes.Stack(5, 1, 1)
    weights = {"params": {"Conv_0": {"kernel": large[:, :, None, None]}}}
    inside = np.s_[0, 2:-2, 2:-2, 0]  # the padding of the two in the middle is another
    positive = np.asarray(stack.apply({"params": kernels}, image))[inside]  # ReLU does nothing
    single = np.asarray(one.apply(weights, image))[inside]
    np.testing.assert_allclose(positive, single, rtol=1e-5)
    negative = np.asarray(stack.apply({"params": kernels}, -image))[inside]  # ReLU ends it all
    np.testing.assert_array_equal(negative, np.zeros_like(negative))


def test_the_table_of_stacks(stacks):
    shown = json.loads(tables.render(filter_sizes.table(stacks[::-1]), "json"))["rows"]
    assert [(r["stack"], r["printed_weights"], r["weights"]) for r in shown] == [
        ("one 5×5", 25, 25),
        ("two 3×3", 18, 18),
        ("one 7×7", 49, 49),
        ("three 3×3", 27, 27),
    ]
    assert [(r["printed_field"], r["field"]) for r in shown] == [("5×5",) * 2] * 2 + [
        ("7×7",) * 2
    ] * 2
    assert len({r["section"] for r in shown}) == 2
    assert {r["verdict"] for r in shown} == {"agrees"}


@pytest.mark.parametrize("key", ["weights", "height", "width", "seen"])
def test_a_stack_that_is_not_as_printed_is_told(stacks, key):
    changed = stacks[0] | {"metrics": stacks[0]["metrics"] | {key: 24}}
    (line,) = filter_sizes.table([changed]).rows
    assert line["verdict"] == "differs"
    (line,) = filter_sizes.table([stacks[0] | {"status": "OOM", "metrics": {}}]).rows
    assert line["verdict"] == "OOM"


def test_stacks_of_ones_own_have_a_line_without_a_verdict():
    trial = filter_sizes.Trial(9, 4, channels=2)
    metrics = {"weights": 324, "macs": 324, "height": 33, "width": 33, "seen": 1089}
    (line,) = filter_sizes.table([row(trial, metrics | {"nonlinearities": 3})]).rows
    assert line["stack"] == "4 9×9"
    assert line["section"].startswith("33×33")
    assert "verdict" not in line


def test_what_is_no_stack_is_refused():
    for window, layers, channels in ((4, 1, 1), (0, 1, 1), (3, 0, 1), (3, 1, 0)):
        with pytest.raises(InputError, match="above 0, not"):
            filter_sizes.check(filter_sizes.Trial(window, layers, channels))
    for budget in BUDGETS:
        assert filter_sizes.trials(budget) == filter_sizes.trials("smoke")
        for trial in filter_sizes.trials(budget):
            filter_sizes.check(trial)


# inception_accounting


@pytest.fixture(scope="module")
def modules() -> list[dict]:
    trials = inception_accounting.trials("smoke")
    return [row(trial, inception_accounting.run(trial)) for trial in trials]


def lines(rows: list[dict], module: str) -> list[dict]:
    shown = json.loads(tables.render(inception_accounting.table(rows), "json"))["rows"]
    return [line for line in shown if line["module"] == module]


def test_the_naive_module_is_what_the_deck_says(modules):
    found = lines(modules, "naive")
    assert [line["ours"] for line in found] == [
        *(25_690_112, 346_816_512, 481_689_600),
        *(854_196_224, 854_196_224, 672),
    ]
    assert [line["weights"] for line in found][:4] == [32_768, 442_368, 614_400, 1_089_536]
    assert {line["verdict"] for line in found} == {"agrees"}


def test_of_the_reduced_module_all_but_the_printed_total_agrees(modules):
    found = lines(modules, "reduced")
    macs = [12_845_056, 12_845_056, 25_690_112, 86_704_128, 120_422_400, 12_845_056]
    assert [line["ours"] for line in found] == [*macs, sum(macs), sum(macs), 480]
    assert sum(macs) == 271_351_808
    weights = [16_384, 16_384, 32_768, 110_592, 153_600, 16_384]
    assert [line["weights"] for line in found][:7] == [*weights, sum(weights)]
    verdicts = [line["verdict"] for line in found]
    assert verdicts == ["agrees"] * 7 + ["differs", "agrees"]
    assert found[7]["printed"] == "358M ops"
    (note,) = inception_accounting.table(modules).notes[1:]
    assert "sum to 271,351,808; it is their sum with 3×3 conv, 192" in note
    assert note.endswith("counted twice: 358,055,936.")


def test_the_modules_compute_with_what_is_counted():
    """The rows of the accounting are the convolutions there are: weights, one by one."""
    image = jax.ShapeDtypeStruct(inception_accounting.INPUT, jnp.float32)
    for name, module in inception_accounting.MODULES.items():
        output, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), image)
        printed = inception_accounting.PRINTED[name]
        assert output.shape == (1, 28, 28, printed.depth)
        kernels = [
            leaf.shape for leaf in jax.tree.leaves(variables["params"]) if len(leaf.shape) == 4
        ]
        expected = [(*c.product[3:], c.product[2]) for c in printed.convolutions]
        assert sorted(kernels) == sorted(expected)


def test_a_row_that_differs_and_a_trial_that_failed_are_told(modules):
    naive = modules[0]
    layers = {name: dict(layer) for name, layer in naive["metrics"]["layers"].items()}
    changed = inception_accounting.PRINTED["naive"].convolutions[1].layer
    layers[changed]["macs"] += 1
    found = lines([naive | {"metrics": naive["metrics"] | {"layers": layers, "depth": 1}}], "naive")
    assert [line["verdict"] == "agrees" for line in found] == [True, False, True, True, True, False]
    (line,) = lines([naive | {"status": "FAILED", "metrics": {}}], "naive")
    assert line["verdict"] == "FAILED"


def test_the_modules_that_there_are():
    for budget in BUDGETS:
        for trial in inception_accounting.trials(budget):
            inception_accounting.check(trial)
    with pytest.raises(InputError, match="Did you mean 'naive'"):
        inception_accounting.check(inception_accounting.Trial("native"))
