"""The rule by which PyTorch chooses, against cases read off its source by hand."""

import pytest

from seqlab.benchmark.case import Shape
from seqlab.benchmark.cudnn_algorithm import (
    PERSIST_STATIC,
    SMALL_H,
    SMALL_H_UNITS,
    STANDARD,
    cudnn_algorithm,
)


def square(batch_size: int, units: int) -> Shape:
    return Shape(batch_size, 35, units, units)


@pytest.mark.parametrize(
    ("cell", "shape", "dtype", "forward", "backward"),
    [
        # few units, in any precision but double
        ("lstm", square(20, 128), "float32", SMALL_H, SMALL_H),
        ("lstm", square(20, 192), "bfloat16", SMALL_H, STANDARD),
        ("lstm", square(20, 200), "float32", STANDARD, STANDARD),
        ("gru_reset_after", square(20, 128), "float32", SMALL_H, SMALL_H),
        ("gru_reset_after", square(20, 193), "float16", STANDARD, STANDARD),
        ("rnn", square(20, 256), "bfloat16", SMALL_H, SMALL_H),
        ("rnn", square(20, 384), "float32", SMALL_H, STANDARD),
        ("rnn", square(20, 385), "float32", STANDARD, STANDARD),
        ("lstm", square(20, 64), "float64", STANDARD, STANDARD),
        # many units, in half precision alone
        ("lstm", square(16, 768), "float16", PERSIST_STATIC, PERSIST_STATIC),
        ("lstm", square(16, 768), "bfloat16", STANDARD, STANDARD),
        ("lstm", square(16, 768), "float32", STANDARD, STANDARD),
        ("lstm", square(20, 768), "float16", STANDARD, STANDARD),
        ("lstm", square(128, 1024), "float16", PERSIST_STATIC, PERSIST_STATIC),
        ("lstm", square(136, 1024), "float16", STANDARD, STANDARD),
        ("lstm", square(16, 1152), "float16", STANDARD, STANDARD),
        ("lstm", square(16, 650), "float16", STANDARD, STANDARD),
        ("lstm", Shape(16, 35, 100, 768), "float16", STANDARD, STANDARD),
        ("gru_reset_after", square(16, 768), "float16", STANDARD, STANDARD),
        ("rnn", square(96, 896), "float16", STANDARD, STANDARD),
        ("rnn", square(88, 896), "float16", PERSIST_STATIC, PERSIST_STATIC),
        # a few units forward, and many backward
        ("lstm", Shape(16, 35, 128, 192), "float16", SMALL_H, STANDARD),
        ("rnn", square(16, 384), "float16", SMALL_H, PERSIST_STATIC),
    ],
)
def test_rule(cell, shape, dtype, forward, backward):
    assert cudnn_algorithm(cell, shape, dtype, backward=False) == forward
    assert cudnn_algorithm(cell, shape, dtype, backward=True) == backward


def test_less_fits_on_the_way_back():
    for cell in ("rnn", "lstm", "gru_reset_after"):
        assert SMALL_H_UNITS[cell, True] < SMALL_H_UNITS[cell, False]
