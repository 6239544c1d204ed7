"""The gated recurrent unit (Cho et al. 2014) in the three forms that are in use.

They differ in two places: what the update gate z multiplies, and whether the reset gate r stands
before the product with W_hh or after it.
"""

from jax.nn import sigmoid
from jax.numpy import tanh

from seqlab.cells.base import BD, BH, Cell, Params, symbols, uniform, zeros_h


def gru_step(params: Params, h: BH, x: BD) -> tuple[BH, BH]:
    """h' = z⊙h + (1−z)⊙n: z keeps the old state (Cho 2014; Jozefowicz et al. 2015)

    r = σ(x W_xr + h W_hr + b_r)
    z = σ(x W_xz + h W_hz + b_z)
    n = tanh(x W_xh + (r⊙h) W_hh + b_h)
    """
    p = symbols(params)
    r = sigmoid(x @ p.w_xr + h @ p.w_hr + p.b_r)
    z = sigmoid(x @ p.w_xz + h @ p.w_hz + p.b_z)
    n = tanh(x @ p.w_xh + (r * h) @ p.w_hh + p.b_h)
    h = z * h + (1 - z) * n
    return h, h


def gru_flipped_step(params: Params, h: BH, x: BD) -> tuple[BH, BH]:
    """h' = (1−z)⊙h + z⊙n: z lets the new state in (Chung et al. 2014)

    r = σ(x W_xr + h W_hr + b_r)
    z = σ(x W_xz + h W_hz + b_z)
    n = tanh(x W_xh + (r⊙h) W_hh + b_h)
    """
    p = symbols(params)
    r = sigmoid(x @ p.w_xr + h @ p.w_hr + p.b_r)
    z = sigmoid(x @ p.w_xz + h @ p.w_hz + p.b_z)
    n = tanh(x @ p.w_xh + (r * h) @ p.w_hh + p.b_h)
    h = (1 - z) * h + z * n
    return h, h


def gru_reset_after_step(params: Params, h: BH, x: BD) -> tuple[BH, BH]:
    """h' = z⊙h + (1−z)⊙n, r after the product (cuDNN, torch, Keras `reset_after`)

    r = σ(x W_xr + h W_hr + b_r)
    z = σ(x W_xz + h W_hz + b_z)
    n = tanh(x W_xn + b_xn + r⊙(h W_hn + b_hn))
    """
    p = symbols(params)
    r = sigmoid(x @ p.w_xr + h @ p.w_hr + p.b_r)
    z = sigmoid(x @ p.w_xz + h @ p.w_hz + p.b_z)
    n = tanh(x @ p.w_xn + p.b_xn + r * (h @ p.w_hn + p.b_hn))
    h = z * h + (1 - z) * n
    return h, h


gru = Cell(
    init=uniform(
        w_xr="DH", w_hr="HH", b_r="H",
        w_xz="DH", w_hz="HH", b_z="H",
        w_xh="DH", w_hh="HH", b_h="H",
    ),
    initial_carry=zeros_h,
    step=gru_step,
)  # fmt: skip

gru_flipped = gru._replace(step=gru_flipped_step)

gru_reset_after = Cell(
    init=uniform(
        w_xr="DH", w_hr="HH", b_r="H",
        w_xz="DH", w_hz="HH", b_z="H",
        w_xn="DH", b_xn="H",
        w_hn="HH", b_hn="H",
    ),
    initial_carry=zeros_h,
    step=gru_reset_after_step,
)  # fmt: skip
