"""A checkpoint is whole or not there: under kills, damage and a full disk."""

import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seqlab import checkpoint, interruption
from seqlab.checkpoint import CheckpointError


class Carry(NamedTuple):
    c: jax.Array
    h: jax.Array


@flax.struct.dataclass
class TrainState:
    params: dict
    optimizer: tuple
    carry: Carry
    step: int
    name: str = flax.struct.field(pytree_node=False)


def everything(seed: int) -> dict:
    """One leaf of every kind that a state may hold, filled from `seed`."""
    rng = np.random.default_rng(seed)
    odd = np.array([np.nan, -0.0, np.inf, 1e-45, rng.normal()], np.float32)
    odd.view(np.uint32)[0] |= seed + 1  # the payload of a nan is bits, too
    params = {
        "W/x": jnp.asarray(rng.normal(size=(3, 4)), jnp.bfloat16),
        "b.ü|[0]": jnp.asarray(odd),
    }
    adam = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3)).init(params)
    adam = jax.tree.map(lambda leaf: leaf + jnp.asarray(seed, leaf.dtype), adam)
    state = TrainState(params, adam, Carry(jnp.ones(2) * seed, jnp.zeros((0, 3))), seed, "lstm")
    return {
        "state": state,
        "key": jax.random.key(seed),
        "keys": jax.random.split(jax.random.key(seed, impl="rbg"), 2),
        "uint32": jnp.asarray([seed, 2**32 - 1], jnp.uint32),
        "bool": jnp.asarray([True, bool(seed % 2)]),
        "scalar": jnp.asarray(seed, jnp.int32),
        "numpy": (rng.normal(size=5), np.float32(rng.normal()), np.int64(2**60 + seed)),
        "python": [seed, rng.normal(), bool(seed % 2), None],
    }


def bits(leaf) -> tuple:
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return ("key", str(jax.random.key_impl(leaf)), *bits(jax.random.key_data(leaf)))
    array = np.asarray(leaf)
    return type(leaf), array.dtype, array.shape, array.tobytes()


def assert_same(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    for a, e in pairs:
        assert bits(a) == bits(e)


def small(step: int) -> dict:
    return {"w": np.full((64, 8), step, np.float32), "n": step}


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def entries(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_round_trip_is_bit_equal(tmp_path):
    checkpoint.save(tmp_path / "c", 7, everything(seed=3))
    restored = checkpoint.restore(tmp_path / "c", like=everything(seed=4))
    assert restored is not None
    step, state = restored
    assert step == 7
    assert_same(state, everything(seed=3))


def test_a_bare_array_is_a_state(tmp_path):
    checkpoint.save(tmp_path, 0, jnp.arange(3))
    restored = checkpoint.restore(tmp_path, jnp.zeros(3, jnp.int32))
    assert restored is not None
    assert_same(restored, (0, jnp.arange(3)))


def test_nothing_saved_is_none(tmp_path):
    assert checkpoint.restore(tmp_path, small(0)) is None
    assert checkpoint.restore(tmp_path / "missing", small(0)) is None
    checkpoint.discard(tmp_path / "missing")


@pytest.mark.parametrize(
    ("steps", "keep", "left"),
    [
        ([1, 2, 10, 9_999], 2, {"10", "9999"}),
        ([1, 2, 3], 1, {"3"}),
        ([1, 2, 3], 9, {"1", "2", "3"}),
        ([5, 5], 2, {"5"}),
        ([10, 20, 30, 15], 3, {"10", "15"}),  # restarted from 10: 20 and 30 are another history
    ],
)
def test_keep(tmp_path, steps, keep, left):
    for step in steps:
        checkpoint.save(tmp_path, step, small(step), keep)
    assert entries(tmp_path) == left
    assert_same(checkpoint.restore(tmp_path, small(0)), (steps[-1], small(steps[-1])))


def test_saving_a_step_again_replaces_it(tmp_path):
    checkpoint.save(tmp_path, 5, small(1))
    checkpoint.save(tmp_path, 5, small(2))
    assert_same(checkpoint.restore(tmp_path, small(0)), (5, small(2)))


def test_writes_nothing_outside_its_folder_and_says_nothing(tmp_path, monkeypatch, caplog, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").write_text("kept")
    with caplog.at_level(logging.DEBUG):
        checkpoint.save(Path("c"), 1, small(1))
        checkpoint.restore(Path("c"), small(0))
    said = [r for r in caplog.records if r.name.startswith(("absl", "orbax", "seqlab"))]
    assert (said, capfd.readouterr()) == ([], ("", ""))
    assert entries(tmp_path) == {"c", "other"}
    checkpoint.discard(Path("c"))
    assert entries(tmp_path) == {"other"}


def test_discard_leaves_what_is_not_a_checkpoint(tmp_path):
    checkpoint.save(tmp_path, 1, small(1))
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".2.partial").mkdir()
    checkpoint.discard(tmp_path)
    assert entries(tmp_path) == {"notes.txt"}


@pytest.mark.parametrize(
    ("like", "leaf"),
    [
        ({"w": np.zeros((64, 9), np.float32), "n": 0}, "state['w']"),
        ({"w": np.zeros((8, 64), np.float32), "n": 0}, "state['w']"),
        ({"w": np.zeros((64, 8), np.int32), "n": 0}, "state['w']"),
        ({"w": np.zeros((64, 8), np.float32), "n": 0.0}, "state['n']"),
        ({"w": np.zeros((64, 8), np.float32), "n": 0, "more": 1}, "state['more']"),
        ({"w": np.zeros((64, 8), np.float32)}, "state['n']"),
        ({"w": np.zeros((0, 8), np.float32), "n": 0}, "state['w']"),
        ((np.zeros((64, 8), np.float32), 0), "state["),
    ],
)
def test_another_structure_is_refused_in_one_line(tmp_path, like, leaf):
    checkpoint.save(tmp_path, 1, small(1))
    with pytest.raises(CheckpointError, match=re.escape(leaf)) as error:
        checkpoint.restore(tmp_path, like)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("leaf", ["text", np.array(["text"]), object()])
def test_what_is_no_number_is_refused_before_anything_is_written(tmp_path, leaf):
    with pytest.raises(TypeError, match=re.escape("state['a'][0]")):
        checkpoint.save(tmp_path / "c", 1, {"a": [leaf]})
    assert entries(tmp_path) == set()


def flip_a_bit(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def cut(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])


def empty(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def delete(path: Path, rng: random.Random) -> None:
    path.unlink()


def grow(path: Path, rng: random.Random) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


@pytest.mark.parametrize("damage", [flip_a_bit, cut, empty, delete, grow])
def test_damage_to_any_file_is_named_and_the_step_before_is_used(tmp_path, caplog, damage):
    pristine, folder = tmp_path / "pristine", tmp_path / "c"
    for step in (1, 2):
        checkpoint.save(pristine, step, small(step))
    rng = random.Random(0)
    names = files(pristine / "2")
    assert "manifest.json" in names
    assert len(names) > 5
    for name in names:
        shutil.copytree(pristine, folder)
        damage(folder / "2" / name, rng)
        caplog.clear()
        assert_same(checkpoint.restore(folder, small(0)), (1, small(1)))
        (line,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        assert "\n" not in line
        assert str(folder / "2") in line
        if name != "manifest.json":
            assert name in line
            assert re.search("[0-9a-f]{64}", line)
        shutil.rmtree(folder)


def test_a_file_too_many_is_damage(tmp_path, caplog):
    for step in (1, 2):
        checkpoint.save(tmp_path, step, small(step))
    (tmp_path / "2" / "arrays" / "d" / "stray").write_text("x")
    assert_same(checkpoint.restore(tmp_path, small(0)), (1, small(1)))
    assert "stray" in caplog.text


def test_a_step_under_another_number_is_damage(tmp_path):
    checkpoint.save(tmp_path, 1, small(1))
    (tmp_path / "1").rename(tmp_path / "2")
    with pytest.raises(CheckpointError):
        checkpoint.restore(tmp_path, small(0))


def test_a_flipped_bit_anywhere_in_the_manifest_is_seen(tmp_path):
    checkpoint.save(tmp_path, 1, small(1))
    manifest = tmp_path / "1" / "manifest.json"
    data, rng = manifest.read_bytes(), random.Random(1)
    for position in range(0, len(data), 5):
        flipped = bytearray(data)
        flipped[position] ^= 1 << rng.randrange(8)
        manifest.write_bytes(flipped)
        with pytest.raises(CheckpointError):
            checkpoint.restore(tmp_path, small(0))
    manifest.write_bytes(data)
    assert_same(checkpoint.restore(tmp_path, small(0)), (1, small(1)))


def test_when_every_step_is_damaged_one_line_says_so(tmp_path, caplog):
    for step in (1, 2):
        checkpoint.save(tmp_path, step, small(step))
        (tmp_path / str(step) / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"\[1, 2\]") as error:
        checkpoint.restore(tmp_path, small(0))
    assert "\n" not in str(error.value)
    assert len(caplog.records) == 2


def test_training_goes_on_over_a_damaged_step(tmp_path):
    for step in (10, 20):
        checkpoint.save(tmp_path, step, small(step))
    (tmp_path / "20" / "manifest.json").unlink()
    checkpoint.save(tmp_path, 15, small(15))
    assert entries(tmp_path) == {"10", "15"}
    checkpoint.save(tmp_path, 20, small(20))
    assert_same(checkpoint.restore(tmp_path, small(0)), (20, small(20)))


def test_a_stop_before_any_write_to_the_disk_leaves_a_good_step(tmp_path, monkeypatch):
    """Photograph the folder before every fsync, rename and delete, as a kill would leave it."""
    folder, photographs = tmp_path / "c", []

    def photographed(function):
        def call(*args, **kwargs):
            if folder.exists():
                photographs.append(tmp_path / f"photograph{len(photographs)}")
                shutil.copytree(folder, photographs[-1])
            return function(*args, **kwargs)

        return call

    for step in (1, 2):
        checkpoint.save(folder, step, small(step))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, "fsync", photographed(checkpoint.os.fsync))
        patch.setattr(Path, "rename", photographed(Path.rename))
        patch.setattr(checkpoint.shutil, "rmtree", photographed(shutil.rmtree))
        checkpoint.save(folder, 3, small(3))
    found = []
    for photograph in photographs:
        restored = checkpoint.restore(photograph, small(0))
        assert restored is not None
        found.append(restored[0])
        assert_same(restored, (found[-1], small(found[-1])))
        checkpoint.save(photograph, 4, small(4))
        assert entries(photograph) == {str(found[-1]), "4"}
    assert set(found) == {2, 3}
    assert found == sorted(found)


def test_every_file_is_on_the_disk_before_the_step_has_its_name(tmp_path, monkeypatch):
    synced, when_named = set(), []

    def fsync(descriptor):
        synced.add(os.fstat(descriptor).st_ino)

    def rename(path, target):
        when_named.append((Path(target).name, set(synced)))
        return original(path, target)

    original = Path.rename
    monkeypatch.setattr(checkpoint.os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    checkpoint.save(tmp_path, 3, small(3))
    ((name, before),) = when_named
    assert name == "3"
    inside = {path.stat().st_ino for path in [tmp_path / "3", *(tmp_path / "3").rglob("*")]}
    assert inside <= before
    assert tmp_path.stat().st_ino in synced - before


HEAD = """
    import sys
    from pathlib import Path
    import numpy as np
    from seqlab import checkpoint

    folder = Path(sys.argv[1])

    def state(step):
        return {"w": np.full(100_000, step, np.float32), "n": step}
"""

SAVE_FOR_EVER = """
    step, found = checkpoint.restore(folder, state(0)) or (0, state(0))
    assert found["n"] == step and (found["w"] == step).all()
    while True:
        step += 1
        checkpoint.save(folder, step, state(step))
        print(step, flush=True)
"""

FILL_THE_DISK = """
    import errno, resource, signal

    def noise(step):
        return {"w": np.random.default_rng(step).normal(size=100_000)}

    checkpoint.save(folder, 1, noise(1))
    if sys.argv[2] == "limit":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    for step in range(2, 20):
        try:
            checkpoint.save(folder, step, noise(step), keep=20)
        except OSError as error:
            assert error.errno in (errno.ENOSPC, errno.EFBIG), error
            break
    else:
        raise AssertionError("the disk never filled")
    assert sorted(p.name for p in folder.iterdir()) == sorted(map(str, range(1, step)))
    for good in range(step - 1, 0, -1):
        found, value = checkpoint.restore(folder, noise(0))
        assert found == good and value["w"].tobytes() == noise(good)["w"].tobytes()
        (folder / str(good)).rename(folder / f"seen{good}")
    print("intact")
"""


def script(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(HEAD) + textwrap.dedent(body))
    return path


def test_kill_9_at_random_times_loses_no_committed_step(tmp_path):
    path, folder, rng = script(tmp_path, SAVE_FOR_EVER), tmp_path / "c", random.Random(0)
    committed = 0
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, path, folder],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            first = process.stdout.readline()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0.0, 0.3))
            process.kill()
            lines = [first, *process.stdout]
            assert process.stderr.read() == ""
        assert int(first) > committed
        committed = int(lines[-1])
        like = {"w": np.zeros(100_000, np.float32), "n": 0}
        step, state = checkpoint.restore(folder, like) or (-1, like)
        assert step in (committed, committed + 1)
        assert state["n"] == step
        assert (state["w"] == step).all()
        committed = step


def test_a_refused_write_is_an_oserror_and_earlier_steps_are_intact(tmp_path):
    path = script(tmp_path, FILL_THE_DISK)
    run = subprocess.run(
        [sys.executable, path, tmp_path / "c", "limit"], capture_output=True, text=True
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "intact\n", "")


def test_a_full_disk_is_an_oserror_and_earlier_steps_are_intact(tmp_path):
    if shutil.which("unshare") is None:
        pytest.skip("a small disk needs the program unshare")
    disk = tmp_path / "disk"
    disk.mkdir()
    private = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = 'mount -t tmpfs -o size=6m tmpfs "$1"'
    may = subprocess.run([*private, mount, "sh", disk], capture_output=True, text=True)
    if may.returncode != 0:
        pytest.skip(f"a small disk needs mount rights: {may.stderr.strip()}")
    path = script(tmp_path, FILL_THE_DISK)
    command = mount + ' && exec "$2" "$3" "$1/c" tmpfs'
    run = subprocess.run(
        [*private, command, "sh", disk, sys.executable, path], capture_output=True, text=True
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "intact\n", "")


@pytest.mark.parametrize("number", interruption.SIGNALS)
def test_a_signal_waits_until_the_checkpoint_is_there(tmp_path, monkeypatch, number):
    """Wherever in `save` it falls, the step is whole, and the signal is heard after it, once."""
    written, heard = checkpoint._write, []

    def write_and_be_interrupted(*arguments):
        signal.raise_signal(number)
        written(*arguments)
        signal.raise_signal(number)

    def hear(number, _):
        heard.append(number)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "_write", write_and_be_interrupted)
    before = signal.signal(number, hear)
    try:
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(tmp_path, 1, {"x": np.arange(3)})
        assert signal.getsignal(number) is hear, "the handler of before is in force again"
    finally:
        signal.signal(number, before)
    assert heard == [number]
    found = checkpoint.restore(tmp_path, {"x": np.zeros(3, int)})
    assert found is not None
    assert found[0] == 1


def test_the_latest_step_is_that_of_the_names(tmp_path):
    assert checkpoint.latest_step(tmp_path / "missing") is None
    assert checkpoint.latest_step(tmp_path) is None
    for step in (9, 10):
        checkpoint.save(tmp_path, step, small(step))
    (tmp_path / ".11.partial").mkdir()
    (tmp_path / "012").mkdir()
    assert checkpoint.latest_step(tmp_path) == 10
    checkpoint.discard(tmp_path)
    assert checkpoint.latest_step(tmp_path) is None


def test_what_is_set_aside_is_kept_once_and_nothing_is_left_to_restore(tmp_path):
    folder = tmp_path / "checkpoints"
    for number in (1, 2):
        checkpoint.save(folder, number, {"a": np.float32(number)})
        checkpoint.set_aside(folder)
        assert checkpoint.restore(folder, {"a": np.float32(0)}) is None
    kept = checkpoint.restore(tmp_path / "checkpoints.damaged", {"a": np.float32(0)})
    assert kept == (2, {"a": 2.0})
    checkpoint.set_aside(folder)


LATE = """
import asyncio, os, sys, threading, time
from pathlib import Path
import numpy as np, tensorstore
from seqlab import checkpoint

checkpoint.save(Path(sys.argv[1]), 1, {"a": np.ones(3)})


class Broken:
    def __del__(self):
        raise RuntimeError("another")


async def begin():
    promise, future = tensorstore.Promise.new()

    async def wait():
        await future

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0.05)
    return promise, future, task


loop = asyncio.new_event_loop()
held = loop.run_until_complete(begin())
loop.close()
thread = threading.Thread(target=lambda: held[0].set_exception(ValueError("disk full")))
thread.start()
thread.join()
time.sleep(0.2)
Broken()
sys.stderr.flush()
os._exit(0)
"""


def test_of_writes_that_fail_later_nothing_is_printed(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LATE, str(tmp_path)],
        cwd=Path(checkpoint.__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert "Event loop is closed" not in done.stderr
    assert done.stderr.rstrip().endswith("RuntimeError: another")
