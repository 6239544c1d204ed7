"""Every cell once more, written from the printed equations in scalar loops.

An oracle is a function (params, carry, x) -> (carry, y) of ONE example: lists of floats for x and
for each part of the carry, nothing of JAX, nothing of `seqlab.cells`.
"""

from collections.abc import Callable
from math import exp, tanh


def sigmoid(a):
    return 1 / (1 + exp(-a))


def dot(v, w, j):
    """Entry j of the row v times the matrix w."""
    total = 0.0
    for k in range(len(v)):
        total += v[k] * w[k][j]
    return total


def affine(p, name, x, h, j):
    """Entry j of x W_x· + h W_h· + b_·"""
    return dot(x, p["w_x" + name], j) + dot(h, p["w_h" + name], j) + p["b_" + name][j]


def rnn(p, carry, x):
    (h,) = carry
    new = []
    for j in range(len(h)):
        new.append(tanh(affine(p, "h", x, h, j)))
    return (new,), new


def lstm(p, carry, x):
    c, h = carry
    new_c, new_h = [], []
    for j in range(len(h)):
        i = sigmoid(affine(p, "i", x, h, j))
        f = sigmoid(affine(p, "f", x, h, j))
        o = sigmoid(affine(p, "o", x, h, j))
        g = tanh(affine(p, "g", x, h, j))
        new_c.append(f * c[j] + i * g)
        new_h.append(o * tanh(new_c[j]))
    return (new_c, new_h), new_h


def lstm_jzs(p, carry, x):
    c, h = carry
    new_c, new_h = [], []
    for k in range(len(h)):
        i = tanh(affine(p, "i", x, h, k))
        j = sigmoid(affine(p, "j", x, h, k))
        f = sigmoid(affine(p, "f", x, h, k))
        o = tanh(affine(p, "o", x, h, k))
        new_c.append(c[k] * f + i * j)
        new_h.append(tanh(new_c[k]) * o)
    return (new_c, new_h), new_h


def lstm_jzs_no_forget(p, carry, x):
    c, h = carry
    new_c, new_h = [], []
    for k in range(len(h)):
        i = tanh(affine(p, "i", x, h, k))
        j = sigmoid(affine(p, "j", x, h, k))
        o = tanh(affine(p, "o", x, h, k))
        new_c.append(c[k] + i * j)
        new_h.append(tanh(new_c[k]) * o)
    return (new_c, new_h), new_h


def lstm_jzs_no_input(p, carry, x):
    c, h = carry
    new_c, new_h = [], []
    for k in range(len(h)):
        i = tanh(affine(p, "i", x, h, k))
        f = sigmoid(affine(p, "f", x, h, k))
        o = tanh(affine(p, "o", x, h, k))
        new_c.append(c[k] * f + i)
        new_h.append(tanh(new_c[k]) * o)
    return (new_c, new_h), new_h


def lstm_jzs_no_output(p, carry, x):
    c, h = carry
    new_c, new_h = [], []
    for k in range(len(h)):
        i = tanh(affine(p, "i", x, h, k))
        j = sigmoid(affine(p, "j", x, h, k))
        f = sigmoid(affine(p, "f", x, h, k))
        new_c.append(c[k] * f + i * j)
        new_h.append(tanh(new_c[k]))
    return (new_c, new_h), new_h


def gru(p, carry, x):
    (h,) = carry
    reset = [sigmoid(affine(p, "r", x, h, j)) * h[j] for j in range(len(h))]
    new = []
    for j in range(len(h)):
        z = sigmoid(affine(p, "z", x, h, j))
        n = tanh(affine(p, "h", x, reset, j))
        new.append(z * h[j] + (1 - z) * n)
    return (new,), new


def gru_flipped(p, carry, x):
    (h,) = carry
    reset = [sigmoid(affine(p, "r", x, h, j)) * h[j] for j in range(len(h))]
    new = []
    for j in range(len(h)):
        z = sigmoid(affine(p, "z", x, h, j))
        n = tanh(affine(p, "h", x, reset, j))
        new.append((1 - z) * h[j] + z * n)
    return (new,), new


def gru_reset_after(p, carry, x):
    (h,) = carry
    new = []
    for j in range(len(h)):
        r = sigmoid(affine(p, "r", x, h, j))
        z = sigmoid(affine(p, "z", x, h, j))
        from_x = dot(x, p["w_xn"], j) + p["b_xn"][j]
        from_h = dot(h, p["w_hn"], j) + p["b_hn"][j]
        new.append(z * h[j] + (1 - z) * tanh(from_x + r * from_h))
    return (new,), new


def mut1(p, carry, x):
    (h,) = carry
    reset = [sigmoid(affine(p, "r", x, h, j)) * h[j] for j in range(len(h))]
    new = []
    for j in range(len(h)):
        z = sigmoid(dot(x, p["w_xz"], j) + p["b_z"][j])
        candidate = tanh(dot(reset, p["w_hh"], j) + tanh(x[j]) + p["b_h"][j])
        new.append(candidate * z + h[j] * (1 - z))
    return (new,), new


def mut2(p, carry, x):
    (h,) = carry
    reset = []
    for j in range(len(h)):
        reset.append(sigmoid(x[j] + dot(h, p["w_hr"], j) + p["b_r"][j]) * h[j])
    new = []
    for j in range(len(h)):
        z = sigmoid(affine(p, "z", x, h, j))
        candidate = tanh(affine(p, "h", x, reset, j))
        new.append(candidate * z + h[j] * (1 - z))
    return (new,), new


def mut3(p, carry, x):
    (h,) = carry
    squashed = [tanh(a) for a in h]
    reset = [sigmoid(affine(p, "r", x, h, j)) * h[j] for j in range(len(h))]
    new = []
    for j in range(len(h)):
        z = sigmoid(affine(p, "z", x, squashed, j))
        candidate = tanh(affine(p, "h", x, reset, j))
        new.append(candidate * z + h[j] * (1 - z))
    return (new,), new


def greff(p, name, x, y, j):
    """Entry j of x W_· + y R_· + b_·"""
    return dot(x, p["w_" + name], j) + dot(y, p["r_" + name], j) + p["b_" + name][j]


def lstm_peephole(p, carry, x):
    c, y = carry
    new_c, new_y = [], []
    for j in range(len(y)):
        z = tanh(greff(p, "z", x, y, j))
        i = sigmoid(greff(p, "i", x, y, j) + p["p_i"][j] * c[j])
        f = sigmoid(greff(p, "f", x, y, j) + p["p_f"][j] * c[j])
        new_c.append(z * i + c[j] * f)
        o = sigmoid(greff(p, "o", x, y, j) + p["p_o"][j] * new_c[j])
        new_y.append(tanh(new_c[j]) * o)
    return (new_c, new_y), new_y


def lstm_nig(p, carry, x):
    c, y = carry
    new_c, new_y = [], []
    for j in range(len(y)):
        z = tanh(greff(p, "z", x, y, j))
        f = sigmoid(greff(p, "f", x, y, j) + p["p_f"][j] * c[j])
        new_c.append(z + c[j] * f)
        o = sigmoid(greff(p, "o", x, y, j) + p["p_o"][j] * new_c[j])
        new_y.append(tanh(new_c[j]) * o)
    return (new_c, new_y), new_y


def lstm_nfg(p, carry, x):
    c, y = carry
    new_c, new_y = [], []
    for j in range(len(y)):
        z = tanh(greff(p, "z", x, y, j))
        i = sigmoid(greff(p, "i", x, y, j) + p["p_i"][j] * c[j])
        new_c.append(z * i + c[j])
        o = sigmoid(greff(p, "o", x, y, j) + p["p_o"][j] * new_c[j])
        new_y.append(tanh(new_c[j]) * o)
    return (new_c, new_y), new_y


def lstm_nog(p, carry, x):
    c, y = carry
    new_c, new_y = [], []
    for j in range(len(y)):
        z = tanh(greff(p, "z", x, y, j))
        i = sigmoid(greff(p, "i", x, y, j) + p["p_i"][j] * c[j])
        f = sigmoid(greff(p, "f", x, y, j) + p["p_f"][j] * c[j])
        new_c.append(z * i + c[j] * f)
        new_y.append(tanh(new_c[j]))
    return (new_c, new_y), new_y


def lstm_niaf(p, carry, x):
    c, y = carry
    new_c, new_y = [], []
    for j in range(len(y)):
        z = greff(p, "z", x, y, j)
        i = sigmoid(greff(p, "i", x, y, j) + p["p_i"][j] * c[j])
        f = sigmoid(greff(p, "f", x, y, j) + p["p_f"][j] * c[j])
        new_c.append(z * i + c[j] * f)
        o = sigmoid(greff(p, "o", x, y, j) + p["p_o"][j] * new_c[j])
        new_y.append(tanh(new_c[j]) * o)
    return (new_c, new_y), new_y


def lstm_noaf(p, carry, x):
    c, y = carry
    new_c, new_y = [], []
    for j in range(len(y)):
        z = tanh(greff(p, "z", x, y, j))
        i = sigmoid(greff(p, "i", x, y, j) + p["p_i"][j] * c[j])
        f = sigmoid(greff(p, "f", x, y, j) + p["p_f"][j] * c[j])
        new_c.append(z * i + c[j] * f)
        o = sigmoid(greff(p, "o", x, y, j) + p["p_o"][j] * new_c[j])
        new_y.append(new_c[j] * o)
    return (new_c, new_y), new_y


def lstm_cifg(p, carry, x):
    c, y = carry
    new_c, new_y = [], []
    for j in range(len(y)):
        z = tanh(greff(p, "z", x, y, j))
        i = sigmoid(greff(p, "i", x, y, j) + p["p_i"][j] * c[j])
        new_c.append(z * i + c[j] * (1 - i))
        o = sigmoid(greff(p, "o", x, y, j) + p["p_o"][j] * new_c[j])
        new_y.append(tanh(new_c[j]) * o)
    return (new_c, new_y), new_y


def lstm_np(p, carry, x):
    c, y = carry
    new_c, new_y = [], []
    for j in range(len(y)):
        z = tanh(greff(p, "z", x, y, j))
        i = sigmoid(greff(p, "i", x, y, j))
        f = sigmoid(greff(p, "f", x, y, j))
        o = sigmoid(greff(p, "o", x, y, j))
        new_c.append(z * i + c[j] * f)
        new_y.append(tanh(new_c[j]) * o)
    return (new_c, new_y), new_y


def lstm_fgr(p, carry, x):
    c, y, i, f, o = carry

    def gates(to, j):
        return dot(i, p["r_i" + to], j) + dot(f, p["r_f" + to], j) + dot(o, p["r_o" + to], j)

    new_c, new_y, new_i, new_f, new_o = [], [], [], [], []
    for j in range(len(y)):
        z = tanh(greff(p, "z", x, y, j))
        new_i.append(sigmoid(greff(p, "i", x, y, j) + p["p_i"][j] * c[j] + gates("i", j)))
        new_f.append(sigmoid(greff(p, "f", x, y, j) + p["p_f"][j] * c[j] + gates("f", j)))
        new_c.append(z * new_i[j] + c[j] * new_f[j])
        new_o.append(sigmoid(greff(p, "o", x, y, j) + p["p_o"][j] * new_c[j] + gates("o", j)))
        new_y.append(tanh(new_c[j]) * new_o[j])
    return (new_c, new_y, new_i, new_f, new_o), new_y


ORACLES: dict[str, Callable] = {
    "rnn": rnn,
    "lstm": lstm,
    "gru": gru,
    "gru_flipped": gru_flipped,
    "gru_reset_after": gru_reset_after,
    "lstm_jzs": lstm_jzs,
    "lstm_jzs_no_forget": lstm_jzs_no_forget,
    "lstm_jzs_no_input": lstm_jzs_no_input,
    "lstm_jzs_no_output": lstm_jzs_no_output,
    "lstm_jzs_bias": lstm_jzs,
    "mut1": mut1,
    "mut2": mut2,
    "mut3": mut3,
    "lstm_peephole": lstm_peephole,
    "lstm_nig": lstm_nig,
    "lstm_nfg": lstm_nfg,
    "lstm_nog": lstm_nog,
    "lstm_niaf": lstm_niaf,
    "lstm_noaf": lstm_noaf,
    "lstm_cifg": lstm_cifg,
    "lstm_np": lstm_np,
    "lstm_fgr": lstm_fgr,
}
