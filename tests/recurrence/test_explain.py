"""What `explain` says of a cell, against the equation as the page prints it."""

import re

import jax.numpy as jnp
import pytest

from seqlab.cells import CELLS, Cell, symbols, uniform, zeros_h
from seqlab.recurrence.explain import explain

# Left sides of the products that wait for the carry, and the widths of what they are merged into,
# in H. From the printed equations.
IN_THE_LOOP = {
    "rnn": {"h": 1},
    "lstm": {"h": 4},
    "gru": {"h": 2, "(σ(…)⊙h)": 1},
    "gru_reset_after": {"h": 3},
    "mut1": {"h": 1, "(σ(…)⊙h)": 1},
    "mut2": {"h": 2, "(σ(…)⊙h)": 1},
    "mut3": {"tanh(h)": 1, "h": 1, "(σ(…)⊙h)": 1},
}
B, T, D, H = 3, 5, 6, 6


@pytest.mark.parametrize("name", IN_THE_LOOP)
def test_explain_finds_the_products_of_the_equation(name):
    text = explain(CELLS[name], B, T, D, H)
    at_once, in_loop = re.split(r"^in each step$", text, flags=re.MULTILINE)
    left_sides = {
        lhs: int(width) // H
        for lhs, width in re.findall(rf"^    (\S+) @ .*   \[{B}, {H}\] @ \[{H}, (\d+)\]$",
                                     in_loop, re.MULTILINE)
    }  # fmt: skip
    assert left_sides == IN_THE_LOOP[name]
    assert re.findall(rf"^    x @ .*   \[{B * T}, {D}\]", at_once, re.MULTILINE)
    forward, backward = re.findall(r"(\d+) products?, ", text.splitlines()[-1])
    assert int(forward) == int(backward) == len(IN_THE_LOOP[name])


def test_a_cell_of_ones_own_with_nothing_to_hoist():
    mine = Cell(
        init=uniform(w_hh="HH"),
        initial_carry=zeros_h,
        step=lambda params, h, x: (jnp.tanh(h @ symbols(params).w_hh) * x,) * 2,
    )
    text = explain(mine, B, T, D, H)
    assert "for all T = 5 at once\n    nothing" in text
    assert "h @ w_hh   [3, 6] @ [6, 6]" in text


def test_a_step_that_runs_as_a_plain_scan_says_why():
    constant = Cell(
        init=uniform(w="H"),
        initial_carry=zeros_h,
        step=lambda params, h, x: (h + x, symbols(params).w * jnp.ones((B, 1))),
    )
    assert explain(constant, B, T, D, H).startswith("runs as a plain scan: it returns")
