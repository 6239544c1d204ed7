"""The accounting of a subject: rows, totals, and activations under named definitions."""

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from seqlab.accounting import rows as tables
from seqlab.accounting import subject as subjects
from seqlab.accounting.operations import operations
from seqlab.accounting.rows import CONVOLUTION, INPUT, POOL, PRODUCT, Row
from seqlab.accounting.subject import Subject


class Totals(NamedTuple):
    """Sums over the rows, for the whole batch.

    Attributes:
        params, weights, macs, macs_inside: see `Row`.
        activations: as the deck counts them: the input and what convolutions, products and pools
            put out, each once.
        activation_bytes: the same, in bytes of the dtype.
        outputs: what convolutions and products put out.
        with_nonlinearities: as the deck, and a copy for each non-linearity.
    """

    params: int
    weights: int
    macs: int
    macs_inside: int
    activations: int
    activation_bytes: int
    outputs: int
    with_nonlinearities: int


class Saved(NamedTuple):
    """What JAX keeps from the forward pass for the backward pass; some of it is booleans."""

    elements: int
    bytes: int


class Accounting(NamedTuple):
    name: str
    rows: tuple[Row, ...]
    totals: Totals


def account(what: Any, *inputs: Any) -> Accounting:
    """Count what a network, a cell over time or a function costs. Nothing is allocated.

    Args:
        what: a Linen module, then `inputs` is its one input [B, …]; a `Subject`; or a function of
            (params, *inputs).
        inputs: arrays or `jax.ShapeDtypeStruct`.
    """
    return account_subject(subject_of(what, *inputs))


def subject_of(what: Any, *inputs: Any) -> Subject:
    """What `account` takes, as a Subject."""
    if isinstance(what, Subject):
        return what
    if isinstance(what, nn.Module):
        (image,) = inputs
        name = what.name or type(what).__name__
        return subjects.of_module(name, what, image.shape[1:], image.shape[0], image.dtype)
    params, *rest = inputs
    named = {f"input{number or ''}": x for number, x in enumerate(rest)}
    batch = rest[0].shape[0] if rest and rest[0].shape else 1

    def function(variables: Any, *arguments: Any) -> Any:
        return what(variables["params"], *arguments)

    name = getattr(what, "__name__", "function")
    return Subject(name, function, function, {"params": params}, named, batch)


def account_subject(subject: Subject) -> Accounting:
    """Rows and totals.

    Raises:
        Untold: a loop that runs an unknown number of times.
    """
    arguments = list(subject.inputs.values())
    found = operations(subject.function, subject.variables, arguments)
    shapes = {name: x.shape for name, x in subject.inputs.items()}
    table = tables.rows(found, _leaves(subject.variables), shapes, subject.batch)
    deck = tables.elements(table, (INPUT, CONVOLUTION, PRODUCT, POOL))
    return Accounting(
        subject.name,
        tuple(table),
        Totals(
            params=sum(row.params for row in table),
            weights=sum(row.weights for row in table),
            macs=sum(row.macs for row in table),
            macs_inside=sum(row.macs_inside for row in table),
            activations=deck,
            activation_bytes=deck * arguments[0].dtype.itemsize,
            outputs=tables.elements(table, (CONVOLUTION, PRODUCT)),
            with_nonlinearities=deck + tables.nonlinear_elements(found),
        ),
    )


def _leaves(variables: dict[str, Any]) -> list[tables.Leaf | None]:
    """All leaves of the variables in the order of the tree; those of the state are not trained."""
    return [
        leaf._replace(path=leaf.path[1:]) if leaf.path[0] == "params" else None
        for leaf in tables.leaves_of(variables)
    ]


def saved(subject: Subject) -> Saved:
    """What JAX keeps for the backward pass of training, parameters and inputs apart."""

    def forward(params: Any, state: Any, *inputs: Any) -> list[Any]:
        def trained(params: Any) -> Any:
            outputs = subject.training({"params": params, **state}, *inputs)
            return [leaf for leaf in jax.tree.leaves(outputs) if _is_real(leaf)]

        return jax.tree.leaves(jax.vjp(trained, params)[1])

    state = {name: leaf for name, leaf in subject.variables.items() if name != "params"}
    arguments = (subject.variables["params"], state, *subject.inputs.values())
    traced = jax.make_jaxpr(forward)(*arguments)
    given = {*traced.jaxpr.invars, *traced.jaxpr.constvars}
    outputs = {var: None for var in traced.jaxpr.outvars if not hasattr(var, "val")}
    kept = [var.aval for var in outputs if var not in given]
    return Saved(
        sum(math.prod(aval.shape) for aval in kept),
        sum(math.prod(aval.shape) * aval.dtype.itemsize for aval in kept),
    )


def _is_real(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)
