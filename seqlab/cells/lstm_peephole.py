"""The LSTM with peepholes and its eight variants (Greff et al. 2015, LSTM: A Search Space Odyssey).

The paper's letters: z is the block input and y the output, which stands in the carry as h. The
peepholes p_i and p_f look at the old c, p_o at the new one.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax.nn import sigmoid
from jax.numpy import tanh
from jax.typing import DTypeLike

from seqlab.cells.base import BD, BH, Cell, LSTMCarry, Params, symbols, uniform, zeros_ch


def lstm_peephole_step(params: Params, carry: LSTMCarry, x: BD) -> tuple[LSTMCarry, BH]:
    """V, vanilla: c' = z⊙i + c⊙f, y' = tanh(c')⊙o

    z = tanh(x W_z + y R_z + b_z)
    i = σ(x W_i + y R_i + p_i⊙c + b_i)
    f = σ(x W_f + y R_f + p_f⊙c + b_f)
    o = σ(x W_o + y R_o + p_o⊙c' + b_o)
    """
    p = symbols(params)
    c, y = carry
    z = tanh(x @ p.w_z + y @ p.r_z + p.b_z)
    i = sigmoid(x @ p.w_i + y @ p.r_i + p.p_i * c + p.b_i)
    f = sigmoid(x @ p.w_f + y @ p.r_f + p.p_f * c + p.b_f)
    c = z * i + c * f
    o = sigmoid(x @ p.w_o + y @ p.r_o + p.p_o * c + p.b_o)
    y = tanh(c) * o
    return LSTMCarry(c, y), y


def lstm_nig_step(params: Params, carry: LSTMCarry, x: BD) -> tuple[LSTMCarry, BH]:
    """NIG, no input gate: i = 1"""
    p = symbols(params)
    c, y = carry
    z = tanh(x @ p.w_z + y @ p.r_z + p.b_z)
    f = sigmoid(x @ p.w_f + y @ p.r_f + p.p_f * c + p.b_f)
    c = z + c * f
    o = sigmoid(x @ p.w_o + y @ p.r_o + p.p_o * c + p.b_o)
    y = tanh(c) * o
    return LSTMCarry(c, y), y


def lstm_nfg_step(params: Params, carry: LSTMCarry, x: BD) -> tuple[LSTMCarry, BH]:
    """NFG, no forget gate: f = 1"""
    p = symbols(params)
    c, y = carry
    z = tanh(x @ p.w_z + y @ p.r_z + p.b_z)
    i = sigmoid(x @ p.w_i + y @ p.r_i + p.p_i * c + p.b_i)
    c = z * i + c
    o = sigmoid(x @ p.w_o + y @ p.r_o + p.p_o * c + p.b_o)
    y = tanh(c) * o
    return LSTMCarry(c, y), y


def lstm_nog_step(params: Params, carry: LSTMCarry, x: BD) -> tuple[LSTMCarry, BH]:
    """NOG, no output gate: o = 1"""
    p = symbols(params)
    c, y = carry
    z = tanh(x @ p.w_z + y @ p.r_z + p.b_z)
    i = sigmoid(x @ p.w_i + y @ p.r_i + p.p_i * c + p.b_i)
    f = sigmoid(x @ p.w_f + y @ p.r_f + p.p_f * c + p.b_f)
    c = z * i + c * f
    y = tanh(c)
    return LSTMCarry(c, y), y


def lstm_niaf_step(params: Params, carry: LSTMCarry, x: BD) -> tuple[LSTMCarry, BH]:
    """NIAF, no input activation function: z = x W_z + y R_z + b_z"""
    p = symbols(params)
    c, y = carry
    z = x @ p.w_z + y @ p.r_z + p.b_z
    i = sigmoid(x @ p.w_i + y @ p.r_i + p.p_i * c + p.b_i)
    f = sigmoid(x @ p.w_f + y @ p.r_f + p.p_f * c + p.b_f)
    c = z * i + c * f
    o = sigmoid(x @ p.w_o + y @ p.r_o + p.p_o * c + p.b_o)
    y = tanh(c) * o
    return LSTMCarry(c, y), y


def lstm_noaf_step(params: Params, carry: LSTMCarry, x: BD) -> tuple[LSTMCarry, BH]:
    """NOAF, no output activation function: y' = c'⊙o"""
    p = symbols(params)
    c, y = carry
    z = tanh(x @ p.w_z + y @ p.r_z + p.b_z)
    i = sigmoid(x @ p.w_i + y @ p.r_i + p.p_i * c + p.b_i)
    f = sigmoid(x @ p.w_f + y @ p.r_f + p.p_f * c + p.b_f)
    c = z * i + c * f
    o = sigmoid(x @ p.w_o + y @ p.r_o + p.p_o * c + p.b_o)
    y = c * o
    return LSTMCarry(c, y), y


def lstm_cifg_step(params: Params, carry: LSTMCarry, x: BD) -> tuple[LSTMCarry, BH]:
    """CIFG, coupled input and forget gate: f = 1 − i"""
    p = symbols(params)
    c, y = carry
    z = tanh(x @ p.w_z + y @ p.r_z + p.b_z)
    i = sigmoid(x @ p.w_i + y @ p.r_i + p.p_i * c + p.b_i)
    f = 1 - i
    c = z * i + c * f
    o = sigmoid(x @ p.w_o + y @ p.r_o + p.p_o * c + p.b_o)
    y = tanh(c) * o
    return LSTMCarry(c, y), y


def lstm_np_step(params: Params, carry: LSTMCarry, x: BD) -> tuple[LSTMCarry, BH]:
    """NP, no peepholes: p_i = p_f = p_o = 0, which is `lstm` in other letters"""
    p = symbols(params)
    c, y = carry
    z = tanh(x @ p.w_z + y @ p.r_z + p.b_z)
    i = sigmoid(x @ p.w_i + y @ p.r_i + p.b_i)
    f = sigmoid(x @ p.w_f + y @ p.r_f + p.b_f)
    c = z * i + c * f
    o = sigmoid(x @ p.w_o + y @ p.r_o + p.b_o)
    y = tanh(c) * o
    return LSTMCarry(c, y), y


class FGRCarry(NamedTuple):
    """What full gate recurrence hands on: c, h and the three gates, each [B, H]."""

    c: BH
    h: BH
    i: BH
    f: BH
    o: BH


def zeros_cifo(batch_size: int, hidden_dim: int, dtype: DTypeLike = float) -> FGRCarry:
    """c = 0, h = 0, and closed gates: i = f = o = 0."""
    zeros = jnp.zeros((batch_size, hidden_dim), dtype)
    return FGRCarry(c=zeros, h=zeros, i=zeros, f=zeros, o=zeros)


def lstm_fgr_step(params: Params, carry: FGRCarry, x: BD) -> tuple[FGRCarry, BH]:
    """FGR, full gate recurrence: i, f and o at t also see i, f and o at t−1

    R_fi is the matrix from the forget gate at t−1 to the input gate at t, and so on.
    """
    p = symbols(params)
    c, y, i, f, o = carry
    from_gates_i = i @ p.r_ii + f @ p.r_fi + o @ p.r_oi
    from_gates_f = i @ p.r_if + f @ p.r_ff + o @ p.r_of
    from_gates_o = i @ p.r_io + f @ p.r_fo + o @ p.r_oo
    z = tanh(x @ p.w_z + y @ p.r_z + p.b_z)
    i = sigmoid(x @ p.w_i + y @ p.r_i + from_gates_i + p.p_i * c + p.b_i)
    f = sigmoid(x @ p.w_f + y @ p.r_f + from_gates_f + p.p_f * c + p.b_f)
    c = z * i + c * f
    o = sigmoid(x @ p.w_o + y @ p.r_o + from_gates_o + p.p_o * c + p.b_o)
    y = tanh(c) * o
    return FGRCarry(c, y, i, f, o), y


# The symbols of each line of the equations; a cell's init takes the lines that the cell has.

BLOCK_INPUT = {"w_z": "DH", "r_z": "HH", "b_z": "H"}
INPUT_GATE = {"w_i": "DH", "r_i": "HH", "p_i": "H", "b_i": "H"}
FORGET_GATE = {"w_f": "DH", "r_f": "HH", "p_f": "H", "b_f": "H"}
OUTPUT_GATE = {"w_o": "DH", "r_o": "HH", "p_o": "H", "b_o": "H"}

lstm_peephole = Cell(
    init=uniform(**BLOCK_INPUT, **INPUT_GATE, **FORGET_GATE, **OUTPUT_GATE),
    initial_carry=zeros_ch,
    step=lstm_peephole_step,
)

lstm_nig = Cell(
    init=uniform(**BLOCK_INPUT, **FORGET_GATE, **OUTPUT_GATE),
    initial_carry=zeros_ch,
    step=lstm_nig_step,
)

lstm_nfg = Cell(
    init=uniform(**BLOCK_INPUT, **INPUT_GATE, **OUTPUT_GATE),
    initial_carry=zeros_ch,
    step=lstm_nfg_step,
)

lstm_nog = Cell(
    init=uniform(**BLOCK_INPUT, **INPUT_GATE, **FORGET_GATE),
    initial_carry=zeros_ch,
    step=lstm_nog_step,
)

lstm_niaf = lstm_peephole._replace(step=lstm_niaf_step)

lstm_noaf = lstm_peephole._replace(step=lstm_noaf_step)

lstm_cifg = Cell(
    init=uniform(**BLOCK_INPUT, **INPUT_GATE, **OUTPUT_GATE),
    initial_carry=zeros_ch,
    step=lstm_cifg_step,
)

lstm_np = Cell(
    init=uniform(
        w_z="DH", r_z="HH", b_z="H",
        w_i="DH", r_i="HH", b_i="H",
        w_f="DH", r_f="HH", b_f="H",
        w_o="DH", r_o="HH", b_o="H",
    ),
    initial_carry=zeros_ch,
    step=lstm_np_step,
)  # fmt: skip

lstm_fgr = Cell(
    init=uniform(
        **BLOCK_INPUT, **INPUT_GATE, **FORGET_GATE, **OUTPUT_GATE,
        r_ii="HH", r_fi="HH", r_oi="HH",
        r_if="HH", r_ff="HH", r_of="HH",
        r_io="HH", r_fo="HH", r_oo="HH",
    ),
    initial_carry=zeros_cifo,
    step=lstm_fgr_step,
)  # fmt: skip
