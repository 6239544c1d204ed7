"""The plain recurrent network: Elman 1990; "Tanh" in Jozefowicz, Zaremba & Sutskever 2015."""

from jax.numpy import tanh

from seqlab.cells.base import BD, BH, Cell, Params, symbols, uniform, zeros_h


def rnn_step(params: Params, h: BH, x: BD) -> tuple[BH, BH]:
    """h' = tanh(x W_xh + h W_hh + b_h)"""
    p = symbols(params)
    h = tanh(x @ p.w_xh + h @ p.w_hh + p.b_h)
    return h, h


rnn = Cell(
    init=uniform(w_xh="DH", w_hh="HH", b_h="H"),
    initial_carry=zeros_h,
    step=rnn_step,
)
