"""Cells that other libraries have too give the same numbers there."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from draws import drawn, steps

from seqlab.cells import CELLS

pytestmark = pytest.mark.usefixtures("float64")

SHAPE = {"time": 4, "batch": 2, "input_dim": 2, "hidden_dim": 3}


def linen(cell: nn.RNNCellBase, params, carry, xs):
    ys = []
    for x in xs:
        carry, y = cell.apply({"params": params}, carry, x)
        ys.append(y)
    return carry, jnp.stack(ys)


def test_rnn_is_linens_simple_cell():
    p, h, xs = drawn(CELLS["rnn"], **SHAPE)
    theirs = {"i": {"kernel": p["w_xh"], "bias": p["b_h"]}, "h": {"kernel": p["w_hh"]}}
    carry, ys = linen(nn.SimpleCell(3, param_dtype=jnp.float64), theirs, h, xs)
    ours, our_ys = steps(CELLS["rnn"], p, h, xs)
    np.testing.assert_allclose(our_ys, ys, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours, carry, rtol=0, atol=1e-12)


def test_lstm_is_linens_lstm_cell():
    p, carry, xs = drawn(CELLS["lstm"], **SHAPE)
    theirs = {}
    for gate in "ifog":
        theirs["i" + gate] = {"kernel": p["w_x" + gate]}
        theirs["h" + gate] = {"kernel": p["w_h" + gate], "bias": p["b_" + gate]}
    (c, h), ys = linen(nn.LSTMCell(3, param_dtype=jnp.float64), theirs, tuple(carry), xs)
    ours, our_ys = steps(CELLS["lstm"], p, carry, xs)
    np.testing.assert_allclose(our_ys, ys, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.c, c, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.h, h, rtol=0, atol=1e-12)


def test_gru_reset_after_is_linens_gru_cell():
    p, h, xs = drawn(CELLS["gru_reset_after"], **SHAPE)
    theirs = {
        "ir": {"kernel": p["w_xr"], "bias": p["b_r"]},
        "iz": {"kernel": p["w_xz"], "bias": p["b_z"]},
        "in": {"kernel": p["w_xn"], "bias": p["b_xn"]},
        "hr": {"kernel": p["w_hr"]},
        "hz": {"kernel": p["w_hz"]},
        "hn": {"kernel": p["w_hn"], "bias": p["b_hn"]},
    }
    carry, ys = linen(nn.GRUCell(3, param_dtype=jnp.float64), theirs, h, xs)
    ours, our_ys = steps(CELLS["gru_reset_after"], p, h, xs)
    np.testing.assert_allclose(our_ys, ys, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours, carry, rtol=0, atol=1e-12)


# torch stacks its gates' matrices [H, D] in one array and has a bias for x and another for h.


def load(module, w_x, w_h, b_x, b_h):
    torch = pytest.importorskip("torch")

    def stacked(arrays):
        return torch.tensor(np.concatenate([np.asarray(a).T for a in arrays]))

    module.load_state_dict(
        {
            "weight_ih_l0": stacked(w_x),
            "weight_hh_l0": stacked(w_h),
            "bias_ih_l0": stacked(b_x),
            "bias_hh_l0": stacked(b_h),
        }
    )


def test_rnn_is_torchs():
    torch = pytest.importorskip("torch")
    p, h, xs = drawn(CELLS["rnn"], **SHAPE)
    module = torch.nn.RNN(2, 3, dtype=torch.float64)
    load(module, [p["w_xh"]], [p["w_hh"]], [p["b_h"]], [0 * p["b_h"]])
    with torch.no_grad():
        ys, last = module(torch.tensor(np.asarray(xs)), torch.tensor(np.asarray(h))[None])
    ours, our_ys = steps(CELLS["rnn"], p, h, xs)
    np.testing.assert_allclose(our_ys, ys.numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours, last[0].numpy(), rtol=0, atol=1e-12)


def test_lstm_is_torchs():
    torch = pytest.importorskip("torch")
    p, carry, xs = drawn(CELLS["lstm"], **SHAPE)
    module = torch.nn.LSTM(2, 3, dtype=torch.float64)
    load(
        module,
        w_x=[p["w_x" + gate] for gate in "ifgo"],
        w_h=[p["w_h" + gate] for gate in "ifgo"],
        b_x=[p["b_" + gate] for gate in "ifgo"],
        b_h=[0 * p["b_" + gate] for gate in "ifgo"],
    )
    c, h = (torch.tensor(np.asarray(part))[None] for part in carry)
    with torch.no_grad():
        ys, (last_h, last_c) = module(torch.tensor(np.asarray(xs)), (h, c))
    ours, our_ys = steps(CELLS["lstm"], p, carry, xs)
    np.testing.assert_allclose(our_ys, ys.numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.c, last_c[0].numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.h, last_h[0].numpy(), rtol=0, atol=1e-12)


def test_gru_reset_after_is_torchs():
    torch = pytest.importorskip("torch")
    p, h, xs = drawn(CELLS["gru_reset_after"], **SHAPE)
    module = torch.nn.GRU(2, 3, dtype=torch.float64)
    load(
        module,
        w_x=[p["w_xr"], p["w_xz"], p["w_xn"]],
        w_h=[p["w_hr"], p["w_hz"], p["w_hn"]],
        b_x=[p["b_r"], p["b_z"], p["b_xn"]],
        b_h=[0 * p["b_r"], 0 * p["b_z"], p["b_hn"]],
    )
    with torch.no_grad():
        ys, last = module(torch.tensor(np.asarray(xs)), torch.tensor(np.asarray(h))[None])
    ours, our_ys = steps(CELLS["gru_reset_after"], p, h, xs)
    np.testing.assert_allclose(our_ys, ys.numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours, last[0].numpy(), rtol=0, atol=1e-12)
