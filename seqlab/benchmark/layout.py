"""Where a library keeps a cell's params: several symbols of the equation in one array."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

# The path of an array in a nested dict, and the symbols that stand side by side along its last
# axis. None is a bias that the library has and the equation has not.
Layout: TypeAlias = dict[tuple[str, ...], tuple[str | None, ...]]


def pack(layout: Layout, params: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Params by symbol as the library's nested dict; what the equation has not is 0."""
    width = next(iter(params.values())).shape[-1]
    tree: dict[str, Any] = {}
    for path, symbols in layout.items():
        parts = [
            np.zeros(width, np.float32) if symbol is None else params[symbol] for symbol in symbols
        ]
        owner = tree
        for name in path[:-1]:
            owner = owner.setdefault(name, {})
        owner[path[-1]] = np.concatenate(parts, axis=-1)
    return tree


def unpack(layout: Layout, tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The library's nested dict as arrays by symbol; what the equation has not is left out."""
    params = {}
    for path, symbols in layout.items():
        array: Any = tree
        for name in path:
            array = array[name]
        parts = np.split(np.asarray(array, np.float32), len(symbols), axis=-1)
        params |= {s: part for s, part in zip(symbols, parts, strict=True) if s is not None}
    return params


def as_written(symbols: Mapping[str, Any], *path: str) -> Layout:
    """Every symbol an array of its own."""
    return {(*path, symbol): (symbol,) for symbol in symbols}
