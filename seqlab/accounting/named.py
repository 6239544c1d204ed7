"""From a name on the command line to what is accounted for."""

import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from seqlab.accounting.subject import Subject, of_cell, of_function, of_module
from seqlab.cells import CELLS
from seqlab.cells.base import Cell
from seqlab.errors import InputError, nearest
from seqlab.models.convnets import NETWORKS

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class Sizes(NamedTuple):
    """What the command line says of sizes; None or empty where it says nothing.

    Attributes:
        inputs: shapes without the batch; of a cell, D alone.
        params: shapes of a function's parameters, by the names of its arguments.
        hidden: H of a cell.
        steps: T of a cell.
        save: what `unroll` keeps for the way back.
    """

    inputs: Sequence[tuple[int, ...]] = ()
    params: Mapping[str, tuple[int, ...]] = {}
    hidden: int = 128
    steps: int = 35
    save: str = "products"


class Named(NamedTuple):
    """What a name stands for.

    Attributes:
        subject: of a batch and a dtype.
        with_auxiliary: the same with the auxiliary classifiers it is trained with, if it has any.
    """

    subject: Callable[[int, Any], Subject]
    with_auxiliary: Callable[[int, Any], Subject] | None = None


def find(name: str, sizes: Sizes) -> Named:
    """A network, a cell, or FILE.py:NAME: a Linen module, a cell or a function of one's own.

    Raises:
        InputError: no such name or file, or sizes that it does not take.
    """
    if ".py:" in name:
        return _of_object(name.rpartition(":")[2], _from_file(name), sizes)
    if name in NETWORKS:
        network = NETWORKS[name]
        return _of_module(name, network.module, sizes, network.input_shape)
    if name in CELLS:
        return _of_cell(name, CELLS[name], sizes)
    raise InputError(f"no network or cell {name!r}.{nearest(name, [*NETWORKS, *CELLS])}")


def _from_file(name: str) -> Any:
    path, _, attribute = name.rpartition(":")
    if not Path(path).is_file():
        raise InputError(f"no file {path}")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"{path} cannot be loaded: {one_line(error)}") from error
    if not hasattr(module, attribute):
        public = [key for key in vars(module) if not key.startswith("_")]
        raise InputError(f"no {attribute!r} in {path}.{nearest(attribute, public)}")
    return getattr(module, attribute)


def _of_object(name: str, found: Any, sizes: Sizes) -> Named:
    if isinstance(found, nn.Module):
        return _of_module(name, found, sizes, None)
    if isinstance(found, Cell):
        return _of_cell(name, found, sizes)
    if callable(found) and not inspect.isclass(found):
        return _of_function(name, found, sizes)
    raise InputError(f"{name} is neither a function nor a Linen module nor a cell")


def _of_module(name: str, module: nn.Module, sizes: Sizes, usual: tuple[int, ...] | None) -> Named:
    if len(sizes.inputs) > 1 or (usual is None and not sizes.inputs):
        raise InputError(f"{name} takes one --input, without the batch, such as 224,224,3")
    shape = sizes.inputs[0] if sizes.inputs else usual
    assert shape is not None
    if usual is not None and len(shape) != len(usual):
        raise InputError(f"--input of {name} is H,W,C such as {','.join(map(str, usual))}")

    def subject(batch: int, dtype: Any, module: nn.Module = module) -> Subject:
        return _traced(name, lambda: of_module(name, module, shape, batch, dtype))

    if not hasattr(module, "auxiliary"):
        return Named(subject)
    trained = module.clone(auxiliary=True)
    return Named(subject, lambda batch, dtype: subject(batch, dtype, trained))


def _of_cell(name: str, cell: Cell, sizes: Sizes) -> Named:
    if len(sizes.inputs) > 1 or any(len(shape) != 1 for shape in sizes.inputs):
        raise InputError(f"--input of the cell {name} is D, one number")
    input_dim = sizes.inputs[0][0] if sizes.inputs else sizes.hidden

    def subject(batch: int, dtype: Any) -> Subject:
        arguments = (cell, input_dim, sizes.hidden, sizes.steps, batch, dtype, sizes.save)
        return _traced(name, lambda: of_cell(name, *arguments))

    return Named(subject)


def _of_function(name: str, function: Callable[..., Any], sizes: Sizes) -> Named:
    arguments = list(inspect.signature(function).parameters)
    for param in sizes.params:
        if param not in arguments:
            raise InputError(f"{name} has no argument {param!r}.{nearest(param, arguments)}")
    free = [argument for argument in arguments if argument not in sizes.params]
    if len(free) != len(sizes.inputs):
        raise InputError(
            f"{name}({', '.join(arguments)}): {len(free)} arguments are not a --param, "
            f"and there are {len(sizes.inputs)} --input"
        )

    def subject(batch: int, dtype: Any) -> Subject:
        inputs = {
            argument: jax.ShapeDtypeStruct((batch, *shape), dtype)
            for argument, shape in zip(free, sizes.inputs, strict=True)
        }
        params = {
            argument: jax.ShapeDtypeStruct(shape, dtype) for argument, shape in sizes.params.items()
        }
        return of_function(name, function, inputs, params, batch)

    return Named(subject)


def _traced(name: str, make: Callable[[], Subject]) -> Subject:
    try:
        return make()
    except InputError:
        raise
    except ValueError as error:  # a network or a cell says of sizes that they do not fit
        raise InputError(f"{name}: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
