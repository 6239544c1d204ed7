"""The history of a run: a line an epoch, committed together with the state that it led to."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from seqlab import checkpoint

State = TypeVar("State")


class Diverged(Exception):
    """The loss stopped being a number."""

    def __init__(self, step: int):
        super().__init__(f"the loss is not finite at step {step}")
        self.step = step


def commit(folder: Path, state: Any, history: list[dict[str, Any]]) -> None:
    """Commit an epoch: its line in the log, then the state with the digest of all lines so far.

    The history is JSON, not arrays, because JSON keeps every bit of a Python float.
    """
    log = "".join(json.dumps(epoch) + "\n" for epoch in history)
    partial = folder / ".log.jsonl.tmp"
    with open(partial, "w") as file:
        file.write(log)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / "log.jsonl")
    tree = {"state": state, "log_sha256": _digest(log)}
    checkpoint.save(folder / "checkpoints", len(history), tree)


def resume(folder: Path, state: State) -> tuple[State, list[dict[str, Any]]]:
    """The newest good checkpoint and its history, or the given state and no history.

    Raises:
        CheckpointError: all checkpoints are damaged, or the log beside one is not its own.
    """
    like = {"state": state, "log_sha256": _digest("")}
    found = checkpoint.restore(folder / "checkpoints", like)
    if found is None:
        return state, []
    num_epochs, tree = found
    log = (folder / "log.jsonl").read_text().splitlines(keepends=True)[:num_epochs]
    if not np.array_equal(tree["log_sha256"], _digest("".join(log))):
        raise checkpoint.CheckpointError(
            f"{folder / 'log.jsonl'} is not the log of checkpoint {num_epochs} beside it"
        )
    return tree["state"], [json.loads(line) for line in log]


def _digest(text: str) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)


def params_sha256(params: Any) -> str:
    """A digest of all parameters, names and bits."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()
