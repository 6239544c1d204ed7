"""What cannot be, and the words in which it is refused."""

import re

import jax.numpy as jnp
import pytest
from random_cells import HIDDEN
from recurrence_cases import BATCH, LENGTHS, TIME, named_case

from seqlab.recurrence import unroll


def zeros_mine():
    params = {"w": jnp.zeros((HIDDEN, HIDDEN))}
    carry = {"h": jnp.zeros((BATCH, HIDDEN)), "memory": jnp.zeros((BATCH, HIDDEN))}
    return params, carry, jnp.zeros((BATCH, TIME, HIDDEN))


@pytest.mark.parametrize("lengths", [None, jnp.asarray(LENGTHS)], ids=["all real", "lengths"])
def test_a_carry_that_changes_its_dtype(lengths):
    def step(p, carry, x):
        return carry | {"memory": carry["memory"].astype(jnp.bfloat16)}, carry["h"]

    with pytest.raises(ValueError, match=r"carry.*memory") as error:
        unroll(step, *zeros_mine(), lengths=lengths)
    assert "float32" in str(error.value)
    assert "bfloat16" in str(error.value)


@pytest.mark.parametrize("lengths", [None, jnp.asarray(LENGTHS)], ids=["all real", "lengths"])
def test_a_carry_that_changes_its_shape(lengths):
    def step(p, carry, x):
        return carry | {"memory": carry["memory"][:, :1]}, carry["h"]

    with pytest.raises(ValueError, match=r"carry.*memory") as error:
        unroll(step, *zeros_mine(), lengths=lengths)
    for shape in ((BATCH, HIDDEN), (BATCH, 1)):
        assert re.search(rf"[(\[]{shape[0]}, ?{shape[1]}[)\]]", str(error.value))


@pytest.mark.parametrize("lengths", [None, jnp.asarray(LENGTHS)], ids=["all real", "lengths"])
def test_a_carry_that_changes_its_structure(lengths):
    def step(p, carry, x):
        return {"h": carry["h"]}, carry["h"]

    with pytest.raises(ValueError, match=r"carry.*memory"):
        unroll(step, *zeros_mine(), lengths=lengths)


def test_inputs_of_a_width_that_the_params_do_not_have():
    case = named_case("rnn", input_dim=2)
    with pytest.raises(ValueError, match=r"w_xh.*\[D, H\]"):
        unroll(case.cell, case.params, case.carry, jnp.zeros((BATCH, TIME, 5)))


def test_a_carry_of_a_width_that_the_params_do_not_have():
    case = named_case("lstm")
    carry = case.carry._replace(c=jnp.zeros((BATCH, 5)))
    with pytest.raises(ValueError, match=r"carry.*c.*\[B, H\]"):
        unroll(case.cell, case.params, carry, case.xs)


def test_a_carry_of_another_batch():
    case = named_case("rnn")
    with pytest.raises(ValueError, match=r"carry.*\[B, H\]"):
        unroll(case.cell, case.params, jnp.zeros((BATCH + 1, HIDDEN)), case.xs)


def test_what_to_save_is_one_of_three():
    case = named_case("rnn")
    with pytest.raises(ValueError, match=r"save.*products.*carries.*segments.*'nothing'"):
        unroll(case.cell, case.params, case.carry, case.xs, save="nothing")
