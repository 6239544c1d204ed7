"""Which symbols every cell has, and how many numbers they are."""

from typing import NamedTuple

import jax
import pytest

from seqlab.cells import CELLS

SYMBOLS = {
    "rnn": "w_xh w_hh b_h",
    "lstm": "w_xi w_hi b_i  w_xf w_hf b_f  w_xo w_ho b_o  w_xg w_hg b_g",
    "gru": "w_xr w_hr b_r  w_xz w_hz b_z  w_xh w_hh b_h",
    "gru_flipped": "w_xr w_hr b_r  w_xz w_hz b_z  w_xh w_hh b_h",
    "gru_reset_after": "w_xr w_hr b_r  w_xz w_hz b_z  w_xn b_xn w_hn b_hn",
    "lstm_jzs": "w_xi w_hi b_i  w_xj w_hj b_j  w_xf w_hf b_f  w_xo w_ho b_o",
    "lstm_jzs_no_forget": "w_xi w_hi b_i  w_xj w_hj b_j  w_xo w_ho b_o",
    "lstm_jzs_no_input": "w_xi w_hi b_i  w_xf w_hf b_f  w_xo w_ho b_o",
    "lstm_jzs_no_output": "w_xi w_hi b_i  w_xj w_hj b_j  w_xf w_hf b_f",
    "lstm_jzs_bias": "w_xi w_hi b_i  w_xj w_hj b_j  w_xf w_hf b_f  w_xo w_ho b_o",
    "mut1": "w_xz b_z  w_xr w_hr b_r  w_hh b_h",
    "mut2": "w_xz w_hz b_z  w_hr b_r  w_hh w_xh b_h",
    "mut3": "w_xz w_hz b_z  w_xr w_hr b_r  w_hh w_xh b_h",
    "lstm_peephole": "w_z r_z b_z  w_i r_i p_i b_i  w_f r_f p_f b_f  w_o r_o p_o b_o",
    "lstm_nig": "w_z r_z b_z  w_f r_f p_f b_f  w_o r_o p_o b_o",
    "lstm_nfg": "w_z r_z b_z  w_i r_i p_i b_i  w_o r_o p_o b_o",
    "lstm_nog": "w_z r_z b_z  w_i r_i p_i b_i  w_f r_f p_f b_f",
    "lstm_niaf": "w_z r_z b_z  w_i r_i p_i b_i  w_f r_f p_f b_f  w_o r_o p_o b_o",
    "lstm_noaf": "w_z r_z b_z  w_i r_i p_i b_i  w_f r_f p_f b_f  w_o r_o p_o b_o",
    "lstm_cifg": "w_z r_z b_z  w_i r_i p_i b_i  w_o r_o p_o b_o",
    "lstm_np": "w_z r_z b_z  w_i r_i b_i  w_f r_f b_f  w_o r_o b_o",
    "lstm_fgr": "w_z r_z b_z  w_i r_i p_i b_i  w_f r_f p_f b_f  w_o r_o p_o b_o "
    "r_ii r_fi r_oi  r_if r_ff r_of  r_io r_fo r_oo",
}


class Arrays(NamedTuple):
    """How many arrays of each shape an equation has."""

    dh: int
    hh: int
    peepholes: int
    biases: int


ARRAYS = {
    "rnn": Arrays(1, 1, 0, 1),
    "lstm": Arrays(4, 4, 0, 4),
    "gru": Arrays(3, 3, 0, 3),
    "gru_flipped": Arrays(3, 3, 0, 3),
    "gru_reset_after": Arrays(3, 3, 0, 4),
    "lstm_jzs": Arrays(4, 4, 0, 4),
    "lstm_jzs_no_forget": Arrays(3, 3, 0, 3),
    "lstm_jzs_no_input": Arrays(3, 3, 0, 3),
    "lstm_jzs_no_output": Arrays(3, 3, 0, 3),
    "lstm_jzs_bias": Arrays(4, 4, 0, 4),
    "mut1": Arrays(2, 2, 0, 3),
    "mut2": Arrays(2, 3, 0, 3),
    "mut3": Arrays(3, 3, 0, 3),
    "lstm_peephole": Arrays(4, 4, 3, 4),
    "lstm_nig": Arrays(3, 3, 2, 3),
    "lstm_nfg": Arrays(3, 3, 2, 3),
    "lstm_nog": Arrays(3, 3, 2, 3),
    "lstm_niaf": Arrays(4, 4, 3, 4),
    "lstm_noaf": Arrays(4, 4, 3, 4),
    "lstm_cifg": Arrays(3, 3, 2, 3),
    "lstm_np": Arrays(4, 4, 0, 4),
    "lstm_fgr": Arrays(4, 13, 3, 4),
}


def sizes(name, input_dim, hidden_dim):
    """How many numbers each symbol holds, without drawing any."""
    cell = CELLS[name]
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), input_dim, hidden_dim))
    return {symbol: value.size for symbol, value in params.items()}


@pytest.mark.parametrize("name", SYMBOLS)
def test_params_are_the_symbols_of_the_equation(name):
    assert set(sizes(name, 3, 3)) == set(SYMBOLS[name].split())


@pytest.mark.parametrize("name", ARRAYS)
def test_count_with_biases(name):
    d, h = (7, 7) if name in ("mut1", "mut2") else (5, 7)
    n = ARRAYS[name]
    expected = n.dh * d * h + n.hh * h * h + (n.peepholes + n.biases) * h
    assert sum(sizes(name, d, h).values()) == expected


@pytest.mark.parametrize(
    ("name", "matrices"),
    [("rnn", 2), ("mut1", 4), ("mut2", 5), ("mut3", 6), ("gru", 6), ("lstm", 8), ("lstm_jzs", 8)],
)
def test_weights_of_the_2015_comparison(name, matrices):
    """Without biases, at D = H = n: at equal units the cells differ in size by up to four times."""
    n = 7
    weights = {s: size for s, size in sizes(name, n, n).items() if not s.startswith("b_")}
    assert sum(weights.values()) == matrices * n**2
