"""Steps that are written unlike any in CELLS."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.nn import sigmoid, softplus
from jax.numpy import tanh
from random_cells import HIDDEN
from recurrence_cases import BATCH, TIME, Case, normal

W = jnp.asarray(np.random.default_rng(1).normal(size=(HIDDEN, HIDDEN)), jnp.float32)


def biases_everywhere(p, h, x):
    b = p["b"][None]
    h = tanh(x @ p["w"] + h @ p["w"] + b) * softplus(b) + b * sigmoid(h + b)
    return h, h + b


def peepholes_everywhere(p, h, x):
    v = p["v"][None]
    c = v * h + tanh(h @ p["w"] + v * h + v * x)
    return tanh(c), v * c


def a_weight_of_two_products_in_a_row(p, h, x):
    a = sigmoid(h @ p["w"] + x)
    h = tanh((a * h) @ p["w"] + a @ p["w"].T)
    return h, a


def one_matrix_for_x_and_h(p, h, x):
    h = tanh(jnp.concatenate([x, h], axis=-1) @ jnp.concatenate([p["w"], p["u"]]) + p["b"][None])
    return h, h


def fast_weights(p, carry, x):
    h, memory = carry["h"], carry["memory"]
    memory = 0.9 * memory + 0.1 * h[:, :, None] * x[:, None, :]
    h = tanh(h @ p["w"] + jnp.einsum("bij,bj->bi", memory, x))
    return {"h": h, "memory": memory}, h


def counts_its_steps(p, carry, x):
    h, steps = carry["h"], carry["steps"]
    h = tanh(h @ p["w"] + x / (1 + steps).astype(x.dtype))
    return {"h": h, "steps": steps + 1}, h


def drops_out(p, carry, x):
    key, now = jax.random.split(carry["key"])
    keep = jax.random.bernoulli(now, 0.5, x.shape)
    h = tanh(jnp.where(keep, carry["h"], 0 * x) @ p["w"] + x)
    return {"h": h, "key": key}, h


def loops_within(p, h, x):
    h = lax.fori_loop(0, 3, lambda _, h: tanh(h @ p["w"] + x), h)
    return h, h


def decides(p, h, x):
    h = lax.cond(h.sum() > 0, lambda h: tanh(h @ p["w"]), lambda h: sigmoid(h @ p["u"]), h) + x
    return h, h


@jax.custom_vjp
def scaled_backward(a):
    return a


scaled_backward.defvjp(lambda a: (a, None), lambda _, d: (0.5 * d,))


def has_a_rule_of_its_own(p, h, x):
    h = scaled_backward(tanh(h @ p["w"] + x))
    return h, h


def constant_weight(p, h, x):
    h = tanh(h @ W.astype(x.dtype) + x * p["b"][None])
    return h, h


def ignores_x(p, h, x):
    h = tanh(h @ p["w"])
    return h, h


def ignores_the_carry(p, h, x):
    a = tanh(x @ p["w"] + p["b"][None])
    return a, a + x


def leaves_the_carry(p, h, x):
    return h, h * tanh(x @ p["w"])


def only_params_come_out(p, h, x):
    return jnp.broadcast_to(softplus(p["b"][None]), h.shape), jnp.broadcast_to(p["b"], h.shape)


def swaps_its_carry(p, carry, x):
    return {"h": carry["c"], "c": tanh(carry["h"] @ p["w"] + x)}, carry["h"]


def many_outputs(p, h, x):
    gate = sigmoid(x @ p["u"])
    h = gate * h + (1 - gate) * tanh(h @ p["w"])
    return h, {"h": h, "gate": gate, "norm": (h * h).sum(axis=-1)}


def looks_at_other_rows(p, h, x):
    h = tanh(h @ p["w"] + x - h.mean(axis=0, keepdims=True))
    return h, h


ODD_STEPS = {
    step.__name__: step
    for step in (
        biases_everywhere,
        peepholes_everywhere,
        a_weight_of_two_products_in_a_row,
        one_matrix_for_x_and_h,
        fast_weights,
        counts_its_steps,
        drops_out,
        loops_within,
        decides,
        has_a_rule_of_its_own,
        constant_weight,
        ignores_x,
        ignores_the_carry,
        leaves_the_carry,
        only_params_come_out,
        swaps_its_carry,
        many_outputs,
        looks_at_other_rows,
    )
}


def odd_case(name) -> Case:
    rng = np.random.default_rng(0)
    h = normal(rng, BATCH, HIDDEN)
    others = {
        "fast_weights": {"memory": normal(rng, BATCH, HIDDEN, HIDDEN)},
        "counts_its_steps": {"steps": jnp.zeros((BATCH, 1), jnp.int32)},
        "drops_out": {"key": jax.random.key(0)},
        "swaps_its_carry": {"c": normal(rng, BATCH, HIDDEN)},
    }
    shapes = {"w": (HIDDEN, HIDDEN), "u": (HIDDEN, HIDDEN), "b": (HIDDEN,), "v": (HIDDEN,)}
    return Case(
        ODD_STEPS[name],
        {symbol: normal(rng, *shape) for symbol, shape in shapes.items()},
        {"h": h, **others[name]} if name in others else h,
        normal(rng, BATCH, TIME, HIDDEN),
        name,
    )
