"""Processes are killed, stopped, doubled and asked to end; the grid comes out the same."""

import functools
import json
import os
import random
import signal
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from fault_grid import (
    GRID,
    LINES,
    NAME,
    SEEDS,
    Twice,
    finish,
    folders,
    held_by,
    log_lines,
    rows_of,
    saved_steps,
    trials_with_one_result,
    wait_until,
    words,
    workers_of,
)

from seqlab import checkpoint, results
from seqlab.launch import claims

pytestmark = pytest.mark.fault

KILLS = 50


@pytest.mark.fault("1", "kill -9 during a checkpoint, 20 times, of one trial after the other")
def test_kill_during_a_checkpoint(door, undisturbed, measured, tmp_path):
    draw, twice, halves = random.Random(1), Twice(), 0
    command = words(2)

    def partials() -> bool:
        return any((tmp_path / "results" / NAME).glob("*/attempt-*/checkpoints/.*.partial"))

    for _ in range(20):
        worker = door.start("work", *command, "--attempts", "50", root=tmp_path / "results")
        wait_until(partials, worker, pause=0.0005)
        time.sleep(draw.uniform(0, 0.03))
        folder = held_by(tmp_path / "results", worker.pid)
        worker.kill()
        assert "damaged" not in finish(worker).err
        halves += partials()
        if folder is not None:
            twice.ended(folder)
    done = door.run("work", *command, root=tmp_path / "results")
    assert (done.code, done.err) == (0, "")
    measured.trials = trials_with_one_result(tmp_path / "results", 4)
    assert undisturbed.same(tmp_path / "results", 4)
    measured.digest = "yes"
    measured.lost = f"{twice.seconds():.2f} trained twice"
    measured.said = f"nothing; {halves} of 20 kills left a half-written step, none was read"
    assert halves


@pytest.mark.slow
@pytest.mark.fault("2, 9", f"{KILLS} × kill -9 of a random worker at random moments")
def test_fifty_kills(door, undisturbed, measured, tmp_path):
    draw, twice, kills, hit, launches, said = random.Random(2), Twice(), 0, 0, 0, ""
    command = ("run", *GRID, "--workers", "2", "--attempts", "50", "--format", "json")
    half_a_trial = undisturbed.seconds / SEEDS / 2  # of one of the two workers
    began = time.monotonic()
    while True:  # a launcher replaces so many workers and no more
        launches += 1
        launcher = door.start(*command, root=tmp_path)
        while kills < KILLS and launcher.poll() is None:
            anywhere = kills % 5 == 4  # while it starts, or between two trials
            victims = [w for w in workers_of(launcher) if anywhere or held_by(tmp_path, w.pid)]
            if not victims:
                time.sleep(0.02)
                continue
            victim = draw.choice(victims)
            time.sleep(draw.uniform(0, 3 if anywhere else half_a_trial))
            try:
                victim.suspend()  # so that nobody takes its trial over before it is looked at
                folder = held_by(tmp_path, victim.pid)
                if folder is not None:
                    twice.ended(folder)
                    hit += 1
                victim.kill()
            except psutil.NoSuchProcess:
                continue
            kills += 1
        done = finish(launcher)
        assert done.code in (0, 1)
        assert "Traceback" not in done.err
        if done.code == 0:
            break
        said = done.last
        assert said.endswith("the same command goes on")
    seconds = time.monotonic() - began
    assert kills == KILLS
    assert hit > KILLS / 2
    measured.trials = trials_with_one_result(tmp_path, 2 * SEEDS)
    assert undisturbed.same(tmp_path, 2 * SEEDS)
    rows = rows_of(tmp_path).values()
    measured.digest = "yes"
    measured.lost = (
        f"{seconds - undisturbed.seconds:.0f} on the wall ({undisturbed.seconds:.0f} undisturbed), "
        f"{twice.seconds():.2f} trained twice"
    )
    most = max(row["attempts"] for row in rows)
    measured.said = (
        f"{hit} of {KILLS} kills hit a trial, which was tried {most} times at most; "
        f"{launches} launches: {said}"
    )


@pytest.mark.fault("9", "kill -9 of the launcher; its workers are left alone")
def test_kill_of_the_launcher(door, undisturbed, measured, tmp_path):
    command = ("run", *words(4), "--workers", "2", "--format", "json")
    launcher = door.start(*command, root=tmp_path)
    wait_until(lambda: len(saved_steps(tmp_path)) > 2, launcher)
    workers = workers_of(launcher)
    assert len(workers) == 2
    launcher.kill()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert alive == [], "a worker without a launcher ends after its trial"
    finish(launcher)
    before = rows_of(tmp_path)
    assert 1 <= len(before) < 8
    done = door.run(*command, root=tmp_path)
    assert done.code == 0
    measured.trials = trials_with_one_result(tmp_path, 8)
    assert undisturbed.same(tmp_path, 8)
    after = rows_of(tmp_path)
    assert {identity: after[identity] for identity in before} == before
    assert {row["attempts"] for row in after.values()} == {1}
    measured.digest = "yes"
    measured.lost = "0 trained twice"
    measured.said = f"nothing; each worker finished its trial: {len(before)} of 8 were done"


@pytest.mark.fault("3", "a step that is being written, or never will be, is asked for")
def test_a_step_has_its_name_only_when_it_is_whole(door, measured, tmp_path, caplog):
    def state(step: int) -> dict:
        return {"w": np.full((64, 64), step, np.float32), "n": step}

    script = """
        import sys, numpy as np
        from pathlib import Path
        from seqlab import checkpoint
        for step in range(1, 41):
            w = np.full((64, 64), step, np.float32)
            checkpoint.save(Path(sys.argv[1]), step, {"w": w, "n": step}, keep=100)
        checkpoint.save(Path(sys.argv[1]), 41, {"w": np.ones((20_000_000,), np.float32)}, keep=100)
    """
    writer = door.process(sys.executable, "-c", textwrap.dedent(script), str(tmp_path))
    seen, asked = set(), 0
    while not (tmp_path / ".41.partial").exists():
        assert writer.poll() is None, writer.communicate()
        named = checkpoint.latest_step(tmp_path)
        if named is None:
            continue
        found = checkpoint.restore(tmp_path, state(0))
        assert found is not None
        step, restored = found
        assert step >= named
        np.testing.assert_array_equal(restored["w"], state(step)["w"])
        seen.add(step)
        asked += 1
    writer.kill()
    writer.communicate()
    assert (tmp_path / ".41.partial").exists()
    assert checkpoint.latest_step(tmp_path) == 40
    assert caplog.messages == []
    assert len(seen) > 5
    measured.trials = f"{asked}/{asked} answers named a whole step"
    measured.said = "nothing"


@pytest.mark.fault("7", "two launchers on one grid at once, 40 trials")
def test_two_launchers(door, undisturbed, measured, tmp_path):
    command = ("run", *GRID, "--workers", "1", "--format", "json")
    began = time.monotonic()
    launchers = [door.start(*command, root=tmp_path) for _ in range(2)]
    both = [finish(launcher) for launcher in launchers]
    seconds = time.monotonic() - began
    assert [done.code for done in both] == [0, 0]
    assert both[0].out == both[1].out
    measured.trials = trials_with_one_result(tmp_path, 2 * SEEDS)
    assert undisturbed.same(tmp_path, 2 * SEEDS)
    for folder in folders(tmp_path):
        names = {path.name for path in folder.iterdir()}
        assert names == {"claim-1", "attempt-1", "result.json"}
        assert len(log_lines(folder)) == LINES, "nothing was trained twice"
    claimed = [json.loads((f / "claim-1").read_text())["worker"] for f in folders(tmp_path)]
    shares = sorted(claimed.count(worker) for worker in set(claimed))
    assert len(shares) == 2
    measured.digest = "yes"
    measured.lost = f"{seconds - undisturbed.seconds:.0f} on the wall, 0 trained twice"
    measured.said = f"{both[0].last} (one ran {shares[0]} trials, the other {shares[1]})"


@pytest.mark.fault("8", "one trial in two processes: its worker was stopped, and wakes up again")
def test_a_worker_that_was_given_up_wakes(door, undisturbed, measured, tmp_path):
    # as if it were on another host, where nobody can look for its process
    elsewhere = "unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh"
    if os.geteuid() != 0:
        pytest.skip("only root can give a process another host name")
    impatient = (
        "import sys; from seqlab.launch import claims; "
        "claims.BEAT_SECONDS, claims.PATIENCE_SECONDS = 0.2, 2.0; "
        "from seqlab import cli; sys.exit(cli.main(sys.argv[1:]))"
    )
    command = (
        *(sys.executable, "-c", impatient, "work"),
        *(*words(2, "gru"), "--results-dir", str(tmp_path)),
    )
    sleeper = door.process(*elsewhere, *command)
    wait_until(lambda: saved_steps(tmp_path), sleeper)
    sleeper.send_signal(signal.SIGSTOP)
    folder = held_by(tmp_path, sleeper.pid)
    assert folder is not None
    assert "elsewhere" in json.loads((folder / "claim-1").read_text())["worker"]
    twice = Twice()
    twice.ended(folder)
    taker = finish(door.process(*command))
    assert (taker.code, taker.err) == (0, "")
    result = (folder / "result.json").read_bytes()
    assert results.read(folder)["attempts"] == 2
    sleeper.send_signal(signal.SIGCONT)
    woken = finish(sleeper)
    assert woken.code == 0
    assert f"{folder.name} was taken over by another worker" in woken.err
    assert "Traceback" not in woken.err
    assert (folder / "result.json").read_bytes() == result
    assert {p.name for p in folder.iterdir()} == {"claim-1", "claim-2", "attempt-2", "result.json"}
    assert len(log_lines(folder)) == LINES
    measured.trials = trials_with_one_result(tmp_path, 2)
    assert undisturbed.same(tmp_path, 2)
    measured.digest = "yes"
    measured.lost = f"{twice.seconds():.2f} trained twice; the wait is {claims.PATIENCE_SECONDS} s"
    measured.said = woken.last


@pytest.mark.fault("13", "SIGTERM, SIGUSR2 (each again) and Ctrl-C to a worker, at random moments")
def test_soft_signals(door, undisturbed, measured, tmp_path):
    draw, twice, command = random.Random(13), Twice(), words(3)

    def num_lines() -> int:
        return sum(len(log_lines(folder)) for folder in folders(tmp_path))

    for number in 2 * [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT]:
        worker = door.start("work", *command, root=tmp_path)
        wait_until(functools.partial(_more_than, num_lines(), num_lines), worker)
        time.sleep(draw.uniform(0, 0.3))
        folder = held_by(tmp_path, worker.pid)
        worker.send_signal(number)
        if number != signal.SIGINT:  # a scheduler may say it again, and is not impatient
            time.sleep(draw.uniform(0, 0.1))
            worker.send_signal(signal.SIGTERM)
        assert finish(worker) == (130, "", "")
        if folder is not None:
            assert not list(folder.glob("claim-*"))
            twice.ended(folder)
        assert not list((tmp_path / NAME / claims.WORKERS).iterdir())
    done = door.run("work", *command, root=tmp_path)
    assert (done.code, done.err) == (0, "")
    measured.trials = trials_with_one_result(tmp_path, 6)
    assert undisturbed.same(tmp_path, 6)
    assert {row["attempts"] for row in rows_of(tmp_path).values()} == {1}
    assert twice.lines() == [], "every step before a signal counts"
    assert {len(log_lines(folder)) for folder in folders(tmp_path)} == {LINES}
    measured.digest = "yes"
    measured.lost = "0 trained twice, after 6 signals"
    measured.said = "exit code 130, no word: its launcher has it"


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(False, marks=pytest.mark.fault("13b", "Ctrl-C to a launcher, once")),
        pytest.param(True, marks=pytest.mark.fault("13c", "Ctrl-C again and again, until it ends")),
    ],
)
def test_ctrl_c(door, undisturbed, measured, tmp_path, again):
    command, twice = ("run", *words(2), "--workers", "2", "--format", "json"), Twice()
    launcher = door.start(*command, root=tmp_path)
    wait_until(lambda: saved_steps(tmp_path), launcher)
    workers = workers_of(launcher)
    assert len(workers) == 2
    launcher.send_signal(signal.SIGINT)
    while again and launcher.poll() is None:
        time.sleep(0.01)
        launcher.send_signal(signal.SIGINT)
    done = finish(launcher)
    assert (done.code, done.out) == (130, "")
    assert "Traceback" not in done.err
    assert done.last == "interrupted: the same command goes on from here"
    assert psutil.wait_procs(workers, timeout=60)[1] == []
    for folder in folders(tmp_path):
        assert again or _done(folder) or not list(folder.glob("claim-*"))
        twice.ended(folder)
    finished = door.run(*command, root=tmp_path)
    assert finished.code == 0
    measured.trials = trials_with_one_result(tmp_path, 4)
    assert undisturbed.same(tmp_path, 4)
    assert again or twice.lines() == []
    measured.digest = "yes"
    measured.lost = f"{twice.seconds():.2f} trained twice"
    measured.said = done.last


def _more_than(before: int, count: Callable[[], int]) -> bool:
    return count() > before


def _done(folder: Path) -> bool:
    return (folder / "result.json").exists()
