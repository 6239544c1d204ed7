"""Bits flip, files are torn, disks are full or refuse, clocks lie."""

import functools
import gzip
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import jax
import pytest
from fault_grid import (
    LINES,
    NAME,
    fill,
    finish,
    folders,
    held_by,
    log_lines,
    rows_of,
    saved_steps,
    small_disk,
    trials_with_one_result,
    wait_until,
    words,
)

from experiments import mut_vs_lstm_gru as mut
from seqlab import checkpoint, results, stream_trial, train
from seqlab.data import files, prepared, ptb
from seqlab.errors import InputError
from seqlab.history import Log
from seqlab.launch import claims
from seqlab.models.budget import units_for_budget
from seqlab.optim import Settings
from seqlab.trial import only, set_values

pytestmark = pytest.mark.fault

FLIPS = 40


def flip(path: Path, draw: random.Random) -> bytes:
    """Turn one bit of a file over; returns what it held."""
    content = path.read_bytes()
    changed = bytearray(content)
    changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(changed)
    return content


def any_of(paths: list[Path], draw: random.Random) -> Path:
    """A file, each as often as it is large: a random bit of all."""
    return draw.choices(paths, [path.stat().st_size for path in paths])[0]


def fresh_state() -> train.TrainState:
    """A state like those that the grid's first GRU has saved."""
    sets = [w.removeprefix("--set=") for w in words(1, "gru") if w.startswith("--set=")]
    (trial,) = set_values(only(mut.trials("smoke"), ["model.cell=gru"]), sets)
    kind = trial.model.cell, trial.model.num_layers, type(trial.data)
    units = units_for_budget(
        functools.partial(stream_trial.num_params, *kind), trial.model.parameter_budget
    )
    program = train.Program(
        stream_trial.network(*kind, units), train.SYMBOLS, trial.optim.optimizer
    )
    dataset, _ = stream_trial.load(trial.data)
    cut = train.windows(dataset.train, dataset.start, trial.train.batch_size, trial.train.unroll)
    settings = Settings(0.1, 5.0, 1.0, None, seed=0)
    return train.init_state(program, settings, jax.tree.map(lambda a: a[0], cut))


@pytest.fixture
def unfinished(begun) -> Path:
    """The folder of the last attempt at the unfinished trial."""
    (folder,) = folders(begun)
    kept = claims.work_folder(folder)
    assert kept is not None
    return kept


@pytest.mark.fault("4", f"{FLIPS} flipped bits in a checkpoint, in its manifest, in the log")
def test_flipped_bits_in_checkpoint_manifest_and_log(unfinished, measured, caplog):
    draw, state, steps = random.Random(4), fresh_state(), saved_steps(unfinished.parents[2])
    newest = unfinished / "checkpoints" / str(steps[-1])
    log = unfinished / "log.jsonl"
    whole, said = log.read_bytes(), []
    shards = [path for path in (newest / "arrays").rglob("*") if path.is_file()]
    assert int(Log(unfinished).resume(state).step) == steps[-1]
    for damaged in (shards, [newest / "manifest.json"]):
        for _ in range(FLIPS):
            caplog.clear()
            path = any_of(damaged, draw)
            content = flip(path, draw)
            assert int(Log(unfinished).resume(state).step) == steps[-2], path
            assert [r.levelname for r in caplog.records] == ["WARNING"]
            assert str(newest) in caplog.messages[0]
            said.append(caplog.messages[0].replace(str(unfinished), "DIR"))
            path.write_bytes(content)
            log.write_bytes(whole)  # it was cut to the step before
    for _ in range(FLIPS):
        flip(log, draw)
        with pytest.raises(checkpoint.CheckpointError, match="is not the log of checkpoint"):
            Log(unfinished).resume(state)
        log.write_bytes(whole)
    assert int(Log(unfinished).resume(state).step) == steps[-1]
    measured.trials = f"{3 * FLIPS}/{3 * FLIPS} flips seen"
    measured.said = said[0]


@pytest.mark.fault("4b", "a flipped bit in the newest checkpoint, then in all of them")
def test_training_goes_on_from_the_step_before(door, begun, unfinished, undisturbed, measured):
    steps = saved_steps(begun)
    shards = {
        step: max((unfinished / "checkpoints" / str(step) / "arrays").rglob("*"), key=_size)
        for step in steps[-2:]
    }
    flip(shards[steps[-1]], random.Random(0))
    both = begun.parent / "both"
    shutil.copytree(begun, both)
    command = ("run", *words(1, "gru"), "--workers", "1", "--format", "json")
    before = log_lines(unfinished.parent)
    done = door.run(*command, root=begun)
    assert done.code == 0
    (said,) = [line for line in done.err.splitlines() if "damaged" in line]
    assert f"/{steps[-1]}/" in said
    measured.trials = trials_with_one_result(begun, 1)
    assert undisturbed.same(begun, 1)
    after = log_lines(unfinished.parent)
    again = [json.loads(line) for line in before if line not in after]
    measured.digest = "yes"
    measured.lost = f"{sum(line.get('seconds', 0) for line in again):.2f} trained twice"
    flip(both / shards[steps[-2]].relative_to(begun), random.Random(0))
    done = door.run(*command, root=both)
    assert done.code == 1
    (row,) = rows_of(both).values()
    assert row["status"] == "FAILED"
    assert row["error"].startswith("no usable checkpoint in ")
    assert row["error"].endswith("--retry-failed begins anew")
    done = door.run(*command, "--retry-failed", root=both)
    assert done.code == 0
    assert undisturbed.same(both, 1)
    whole = row["error"].replace(str(both), "DIR")
    measured.said = f"checkpoint damaged, skipped: …/{steps[-1]}/…; of all: FAILED, {whole}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


@pytest.mark.fault("5", "a disk that is full at a checkpoint")
def test_full_disk_at_a_checkpoint(door, undisturbed, measured, tmp_path):
    with small_disk(tmp_path / "disk", "size=12m") as disk:
        _full_at(disk, door, undisturbed, measured, lambda folder: True)


@pytest.mark.fault("5b", "a disk that is full when a result is to be committed")
def test_full_disk_at_a_result(door, undisturbed, measured, tmp_path):
    def has_only_its_result_to_write(folder: Path) -> bool:
        return len(log_lines(folder)) == LINES and not list(folder.glob("*/checkpoints/.*.partial"))

    with small_disk(tmp_path / "disk", "size=12m") as disk:
        _full_at(disk, door, undisturbed, measured, has_only_its_result_to_write)


def _full_at(disk, door, undisturbed, measured, moment):
    """Fill the disk when one trial is done and another has come to its moment."""
    command = ("run", *words(3), "--workers", "1", "--format", "json")

    def caught() -> Path | None:
        """The trial at its moment, in a worker that has been stopped there."""
        folder = held_by(disk, worker.pid)
        if folder is None or not log_lines(folder) or not rows_of(disk) or not moment(folder):
            return None
        worker.send_signal(signal.SIGSTOP)
        if held_by(disk, worker.pid) == folder and moment(folder):
            return folder
        worker.send_signal(signal.SIGCONT)
        return None

    worker = door.start("work", *words(3), root=disk)
    wait_until(caught, worker, pause=0.001)
    filler = fill(disk)
    before = rows_of(disk)
    worker.send_signal(signal.SIGCONT)
    stopped = finish(worker)
    assert stopped.code == 3
    assert "Traceback" not in stopped.err
    assert "disk full: no room for" in stopped.last
    assert rows_of(disk).items() >= before.items(), "earlier results can be read"
    full = door.run(*command, root=disk)
    assert full.code in (1, 2)
    assert "Traceback" not in full.err
    filler.unlink()
    done = door.run(*command, "--retry-failed", root=disk)
    assert done.code == 0, done.err
    measured.trials = trials_with_one_result(disk, 6)
    assert undisturbed.same(disk, 6)
    measured.digest = "yes"
    measured.said = f"{_anonymous(stopped.last, disk)}; meanwhile: {_anonymous(full.last, disk)}"


def _anonymous(text: str, folder: Path) -> str:
    return text.replace(str(folder), "DIR")


@pytest.mark.fault("6", f"results with {FLIPS} flipped bits and cut at {FLIPS} places")
def test_damaged_results(door, undisturbed, measured, tmp_path):
    draw = random.Random(6)
    shutil.copytree(undisturbed.root, tmp_path / "results")
    path = tmp_path / "results" / NAME / next(iter(undisturbed.rows)) / "result.json"
    for _ in range(FLIPS):
        content = flip(path, draw)
        assert results.read(path.parent) is None
        path.write_bytes(content[: draw.randrange(len(content))])
        assert results.read(path.parent) is None
        path.write_bytes(content)
    assert results.read(path.parent) is not None

    damaged = draw.sample(sorted(undisturbed.rows), 3)
    for identity in damaged:
        flip(tmp_path / "results" / NAME / identity / "result.json", draw)
    table = door.run("table", NAME, "--format", "json", root=tmp_path / "results")
    assert table.code == 0
    said = [line for line in table.err.splitlines() if "is not a whole result, skipped" in line]
    assert sorted(line.split("/")[-2] for line in said) == sorted(damaged)
    command = ("run", *words(20), "--workers", "1", "--format", "json")
    done = door.run(*command, root=tmp_path / "results")
    assert done.code == 0
    measured.trials = trials_with_one_result(tmp_path / "results", 40)
    assert undisturbed.same(tmp_path / "results", 40)
    rows = rows_of(tmp_path / "results")
    again = [i for i, row in rows.items() if row != undisturbed.rows[i]]
    assert sorted(again) == sorted(damaged)
    measured.digest = "yes"
    lost = sum(undisturbed.rows[identity]["wall_seconds"] for identity in damaged)
    measured.lost = f"{lost:.1f} of worker, 3 trials done again"
    measured.said = f"…{said[0].split('/')[-1]}; {2 * FLIPS}/{2 * FLIPS} damages seen"


@pytest.mark.fault("15", f"{FLIPS} flipped bits and the empty-record cut in a prepared set")
def test_damaged_data(door, measured, tmp_path, monkeypatch):
    """A set that is as small as it can be; every fault by name: tests/data/test_prepared_faults."""
    source = _small_set(tmp_path, monkeypatch)
    draw, folder = random.Random(15), prepared.prepare(source)
    loaded = prepared.load(source)
    manifest = folder / "manifest.json"
    shards = sorted(p for p in folder.iterdir() if "array_record" in p.name)
    for _ in range(FLIPS):
        path = any_of(shards, draw)
        content = flip(path, draw)
        with pytest.raises(InputError, match=str(path)) as caught:
            prepared.verify(source)
        path.write_bytes(content)
    content = shards[0].read_bytes()
    shards[0].write_bytes(content[:65_536])  # array_record reads such a file as empty records
    with pytest.raises(InputError, match="found 65536 bytes"):
        prepared.verify(source)
    shards[0].write_bytes(content)
    seen = 0
    for _ in range(FLIPS):
        content = flip(manifest, draw)
        try:
            prepared.verify(source)
        except InputError:
            seen += 1
        else:  # a fact that nobody reads, such as which version has written the set
            assert prepared.load(source).symbols == loaded.symbols
        manifest.write_bytes(content)
    prepared.verify(source)
    unread = FLIPS - seen
    measured.trials = f"{FLIPS}/{FLIPS} in shards; {seen} in the manifest, {unread} of facts unread"
    measured.said = _anonymous(str(caught.value), folder.parent.parent)


@pytest.mark.fault("20", "modification times of all files in the past or the future")
def test_times_of_files_mean_nothing(door, begun, undisturbed, measured, tmp_path):
    draw = random.Random(20)
    worker = door.start("work", *words(3, "gru"), root=begun)
    wait_until(lambda: held_by(begun, worker.pid) and saved_steps(begun), worker)
    worker.kill()  # so that there is a claim to take over, too
    finish(worker)
    now = time.time()
    for path in [begun, *begun.rglob("*")]:
        then = draw.choice([0, now + 10 * 365 * 86_400, now - 60])
        os.utime(path, (then, then))
    done = door.run("work", *words(3, "gru"), root=begun)
    assert (done.code, done.err) == (0, "")
    measured.trials = trials_with_one_result(begun, 3)
    assert undisturbed.same(begun, 3)
    measured.digest = "yes"
    measured.said = "nothing"


@pytest.mark.fault("21", "a results directory that cannot be written")
def test_read_only_results(door, measured, tmp_path):
    with small_disk(tmp_path / "disk", "size=1m,ro") as disk:
        for verb in ("run", "work"):
            done = door.run(verb, *words(1), root=disk)
            assert (done.code, done.out) == (2, "")
            assert done.err == (
                f"error: results directory {disk} cannot be written: Read-only file system\n"
            )
    measured.trials = "none was started"
    measured.said = _anonymous(done.last, disk)


@pytest.mark.fault("21b", "no inode is left")
def test_full_inode_table(door, undisturbed, measured, tmp_path):
    command = words(2)
    with small_disk(tmp_path / "disk", "size=12m,nr_inodes=70") as disk:
        done = door.run("work", *command, root=disk)
        assert done.code == 3
        assert "disk full" in done.last
        assert "Traceback" not in done.err
        few = len(rows_of(disk))
        assert few < 4
        subprocess.run(["mount", "-o", "remount,nr_inodes=10000", str(disk)], check=True)
        again = door.run("run", *command, "--retry-failed", "--workers", "1", root=disk)
        assert again.code == 0, again.err
        measured.trials = trials_with_one_result(disk, 4)
        assert undisturbed.same(disk, 4)
    measured.digest = "yes"
    measured.said = _anonymous(done.last, disk)


def _small_set(tmp_path: Path, monkeypatch) -> prepared.Source:
    """A few sentences in the shape of Penn Treebank."""
    draw, originals = random.Random(0), []
    for split in ("train", "valid", "test"):
        content = " ".join(draw.choices(["a", "bc", "def", "<unk>"], k=2000)).encode() + b"\n"
        path = tmp_path / "originals" / "ptb" / f"ptb.{split}.txt.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content))
        sha256 = hashlib.sha256(content).hexdigest()
        originals.append(files.Original(f"ptb/ptb.{split}.txt", len(content), sha256, None))
    monkeypatch.setenv("SEQLAB_DATA", str(tmp_path / "originals"))
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    return prepared.Source("ptb", tuple(originals), ptb.SOURCE.parse)
