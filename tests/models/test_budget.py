"""What a parameter budget buys, against formulas and a linear search."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.cells import CELLS
from seqlab.errors import InputError
from seqlab.models.budget import count_params, units_for_budget
from seqlab.models.rnn import bidirectional_stack, stack
from seqlab.models.sequence import FramePredictor, LanguageModel

# Square matrices and biases of each architecture of the 2015 comparison, at D = H = n.
ARCHITECTURES = {
    "rnn": (2, 1),
    "lstm_jzs": (8, 4),
    "lstm_jzs_no_forget": (6, 3),
    "lstm_jzs_no_input": (6, 3),
    "lstm_jzs_no_output": (6, 3),
    "lstm_jzs_bias": (8, 4),
    "gru": (6, 3),
    "mut1": (4, 3),
    "mut2": (5, 3),
    "mut3": (6, 3),
}
SYMBOL = jax.ShapeDtypeStruct((1, 1), jnp.int32)
FRAME = jax.ShapeDtypeStruct((1, 1, 88), jnp.uint8)


@functools.cache
def language_model_params(name, num_symbols, num_layers, units):
    model = LanguageModel(stack(CELLS[name], units, num_layers), num_symbols, units)
    return count_params(model, SYMBOL)


@functools.cache
def frame_predictor_params(name, num_layers, units):
    return count_params(FramePredictor(stack(CELLS[name], units, num_layers), 88, units), FRAME)


def recurrent(name, num_layers, n):
    matrices, biases = ARCHITECTURES[name]
    return num_layers * (matrices * n**2 + biases * n)


def language_model_formula(name, num_symbols, num_layers, n):
    return num_symbols * n + recurrent(name, num_layers, n) + (n + 1) * num_symbols


def frame_predictor_formula(name, num_layers, n):
    return 89 * n + recurrent(name, num_layers, n) + (n + 1) * 88


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_embedding_cells_and_head_are_counted_with_their_biases(name):
    assert language_model_params(name, 40, 2, 13) == language_model_formula(name, 40, 2, 13)
    assert frame_predictor_params(name, 1, 10) == frame_predictor_formula(name, 1, 10)


def test_one_count_by_hand():
    """GRU, V = 40, n = 5: 40·5 + (6·25 + 3·5) + (5·40 + 40) = 605."""
    assert language_model_params("gru", 40, 1, 5) == 605


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (LanguageModel(stack(CELLS["gru"], 3, 2), 7, 4), np.zeros((1, 1), np.int32)),
        (FramePredictor(stack(CELLS["mut1"], 3, 1), 5, 3), np.zeros((1, 1, 5), np.uint8)),
        (bidirectional_stack(CELLS["rnn"], 3, 2), np.zeros((1, 1, 2), np.float32)),
    ],
)
def test_count_is_that_of_an_initialised_network(model, inputs):
    params = jax.jit(model.init)(jax.random.key(0), inputs)
    shape = jax.ShapeDtypeStruct(inputs.shape, inputs.dtype)
    assert count_params(model, shape) == sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_units_are_the_most_that_fit(name):
    n = units_for_budget(functools.partial(language_model_params, name, 40, 1), 250_000)
    assert language_model_formula(name, 40, 1, n) <= 250_000
    assert language_model_formula(name, 40, 1, n + 1) > 250_000


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("num_layers", [1, 2, 3, 4])
def test_search_over_every_published_budget(name, num_layers):
    """By formula, which the tests above hold to the networks."""
    for params_with, budgets in (
        (functools.partial(language_model_formula, name, 40, num_layers), (250_000, 1_000_000)),
        (
            functools.partial(language_model_formula, name, 10_000, num_layers),
            (5_000_000, 10_000_000, 20_000_000),
        ),
        (functools.partial(frame_predictor_formula, name, num_layers), (100_000, 1_000_000)),
    ):
        for budget in budgets:
            n = units_for_budget(params_with, budget)
            assert params_with(n) <= budget < params_with(n + 1)


def test_search_is_exact_at_and_around_every_size():
    def params_with(n):
        return 6 * n**2 + 83 * n + 40

    for n in range(1, 70):
        assert units_for_budget(params_with, params_with(n)) == n
        assert units_for_budget(params_with, params_with(n) + 1) == n
        assert units_for_budget(params_with, params_with(n + 1) - 1) == n


def test_a_budget_that_buys_nothing_is_one_line():
    with pytest.raises(InputError) as error:
        units_for_budget(lambda n: 1200 * n, 1199)
    assert str(error.value) == "a budget of 1,199 parameters is too small: one unit takes 1,200"
