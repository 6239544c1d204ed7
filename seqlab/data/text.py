"""Generated text as arrays: rows of characters become one stream, and a stream becomes a string."""

from collections.abc import Iterable, Sequence

import numpy as np

from seqlab.data.stream import Stream

LETTERS = "abcdefghijklmnopqrstuvwxyz"
ABSENT = -1
"""Stands in a grid of symbol numbers where a row has no character."""


def flow(grid: np.ndarray, scored_from: int = 0) -> Stream:
    """The characters of a grid, row after row, without the absent ones.

    Args:
        grid: int8 [rows, columns] of symbol numbers and ABSENT.
        scored_from: characters from this column on are scored.
    """
    present = grid >= 0
    scored = np.broadcast_to(np.arange(grid.shape[1]) >= scored_from, grid.shape)
    return Stream(grid[present].astype(np.int32), scored[present])


def first(size: int, blocks: Iterable[Stream]) -> Stream:
    """The first `size` positions of blocks laid end to end; takes no more blocks than it needs."""
    taken, total = [], 0
    for block in blocks:
        taken.append(block)
        total += len(block.values)
        if total >= size:
            break
    values, scored = zip(*taken, strict=True)
    return Stream(np.concatenate(values)[:size], np.concatenate(scored)[:size])


def decode(values: np.ndarray, symbols: Sequence[str]) -> str:
    """The string that symbol numbers [N] stand for."""
    return "".join(np.asarray(symbols)[values].tolist())
