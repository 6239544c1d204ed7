"""Recurrent cells that nobody would write: random equations, the same for the same seed.

Every equation is made of what people do write: products that depend on products, gates, peepholes,
weights that are shared, transposed or normalised, biases inside and outside the non-linearities.
No value grows from step to step.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.nn import relu, sigmoid, softmax, softplus
from jax.numpy import tanh

HIDDEN = 3

Values = dict[str, Array]  # params, carry, x and the named lines above, each at least of rank 2


class Expression(NamedTuple):
    """A right-hand side, [B, H] or smaller: how it is printed and how it is computed."""

    text: str
    of: Callable[[Values], Array]


class RandomCell(NamedTuple):
    """A step, what it takes, and its equation for the message of a test that fails."""

    step: Callable
    params: dict[str, Array]
    carry: Callable[[int], dict[str, Array]]  # B -> carry
    input_dim: int
    equation: str

    def describe(self) -> str:
        return self.equation


def standardised(a: Array) -> Array:
    centred = a - a.mean(axis=-1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(axis=-1, keepdims=True) + 0.1)


NONLINEARITIES = {
    "tanh({})": tanh,
    "σ({})": sigmoid,
    "relu({})": relu,
    "softplus({})": softplus,
    "sin({})": jnp.sin,
    "exp(tanh({}))": lambda a: jnp.exp(tanh(a)),
    "cauchy({})": lambda a: a**2 / (1 + a**2),
    "leaky({})": lambda a: jnp.where(a > 0.1, a, 0.3 * a),
    "|{}|": jnp.abs,
    "sqrt(1 + square({}))": lambda a: jnp.sqrt(1 + a**2),
    "softmax({})": softmax,
    "standardised({})": standardised,
    "erf({})": jax.scipy.special.erf,
    "log1p(exp({}))": lambda a: jnp.log1p(jnp.exp(a)),
}


def applied(name: str, a: Expression) -> Expression:
    f = NONLINEARITIES[name]
    return Expression(name.format(a.text), lambda v: f(a.of(v)))


def plus(a: Expression, b: Expression) -> Expression:
    return Expression(f"{a.text} + {b.text}", lambda v: a.of(v) + b.of(v))


def times(a: Expression, b: Expression) -> Expression:
    return Expression(f"({a.text})⊙({b.text})", lambda v: a.of(v) * b.of(v))


def mixed(gate: Expression, a: Expression, b: Expression) -> Expression:
    def of(v):
        g = gate.of(v)
        return g * a.of(v) + (1 - g) * b.of(v)

    return Expression(f"g⊙({a.text}) + (1 − g)⊙({b.text}) with g = {gate.text}", of)


class Author:
    """Writes one equation: every method draws one of the forms that a part of it can have."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.input_dim = HIDDEN if seed % 2 else 2
        self.shapes: dict[str, tuple[int, ...]] = {}

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def one_of(self, things):
        return things[self.rng.integers(len(things))]

    def symbol(self, *shape: int) -> Expression:
        """A new array, or for one in three an array of that shape that is already in use."""
        name = f"{'sbw'[len(shape)]}{len(self.shapes)}"
        same = [known for known, its in self.shapes.items() if its == shape]
        if same and self.chance(1 / 3):
            name = self.one_of(same)
        self.shapes[name] = shape
        return Expression(name, lambda v: v[name])

    def nonlinear(self, a: Expression) -> Expression:
        return applied(self.one_of(list(NONLINEARITIES)), a)

    def row(self) -> Expression:
        """[1, H], of params only."""
        b = self.symbol(HIDDEN)
        match self.rng.integers(6):
            case 0:
                return applied("softplus({})", b)
            case 1:
                return times(b, applied("σ({})", self.symbol(HIDDEN)))
            case 2:
                w = self.symbol(HIDDEN, HIDDEN)
                return Expression(f"tanh({b.text}) @ {w.text}", lambda v: tanh(b.of(v)) @ w.of(v))
        return b

    def matrix(self) -> Expression:
        """[H, H], of params only."""
        w = self.symbol(HIDDEN, HIDDEN)
        match self.rng.integers(10):
            case 0 | 1:
                return Expression(f"{w.text}.T", lambda v: w.of(v).T)
            case 2:
                return Expression(f"({w.text} @ {w.text}.T)", lambda v: w.of(v) @ w.of(v).T)
            case 3:
                return Expression(
                    f"({w.text} / |{w.text}|)",
                    lambda v: w.of(v) / jnp.sqrt((w.of(v) ** 2).sum(axis=0, keepdims=True)),
                )
            case 4:
                s = self.symbol()
                return Expression(f"exp({s.text}) {w.text}", lambda v: jnp.exp(s.of(v)) * w.of(v))
            case 5:
                u = self.symbol(HIDDEN, HIDDEN)
                return Expression(f"({w.text} − {u.text})", lambda v: w.of(v) - u.of(v))
        return w

    def from_input(self) -> Expression:
        """[B, H], of x and params."""
        x = Expression("x", lambda v: v["x"])
        for name in ("tanh({})", "sin({})", "|{}|"):
            if self.chance(1 / 8):
                x = applied(name, x)
        if self.input_dim == HIDDEN and self.chance(1 / 3):
            return x if self.chance(1 / 2) else times(x, self.row())
        if self.input_dim == HIDDEN and self.chance(1 / 3):
            w = self.matrix()  # which a product of the carry may share
        elif self.chance(1 / 4):
            u = self.symbol(HIDDEN, self.input_dim)
            w = Expression(f"{u.text}.T", lambda v: u.of(v).T)
        else:
            w = self.symbol(self.input_dim, HIDDEN)
        product = Expression(f"({x.text}) @ {w.text}", lambda v: x.of(v) @ w.of(v))
        return self.nonlinear(product) if self.chance(1 / 4) else product

    def product(self, a: Expression) -> Expression:
        """[B, H], linear in a."""
        match self.rng.integers(10):
            case 0:
                w = self.symbol(HIDDEN, HIDDEN)
                return Expression(
                    f"einsum(bk,hk->bh, {a.text}, {w.text})",
                    lambda v: jnp.einsum("bk,hk->bh", a.of(v), w.of(v)),
                )
            case 1:
                w = self.symbol(HIDDEN, HIDDEN)
                return Expression(f"({w.text} @ ({a.text}).T).T", lambda v: (w.of(v) @ a.of(v).T).T)
            case 2:
                w = self.symbol(HIDDEN, 2 * HIDDEN)

                def halves(v):
                    one, other = jnp.split(a.of(v) @ w.of(v), 2, axis=-1)
                    return one * sigmoid(other)

                return Expression(f"(one⊙σ(other) of ({a.text}) @ {w.text})", halves)
            case 3:
                w = self.symbol(self.input_dim + HIDDEN, HIDDEN)
                return Expression(
                    f"[x, {a.text}] @ {w.text}",
                    lambda v: jnp.concatenate([v["x"], a.of(v)], axis=-1) @ w.of(v),
                )
        w = self.matrix()
        return Expression(f"({a.text}) @ {w.text}", lambda v: a.of(v) @ w.of(v))

    def left_side(self, state: Expression, before: Expression | None) -> Expression:
        """[B, H], of the carry, and of the product before this one if there is one."""
        a = state
        if before is not None:
            a = self.one_of([before, times(before, state), plus(before, state)])
        for form in (lambda a: times(self.from_input(), a), self.nonlinear):
            if self.chance(1 / 4):
                a = form(a)
        return a

    def terms(self, a: Expression, state: Expression) -> Expression:
        """The sum in which a product usually stands."""
        for other in (
            self.from_input,
            self.row,
            lambda: times(self.row(), state),  # a peephole
            lambda: self.nonlinear(self.row()),
        ):
            if self.chance(1 / 4):
                a = plus(a, other()) if self.chance(1 / 2) else plus(other(), a)
        return a


def random_cell(seed: int) -> RandomCell:
    """One to four products, each of which depends on the one before; one to three states."""
    author = Author(seed)
    states = ["h", "c", "m"][: author.rng.integers(1, 4)]
    lines: list[tuple[str, Expression]] = []

    def named(name: str, right: Expression) -> Expression:
        lines.append((name, right))
        return Expression(name, lambda v: v[name])

    def state() -> Expression:
        name = author.one_of(states)
        return Expression(name, lambda v: v[name])

    a = None
    for number in range(author.rng.integers(1, 5)):
        left = author.left_side(state(), a if author.chance(3 / 4) else None)
        a = named(f"a{number}", author.nonlinear(author.terms(author.product(left), state())))

    for name in states:
        old = Expression(name, lambda v, name=name: v[name])
        gate = applied("σ({})", author.terms(author.one_of([a, author.product(old)]), old))
        new = applied("tanh({})", author.terms(a, state()))
        a = named(f"{name}'", author.one_of([new, times(gate, new), mixed(gate, new, old)]))
    named("y", author.one_of([a, author.terms(a, state())]))

    def step(params, carry, x):
        values = {name: p[None] if p.ndim == 1 else p for name, p in params.items()}
        values |= carry | {"x": x}
        for name, right in lines:
            values[name] = right.of(values)
        return {name: values[f"{name}'"] for name in states}, values["y"]

    return RandomCell(
        step=step,
        params={
            name: jnp.asarray(0.7 * author.rng.normal(size=shape))
            for name, shape in author.shapes.items()
        },
        carry=lambda batch_size: {
            name: jnp.asarray(np.random.default_rng(seed).normal(size=(batch_size, HIDDEN)))
            for name in states
        },
        input_dim=author.input_dim,
        equation="\n".join(
            [f"random cell {seed}: x is [B, {author.input_dim}], {author.shapes}"]
            + [f"    {name} = {right.text}" for name, right in lines]
        ),
    )
