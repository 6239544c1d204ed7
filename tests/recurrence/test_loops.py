"""What the loops of the compiled program hold."""

import math
import re
from typing import NamedTuple

import numpy as np
import pytest
from recurrence_cases import assert_same_bits, everything, jit, named_case, on

from seqlab.cells import CELLS
from seqlab.recurrence import unroll
from seqlab.recurrence.program import loops


class Recurrent(NamedTuple):
    """What an equation asks of each step: left sides with the carry in them, matrices on them."""

    left_sides: int
    matrices: int


# By hand, from the page.
RECURRENT = {
    "rnn": Recurrent(1, 1),
    "lstm": Recurrent(1, 4),
    "gru": Recurrent(2, 3),  # h; r⊙h
    "gru_flipped": Recurrent(2, 3),
    "gru_reset_after": Recurrent(1, 3),
    "lstm_jzs": Recurrent(1, 4),
    "lstm_jzs_no_forget": Recurrent(1, 3),
    "lstm_jzs_no_input": Recurrent(1, 3),
    "lstm_jzs_no_output": Recurrent(1, 3),
    "lstm_jzs_bias": Recurrent(1, 4),
    "mut1": Recurrent(2, 2),  # h; r⊙h
    "mut2": Recurrent(2, 3),  # h; r⊙h
    "mut3": Recurrent(3, 3),  # tanh(h); h; r⊙h
    "lstm_peephole": Recurrent(1, 4),
    "lstm_nig": Recurrent(1, 3),
    "lstm_nfg": Recurrent(1, 3),
    "lstm_nog": Recurrent(1, 3),
    "lstm_niaf": Recurrent(1, 4),
    "lstm_noaf": Recurrent(1, 4),
    "lstm_cifg": Recurrent(1, 3),
    "lstm_np": Recurrent(1, 4),
    "lstm_fgr": Recurrent(4, 13),  # y; i; f; o
}

# No product of other sizes is divisible by the batch: an array without it is one of params.
PROGRAM = {"batch": 5, "time": 6, "input_dim": 4, "hidden_dim": 4}


def numbers_in_weights(loop):
    """How many numbers a loop holds in arrays of at least one matrix that have no batch axis."""
    shapes = [
        [int(axis) for axis in re.findall(r"\d+", carried.partition("[")[2])]
        for carried in loop.carries
    ]
    weights = [
        math.prod(shape) for shape in shapes if all(axis % PROGRAM["batch"] for axis in shape)
    ]
    return sum(size for size in weights if size >= PROGRAM["hidden_dim"] ** 2)


def compiled_gradient(name, **how):
    case = named_case(name, **PROGRAM)
    arguments = case.params, case.carry, case.xs
    return jit(everything(on(case, unroll, **how))).lower(*arguments).compile(), arguments


@pytest.mark.parametrize("name", CELLS)
def test_each_loop_multiplies_by_the_recurrent_weights_once_and_sums_no_gradient(name):
    compiled, _ = compiled_gradient(name)
    forward, backward = loops(compiled.as_text())
    left_sides, matrices = RECURRENT[name]
    for loop in (forward, backward):
        assert loop.trip_count == PROGRAM["time"]
        assert loop.dots == left_sides
        assert numbers_in_weights(loop) <= matrices * PROGRAM["hidden_dim"] ** 2


# By hand: products of x with a matrix.
OF_X = {"rnn": 1, "lstm": 4, "gru": 3, "mut1": 2, "mut3": 3, "lstm_fgr": 4}


@pytest.mark.parametrize("name", OF_X)
def test_a_step_that_is_computed_again_adds_its_own_products_and_no_gradient(name):
    compiled, _ = compiled_gradient(name, save="carries")
    forward, backward = loops(compiled.as_text())
    left_sides, matrices = RECURRENT[name]
    matrix = PROGRAM["hidden_dim"] ** 2  # D is H
    assert forward.dots == left_sides
    assert numbers_in_weights(forward) <= matrices * matrix
    assert backward.dots == left_sides + left_sides + OF_X[name]
    # For the products of the step and, transposed, for those of its way back.
    assert numbers_in_weights(backward) <= (2 * matrices + OF_X[name]) * matrix


def test_lengths_and_reverse_add_no_product():
    compiled, _ = compiled_gradient("gru", lengths=np.array([6, 0, 3, 1, 6]), reverse=True)
    assert [loop.dots for loop in loops(compiled.as_text())] == [2, 2]


def test_the_same_bits_from_run_to_run_and_from_compilation_to_compilation():
    compiled, arguments = compiled_gradient("mut3")
    again, _ = compiled_gradient("mut3")
    first = compiled(*arguments)
    assert_same_bits(compiled(*arguments), first)
    assert_same_bits(again(*arguments), first)
