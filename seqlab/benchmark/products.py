"""The matrix products of a pass and nothing else: their share of its time.

A floor, not a competitor. The products are those of `seqlab.recurrence`, of the same sizes, by the
same functions, in loops of the same length, and with the same dependencies. All else is replaced by
the cheapest dependency: the left operand of a product is a slice of the previous result. So the
values are meaningless, and are compared with nothing.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Var

from seqlab.benchmark.case import PRECISIONS, Case, Program
from seqlab.benchmark.jax_programs import compile_in
from seqlab.cells import CELLS
from seqlab.recurrence.order import after
from seqlab.recurrence.parts import Parts, right_sides, widths
from seqlab.recurrence.products import beside, multiply, multiply_all, weight_gradient
from seqlab.recurrence.split import CARRY, INPUT, Group, reader, shape_of, split


def prepare(case: Case) -> Program:
    """Compile the products of a case; there are no outputs."""
    with jax.default_matmul_precision(PRECISIONS[case.precision].matmul):
        products = Products(case)
    dtype = products.dtype
    params, xs = jax.tree.map(lambda array: jnp.asarray(array, dtype), (case.params, case.xs))
    if case.workload == "forward":
        run, arguments = products.forward, (params, xs)
    else:
        run, arguments = products.both_ways, (params, xs, products.sides())
    compiled, facts = compile_in(case.precision, run, *arguments)
    waits = jax.default_backend() == "cpu"

    def call() -> Any:
        results = compiled(*arguments)
        return jax.block_until_ready(results) if waits else results

    return Program(
        call, jax.block_until_ready, dict, {"version": f"jax {jax.__version__}", **facts}
    )


class Sides(NamedTuple):
    """Stacks that stand for what the products after the backward loop multiply.

    Attributes:
        left: of each group of products in the loop, [T, B, K].
        cotangents: of its results, [T, B, N].
        of_inputs: of the results of each group of products with x, [T, B, N].
    """

    left: list[jax.Array]
    cotangents: list[jax.Array]
    of_inputs: list[jax.Array]


class Products:
    """The products of a case, as functions of arrays."""

    def __init__(self, case: Case):
        dtype = PRECISIONS[case.precision].dtype
        batch_size, time, input_dim, hidden_dim = vars(case.shape).values()
        params = {k: jax.ShapeDtypeStruct(v.shape, dtype) for k, v in case.params.items()}
        carry = jax.eval_shape(
            lambda: CELLS[case.cell].initial_carry(batch_size, hidden_dim, dtype)
        )
        x = jax.ShapeDtypeStruct((batch_size, input_dim), dtype)
        self.split, consts, _ = split(CELLS[case.cell].step, params, carry, x, time)
        assert not consts
        self.parts = Parts(self.split, product_dtype=None)
        self.of_inputs = self.split.groups_of(INPUT)
        self.before = list(_before(self.parts))
        self.time, self.batch_size, self.dtype = time, batch_size, dtype

    def sides(self) -> Sides:
        def stack(width: int) -> jax.Array:
            return jnp.full((self.time, self.batch_size, width), 0.5, self.dtype)

        return Sides(
            [stack(_depth(group)) for group in self.parts.groups],
            [stack(sum(widths(group))) for group in self.parts.groups],
            [stack(sum(widths(group))) for group in self.of_inputs],
        )

    def forward(self, params: dict[str, jax.Array], xs: jax.Array) -> list[jax.Array]:
        """Products with x, and the results of the last step."""
        parts = self.parts
        from_params = parts.from_params(jax.tree.leaves(params))
        weights = parts.weights(from_params)
        inputs = xs.swapaxes(0, 1)
        of_x = [
            result
            for group, rights in zip(self.of_inputs, self._rights(from_params), strict=True)
            for result in multiply_all(parts.how(group), inputs, tuple(rights))
        ]

        def body(results, _):
            new = []
            for n, (group, weight) in enumerate(zip(parts.groups, weights, strict=True)):
                before = self.before[n]
                source = results[-1] if before is None else new[before]
                new.append(multiply(parts.how(group), source[:, : _depth(group)], weight))
            return new, None

        start = [self._waiting(of_x, sum(widths(group))) for group in parts.groups]
        last, _ = lax.scan(body, start, length=self.time)
        return [*of_x, *last]

    def both_ways(
        self, params: dict[str, jax.Array], xs: jax.Array, sides: Sides
    ) -> list[jax.Array]:
        """`forward`; then the loop back; then the gradients of weights and of x."""
        parts, groups = self.parts, self.parts.groups
        results = self.forward(params, xs)
        from_params = parts.from_params(jax.tree.leaves(params))
        transposed = [weight.T for weight in parts.weights(from_params)]
        then = [
            next((m for m in range(len(groups)) if self.before[m] == n), None)
            for n in range(len(groups))
        ]

        def body(d_left, cotangents):
            new: dict[int, jax.Array] = {}
            for n in reversed(range(len(groups))):
                after_it = then[n]
                source = d_left[0] if after_it is None else new[after_it]
                cotangent = lax.dynamic_update_slice(cotangents[n], source, (0, 0))
                new[n] = multiply(parts.how(groups[n]), cotangent, transposed[n])
            return [new[n] for n in range(len(groups))], None

        start = [self._waiting(results, _depth(group)) for group in groups]
        d_first, _ = lax.scan(body, start, sides.cotangents, reverse=True)
        left, inputs, rights = after(d_first, (sides.left, xs, self._rights(from_params)))
        of_weights = [
            weight_gradient(parts.how(group), lhs, cotangent)
            for group, lhs, cotangent in zip(groups, left, sides.cotangents, strict=True)
        ]
        of_inputs = [
            result
            for group, right, cotangent in zip(self.of_inputs, rights, sides.of_inputs, strict=True)
            for result in (
                weight_gradient(parts.how(group), inputs.swapaxes(0, 1), cotangent),
                multiply(parts.how(group), cotangent, beside(right).T),
            )
        ]
        return [*results, *d_first, *of_weights, *of_inputs]

    def _waiting(self, done: Any, width: int) -> jax.Array:
        one = after(done, jnp.ones((), self.dtype))
        return jnp.broadcast_to(one, (self.batch_size, width))

    def _rights(self, from_params: list[Any]) -> list[list[jax.Array]]:
        """The matrices of each group of products with x."""
        read = reader(dict(zip(self.split.from_params, from_params, strict=True)))
        return [right_sides(group, read) for group in self.of_inputs]


def _depth(group: Group) -> int:
    return shape_of(group.lhs).shape[1]


def _before(parts: Parts) -> Iterator[int | None]:
    """For each group of the loop, the last one whose result its left side is computed from."""
    latest: dict[Any, int] = {}
    for eqn in parts.split.equations[CARRY]:
        found = [latest[a] for a in eqn.invars if isinstance(a, Var) and a in latest]
        group = parts.split.groups.get(eqn.outvars[0])
        if group is not None:
            found = [parts.groups.index(group)]
        if found:
            latest.update(dict.fromkeys(eqn.outvars, max(found)))
    for group in parts.groups:
        yield latest.get(group.lhs)
