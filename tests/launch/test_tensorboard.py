"""Event files hold what the log holds, read back byte by byte and against the log itself."""

import json
import struct
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from seqlab.errors import InputError
from seqlab.history import FILE, Log
from seqlab.launch import tensorboard, worker
from seqlab.launch.claims import work_folder
from seqlab.launch.plan import Plan
from seqlab.trial import as_dict

CONFIG = {"kind": "Trial", "model": {"cell": "gru", "units": 3}, "seed": 1}
LINES = [
    {"step": 50, "train_loss": 0.1, "seconds": 1 / 3, "sums": {"nll": 7.0}, "counts": [1, 2]},
    {"step": 100, "train_loss": 1e-45, "seconds": 2, "fine": True, "name": "x", "none": None},
    {"step": 100, "epoch": 1, "train_loss": 0.3, "valid_nll": -1.5e38, "valid/top-5": 16777217},
    {"step": 2**40, "train_loss": float("nan"), "seconds": float("inf")},
    {"note": 3.0},  # of no step
]


@pytest.fixture(autouse=True)
def installed(request):
    if "missing" not in request.node.name:
        pytest.importorskip("tensorboardX", reason="needs tensorboardX")


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(tensorboard, "LOOK_SECONDS", 0.01)


def masked_crc32c(data: bytes) -> int:
    """Of Castagnoli, bit by bit, masked as the format of records wants it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events(kept: Path) -> list:
    """All events of an attempt; its folder holds one file of whole records."""
    from tensorboardX.proto.event_pb2 import Event

    (path,) = (kept / tensorboard.FOLDER).iterdir()
    assert "tfevents" in path.name  # by which TensorBoard finds it
    content, found = path.read_bytes(), []
    while content:
        header, (header_crc,) = content[:8], struct.unpack("<I", content[8:12])
        (length,) = struct.unpack("<Q", header)
        data, (data_crc,) = (
            content[12 : 12 + length],
            struct.unpack("<I", content[12 + length :][:4]),
        )
        assert (masked_crc32c(header), masked_crc32c(data)) == (header_crc, data_crc)
        found.append(Event.FromString(data))
        content = content[16 + length :]
    assert found[0].file_version == "brain.Event:2"
    return found[1:]


def scalars(kept: Path) -> Counter:
    """How often each (tag, step, float32 bits) occurs."""
    return Counter(
        (value.tag, event.step, np.float32(value.simple_value).tobytes())
        for event in events(kept)
        for value in event.summary.value
        if value.HasField("simple_value")
    )


def logged(kept: Path) -> Counter:
    """The same, from the log."""
    found = Counter()
    for line in map(json.loads, (kept / FILE).read_text().splitlines()):
        for name, value in line.items():
            if type(value) in (int, float) and name != "step" and "step" in line:
                tag = f"epoch/{name}" if "epoch" in line else name
                found[tag, line["step"], np.float32(value).tobytes()] += 1
    return found


def texts(kept: Path) -> list[str]:
    return [
        value.tensor.string_val[0].decode()
        for event in events(kept)
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "text"
    ]


def append(kept: Path, lines: list[dict]) -> None:
    with open(kept / FILE, "a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def wait_until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def num_scalars(kept: Path) -> int:
    try:
        return scalars(kept).total()
    except (AssertionError, FileNotFoundError, IndexError, ValueError, struct.error):
        return 0  # a look between two writes


def test_every_number_is_there_once_and_the_configuration_too(tmp_path):
    with tensorboard.following(tmp_path, CONFIG):
        append(tmp_path, LINES)
    found = scalars(tmp_path)
    assert found == logged(tmp_path)
    assert set(found.values()) == {1}
    assert {tag for tag, _, _ in found} == {
        *("train_loss", "seconds", "epoch/epoch"),
        *("epoch/train_loss", "epoch/valid_nll", "epoch/valid/top-5"),
    }
    (text,) = texts(tmp_path)
    assert json.loads(text) == CONFIG
    assert all(line.startswith("    ") for line in text.splitlines())


def test_events_come_while_the_trial_runs_and_not_before_their_line_is_whole(tmp_path, often):
    with tensorboard.following(tmp_path, CONFIG):
        append(tmp_path, LINES[:1])
        wait_until(lambda: num_scalars(tmp_path) == 2)
        torn = json.dumps(LINES[2]).encode() + b"\n"
        with open(tmp_path / FILE, "ab", buffering=0) as file:
            file.write(torn[:40])
            time.sleep(0.1)
            assert num_scalars(tmp_path) == 2
            file.write(torn[40:])
        wait_until(lambda: num_scalars(tmp_path) == 6)
    assert scalars(tmp_path) == logged(tmp_path)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("a bug")])
def test_what_was_logged_before_an_error_is_written(tmp_path, error):
    def run():
        with tensorboard.following(tmp_path, CONFIG):
            append(tmp_path, LINES)
            raise error

    with pytest.raises(type(error)):
        run()
    assert scalars(tmp_path) == logged(tmp_path)


def test_a_log_that_is_cut_back_under_the_eyes_of_the_thread_is_written_anew(tmp_path, often):
    append(tmp_path, LINES[:3])
    with tensorboard.following(tmp_path, CONFIG):
        wait_until(lambda: num_scalars(tmp_path) == 8)
        (tmp_path / FILE).write_text("")
        append(tmp_path, [LINES[0], {"step": 100, "train_loss": 9.0, "seconds": 8.0}, *LINES[2:]])
        wait_until(lambda: num_scalars(tmp_path) == 10)
    assert scalars(tmp_path) == logged(tmp_path)
    assert len(texts(tmp_path)) == 1


@dataclass(frozen=True)
class Trial:
    seed: int = 0


class Training:
    """An experiment of 6 steps, saved after the third; the first attempt stops after the fifth."""

    __name__ = "training"

    def __init__(self):
        self.interrupt = True

    def run(self, trial, folder):
        log = Log(folder)
        log.resume({"step": np.int64(0)})
        for step in range(len(log.lines) + 1, 7):
            log.append(step=step, train_loss=1 / step, seconds=time.perf_counter())
            if step == 3:
                log.commit(step, {"step": np.int64(step)})
            if step == 5 and self.interrupt:
                raise KeyboardInterrupt
        return {}


def test_after_an_interruption_no_step_occurs_twice(tmp_path):
    experiment = Training()
    plan = Plan("training", experiment, [Trial()], tmp_path)
    folder = plan.folder(Trial())
    terms = worker.Terms(tensorboard=True)
    with pytest.raises(KeyboardInterrupt):
        worker.work(plan, terms=terms)
    first = work_folder(folder)
    assert first is not None
    before = scalars(first)
    assert before == logged(first)
    assert sorted({step for _, step, _ in before}) == [1, 2, 3, 4, 5]
    experiment.interrupt = False
    worker.work(plan, terms=terms)
    kept = work_folder(folder)
    assert kept is not None
    after = scalars(kept)
    assert after == logged(kept)
    assert sorted(step for tag, step, _ in after if tag == "train_loss") == [1, 2, 3, 4, 5, 6]
    assert after.total() == 12
    old = {key for key in before if key[1] > 3 and key[0] == "seconds"}
    assert not old & after.keys()  # of the steps that were done again
    assert [json.loads(text) for text in texts(kept)] == [as_dict(Trial())]


def test_without_room_for_events_the_trial_goes_on(tmp_path, capsys):
    kept = tmp_path / "attempt-1"
    kept.mkdir()
    with tensorboard.following(kept, CONFIG):
        kept.rename(tmp_path / "attempt-2")  # by another worker
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"no more events in {kept / 'tensorboard'}: ")
    assert not kept.exists()


def test_a_missing_tensorboardx_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"^--tensorboard needs tensorboardX: pip install -e \S+$"):
        tensorboard.check()


def test_an_installed_tensorboardx_passes_the_check():
    tensorboard.check()


def test_tensorboard_itself_reads_the_same(tmp_path):
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard"
    )
    with tensorboard.following(tmp_path, CONFIG):
        append(tmp_path, LINES)
    read = reader.EventAccumulator(str(tmp_path / tensorboard.FOLDER)).Reload()
    found = Counter(
        (tag, event.step, np.float32(read.Tensors(tag)[0].tensor_proto.float_val[0]).tobytes())
        if tag in read.Tags()["tensors"]
        else (tag, event.step, np.float32(event.value).tobytes())
        for tag in read.Tags()["scalars"]
        for event in read.Scalars(tag)
    )
    assert found == logged(tmp_path)
