"""The fast program of a recurrence, put together from the parts of its step.

Forward: the params part once, the input part for all T at once, then a loop over what is left,
which keeps what the backward loop is going to read and nothing else.

Backward: the loop computes the cotangents of the carry and those of the results of each group of
products. No gradient of params is in it. They follow when it is done, each as one product over all
T·B rows:

    d_rhs = Σ_t lhs_tᵀ d_result_t
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn, Var
from jaxtyping import Array

from seqlab.recurrence import platform
from seqlab.recurrence.backward import trace_backward, trace_meetings
from seqlab.recurrence.gradients import every, found, products_gradient, sums_gradient, total
from seqlab.recurrence.order import after
from seqlab.recurrence.parts import Parts, Step, Values
from seqlab.recurrence.products import ONE_GRADIENT
from seqlab.recurrence.split import CARRY, Split, shape_of


class Saved(NamedTuple):
    """What the forward pass hands to the backward pass.

    Attributes:
        params, inputs, first_carry: as given, flat; inputs are [T, B, ...].
        outputs: stacks [T, B, ...].
        step: stacks of the values that the backward pass reads; None for those it does not, and
            for carries that the outputs hold.
    """

    params: Values
    inputs: Values
    first_carry: Values
    outputs: Values
    step: Step


class Program:
    """A recurrence over T steps, forward and backward, on flat values with a leading axis T."""

    def __init__(self, parts: Parts, reverse: bool, recompute: bool):
        split = parts.split
        self.parts = parts
        self.reverse = reverse
        self.recompute = recompute
        self.back = trace_backward(parts)
        meetings = trace_meetings(parts)
        needed: Step = jax.tree.map(lambda a, b: a or b, self.back.used[2], meetings)
        if recompute:
            needed = Step([True] * len(split.carry), *jax.tree.map(lambda _: False, needed[1:]))
        self.needed = needed
        self.known_after = meetings.known
        # What is also an output is kept once; of a carry, h_{t-1} is the y of the step before.
        self.as_output = Step(
            carry=[_position(atom, split.outputs) for atom in split.carry_out],
            inputs=[None] * len(split.from_inputs),
            known=[_position(var, split.outputs) for var in parts.known],
        )

    def forward(self, params: Values, carry: Values, inputs: Values) -> tuple[Values, Values]:
        """The last carry, and the outputs."""
        from_params = self.parts.from_params(params)
        weights = self.parts.weights(from_params)

        def body(carry, inputs):
            return self.parts.forward(from_params, weights, carry, inputs)[:2]

        stacks = self.parts.from_inputs(from_params, inputs)
        return self._scan(body, carry, stacks, self.reverse, length=len(inputs[0]))

    def forward_and_save(
        self, params: Values, carry: Values, inputs: Values
    ) -> tuple[tuple[Values, Values], Saved]:
        """As `forward`, plus what the backward pass will read."""
        from_params = self.parts.from_params(params)
        weights = self.parts.weights(from_params)
        keep = jax.tree.map(
            lambda is_needed, output: is_needed and output is None,
            self.needed,
            self.as_output,
            is_leaf=lambda leaf: leaf is None,
        )
        stacks = self.parts.from_inputs(from_params, inputs)
        places = _places(self.parts.split, keep, self.parts.known)
        written = [stacks[position] for position in places.values()]

        def body(state, values):
            carry, written = state
            inputs, t = values
            read = [lax.dynamic_index_in_dim(stack, t, keepdims=False) for stack in written]
            inputs = _put(inputs, places.values(), read)
            new_carry, outputs, known = self.parts.forward(from_params, weights, carry, inputs)
            written = [
                lax.dynamic_update_index_in_dim(stack, known[k], t, axis=0)
                for stack, k in zip(written, places, strict=True)
            ]
            rest = [value for k, value in enumerate(_only(known, keep.known)) if k not in places]
            return (new_carry, written), (outputs, _only(carry, keep.carry), rest)

        length = len(inputs[0])
        (last, written), (outputs, carries, rest) = self._scan(
            body,
            (carry, written),
            (_put(stacks, places.values(), [None] * len(places)), jnp.arange(length)),
            self.reverse,
            length,
        )
        rest = iter(rest)
        known = [None if k in places else next(rest) for k in range(len(keep.known))]
        known = _put(known, places, written)
        step = Step(carries, _only(stacks, keep.inputs), known)
        return (last, outputs), Saved(params, inputs, carry, outputs, step)

    def backward(
        self, saved: Saved, cotangents: tuple[Values, Values]
    ) -> tuple[Values, Values, Values]:
        """The cotangents of params, of the first carry and of the inputs."""
        parts, split, sources = self.parts, self.parts.split, self.back.sources
        if self.recompute:  # after the cotangents, and not as a part of the forward pass
            saved, cotangents = lax.optimization_barrier((saved, cotangents))
        from_params, pull_params = jax.vjp(parts.from_params, saved.params)
        steps, inputs = self._steps(saved), saved.inputs
        if self.recompute:
            d_first, written, known = self._loop_again(from_params, steps.carry, inputs, cotangents)
            # The products after the loop wait for it, or what they read would be live during it.
            carry, inputs = after(written, (steps.carry, inputs))
            steps = Step(carry, parts.from_inputs(from_params, inputs), known)
        else:
            body = self._step_back(from_params, parts.weights(from_params))
            stacks = steps, cotangents[1]
            d_first, written = self._scan(
                body, cotangents[0], stacks, not self.reverse, len(inputs[0])
            )
        d_groups = [found(written, source) for source in sources.groups]
        d_borders = [found(written, source) for source in sources.borders]

        def meetings(own):
            if not jax.tree.leaves(steps):  # a step that meets no params
                return [], []
            return jax.vmap(lambda step: parts.meetings(own, from_params, parts.filled(step)))(
                steps
            )

        _, pull_meetings, left_sides = jax.vjp(meetings, from_params, has_aux=True)
        (d_from_params,) = pull_meetings(d_borders)
        d_products = products_gradient(parts, left_sides, d_groups)
        d_added = sums_gradient(parts, sources.sums, written, merged=self.recompute)
        if self.recompute:
            inputs = after(d_products, inputs)
            if len({source.stack for source in sources.inputs}) > 1:  # they are put side by side
                written = after(d_products, written)
        from_inputs = functools.partial(parts.from_inputs, rules=ONE_GRADIENT)
        stacks, pull_inputs = jax.vjp(from_inputs, from_params, inputs)
        d_inputs = [found(written, source) for source in sources.inputs]
        d_more, d_xs = pull_inputs(every(d_inputs, split.from_inputs, stacks))
        terms = d_from_params, d_products, d_added, d_more
        d_all = [total(of_one) for of_one in zip(*terms, strict=True)]
        (d_params,) = pull_params(d_all)
        return d_params, d_first, d_xs

    def _step_back(self, from_params: Values, weights: Values) -> Callable:
        """The body of the backward loop: d_carry, (step, d_outputs) -> d_carry, values to stack."""
        transposed = [weight.T for weight in weights]

        def body(d_carry: Values, values: tuple[Step, Values]) -> tuple[Values, Values]:
            step, d_outputs = values
            arguments = from_params, transposed, step, d_carry, d_outputs
            used = jax.tree.map(lambda u, a: a if u else None, self.back.used, arguments)
            return self.back.call(*jax.tree.leaves(used))

        return body

    def _loop_again(
        self, from_params: Values, carry: Values, inputs: Values, cotangents: tuple[Values, Values]
    ) -> tuple[Values, Values, Values]:
        """The backward loop where each step is first computed again, from its carry and its input.

        Its products with x, too: for all T at once, before the loop, they would hold as much memory
        as the cotangents that the loop writes, and on a CPU it takes the same time.

        Returns:
            d_first; the stacks written; of `Step.known`, what is read after the loop.
        """
        parts = self.parts
        weights = parts.weights(from_params)
        step_back = self._step_back(from_params, weights)

        def again(carry: Values, inputs: Values) -> Step:
            alone = [value[None] for value in inputs]
            from_inputs = [value[0] for value in parts.from_inputs(from_params, alone)]
            known = parts.forward(from_params, weights, carry, from_inputs)[2]
            return Step(carry, from_inputs, known)

        def results(d_carry, values):
            carry, inputs, d_outputs = values
            step = again(carry, inputs)
            d_carry, written = step_back(d_carry, (step, d_outputs))
            return d_carry, (written, _only(step.known, self.known_after))

        def body(state, values):
            (d_carry, stacks), (values, t) = state, values
            d_carry, written = results(d_carry, values)

            def write(stack, value):
                return lax.dynamic_update_index_in_dim(stack, value, t, axis=0)

            return (d_carry, jax.tree.map(write, stacks, written)), None

        d_last, d_outputs = cotangents
        values, length = (carry, inputs, d_outputs), len(inputs[0])
        _, shapes = jax.eval_shape(results, d_last, jax.tree.map(lambda stack: stack[0], values))
        empty = jax.tree.map(lambda one: jnp.zeros((length, *one.shape), one.dtype), shapes)
        # The buffers that `lax.scan` itself makes would not even wait for the forward pass.
        state = d_last, after(cotangents, empty)
        (d_first, (written, known)), _ = self._scan(
            body, state, (values, jnp.arange(length)), not self.reverse, length
        )
        return d_first, written, known

    def _steps(self, saved: Saved) -> Step:
        """What is needed of all steps; a carry that the outputs hold is one step off there."""

        def before(first: Array, after: Array) -> Array:
            if self.reverse:
                return jnp.concatenate([after[1:], first[None]])
            return jnp.concatenate([first[None], after[:-1]])

        carry = [
            before(first, saved.outputs[output]) if is_needed and output is not None else kept
            for is_needed, output, first, kept in zip(
                self.needed.carry, self.as_output.carry, saved.first_carry, saved.step.carry,
                strict=True,
            )
        ]  # fmt: skip
        known = [
            saved.outputs[output] if is_needed and output is not None else kept
            for is_needed, output, kept in zip(
                self.needed.known, self.as_output.known, saved.step.known, strict=True
            )
        ]
        return Step(carry, saved.step.inputs, known)

    def _scan(self, body, carry, stacks, reverse: bool, length: int) -> tuple[Any, Any]:
        unroll = platform.current().unroll
        return lax.scan(body, carry, stacks, reverse=reverse, length=length, unroll=unroll)


def _places(split: Split, keep: Step, known: list[Var]) -> dict[int, int]:
    """Where the loop may write what it keeps: over an input it has just read for the last time.

    Only where the result is all that is computed from the input, as σ(h @ w + x) from x. Elsewhere
    XLA would have to copy all steps of the input in every step.

    Returns:
        For each known value that has a place, the position of the input.
    """
    uses: dict[Any, list[JaxprEqn | None]] = {}
    read = [(atom, eqn) for eqn in split.equations[CARRY] for atom in eqn.invars]
    for atom, eqn in [*read, *((atom, None) for atom in (*split.carry_out, *split.outputs))]:
        if isinstance(atom, Var):
            uses.setdefault(atom, []).append(eqn)
    places = {}
    for position, var in enumerate(split.from_inputs):
        result = var
        while result not in known:
            readers = uses.get(result, [])
            if len(readers) != 1 or readers[0] is None:
                break
            result = readers[0].outvars[0]
        k = _position(result, known)
        fits = shape_of(result) == shape_of(var)
        if k is not None and fits and keep.known[k] and not keep.inputs[position]:
            places[k] = position
    return places


def _put(values: list, positions: Any, others: list) -> list:
    """`values` with others at some positions."""
    replaced = dict(zip(positions, others, strict=True))
    return [replaced.get(n, value) for n, value in enumerate(values)]


def _position(atom: Any, atoms: list) -> int | None:
    return atoms.index(atom) if atom in atoms else None


def _only(values: Values, wanted: list[bool]) -> list[Array | None]:
    return [value if is_wanted else None for value, is_wanted in zip(values, wanted, strict=True)]
