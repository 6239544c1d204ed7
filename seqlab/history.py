"""The log of a run: lines of numbers, committed together with the state that they led to."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from seqlab import checkpoint
from seqlab.errors import Changed

State = TypeVar("State")

FILE = "log.jsonl"
DATA = "data_sha256"


class Diverged(Exception):
    """The loss stopped being a number."""

    def __init__(self, step: int):
        super().__init__(f"the loss is not finite at step {step}")
        self.step = step


class Log:
    """What a run has to say, one JSON object a line; the line that ends an epoch has its number.

    Lines are appended as training goes. A checkpoint holds the length and the digest of the lines
    before it, so that a state and its history cannot be taken for another's. JSON keeps every bit
    of a Python float.

        log.jsonl      {"step": 50, "train_loss": 1.8, "seconds": 0.4}
                       {"step": 100, "epoch": 1, "valid_nll": 1.6, …}
        checkpoints/   of the newest steps
    """

    def __init__(self, folder: Path | None):
        """In `folder`, which exists; nothing is written where it is None."""
        self.folder = folder
        self.lines: list[dict[str, Any]] = []
        self._digest = hashlib.sha256()
        self._length = 0

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """The lines that end an epoch."""
        return [line for line in self.lines if "epoch" in line]

    @property
    def unfinished(self) -> list[dict[str, Any]]:
        """The lines of the epoch that has not ended."""
        ends = [n for n, line in enumerate(self.lines) if "epoch" in line]
        return self.lines[ends[-1] + 1 :] if ends else self.lines[:]

    def resume(self, state: State) -> State:
        """The newest good state and its lines; the given state where nothing was saved.

        Raises:
            CheckpointError: all checkpoints are damaged, or the log beside one is not its own.
        """
        if self.folder is None:
            return state
        path = self.folder / FILE
        found = checkpoint.restore(self.folder / "checkpoints", self._with_place(state))
        if found is None:
            path.unlink(missing_ok=True)
            return state
        step, tree = found
        content = path.read_bytes() if path.exists() else b""
        content = content[: int(tree["log_length"])]
        self._digest, self._length = hashlib.sha256(content), len(content)
        if self._digest.digest() != tree["log_sha256"].tobytes():
            raise checkpoint.CheckpointError(
                f"{path} is not the log of checkpoint {step} beside it"
            )
        self.lines = [json.loads(line) for line in content.splitlines()]
        with open(path, "r+b") as file:
            file.truncate(len(content))  # what came after has to be done again
        return tree["state"]

    def append(self, **line: Any) -> None:
        """Append a line, which counts from the next commit on."""
        self.lines.append(line)
        if self.folder is None:
            return
        text = (json.dumps(line) + "\n").encode()
        with open(self.folder / FILE, "ab") as file:
            file.write(text)
        self._digest.update(text)
        self._length += len(text)

    def commit(self, step: int, state: Any) -> None:
        """Save a state and the lines that led to it; when this returns, they survive a kill."""
        if self.folder is None:
            return
        with open(self.folder / FILE, "ab") as file:
            os.fsync(file.fileno())
        checkpoint.save(self.folder / "checkpoints", step, self._with_place(state))

    def _with_place(self, state: Any) -> dict[str, Any]:
        digest = np.frombuffer(self._digest.digest(), np.uint8)
        return {"state": state, "log_length": self._length, "log_sha256": digest}


def write(folder: Path, lines: Iterable[Mapping[str, Any]], anew: bool) -> None:
    """Lines of a log that no checkpoint beside it refers to: what a member of a pack has to say.

    Args:
        folder: of the attempt.
        lines: in their order.
        anew: they are the first, and whatever is there is replaced.
    """
    with open(folder / FILE, "w" if anew else "a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def same_data(folder: Path | None, sha256: str) -> None:
    """Note the digest of the data that a run is trained on, or compare it with the noted one.

    Args:
        folder: of the run; None where nothing is written.
        sha256: of all splits.

    Raises:
        Changed: the run was begun with other data.
    """
    if folder is None:
        return
    path = folder / DATA
    if not path.exists():
        note(path, sha256)
    noted = path.read_text()
    if noted != sha256:
        raise Changed(
            f"the data have changed since this was begun: sha256 {noted[:16]} then, "
            f"{sha256[:16]} now. --allow-changes goes on all the same, --results-dir begins anew"
        )


def note(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all, whenever the process is killed."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.rename(path)


def device_seconds(lines: list[dict[str, Any]]) -> float:
    """How long the steps of these lines took, from dispatch to result."""
    return sum(line["seconds"] for line in lines if "seconds" in line)


def params_sha256(params: Any) -> str:
    """A digest of all parameters, names and bits."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()
