"""Every peer computes what the plain scan computes: outputs, gradients, a step of training.

The equations in PyTorch and Flax have been written apart from those of the cells.
"""

import functools
from importlib.util import find_spec

import jax
import numpy as np
import pytest
from jax.experimental import rnn as cudnn_rnn

from seqlab.benchmark import jax_programs, peers
from seqlab.benchmark.case import (
    CHECKED_RATE,
    CLIP_NORM,
    PRECISIONS,
    Disagreement,
    Program,
    Shape,
    checked_error,
    draw,
    relative_error,
)
from seqlab.cells import CELLS
from seqlab.recurrence import plain_unroll

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
TOLERANCE = 3e-6  # float32

SQUARE, OBLONG = Shape(3, 6, 5, 5), Shape(3, 6, 4, 5)


def shape_of(cell: str) -> Shape:
    return SQUARE if cell in ("mut1", "mut2") else OBLONG


def case_of(cell: str, workload: str = "forward+backward", precision: str = "float32"):
    return draw(cell, shape_of(cell), precision, workload)


@functools.cache
def plain_outputs(cell: str) -> dict[str, np.ndarray]:
    """ys, and gradients of the loss, straight from the plain scan."""
    case = case_of(cell)

    def loss(params, xs):
        _, ys = plain_unroll(CELLS[cell], params, None, xs)
        return (ys * case.weights).sum(), ys

    grads, ys = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(case.params, case.xs)
    named = {f"d_{symbol}": grad for symbol, grad in grads[0].items()}
    return {k: np.asarray(v) for k, v in (named | {"d_xs": grads[1], "ys": ys}).items()}


def expected(cell: str, workload: str) -> dict[str, np.ndarray]:
    outputs = plain_outputs(cell)
    gradients = {k: v for k, v in outputs.items() if k not in ("ys", "d_xs")}
    if workload == "forward":
        return {"ys": outputs["ys"]}
    if workload == "forward+backward":
        return gradients | {"d_xs": outputs["d_xs"]}
    norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
    assert norm > CLIP_NORM  # otherwise clipping would not be seen
    updates = {
        name.replace("d_", "update_", 1): -CHECKED_RATE * gradient * CLIP_NORM / norm
        for name, gradient in gradients.items()
    }
    return updates | {"d_xs": outputs["d_xs"]}


@pytest.mark.parametrize(
    ("peer", "cell"),
    [
        ("plain", "lstm"),
        # Flax's own cells, and one that stands for those that are wrapped
        ("nnx", "rnn"),
        ("nnx", "lstm"),
        ("nnx", "mut3"),
        ("linen", "rnn"),
        ("linen", "lstm"),
        ("linen", "gru_reset_after"),
        ("linen", "mut1"),
    ],
)
def test_gradients_in_jax(peer, cell):
    outputs = peers.prepare(case_of(cell), peer).outputs()
    assert relative_error(outputs, expected(cell, "forward+backward")) < TOLERANCE


@pytest.mark.parametrize("workload", ["forward", "training step"])
def test_workloads_of_ours(workload):
    case = case_of("gru_reset_after", workload)
    outputs = jax_programs.prepare(case, jax_programs.seqlab(case)).outputs()
    assert relative_error(outputs, expected("gru_reset_after", workload)) < TOLERANCE


@needs_torch
@pytest.mark.parametrize("workload", ["forward", "forward+backward", "training step"])
@pytest.mark.parametrize("cell", peers.IN_TORCH)
def test_torch(cell, workload):
    program = peers.prepare(case_of(cell, workload), "torch")
    for _ in range(2):  # what a call leaves behind changes nothing
        program.wait(program.call())
        assert relative_error(program.outputs(), expected(cell, workload)) < TOLERANCE


@needs_torch
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler
@pytest.mark.parametrize("cell", peers.LOOPS_IN_TORCH)
def test_torch_compiled(cell):
    outputs = peers.prepare(case_of(cell), "torch_compile").outputs()
    assert relative_error(outputs, expected(cell, "forward+backward")) < TOLERANCE


@needs_torch
def test_torch_in_bfloat16():
    case = case_of("lstm", "forward", "bfloat16")
    program = peers.prepare(case, "torch")
    assert checked_error(case, program, expected("lstm", "forward")) > 1e-4  # it is no float32


def test_weights_of_cudnn_are_those_of_its_reference():
    def run(xs, h0, c0, weights, lengths, *sizes):
        *sizes, _ = sizes
        unpacked = cudnn_rnn.unpack_lstm_weights(weights, *sizes[:3], bidirectional=False)
        return cudnn_rnn.lstm_ref(xs, h0, c0, *unpacked, lengths, *sizes)

    case = case_of("lstm")
    outputs = jax_programs.prepare(case, jax_programs.cudnn(case, run)).outputs()
    assert relative_error(outputs, expected("lstm", "forward+backward")) < TOLERANCE


def test_numbers_are_the_same_in_every_process_and_fit_the_dtype():
    case = draw("gru", OBLONG, "bfloat16", "forward")
    again = draw("gru", OBLONG, "bfloat16", "training step")
    for ours, theirs in zip(jax.tree.leaves(case[4:]), jax.tree.leaves(again[4:]), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(ours, ours.astype(jax.numpy.bfloat16).astype(np.float32))
    assert all(np.abs(value).min() > 0 for value in case.params.values())  # biases, too


def program_of(outputs: dict[str, np.ndarray]) -> Program:
    return Program(lambda: None, lambda _: None, lambda: outputs, {"version": "another library"})


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("cell", "one", "other"), [("lstm", "i", "f"), ("gru_reset_after", "r", "z")]
)
def test_gates_in_the_wrong_order_are_seen_in_every_precision(cell, one, other, precision):
    right = expected(cell, "forward+backward")
    swapped = {**right, f"d_w_x{one}": right[f"d_w_x{other}"]}
    case = case_of(cell, precision=precision)
    with pytest.raises(Disagreement, match=rf"{cell} by another library is off by .* {precision}"):
        checked_error(case, program_of(swapped), right)


def test_a_difference_above_the_tolerance_is_seen():
    case = case_of("rnn", "forward")
    right = {"ys": np.ones((3, 6, 5), np.float32)}
    assert checked_error(case, program_of({"ys": right["ys"] * (1 + 5e-6)}), right) < 1e-5
    for wrong in (right["ys"] * (1 + 2e-5), np.where(np.arange(5) == 3, np.nan, right["ys"])):
        with pytest.raises(Disagreement):
            checked_error(case, program_of({"ys": wrong}), right)


def test_relative_error_is_that_of_the_worst_array():
    reference = {"a": np.array([3.0, 4.0]), "b": np.array([100.0]), "c": np.zeros(2)}
    values = {"a": np.array([3.0, 4.5]), "b": np.array([101.0]), "c": np.zeros(2)}
    assert relative_error(values, reference) == pytest.approx(0.5 / 5)
    with pytest.raises(ValueError, match="not the same arrays"):
        relative_error({"a": values["a"]}, reference)
    with pytest.raises(ValueError, match="not the same arrays"):
        relative_error({"a": np.array([3.0])}, {"a": reference["a"]})


def test_facts_of_a_program():
    case = case_of("lstm", "forward")
    facts = jax_programs.prepare(case, jax_programs.plain(case)).facts
    elements = sum(value.size for value in case.params.values()) + case.xs.size + 3 * 6 * 5
    assert facts["bytes"] == 4 * elements
    assert facts["peak_mem"] > facts["bytes"]
    assert facts["trip_counts"] == [6]
    assert facts["dots_in_loop"] == [8]  # four gates, two products each
    assert facts["while_body_ops"][0] > 8
    assert facts["compile_s"] > 0
