"""A split step as functions of arrays: its parts, one step forward, one step backward."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn, Var
from jax.typing import DTypeLike
from jaxtyping import Array

from seqlab.recurrence.products import AS_JAX, Precision, Rules, beside, multiply, pieces
from seqlab.recurrence.split import (
    CARRY,
    CONSTANT,
    INPUT,
    PARAMS,
    Group,
    Split,
    bind,
    reader,
    shape_of,
)

# dy/dx as a function of y alone, so that x need not be kept.
SLOPES: dict[str, Callable[[Array], Array]] = {
    "tanh": lambda y: 1 - y * y,
    "logistic": lambda y: y * (1 - y),
    "exp": lambda y: y,
}

Values: TypeAlias = list[Any]  # of arrays, or of what stands for them: shapes, flags, None


class Step(NamedTuple):
    """The values of one step; with a leading axis T, those of all steps.

    Attributes:
        carry: the carry before the step.
        inputs: in the order of `Split.from_inputs`.
        known: results that the backward pass does not compute again: those of products, and those
            of which `SLOPES` knows the slope.
    """

    carry: Values
    inputs: Values
    known: Values


class Cotangents(NamedTuple):
    """What one step backward computes: the cotangents of

    Attributes:
        carry: the carry before the step.
        inputs: the floating-point entries of `Step.inputs`.
        groups: the merged result of each group of products.
        sums: the result of each addition of params.
        borders: the floating-point results of every other operation that reads params directly.
    """

    carry: Values
    inputs: Values
    groups: Values
    sums: Values
    borders: Values


class Parts:
    """The functions that the program of a recurrence is put together from."""

    def __init__(self, split: Split, product_dtype: DTypeLike | None):
        self.split = split
        self.product_dtype = product_dtype
        self.groups = split.groups_of(CARRY)
        self.known = [
            eqn.outvars[0]
            for eqn in split.equations[CARRY]
            if eqn.outvars[0] in split.groups or eqn.primitive.name in SLOPES
        ]
        borders = split.borders()
        self.sums = {
            eqn.outvars[0]: atom
            for eqn in borders
            for atom in eqn.invars
            if isinstance(atom, Var) and split.kind(atom) == PARAMS
            if eqn.primitive is lax.add_p and is_float(atom)
        }
        self.borders = [
            var for eqn in borders for var in eqn.outvars if is_float(var) and var not in self.sums
        ]
        self.float_inputs = [is_float(var) for var in split.from_inputs]

    def from_params(self, params: Values) -> Values:
        """Everything that depends on params only, as the rest reads it."""
        env = self._environment((self.split.params, params))
        self._run(env, PARAMS)
        return [env[var] for var in self.split.from_params]

    def from_inputs(self, from_params: Values, inputs: Values, rules: Rules = AS_JAX) -> Values:
        """Everything that depends on x and not on the carry; inputs and results are [T, B, ...]."""
        env = self._environment((self.split.from_params, from_params), (self.split.inputs, inputs))
        read = reader(env)
        for eqn in self.split.equations[INPUT]:
            group = self.split.groups.get(eqn.outvars[0])
            if eqn.outvars[0] in self.split.lookups:
                env[eqn.outvars[0]] = rules.take_rows(*map(read, eqn.invars))
            elif group is None:
                axes = [0 if self.split.kind(atom) == INPUT else None for atom in eqn.invars]
                apply = jax.vmap(functools.partial(bind, eqn), in_axes=axes)
                env.update(zip(eqn.outvars, apply(*map(read, eqn.invars)), strict=True))
            elif eqn.outvars[0] not in env:
                weights = tuple(right_sides(group, read))
                results = rules.multiply_all(self.how(group), read(group.lhs), weights)
                env.update(zip(outs(group), results, strict=True))
        return [env[var] for var in self.split.from_inputs]

    def weights(self, from_params: Values) -> Values:
        """The right sides of each group in the loop, side by side: [K, N]."""
        read = reader(dict(zip(self.split.from_params, from_params, strict=True)))
        merged = [beside(right_sides(group, read)) for group in self.groups]
        return [weight.astype(self.product_dtype or weight.dtype) for weight in merged]

    def forward(
        self, from_params: Values, weights: Values, carry: Values, inputs: Values
    ) -> tuple[Values, Values, Values]:
        """One step: the next carry, the outputs, what the step knows."""
        env = self._in_loop(from_params, carry, inputs)
        read = reader(env)

        def product(group: Group) -> Values:
            weight = weights[self.groups.index(group)]
            return list(pieces(multiply(self.how(group), read(group.lhs), weight), widths(group)))

        self._run(env, CARRY, product=product)
        return *self._returned(env), [env[var] for var in self.known]

    def backward(
        self,
        from_params: Values,
        weights_transposed: Values,
        step: Step,
        d_carry: Values,
        d_outputs: Values,
    ) -> Cotangents:
        """One step backward: products and `SLOPES` by what is known, the rest replayed."""
        known = dict(zip(self.known, step.known, strict=True))

        def replay(carry, float_inputs, group_taps, sum_taps, border_taps):
            inputs = iter(float_inputs)
            inputs = [
                next(inputs) if floating else value
                for floating, value in zip(self.float_inputs, step.inputs, strict=True)
            ]
            env = self._in_loop(from_params, carry, inputs)
            read = reader(env)
            taps = dict(zip(self.sums, sum_taps, strict=True))
            taps.update(zip(self.borders, border_taps, strict=True))

            def product(group: Group) -> Values:
                n = self.groups.index(group)
                results = tuple(known[out] for out in outs(group))
                weight = weights_transposed[n]
                return known_product(
                    self.how(group), read(group.lhs), weight, results, group_taps[n]
                )

            def operation(eqn: JaxprEqn) -> Values:
                if eqn.outvars[0] in known:
                    slope = SLOPES[eqn.primitive.name]
                    return [known_result(slope, read(eqn.invars[0]), known[eqn.outvars[0]])]
                results = bind(eqn, *map(read, eqn.invars))
                return [
                    tapped(result, taps[var]) if var in taps else result
                    for var, result in zip(eqn.outvars, results, strict=True)
                ]

            self._run(env, CARRY, product=product, operation=operation)
            return self._returned(env)

        float_inputs = [v for v, f in zip(step.inputs, self.float_inputs, strict=True) if f]
        group_taps = [merged_zeros(group) for group in self.groups]
        sum_taps, border_taps = list(map(zeros, self.sums)), list(map(zeros, self.borders))
        _, pull = jax.vjp(replay, step.carry, float_inputs, group_taps, sum_taps, border_taps)
        return Cotangents(*pull((d_carry, d_outputs)))

    def meetings(self, from_params: Values, at: Values, step: Step) -> tuple[Values, Values]:
        """Where params enter a step: the results of its borders, and the left side of each group.

        Each result is differentiated with respect to `from_params` through its own operation alone:
        the other operands are computed from `at`, which holds the same values.
        """
        env = self._in_loop(at, step.carry, step.inputs)
        own = dict(zip(self.split.from_params, from_params, strict=True))
        known = dict(zip(self.known, step.known, strict=True))
        read = reader(env)
        results = {}

        def operation(eqn: JaxprEqn) -> Values:
            if eqn.outvars[0] in known:
                return [known[eqn.outvars[0]]]
            if any(var in self.borders for var in eqn.outvars):
                operands = [own[a] if a in own else read(a) for a in eqn.invars]
                results.update(zip(eqn.outvars, bind(eqn, *operands), strict=True))
            return bind(eqn, *map(read, eqn.invars))

        self._run(env, CARRY, lambda group: [known[out] for out in outs(group)], operation)
        left_sides = [read(group.lhs) for group in self.groups]
        return [results[var] for var in self.borders], left_sides

    def filled(self, step: Step) -> Step:
        """A step with zeros for the values that are not there, because nothing uses them."""
        variables = Step(self.split.carry, self.split.from_inputs, self.known)
        return Step(
            *(
                [
                    zeros(var) if value is None else value
                    for var, value in zip(part, values, strict=True)
                ]
                for part, values in zip(variables, step, strict=True)
            )
        )

    def how(self, group: Group) -> Precision:
        return Precision(self.product_dtype, group.precision, shape_of(outs(group)[0]).dtype)

    def _environment(self, *assigned: tuple[list[Var], Values]) -> dict[Var, Any]:
        env: dict[Var, Any] = {}
        self._run(env, CONSTANT)
        for variables, values in assigned:
            env.update(zip(variables, values, strict=True))
        return env

    def _in_loop(self, from_params: Values, carry: Values, inputs: Values) -> dict[Var, Any]:
        return self._environment(
            (self.split.from_params, from_params),
            (self.split.from_inputs, inputs),
            (self.split.carry, carry),
        )

    def _run(
        self,
        env: dict[Var, Any],
        part: int,
        product: Callable[[Group], Any] | None = None,
        operation: Callable[[JaxprEqn], Any] | None = None,
    ) -> None:
        """The operations of a part in order, each group of products where its first one stands."""
        read = reader(env)
        for eqn in self.split.equations[part]:
            group = self.split.groups.get(eqn.outvars[0]) if product else None
            if group is None or product is None:
                results = operation(eqn) if operation else bind(eqn, *map(read, eqn.invars))
                env.update(zip(eqn.outvars, results, strict=True))
            elif eqn.outvars[0] not in env:
                env.update(zip(outs(group), product(group), strict=True))

    def _returned(self, env: dict[Var, Any]) -> tuple[Values, Values]:
        read = reader(env)
        return list(map(read, self.split.carry_out)), list(map(read, self.split.outputs))


def outs(group: Group) -> list[Var]:
    return [product.out for product in group.products]


def widths(group: Group) -> list[int]:
    return [product.width for product in group.products]


def right_sides(group: Group, read: Callable) -> list[Array]:
    """[K, N] each."""
    return [read(p.rhs).T if p.transposed else read(p.rhs) for p in group.products]


def merged_zeros(group: Group) -> Array:
    result = shape_of(outs(group)[0])
    return jnp.zeros((result.shape[0], sum(widths(group))), result.dtype)


def zeros(var: Var) -> Array:
    shape = shape_of(var)
    return jnp.zeros(shape.shape, shape.dtype)


def is_float(var: Var) -> bool:
    return jnp.issubdtype(shape_of(var).dtype, jnp.floating)


# Identities for the replay. What they return is known; only their derivatives matter.


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def known_result(slope: Callable, x: Array, y: Array) -> Array:
    """y = f(x), of which only y and f' as a function of y are at hand."""
    return y


known_result.defvjp(
    lambda slope, x, y: (y, y),
    lambda slope, y, d_y: (d_y * slope(y), None),
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def known_product(
    how: Precision, lhs: Array, transposed: Array, results: tuple[Array, ...], tap: Array
) -> tuple[Array, ...]:
    """The results of one group; the cotangent of `tap` is theirs, side by side."""
    return results


def _known_product_backward(how, saved, d_results):
    lhs_dtype, transposed = saved
    d_merged = beside(d_results)
    d_lhs = multiply(how._replace(out=lhs_dtype.dtype), d_merged, transposed)
    return d_lhs, None, None, d_merged


known_product.defvjp(
    lambda how, lhs, transposed, results, tap: (results, (jnp.zeros((), lhs.dtype), transposed)),
    _known_product_backward,
)


@jax.custom_vjp
def tapped(value: Array, tap: Array) -> Array:
    """value; the cotangent of `tap` is its own."""
    return value


tapped.defvjp(lambda value, tap: (value, None), lambda _, d_value: (d_value, d_value))
