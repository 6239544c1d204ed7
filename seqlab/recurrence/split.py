"""What of a step has to wait for the carry, and what does not.

A traced step is a list of operations. Each is of one kind:

    constant    depends on nothing
    params      depends on params only: runs once
    input       depends on x, not on the carry: runs for all T at once
    carry       depends on the carry: stays in the loop

What stays in the loop is rearranged a little. In a sum, terms that do not wait for the carry are
added up outside. Products with the same left side, h @ w_hi, h @ w_hf, …, are merged: one product
with the weights side by side.
"""

import functools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jax import lax
from jax.extend.core import ClosedJaxpr, DebugInfo, Jaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr

from seqlab.recurrence import platform

CONSTANT, PARAMS, INPUT, CARRY = range(4)  # an operation is of the highest kind of its operands

CALLS = ("jit", "pjit", "closed_call")  # a function called by name: read as if written out


class CannotSplit(Exception):
    """Why a step can only run as a plain scan."""


class Product(NamedTuple):
    """One matrix product `lhs [B, K] @ rhs [K, N]`; `transposed` when rhs is stored [N, K]."""

    out: Var
    rhs: Var
    transposed: bool
    width: int


class Group(NamedTuple):
    """Products with one left side, computed as one."""

    lhs: Var
    products: tuple[Product, ...]
    precision: Any
    preferred_element_type: Any


@dataclass(frozen=True)
class Split:
    """A step in its three parts, and what passes from one to the next.

    Attributes:
        params, carry, inputs: what the step takes, flat.
        carry_out, outputs: what it returns, flat.
        equations: its operations, by kind.
        kinds: the kind of every variable.
        lookups: results of table[ids] with fewer rows than inputs.
        groups: merged products, by the position of the first of each in its part.
        from_params: variables of the params part that the other parts read.
        from_inputs: variables of the input part that the loop reads or returns.
    """

    params: list[Var]
    carry: list[Var]
    inputs: list[Var]
    carry_out: list[Var | Literal]
    outputs: list[Var | Literal]
    equations: dict[int, list[JaxprEqn]]
    kinds: dict[Var, int]
    lookups: set[Var]
    groups: dict[Var, Group]
    from_params: list[Var]
    from_inputs: list[Var]

    def kind(self, atom: Var | Literal) -> int:
        return CONSTANT if isinstance(atom, Literal) else self.kinds[atom]

    def groups_of(self, kind: int) -> list[Group]:
        """The distinct groups of a part, in its order."""
        outs = (eqn.outvars[0] for eqn in self.equations[kind])
        return list(dict.fromkeys(self.groups[out] for out in outs if out in self.groups))

    def borders(self) -> list[JaxprEqn]:
        """Operations of the loop, other than merged products, that read params directly."""
        return [
            eqn
            for eqn in self.equations[CARRY]
            if eqn.outvars[0] not in self.groups and PARAMS in map(self.kind, eqn.invars)
        ]


def split(
    step: Callable, params: Any, carry: Any, inputs: Any, time: int
) -> tuple[Split, list, Any]:
    """Trace a step (params, carry, inputs) -> (carry, outputs) and take it apart.

    `time` is T, how many steps there will be.

    Returns:
        The parts, the arrays that the step has closed over (they precede `Split.params`), and the
        shapes of what the step returns.

    Raises:
        CannotSplit: with the reason.
    """
    closed, shapes = jax.make_jaxpr(step, return_shape=True)(params, carry, inputs)
    if closed.effects:
        raise CannotSplit(f"it has side effects ({', '.join(map(str, closed.effects))})")
    sizes = [len(jax.tree.leaves(tree)) for tree in (params, carry, inputs)]
    consts = list(closed.consts)
    num_params = len(consts) + sizes[0]
    kinds = [PARAMS] * num_params + [CARRY] * sizes[1] + [INPUT] * sizes[2]
    avals = [jax.typeof(const) for const in consts] + list(closed.in_avals)

    def written_out(*values):
        with_consts = closed.jaxpr, values[: len(consts)], values[len(consts) :]
        return _write_out(*with_consts)

    jaxpr = jax.make_jaxpr(written_out)(*avals)
    jaxpr = jax.make_jaxpr(lambda *values: _regroup(jaxpr, kinds, values, time))(*avals)
    if jaxpr.consts:
        raise CannotSplit("it contains an array that JAX has made a constant")
    main, _ = dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.out_avals), instantiate=True)
    num_carry_out = len(jax.tree.leaves(shapes[0]))
    parts = _partition(main, kinds, num_params, sizes[1], num_carry_out, time)
    return parts, consts, shapes


def bind(eqn: JaxprEqn, *operands: Any) -> list[Any]:
    """Apply an operation to other operands."""
    values = {a: v for a, v in zip(eqn.invars, operands, strict=True) if isinstance(a, Var)}
    about = DebugInfo("operation", eqn.primitive.name, None, None)
    alone = Jaxpr((), list(values), eqn.outvars, [eqn], eqn.effects, about)
    return jaxpr_as_fun(ClosedJaxpr(alone, ()))(*values.values())


def shape_of(atom: Var | Literal) -> jax.ShapeDtypeStruct:
    aval: Any = atom.aval
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype)


def reader(env: dict[Var, Any]) -> Callable[[Var | Literal], Any]:
    return lambda atom: atom.val if isinstance(atom, Literal) else env[atom]


def _write_out(jaxpr: Jaxpr, consts: Iterable, values: Iterable) -> list[Any]:
    env = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *values), strict=True))
    read = reader(env)
    for eqn in jaxpr.eqns:
        operands = [read(atom) for atom in eqn.invars]
        if eqn.primitive.name in CALLS:
            called: ClosedJaxpr = eqn.params.get("jaxpr") or eqn.params["call_jaxpr"]
            results = _write_out(called.jaxpr, called.consts, operands)
        else:
            results = bind(eqn, *operands)
        env.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


class _Sum(NamedTuple):
    """Terms of a sum that only a longer sum has used so far."""

    terms: list[tuple[int, Any]]

    def value(self) -> Any:
        """What does not wait for the carry is added up first, outside the loop."""

        def total(*kinds: int) -> list[Any]:
            chosen = [value for kind, value in self.terms if kind in kinds]
            return [functools.reduce(lax.add, chosen)] if chosen else []

        if platform.current().inputs_apart:
            early = [*total(INPUT), *total(CONSTANT, PARAMS)]
        else:
            early = total(CONSTANT, PARAMS, INPUT)
        return functools.reduce(lax.add, [*total(CARRY), *early])


class _Row(NamedTuple):
    """A row of a table for each example, used only by products so far.

    table[ids] @ w = (table @ w)[ids], and a table has fewer rows than there are inputs.
    """

    table: Any
    lookup: JaxprEqn
    ids: Any

    def value(self) -> Any:
        how = self.lookup.params
        sizes = (1, self.table.shape[1])
        numbers, mode = how["dimension_numbers"], how["mode"]
        return lax.gather(self.table, self.ids, numbers, sizes, mode=mode)

    def times(self, product: JaxprEqn, rhs: Any) -> "_Row":
        how = product.params
        table = lax.dot_general(
            self.table,
            rhs,
            how["dimension_numbers"],
            precision=how["precision"],
            preferred_element_type=how["preferred_element_type"],
        )
        return self._replace(table=table)


def _regroup(closed: ClosedJaxpr, in_kinds: list[int], values: tuple, time: int) -> list[Any]:
    """The same step with the terms of each sum in the order of their kinds."""
    jaxpr = closed.jaxpr
    uses = Counter(atom for eqn in jaxpr.eqns for atom in eqn.invars if isinstance(atom, Var))
    uses.update(atom for atom in jaxpr.outvars if isinstance(atom, Var))
    env: dict[Var, Any] = dict(zip(jaxpr.invars, values, strict=True))
    env.update(zip(jaxpr.constvars, closed.consts, strict=True))
    kinds = dict(zip(jaxpr.invars, in_kinds, strict=True))
    kinds.update(dict.fromkeys(jaxpr.constvars, CONSTANT))

    def kind(atom):
        return CONSTANT if isinstance(atom, Literal) else kinds[atom]

    def read(atom):
        if isinstance(atom, Literal):
            return atom.val
        if isinstance(env[atom], _Sum):
            env[atom] = env[atom].value()
        return env[atom].value() if isinstance(env[atom], _Row) else env[atom]

    def terms(atom):
        once = isinstance(atom, Var) and uses[atom] == 1
        if once and isinstance(env[atom], _Sum):
            return env[atom].terms
        return [(kind(atom), read(atom))]

    for eqn in jaxpr.eqns:
        out_kind = max(map(kind, eqn.invars), default=CONSTANT)
        kinds.update(dict.fromkeys(eqn.outvars, out_kind))
        if eqn.primitive is lax.add_p and out_kind == CARRY:
            env[eqn.outvars[0]] = _Sum([term for atom in eqn.invars for term in terms(atom)])
        elif _is_lookup(eqn, kind, time):
            table, ids = map(read, eqn.invars)
            env[eqn.outvars[0]] = _Row(table, eqn, ids)
        elif _product(eqn, kind, INPUT) and isinstance(env[eqn.invars[0]], _Row):
            lhs, rhs = eqn.invars
            env[eqn.outvars[0]] = env[lhs].times(eqn, read(rhs))
        else:
            operands = [read(atom) for atom in eqn.invars]
            env.update(zip(eqn.outvars, bind(eqn, *operands), strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _partition(
    jaxpr: Jaxpr,
    in_kinds: list[int],
    num_params: int,
    num_carry: int,
    num_carry_out: int,
    time: int,
) -> Split:
    kinds: dict[Var, int] = dict(zip(jaxpr.invars, in_kinds, strict=True))
    equations: dict[int, list[JaxprEqn]] = {CONSTANT: [], PARAMS: [], INPUT: [], CARRY: []}

    def kind(atom):
        return CONSTANT if isinstance(atom, Literal) else kinds[atom]

    for eqn in jaxpr.eqns:
        out_kind = max(map(kind, eqn.invars), default=CONSTANT)
        kinds.update(dict.fromkeys(eqn.outvars, out_kind))
        equations[out_kind].append(eqn)

    def read_by(*parts: int) -> list[Var | Literal]:
        return [atom for part in parts for eqn in equations[part] for atom in eqn.invars]

    def distinct(atoms: Iterable, of_kind: int) -> list[Var]:
        return [v for v in dict.fromkeys(a for a in atoms if isinstance(a, Var))
                if kinds[v] == of_kind]  # fmt: skip

    if PARAMS in map(kind, jaxpr.outvars):
        raise CannotSplit("it returns something that depends on params alone")
    inputs_start = num_params + num_carry
    return Split(
        params=list(jaxpr.invars[:num_params]),
        carry=list(jaxpr.invars[num_params:inputs_start]),
        inputs=list(jaxpr.invars[inputs_start:]),
        carry_out=list(jaxpr.outvars[:num_carry_out]),
        outputs=list(jaxpr.outvars[num_carry_out:]),
        equations=equations,
        kinds=kinds,
        lookups={eqn.outvars[0] for eqn in equations[INPUT] if _is_lookup(eqn, kind, time)},
        groups=_groups(equations[INPUT], kind, INPUT) | _groups(equations[CARRY], kind, CARRY),
        from_params=distinct(read_by(INPUT, CARRY), PARAMS),
        from_inputs=distinct([*read_by(CARRY), *jaxpr.outvars], INPUT),
    )


def _groups(equations: list[JaxprEqn], kind: Callable, lhs_kind: int) -> dict[Var, Group]:
    """Each product of a part, by its output, with the group that it is computed in."""
    members: dict[Any, list[Product]] = {}
    for eqn in equations:
        product = _product(eqn, kind, lhs_kind)
        if product is not None:
            how = eqn.params["precision"], eqn.params["preferred_element_type"]
            members.setdefault((eqn.invars[0], *how), []).append(product)
    groups = {}
    for (lhs, precision, preferred), products in members.items():
        group = Group(lhs, tuple(products), precision, preferred)
        groups.update((product.out, group) for product in products)
    return groups


def _is_lookup(eqn: JaxprEqn, kind: Callable, time: int) -> bool:
    """Whether an operation is table[ids], a row of params for each example, of T·B at most."""
    if eqn.primitive is not lax.gather_p:
        return False
    table, ids = eqn.invars
    numbers, shape = eqn.params["dimension_numbers"], shape_of(table).shape
    return (
        (kind(table), kind(ids)) == (PARAMS, INPUT)
        and (len(shape), shape_of(ids).ndim) == (2, 2)
        and shape[0] <= time * shape_of(ids).shape[0]
        and tuple(eqn.params["slice_sizes"]) == (1, shape[-1])
        and (tuple(numbers.offset_dims), tuple(numbers.collapsed_slice_dims)) == ((1,), (0,))
        and tuple(numbers.start_index_map) == (0,)
        and not numbers.operand_batching_dims
        and eqn.params["mode"]
        in (lax.GatherScatterMode.CLIP, lax.GatherScatterMode.PROMISE_IN_BOUNDS)
    )


def _product(eqn: JaxprEqn, kind: Callable, lhs_kind: int) -> Product | None:
    if eqn.primitive is not lax.dot_general_p:
        return None
    lhs, rhs = eqn.invars
    left, right = shape_of(lhs), shape_of(rhs)
    (lhs_contracted, rhs_contracted), (lhs_batch, rhs_batch) = eqn.params["dimension_numbers"]
    fits = (
        kind(lhs) == lhs_kind
        and kind(rhs) == PARAMS
        and (left.ndim, right.ndim) == (2, 2)
        and tuple(lhs_contracted) == (1,)
        and not lhs_batch
        and not rhs_batch
        and left.dtype == right.dtype
    )
    if not fits:
        return None
    transposed = tuple(rhs_contracted) == (1,)
    assert isinstance(rhs, Var)  # of the kind PARAMS
    return Product(eqn.outvars[0], rhs, transposed, right.shape[0 if transposed else 1])
