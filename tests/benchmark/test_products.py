"""The products alone are those of our program: as many, of the same sizes, in the same loops."""

import math
import re
from collections import Counter

import jax
import jax.numpy as jnp
import pytest

from seqlab.benchmark import jax_programs
from seqlab.benchmark.case import Shape, draw
from seqlab.benchmark.products import Products
from seqlab.recurrence.program import loops

# Axes that differ, so that a product of other sizes shows.
OBLONG, SQUARE = Shape(3, 7, 4, 5), Shape(3, 7, 5, 5)
BLOCK = re.compile(r"^(?:ENTRY )?%?[\w.-]+ \(.*?^\}", re.DOTALL | re.MULTILINE)
VALUE = re.compile(r"%([\w.-]+) = \w+\[([\d,]*)\]")
DOT = re.compile(
    r"= \w+\[([\d,]*)\]\S* dot\((?:\S+ )?%([\w.-]+), .*?lhs_contracting_dims=\{(\d+)\}"
)


def dots(hlo_text: str) -> Counter:
    """How many products there are with so many results, of so many terms each."""
    found = Counter()
    for block in BLOCK.findall(hlo_text):
        shapes = dict(VALUE.findall(block))
        for result, lhs, axis in DOT.findall(block):
            terms = int(shapes[lhs].split(",")[int(axis)])
            found[math.prod(map(int, result.split(","))), terms] += 1
    return found


def compiled_texts(case) -> list[str]:
    """Of ours, and of its products alone."""
    recurrence, products = jax_programs.seqlab(case), Products(case)

    def ours(params, xs, weights):
        rate = jnp.zeros(())
        return jax_programs.compute(recurrence, case.workload, params, xs, weights, rate)

    if case.workload == "forward":
        alone, arguments = products.forward, (case.params, case.xs)
    else:
        alone, arguments = products.both_ways, (case.params, case.xs, products.sides())
    compiled = (
        jax.jit(ours).lower(case.params, case.xs, case.weights).compile(),
        jax.jit(alone).lower(*arguments).compile(),
    )
    return [program.as_text() for program in compiled]


@pytest.mark.parametrize("workload", ["forward", "forward+backward"])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "gru_reset_after", "mut1", "mut2", "mut3"])
def test_the_same_products(cell, workload):
    case = draw(cell, SQUARE if cell in ("mut1", "mut2") else OBLONG, "float32", workload)
    ours, alone = compiled_texts(case)
    assert dots(alone) == dots(ours)
    assert sum(dots(ours).values()) == ours.count(" dot(") > 0
    for mine, its in zip(loops(ours), loops(alone), strict=True):
        assert (its.trip_count, its.dots) == (mine.trip_count, mine.dots)
        assert its.ops < mine.ops
