"""Every step against a scalar loop written from the printed equation."""

import numpy as np
import pytest
from draws import drawn
from oracles import ORACLES

from seqlab.cells import CELLS

PUBLISHED = {
    # the lectures
    *("rnn", "lstm", "gru", "gru_flipped", "gru_reset_after"),
    # Jozefowicz, Zaremba & Sutskever 2015
    *("lstm_jzs", "lstm_jzs_no_forget", "lstm_jzs_no_input", "lstm_jzs_no_output"),
    *("lstm_jzs_bias", "mut1", "mut2", "mut3"),
    # Greff et al. 2015
    *("lstm_peephole", "lstm_nig", "lstm_nfg", "lstm_nog", "lstm_niaf", "lstm_noaf"),
    *("lstm_cifg", "lstm_np", "lstm_fgr"),
}


def test_every_published_cell_is_there_and_has_an_oracle():
    assert len(PUBLISHED) == 22
    assert set(ORACLES) == PUBLISHED
    assert set(CELLS) >= PUBLISHED


def parts(carry, example):
    """One example's carry as a tuple of lists of floats, in the order of the fields."""
    arrays = carry if isinstance(carry, tuple) else (carry,)
    return tuple(np.asarray(array)[example].tolist() for array in arrays)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ORACLES)
def test_step_is_the_equation(name):
    cell, oracle = CELLS[name], ORACLES[name]
    input_dim = 3 if name in ("mut1", "mut2") else 2
    params, carry, xs = drawn(cell, time=4, batch=2, input_dim=input_dim, hidden_dim=3)
    numbers = {symbol: np.asarray(value).tolist() for symbol, value in params.items()}
    expected = [parts(carry, example) for example in range(2)]
    for x in xs:
        carry, y = cell.step(params, carry, x)
        for example in range(2):
            expected[example], expected_y = oracle(numbers, expected[example], x[example].tolist())
            np.testing.assert_allclose(y[example], expected_y, rtol=0, atol=1e-12)
            np.testing.assert_allclose(parts(carry, example), expected[example], rtol=0, atol=1e-12)
