"""What can be accounted for: a network, a cell over time, any function."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from seqlab.cells.base import Cell
from seqlab.recurrence import plain_unroll, unroll


class Subject(NamedTuple):
    """A function and the shapes of what it is given; nothing here is ever allocated.

    Attributes:
        name: for the title.
        function: (variables, *inputs) -> outputs, as when it is used.
        training: the same as when it is trained; its outputs are what gradients flow from.
        variables: {"params": …} and other collections of state, as shapes.
        inputs: by name, with the batch in front.
        batch: B.
    """

    name: str
    function: Callable[..., Any]
    training: Callable[..., Any]
    variables: dict[str, Any]
    inputs: dict[str, jax.ShapeDtypeStruct]
    batch: int


def of_module(
    name: str,
    module: nn.Module,
    input_shape: tuple[int, ...],
    batch: int = 1,
    dtype: Any = jnp.float32,
) -> Subject:
    """A Linen network of one input [B, …].

    Raises:
        ValueError: the input does not fit; the network says which layer.
    """
    image = jax.ShapeDtypeStruct((batch, *input_shape), dtype)
    drawn = jax.ShapeDtypeStruct(image.shape, jnp.float32)  # parameters are drawn in float32
    variables = jax.eval_shape(lambda x: module.init(jax.random.key(0), x), drawn)
    variables = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), dict(variables))
    has_train = "train" in inspect.signature(module.__call__).parameters
    is_trained: dict[str, Any] = {"train": True} if has_train else {}

    def function(variables: Any, x: Any) -> Any:
        return module.apply(variables, x)

    def training(variables: Any, x: Any) -> Any:
        state = [collection for collection in variables if collection != "params"]
        rngs = {"dropout": jax.random.key(0)}
        return module.apply(variables, x, mutable=state, rngs=rngs, **is_trained)[0]

    return Subject(name, function, training, variables, {"input": image}, batch)


def of_cell(
    name: str,
    cell: Cell,
    input_dim: int,
    hidden_dim: int,
    steps: int,
    batch: int = 1,
    dtype: Any = jnp.float32,
    save: str = "products",
) -> Subject:
    """A cell over T steps: xs [B, T, D] to ys [B, T, H]; trained as `unroll` trains it.

    Raises:
        ValueError: the cell does not take these sizes.
    """
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), input_dim, hidden_dim))
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), params)
    xs = jax.ShapeDtypeStruct((batch, steps, input_dim), dtype)

    def function(variables: Any, xs: Any) -> Any:
        return plain_unroll(cell, variables["params"], _carry(cell, batch, hidden_dim, dtype), xs)

    def training(variables: Any, xs: Any) -> Any:
        carry = _carry(cell, batch, hidden_dim, dtype)
        return unroll(cell, variables["params"], carry, xs, save=save)[1]  # pyright: ignore

    return Subject(name, function, training, {"params": params}, {"input": xs}, batch)


def _carry(cell: Cell, batch: int, hidden_dim: int, dtype: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.astype(dtype), cell.initial_carry(batch, hidden_dim))


def of_function(
    name: str,
    function: Callable[..., Any],
    inputs: dict[str, jax.ShapeDtypeStruct],
    params: dict[str, jax.ShapeDtypeStruct],
    batch: int = 1,
) -> Subject:
    """Any function of arrays, by the names of its arguments: which are inputs, which parameters."""

    def called(variables: Any, *arguments: Any) -> Any:
        return function(**dict(zip(inputs, arguments, strict=True)), **variables["params"])

    return Subject(name, called, called, {"params": params}, inputs, batch)
