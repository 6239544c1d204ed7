"""Predicted peaks beside XLA's, and what is saved for the backward pass."""

import jax
import jax.numpy as jnp
import pytest

from seqlab.accounting import account, of_cell, of_module, saved
from seqlab.accounting.account import subject_of
from seqlab.accounting.compiled import OPTIMIZERS, Step, figures, forward, training_step
from seqlab.accounting.memory import predicted_peak
from seqlab.cells import CELLS
from seqlab.models.convnets import NETWORKS

BATCHES = (1, 8, 32)
SMALL = ("lenet5", "vgg_small", "resnet20_cifar", "unet_small")


def network(name, batch):
    return of_module(name, NETWORKS[name].module, NETWORKS[name].input_shape, batch)


def ratio(subject, optimizer="sgd"):
    step = training_step(subject, optimizer)
    return predicted_peak(step) / figures(step).peak


@pytest.mark.parametrize("name", SMALL)
def test_within_a_tenth_of_the_compiler(name):
    assert ratio(network(name, 8)) == pytest.approx(1, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_within_a_tenth(name, batch):
    assert ratio(network(name, batch)) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("save", ["products", "carries", "segments"])
def test_a_recurrence_grows_with_its_steps_as_the_compiler_says(save):
    """By array that is kept: of the LSTM the prediction is right to a tenth in every mode."""
    peaks = []
    for steps in (100, 400):
        step = training_step(of_cell("lstm", CELLS["lstm"], 32, 32, steps, 8, save=save), "sgd")
        peaks.append((predicted_peak(step), figures(step).peak))
    (predicted, compiled), (predicted_long, compiled_long) = peaks
    growth = (predicted_long - predicted) / (compiled_long - compiled)
    assert growth == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_arguments_hold_the_state_of_the_optimiser(optimizer):
    subject = network("lenet5", 4)
    params = account(subject).totals.params
    slots = {"sgd": 0, "momentum": 1, "adam": 2}[optimizer]
    images = 4 * 4 * 32 * 32
    arguments = figures(training_step(subject, optimizer)).arguments
    assert arguments - 4 * params * (1 + slots) - images in (0, 4)  # Adam counts its steps


def test_no_more_memory_for_what_is_fused():
    """A chain of element-wise operations takes its input and its output alone."""

    def long(x):
        for _ in range(20):
            x = jnp.sin(x) * 1.5 + 0.5
        return x

    image = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    step = Step(long, (image,))
    assert predicted_peak(step) == figures(step).peak == 2 * 64 * 64 * 4


def test_saved_is_what_a_chain_rule_needs():
    """Of tanh(x W1) W2 the way back reads tanh's output and, for its slope, nothing but that."""

    def f(params, x):
        w1, w2 = params
        return jnp.tanh(x @ w1) @ w2

    shape = jax.ShapeDtypeStruct
    params = (shape((5, 7), jnp.float32), shape((7, 3), jnp.float32))
    kept = saved(subject_of(f, params, shape((11, 5), jnp.float32)))
    assert kept.elements in (11 * 7, 2 * 11 * 7)  # 1 - y² may be kept beside y
    assert kept.bytes == 4 * kept.elements


def test_forward_needs_no_more_than_two_layers_at_a_time():
    def f(params, x):
        for w in params:
            x = jnp.tanh(x @ w)
        return x

    shape = jax.ShapeDtypeStruct
    params = [shape((32, 32), jnp.float32)] * 6
    x = shape((1000, 32), jnp.float32)
    step = Step(f, (params, x))
    assert predicted_peak(step) == pytest.approx(figures(step).peak, rel=0.01)


def test_nothing_is_allocated():
    before = len(jax.live_arrays())
    subject = network("vgg16", 1)
    account(subject)
    predicted_peak(forward(subject))
    predicted_peak(training_step(subject, "adam"))
    assert len(jax.live_arrays()) == before
