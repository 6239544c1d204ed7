"""The LSTM of Jozefowicz, Zaremba & Sutskever 2015 and its four ablations (their section 2).

Not the usual LSTM: the output gate o is a **tanh**, and the letters differ. Their i is the
candidate, their j the input gate.
"""

import jax.numpy as jnp
from jax.nn import sigmoid
from jax.numpy import tanh
from jaxtyping import PRNGKeyArray

from seqlab.cells.base import BD, BH, Cell, LSTMCarry, Params, symbols, uniform, zeros_ch


def lstm_jzs_step(params: Params, carry: LSTMCarry, x: BD) -> tuple[LSTMCarry, BH]:
    """c' = c⊙f + i⊙j, h' = tanh(c')⊙o

    i = tanh(x W_xi + h W_hi + b_i)
    j = σ(x W_xj + h W_hj + b_j)
    f = σ(x W_xf + h W_hf + b_f)
    o = tanh(x W_xo + h W_ho + b_o)
    """
    p = symbols(params)
    c, h = carry
    i = tanh(x @ p.w_xi + h @ p.w_hi + p.b_i)
    j = sigmoid(x @ p.w_xj + h @ p.w_hj + p.b_j)
    f = sigmoid(x @ p.w_xf + h @ p.w_hf + p.b_f)
    o = tanh(x @ p.w_xo + h @ p.w_ho + p.b_o)
    c = c * f + i * j
    h = tanh(c) * o
    return LSTMCarry(c, h), h


def lstm_jzs_no_forget_step(params: Params, carry: LSTMCarry, x: BD) -> tuple[LSTMCarry, BH]:
    """f = 1: c' = c + i⊙j, h' = tanh(c')⊙o"""
    p = symbols(params)
    c, h = carry
    i = tanh(x @ p.w_xi + h @ p.w_hi + p.b_i)
    j = sigmoid(x @ p.w_xj + h @ p.w_hj + p.b_j)
    o = tanh(x @ p.w_xo + h @ p.w_ho + p.b_o)
    c = c + i * j
    h = tanh(c) * o
    return LSTMCarry(c, h), h


def lstm_jzs_no_input_step(params: Params, carry: LSTMCarry, x: BD) -> tuple[LSTMCarry, BH]:
    """j = 1: c' = c⊙f + i, h' = tanh(c')⊙o"""
    p = symbols(params)
    c, h = carry
    i = tanh(x @ p.w_xi + h @ p.w_hi + p.b_i)
    f = sigmoid(x @ p.w_xf + h @ p.w_hf + p.b_f)
    o = tanh(x @ p.w_xo + h @ p.w_ho + p.b_o)
    c = c * f + i
    h = tanh(c) * o
    return LSTMCarry(c, h), h


def lstm_jzs_no_output_step(params: Params, carry: LSTMCarry, x: BD) -> tuple[LSTMCarry, BH]:
    """o = 1: c' = c⊙f + i⊙j, h' = tanh(c')"""
    p = symbols(params)
    c, h = carry
    i = tanh(x @ p.w_xi + h @ p.w_hi + p.b_i)
    j = sigmoid(x @ p.w_xj + h @ p.w_hj + p.b_j)
    f = sigmoid(x @ p.w_xf + h @ p.w_hf + p.b_f)
    c = c * f + i * j
    h = tanh(c)
    return LSTMCarry(c, h), h


lstm_jzs = Cell(
    init=uniform(
        w_xi="DH", w_hi="HH", b_i="H",
        w_xj="DH", w_hj="HH", b_j="H",
        w_xf="DH", w_hf="HH", b_f="H",
        w_xo="DH", w_ho="HH", b_o="H",
    ),
    initial_carry=zeros_ch,
    step=lstm_jzs_step,
)  # fmt: skip

lstm_jzs_no_forget = Cell(
    init=uniform(
        w_xi="DH", w_hi="HH", b_i="H",
        w_xj="DH", w_hj="HH", b_j="H",
        w_xo="DH", w_ho="HH", b_o="H",
    ),
    initial_carry=zeros_ch,
    step=lstm_jzs_no_forget_step,
)  # fmt: skip

lstm_jzs_no_input = Cell(
    init=uniform(
        w_xi="DH", w_hi="HH", b_i="H",
        w_xf="DH", w_hf="HH", b_f="H",
        w_xo="DH", w_ho="HH", b_o="H",
    ),
    initial_carry=zeros_ch,
    step=lstm_jzs_no_input_step,
)  # fmt: skip

lstm_jzs_no_output = Cell(
    init=uniform(
        w_xi="DH", w_hi="HH", b_i="H",
        w_xj="DH", w_hj="HH", b_j="H",
        w_xf="DH", w_hf="HH", b_f="H",
    ),
    initial_carry=zeros_ch,
    step=lstm_jzs_no_output_step,
)  # fmt: skip


def init_remembering(key: PRNGKeyArray, input_dim: int, hidden_dim: int) -> Params:
    """`lstm_jzs.init` with b_f = 1: before any training the forget gate is mostly open."""
    return lstm_jzs.init(key, input_dim, hidden_dim) | {"b_f": jnp.ones(hidden_dim)}


lstm_jzs_bias = lstm_jzs._replace(init=init_remembering)
