"""Where libraries keep params."""

import numpy as np
import pytest

from seqlab.benchmark import jax_programs
from seqlab.benchmark.case import Shape, draw
from seqlab.benchmark.layout import as_written, pack, unpack


@pytest.fixture(scope="module")
def lstm():
    return draw("lstm", Shape(2, 3, 4, 5), "float32", "forward").params


def test_symbols_stand_side_by_side_in_the_order_of_the_layout(lstm):
    tree = pack({("a", "kernel"): ("w_xf", "w_xi"), ("b",): ("b_o",)}, lstm)
    assert sorted(tree) == ["a", "b"]
    np.testing.assert_array_equal(tree["a"]["kernel"][:, :5], lstm["w_xf"])
    np.testing.assert_array_equal(tree["a"]["kernel"][:, 5:], lstm["w_xi"])
    np.testing.assert_array_equal(tree["b"], lstm["b_o"])


def test_a_bias_that_the_equation_has_not_is_zero_and_comes_back_as_nothing(lstm):
    layout = {("bias",): (None, "b_i", None)}
    tree = pack(layout, lstm)
    np.testing.assert_array_equal(tree["bias"], [*np.zeros(5), *lstm["b_i"], *np.zeros(5)])
    back = unpack(layout, tree)
    assert list(back) == ["b_i"]
    np.testing.assert_array_equal(back["b_i"], lstm["b_i"])


@pytest.mark.parametrize("library", ["LINEN_LAYOUTS", "NNX_LAYOUTS"])
def test_every_layout_has_every_symbol_once(library):
    layouts = {
        "LINEN_LAYOUTS": jax_programs.LINEN_LAYOUTS,
        "NNX_LAYOUTS": jax_programs.NNX_LAYOUTS,
    }[library]
    for cell, layout in layouts.items():
        params = draw(cell, Shape(2, 3, 4, 5), "float32", "forward").params
        symbols = [symbol for symbols in layout.values() for symbol in symbols]
        assert sorted(filter(None, symbols)) == sorted(params)
        back = unpack(layout, pack(layout, params))
        assert all(np.array_equal(back[symbol], params[symbol]) for symbol in params)


def test_as_written_puts_every_symbol_at_the_end_of_the_path():
    assert as_written({"w": 0, "b": 0}, "x", "y") == {
        ("x", "y", "w"): ("w",),
        ("x", "y", "b"): ("b",),
    }
