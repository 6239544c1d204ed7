"""Checkpoints that are whole or not there: orbax writes, a sha256 manifest vouches.

    FOLDER/120/arrays/...       orbax's files: one array per leaf, named by its path in the state
    FOLDER/120/manifest.json    the step, and the sha256 of every file in arrays/
    FOLDER/.120.partial         being written; never read

Orbax alone restores flipped bits without a word and can be asked for a step that is not committed
yet. So a step gets its final name only when every byte of it is on the disk, and is read only when
its manifest, computed again, is equal to the one that was written.

One process at a time saves into a folder.
"""

import functools
import hashlib
import json
import logging
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqlab.interruption import SIGNALS
from seqlab.results import flush

PyTree = Any

ARRAYS = "arrays"
MANIFEST = "manifest.json"
PARTIAL = ".partial"

log = logging.getLogger(__name__)


class CheckpointError(Exception):
    """A checkpoint that cannot be used, in one line."""


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Signals wait until the block is done: orbax's event loop does not survive them."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread alone
        return
    waiting = []
    handlers = {
        number: signal.signal(number, lambda *arguments: waiting.append(arguments))
        for number in SIGNALS
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number, _ in waiting[:1]:
            signal.raise_signal(number)


@_uninterrupted()
def save(folder: Path, step: int, state: PyTree, keep: int = 2) -> None:
    """Commit `state` as `step`: when this returns, it survives a kill and a power cut.

    Afterwards the folder holds this step and the `keep - 1` newest before it. Later steps go too:
    whoever saves step 20 where a step 30 lies has restarted from before it.

    Args:
        folder: made if missing; holds the checkpoints of one training run and nothing else.
        step: ≥ 0; a checkpoint of the same step is replaced.
        state: a pytree of arrays, numbers and typed PRNG keys.
        keep: ≥ 1.

    Raises:
        OSError: the disk is full or refuses; earlier steps are untouched.
        TypeError: a leaf is no array, number or key.
    """
    if step < 0 or keep < 1:
        raise ValueError(f"step {step} must be at least 0 and keep {keep} at least 1")
    arrays = dict(_leaves_to_save(state))
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    _delete_partials(folder)
    partial = folder / f".{step}{PARTIAL}"
    try:
        partial.mkdir()
        _write(partial / ARRAYS, arrays)
        (partial / MANIFEST).write_bytes(_manifest(step, _hashes(partial)))
        _flush(partial)
        _set_aside(folder / str(step))
        partial.rename(folder / str(step))
        flush(folder)
        flush(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    steps = _steps(folder)
    kept = [s for s in steps if s <= step][-keep:]
    for old in set(steps) - set(kept):
        _set_aside(folder / str(old))
    _delete_partials(folder)


@_uninterrupted()
def restore(folder: Path, like: PyTree) -> tuple[int, PyTree] | None:
    """Read the newest step whose manifest verifies.

    Every damaged step on the way is named in one warning on the log, with the file and both hashes.

    Args:
        folder: as given to `save`.
        like: a state of the structure, shapes and dtypes to expect; its values are not used. Leaves
            come back as what they are in `like`: a jax array on the same devices, a numpy array or
            scalar, a Python number, a typed PRNG key. (A weakly typed jax array comes back strong.)

    Returns:
        The step and its state, bit for bit as saved; None where nothing was ever saved.

    Raises:
        CheckpointError: steps exist and all are damaged, or the newest good one is no state like
            `like`.
    """
    folder = folder.absolute()
    steps = _steps(folder)
    for step in reversed(steps):
        damage = _damage(folder / str(step), step)
        if damage is None:
            return step, _as_like(_read(folder / str(step) / ARRAYS), like, folder / str(step))
        log.warning("checkpoint damaged, skipped: %s", damage)
    if steps:
        raise CheckpointError(f"no usable checkpoint in {folder}: steps {steps} are all damaged")
    return None


def discard(folder: Path) -> None:
    """Delete all checkpoints in `folder`, and the folder if nothing else is in it."""
    if not folder.is_dir():
        return
    _delete_partials(folder)
    for step in _steps(folder):
        _set_aside(folder / str(step))
    _delete_partials(folder)
    if not any(folder.iterdir()):
        folder.rmdir()


def set_aside(folder: Path) -> None:
    """Rename a folder of damaged checkpoints, so that a run begins anew; the last one is kept."""
    aside = folder.with_name(f"{folder.name}.damaged")
    if folder.exists():
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)


def latest_step(folder: Path) -> int | None:
    """The newest committed step, which nobody has verified; None where there is none."""
    return max(_steps(folder), default=None)


def _steps(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    names = [path.name for path in folder.iterdir()]
    return sorted(int(n) for n in names if n.isdecimal() and n == str(int(n)))


def _set_aside(path: Path) -> None:
    # deleting in place could be killed half way and leave what looks like a damaged step
    if path.exists():
        path.rename(path.with_name(f".{path.name}.old{PARTIAL}"))


def _delete_partials(folder: Path) -> None:
    for path in folder.glob(f".*{PARTIAL}"):
        shutil.rmtree(path)


# Leaves and files


def _named_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [("state" + jax.tree_util.keystr(path), leaf) for path, leaf in leaves]


def _is_key(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_numpy(name: str, leaf: Any) -> np.ndarray:
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float | complex):
        raise TypeError(f"{name} is a {type(leaf).__name__}: not an array, a number or a PRNG key")
    if isinstance(leaf, jax.Array) and _is_key(leaf):
        leaf = jax.random.key_data(leaf)
    array = np.asarray(leaf)
    if array.dtype.kind in "OSUMm":
        raise TypeError(f"{name} has dtype {array.dtype}: a checkpoint holds numbers only")
    return array


def _leaves_to_save(tree: PyTree) -> Iterator[tuple[str, np.ndarray]]:
    for name, leaf in _named_leaves(tree):
        array = _to_numpy(name, leaf)
        if array.size:  # orbax refuses arrays without elements, and `like` knows all about them
            yield name, array


def _as_like(saved: dict[str, np.ndarray], like: PyTree, path: Path) -> PyTree:
    named = _named_leaves(like)
    for name in sorted(saved.keys() - {name for name, _ in named}):
        raise CheckpointError(f"{path}: has {name}, which the state to restore has not")
    leaves = []
    for name, leaf in named:
        expected = _to_numpy(name, leaf)
        array = saved.get(name, expected if expected.size == 0 else None)
        if array is None:
            raise CheckpointError(f"{path}: has no {name}")
        if (array.shape, array.dtype) != (expected.shape, expected.dtype):
            raise CheckpointError(
                f"{path}: {name} is {array.dtype} {array.shape} in the checkpoint, "
                f"{expected.dtype} {expected.shape} in the state to restore"
            )
        leaves.append(_leaf_like(array, leaf))
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _leaf_like(array: np.ndarray, leaf: Any) -> Any:
    if isinstance(leaf, jax.Array) and _is_key(leaf):
        key = jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf))
        return jax.device_put(key, leaf.sharding)
    if isinstance(leaf, jax.Array):
        return jax.device_put(array, leaf.sharding)
    if isinstance(leaf, np.ndarray):
        return array
    if isinstance(leaf, np.generic):
        return array[()]
    return array.item()


@contextmanager
def _orbax() -> Iterator[Any]:
    """A checkpointer, and orbax."""
    import orbax.checkpoint as ocp  # here: a quarter of a second, for those who save or restore

    # orbax logs every step it takes, and prints the traceback of whatever it then raises
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.CRITICAL)
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            yield checkpointer, ocp
    finally:
        absl.setLevel(level)


@functools.cache
def _ignore_late_failures() -> None:
    """A write that fails after another has failed reports to an event loop that is closed by then.

    The first failure is raised; of the others Python would print a traceback from their threads.
    """
    before = sys.unraisablehook

    def tell(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not isinstance(error, RuntimeError) or str(error) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = tell


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    _ignore_late_failures()
    try:
        with _orbax() as (checkpointer, ocp):
            checkpointer.save(path, args=ocp.args.PyTreeSave(arrays))
    except ValueError as error:
        # tensorstore wraps what the operating system refused: a full disk, a quota
        refusal = re.search(r"os_error_code='(\d+)'", str(error))
        if refusal is None:
            raise
        code = int(refusal[1])
        raise OSError(code, os.strerror(code), str(path)) from error


def _read(path: Path) -> dict[str, np.ndarray]:
    with _orbax() as (checkpointer, ocp):
        return checkpointer.restore(path, args=ocp.args.PyTreeRestore())


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file() and p != path / MANIFEST)


def _hashes(path: Path) -> dict[str, str]:
    hashes = {}
    for file in _files(path):
        with file.open("rb") as stream:
            hashes[str(file.relative_to(path))] = hashlib.file_digest(stream, "sha256").hexdigest()
    return hashes


def _manifest(step: int, hashes: dict[str, str]) -> bytes:
    return json.dumps({"step": step, "sha256": hashes}, indent=1).encode()


def _damage(path: Path, step: int) -> str | None:
    """Say in one line what is wrong with a step, or None."""
    try:
        written = (path / MANIFEST).read_bytes()
        actual = _hashes(path)
    except OSError as error:
        return f"{error.filename or path}: {error.strerror}"
    if written == _manifest(step, actual):
        return None
    try:
        expected = dict(json.loads(written)["sha256"])
    except (ValueError, KeyError, TypeError):
        expected = {}
    for name in sorted(expected.keys() & actual.keys()):
        if expected[name] != actual[name]:
            return f"{path / name}: expected sha256 {expected[name]}, found {actual[name]}"
    for name in sorted(expected.keys() - actual.keys()):
        return f"{path / name}: expected sha256 {expected[name]}, found no such file"
    for name in sorted(actual.keys() - expected.keys()):
        if expected:
            return f"{path / name}: expected no such file, found sha256 {actual[name]}"
    right = hashlib.sha256(_manifest(step, actual)).hexdigest()
    found = hashlib.sha256(written).hexdigest()
    return f"{path / MANIFEST}: expected sha256 {right}, found {found}"


def _flush(path: Path) -> None:
    for child in path.rglob("*"):
        flush(child)
    flush(path)
