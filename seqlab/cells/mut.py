"""The three cells that evolution found: MUT1, MUT2 and MUT3 of Jozefowicz et al. 2015, section 3.

z multiplies the **candidate** here; in `gru` it multiplies the old state. Where the paper writes x
without a matrix, in MUT1 and MUT2, so does the code, and D = H. A projection put there would turn
MUT2 into a GRU.
"""

from jax.nn import sigmoid
from jax.numpy import tanh

from seqlab.cells.base import BD, BH, Cell, Params, square_only, symbols, uniform, zeros_h


def mut1_step(params: Params, h: BH, x: BH) -> tuple[BH, BH]:
    """h' = tanh((r⊙h) W_hh + tanh(x) + b_h)⊙z + h⊙(1−z)

    z = σ(x W_xz + b_z)
    r = σ(x W_xr + h W_hr + b_r)
    """
    p = symbols(params)
    z = sigmoid(x @ p.w_xz + p.b_z)
    r = sigmoid(x @ p.w_xr + h @ p.w_hr + p.b_r)
    h = tanh((r * h) @ p.w_hh + tanh(x) + p.b_h) * z + h * (1 - z)
    return h, h


def mut2_step(params: Params, h: BH, x: BH) -> tuple[BH, BH]:
    """h' = tanh((r⊙h) W_hh + x W_xh + b_h)⊙z + h⊙(1−z)

    z = σ(x W_xz + h W_hz + b_z)
    r = σ(x + h W_hr + b_r)
    """
    p = symbols(params)
    z = sigmoid(x @ p.w_xz + h @ p.w_hz + p.b_z)
    r = sigmoid(x + h @ p.w_hr + p.b_r)
    h = tanh((r * h) @ p.w_hh + x @ p.w_xh + p.b_h) * z + h * (1 - z)
    return h, h


def mut3_step(params: Params, h: BH, x: BD) -> tuple[BH, BH]:
    """h' = tanh((r⊙h) W_hh + x W_xh + b_h)⊙z + h⊙(1−z)

    z = σ(x W_xz + tanh(h) W_hz + b_z)
    r = σ(x W_xr + h W_hr + b_r)
    """
    p = symbols(params)
    z = sigmoid(x @ p.w_xz + tanh(h) @ p.w_hz + p.b_z)
    r = sigmoid(x @ p.w_xr + h @ p.w_hr + p.b_r)
    h = tanh((r * h) @ p.w_hh + x @ p.w_xh + p.b_h) * z + h * (1 - z)
    return h, h


mut1 = Cell(
    init=square_only("mut1", uniform(
        w_xz="DH", b_z="H",
        w_xr="DH", w_hr="HH", b_r="H",
        w_hh="HH", b_h="H",
    )),
    initial_carry=zeros_h,
    step=mut1_step,
)  # fmt: skip

mut2 = Cell(
    init=square_only("mut2", uniform(
        w_xz="DH", w_hz="HH", b_z="H",
        w_hr="HH", b_r="H",
        w_hh="HH", w_xh="DH", b_h="H",
    )),
    initial_carry=zeros_h,
    step=mut2_step,
)  # fmt: skip

mut3 = Cell(
    init=uniform(
        w_xz="DH", w_hz="HH", b_z="H",
        w_xr="DH", w_hr="HH", b_r="H",
        w_hh="HH", w_xh="DH", b_h="H",
    ),
    initial_carry=zeros_h,
    step=mut3_step,
)  # fmt: skip
