"""The standard LSTM: Hochreiter & Schmidhuber 1997 with the forget gate of Gers 2000.

The candidate is g; it and the three gates see x and h, not c: no peepholes.
"""

from jax.nn import sigmoid
from jax.numpy import tanh

from seqlab.cells.base import BD, BH, Cell, LSTMCarry, Params, symbols, uniform, zeros_ch


def lstm_step(params: Params, carry: LSTMCarry, x: BD) -> tuple[LSTMCarry, BH]:
    """c' = f⊙c + i⊙g, h' = o⊙tanh(c')

    i, f, o = σ(x W_x· + h W_h· + b_·)
    g = tanh(x W_xg + h W_hg + b_g)
    """
    p = symbols(params)
    c, h = carry
    i = sigmoid(x @ p.w_xi + h @ p.w_hi + p.b_i)
    f = sigmoid(x @ p.w_xf + h @ p.w_hf + p.b_f)
    o = sigmoid(x @ p.w_xo + h @ p.w_ho + p.b_o)
    g = tanh(x @ p.w_xg + h @ p.w_hg + p.b_g)
    c = f * c + i * g
    h = o * tanh(c)
    return LSTMCarry(c, h), h


lstm = Cell(
    init=uniform(
        w_xi="DH", w_hi="HH", b_i="H",
        w_xf="DH", w_hf="HH", b_f="H",
        w_xo="DH", w_ho="HH", b_o="H",
        w_xg="DH", w_hg="HH", b_g="H",
    ),
    initial_carry=zeros_ch,
    step=lstm_step,
)  # fmt: skip
