"""Workers as processes: started apart, replaced when they die, interrupted."""

import json
import os
import time
from pathlib import Path

import pytest

from seqlab.launch import engine, local
from seqlab.launch.environment import TABLE

REPORT = """
import json, os, pathlib, sys
folder = pathlib.Path(sys.argv[1])
me = {"start": float(sys.argv[3]), "flag": sys.argv[2]}
me |= {"launcher": os.environ["SEQLAB_LAUNCHER"], "tunables": os.environ["GLIBC_TUNABLES"]}
(folder / f"{os.getpid()}").write_text(json.dumps(me))
(folder / f"{os.getpid()}").rename(folder / f"{os.getpid()}.json")
"""
SLEEP = """
import signal, sys, time
said = open(sys.argv[1], "a", buffering=1)
try:
    print("asleep", file=said)
    time.sleep(60)
except KeyboardInterrupt:
    if "deaf" in sys.argv:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("interrupted", file=said)
    time.sleep(60 if "deaf" in sys.argv else 0)
"""


def reports(folder: Path) -> list[dict]:
    return sorted(
        (json.loads(p.read_text()) for p in folder.glob("*.json")), key=lambda r: r["start"]
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(engine, "POLL_SECONDS", 0.02)


def run(code: str, *arguments: str, workers: int, watch) -> None:
    engine.run(local.Local(), ["-c", code, *arguments], workers, watch)


def test_workers_start_apart_and_know_their_launcher(tmp_path):
    for workers in (1, 2, 3):
        folder = tmp_path / str(workers)
        folder.mkdir()
        run(REPORT, str(folder), workers=workers, watch=lambda: False)
        found = reports(folder)
        assert [r["start"] for r in found] == [n / workers for n in range(workers)]
        assert {r["flag"] for r in found} == {"--start"}
        assert {r["launcher"] for r in found} == {str(os.getpid())}
        tunables = {row.value for row in TABLE if row.name == "GLIBC_TUNABLES"}
        assert {r["tunables"] for r in found} == tunables


def test_what_the_user_has_set_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=1")
    run(REPORT, str(tmp_path), workers=1, watch=lambda: False)
    assert [r["tunables"] for r in reports(tmp_path)] == ["glibc.malloc.check=1"]


def test_workers_are_as_many_as_there_are_devices_that_jax_can_use(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert local.default_workers() == len(os.sched_getaffinity(0))
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setattr(local, "find_spec", lambda name: None)
    assert local.num_accelerators() == 0, "a card that JAX has no plugin for is no accelerator"
    monkeypatch.setattr(local, "find_spec", lambda name: name == "libtpu" or None)
    assert local.default_workers() == 1
    monkeypatch.setattr(local, "find_spec", lambda name: name == "jax_cuda13_plugin" or None)
    monkeypatch.setattr(Path, "glob", lambda *_: [Path("/dev/nvidia0"), Path("/dev/nvidia1")])
    assert local.default_workers() == 2


@pytest.mark.parametrize("code", [0, 2, 3])
def test_whose_end_was_meant_is_not_replaced(tmp_path, code):
    """It has finished; it had bad input; the disk was full."""
    run(REPORT + f"sys.exit({code})", str(tmp_path), workers=2, watch=lambda: 7)
    assert len(reports(tmp_path)) == 2


def test_one_worker_alone_is_started_as_it_is_told_and_replaced(tmp_path):
    command = ["-c", REPORT + "sys.exit(len(list(folder.glob('*.json'))) < 3)"]
    one = local.Local()
    one.start_one([*command, str(tmp_path), "--start", "0.25"])
    while one.poll(1):
        time.sleep(0.02)
    found = reports(tmp_path)
    assert [r["start"] for r in found] == [0.25] * 3
    assert {r["launcher"] for r in found} == {str(os.getpid())}


def test_a_worker_that_dies_is_replaced_while_something_is_missing(tmp_path):
    dies = REPORT + "os.kill(os.getpid(), 9)"
    run(dies, str(tmp_path), workers=2, watch=lambda: len(reports(tmp_path)) < 5)
    starts = [r["start"] for r in reports(tmp_path)]
    assert 5 <= len(starts) <= 7
    assert set(starts) == {0.0, 0.5}


def test_replacing_comes_to_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "MAX_RESTARTS", 3)
    run(REPORT + "sys.exit(1)", str(tmp_path), workers=2, watch=lambda: 7)
    assert len(reports(tmp_path)) == 2 + 3


def test_replacing_goes_on_as_long_as_trials_are_finished(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "MAX_RESTARTS", 2)

    def watch() -> int:
        """Each of the first six workers finishes a trial before it dies."""
        return 100 - min(6, len(reports(tmp_path)))

    run(REPORT + "sys.exit(1)", str(tmp_path), workers=1, watch=watch)
    # one more where the sixth had died before it was seen to have finished something
    assert len(reports(tmp_path)) in (6 + 2, 6 + 2 + 1)


def test_a_worker_that_dies_when_nothing_is_missing_is_not_replaced(tmp_path):
    run(REPORT + "sys.exit(1)", str(tmp_path), workers=2, watch=lambda: False)
    assert len(reports(tmp_path)) == 2


def raised_once_asleep(said: Path, error: BaseException):
    """A watch that raises as soon as both workers are asleep."""

    def watch() -> bool:
        if said.exists() and said.read_text().count("asleep") == 2:
            raise error
        return True

    return watch


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("cannot be read")])
def test_whatever_stops_the_launcher_interrupts_the_workers_and_waits_for_them(tmp_path, error):
    began, said = time.monotonic(), tmp_path / "said"
    with pytest.raises(type(error)):
        run(SLEEP, str(said), workers=2, watch=raised_once_asleep(said, error))
    assert said.read_text().count("interrupted") == 2
    assert time.monotonic() - began < 50


def test_a_second_ctrl_c_kills(tmp_path, monkeypatch):
    began, said = time.monotonic(), tmp_path / "said"
    wait, impatient = local.subprocess.Popen.wait, []

    def wait_impatiently(worker, *rest):
        if not impatient:
            while said.read_text().count("interrupted") < 2:
                time.sleep(0.02)
            impatient.append(True)
            raise KeyboardInterrupt
        return wait(worker, *rest)

    monkeypatch.setattr(local.subprocess.Popen, "wait", wait_impatiently)
    watch = raised_once_asleep(said, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(SLEEP, str(said), "deaf", workers=2, watch=watch)
    assert time.monotonic() - began < 50
