"""Claims under races and deaths: one holder at a time, on this machine and on others."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from seqlab import interruption
from seqlab.launch import claims
from seqlab.launch.claims import Heart, Observer

EXPERIMENT = "experiment"
PROCESSES = 3
CLAIM = """
import json, sys
from pathlib import Path
from seqlab.launch.claims import Heart, Observer, claim
root, who, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
with Heart(root).beating() as heart:
    observer = Observer(root)
    (root / f"ready-{who}").touch()
    while not (root / "go").exists():
        pass
    taken = [(number, claim(root / f"t{number}", heart, observer)) for number in range(rounds)]
    print(json.dumps([win for win in taken if win[1] is not None]), flush=True)
    sys.stdin.read()  # a claim is held by a living worker
"""


def race(root: Path, rounds: int, processes: int = PROCESSES) -> list[tuple[int, int]]:
    """What some processes won together that claimed the same trials at the same time."""
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(root), str(who), str(rounds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for who in range(processes)
    ]
    try:
        deadline = time.monotonic() + 60
        while len(list(root.glob("ready-*"))) < processes:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (root / "go").touch()
        return [tuple(win) for racer in racers for win in json.loads(racer.stdout.readline())]
    finally:
        for racer in racers:
            racer.communicate()


@pytest.fixture
def root(tmp_path) -> Path:
    path = tmp_path / EXPERIMENT
    path.mkdir()
    return path


@pytest.fixture
def folder(root) -> Path:
    return root / "0123456789abcdef"


@pytest.fixture
def heart(root) -> Iterator[Heart]:
    with Heart(root).beating() as beating:
        yield beating


def put_claim(folder: Path, attempt: int, worker: str = "nobody", step: int | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"claim-{attempt}").write_text(json.dumps({"worker": worker, "step": step}))


def put_worker(root: Path, name: str, beat: int = 0, **elsewhere) -> None:
    """A worker as its own heart would write it, but for what differs."""
    whole = {"beat": beat, **claims._place(), **claims._process(os.getpid())} | elsewhere
    path = root / ".workers" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(whole))


def put_checkpoint(folder: Path, attempt: int, step: int) -> None:
    (folder / f"attempt-{attempt}" / "checkpoints" / str(step)).mkdir(parents=True)


@contextmanager
def child(root: Path) -> Iterator[subprocess.Popen]:
    """A process that has claimed t0."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLAIM, str(root), "0", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    (root / "go").touch()
    try:
        assert json.loads(process.stdout.readline()) == [[0, 1]]
        yield process
    finally:
        process.kill()
        process.communicate()


# Races


def test_of_racing_claims_one_wins(root):
    rounds = 50
    assert sorted(race(root, rounds)) == [(number, 1) for number in range(rounds)]


def test_the_claims_of_the_dead_are_taken_over_once(root):
    rounds = 50
    put_worker(root, "killed", started="1")
    for number in range(rounds):
        put_claim(root / f"t{number}", 1, "killed" if number % 2 else "ended")
    assert sorted(race(root, rounds)) == [(number, 2) for number in range(rounds)]


# Life and death on this machine


def test_a_claim_lasts_as_long_as_its_process(root, heart):
    observer = Observer(root)
    assert observer.holder(root / "t0") is None
    with child(root) as other:
        assert observer.holder(root / "t0").split("-")[-2] == str(other.pid)
        assert claims.claim(root / "t0", heart, observer) is None
        other.kill()
        other.wait()
        assert observer.holder(root / "t0") is None
        assert claims.claim(root / "t0", heart, observer) == 2
        assert observer.holder(root / "t0") == heart.name
        assert claims.claim(root / "t0", heart, observer) is None


def test_a_killed_process_that_nobody_waited_for_is_dead(root, heart):
    with child(root) as other:
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
        assert Path(f"/proc/{other.pid}").exists()
        assert claims.claim(root / "t0", heart, Observer(root)) == 2


def test_a_suspended_process_of_this_machine_is_alive(root, heart):
    with child(root) as other:
        other.send_signal(signal.SIGSTOP)
        assert claims.claim(root / "t0", heart, Observer(root)) is None


def test_a_process_with_the_same_number_is_not_the_same(root, heart, folder):
    put_worker(root, "before", started="1")
    put_claim(folder, 1, "before")
    assert Observer(root).holder(folder) is None
    assert claims.claim(folder, heart, Observer(root)) == 2


def test_a_worker_that_ended_is_dead_at_once(root, folder):
    observer = Observer(root)
    with Heart(root).beating() as other:
        assert claims.claim(folder, other, observer) == 1
        assert observer.is_alive(other.name)
    assert not observer.is_alive(other.name)
    assert not any((root / ".workers").iterdir())
    with Heart(root).beating() as heart:
        assert claims.claim(folder, heart, observer) == 2


# Life and death elsewhere

ELSEWHERE = {
    "another host": {"host": "elsewhere"},
    "another boot": {"boot": "00000000-0000-0000-0000-000000000000"},
    "another container": {"space": "pid:[1]"},
}


class Clock:
    """The observer's own clock, which the test turns."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(claims.time, "monotonic", lambda: self.now)


@pytest.mark.parametrize("elsewhere", ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_a_worker_elsewhere_is_alive_while_its_counter_rises(
    root, heart, folder, monkeypatch, elsewhere
):
    monkeypatch.setattr(claims, "PATIENCE_SECONDS", 50.0)
    clock, observer = Clock(monkeypatch), Observer(root)
    put_claim(folder, 1, "other")
    for beat in range(4):
        put_worker(root, "other", beat, **elsewhere)
        for _ in range(2):
            assert observer.holder(folder) == "other"
            clock.now += 49.0
        put_worker(root, "other", beat + 1, **elsewhere)
    put_worker(root, "other", 4, **elsewhere)
    assert claims.claim(folder, heart, observer) is None
    clock.now += 49.9
    assert claims.claim(folder, heart, observer) is None
    clock.now += 0.2
    assert observer.holder(folder) is None
    assert claims.claim(folder, heart, observer) == 2


def test_who_looks_for_the_first_time_waits_for_all_of_the_patience(root, folder, monkeypatch):
    """Neither another observer's sight nor a time on the file system counts."""
    clock, first = Clock(monkeypatch), Observer(root)
    put_worker(root, "other", host="elsewhere")
    os.utime(root / ".workers" / "other", (1, 1))
    assert first.is_alive("other")
    clock.now += claims.PATIENCE_SECONDS - 0.1
    assert first.is_alive("other")
    clock.now += 0.1
    second = Observer(root)
    assert (first.is_alive("other"), second.is_alive("other")) == (False, True)
    clock.now += claims.PATIENCE_SECONDS
    assert not second.is_alive("other")
    put_worker(root, "other", 1, host="elsewhere")  # it was cut off, and is back
    assert first.is_alive("other")


def test_a_process_of_this_number_here_says_nothing_of_one_elsewhere(root, monkeypatch):
    clock, observer = Clock(monkeypatch), Observer(root)
    put_worker(root, "gone", host="elsewhere", pid=2**22 + 1)
    put_worker(root, "ours", host="elsewhere")
    assert observer.is_alive("gone")
    assert observer.is_alive("ours")
    clock.now += claims.PATIENCE_SECONDS
    assert not observer.is_alive("ours")


def test_a_worker_that_ended_elsewhere_is_dead_at_once(root):
    observer = Observer(root)
    put_worker(root, "other", host="elsewhere")
    assert observer.is_alive("other")
    (root / ".workers" / "other").unlink()
    assert not observer.is_alive("other")


@pytest.mark.parametrize("damage", ["", '{"beat": 1', "[1]", "null", '{"beat": 1, "pid": 3}'])
def test_a_damaged_worker_has_until_its_next_beat(root, monkeypatch, damage):
    clock, observer = Clock(monkeypatch), Observer(root)
    put_worker(root, "other", 7, host="elsewhere")
    assert observer.is_alive("other")
    (root / ".workers" / "other").write_text(damage)
    assert observer.is_alive("other")
    clock.now += claims.PATIENCE_SECONDS - 1
    assert observer.is_alive("other")
    clock.now += 1
    assert not observer.is_alive("other")
    put_worker(root, "other", 8, host="elsewhere")
    assert observer.is_alive("other")


def test_no_time_of_a_file_is_asked_for():
    source = Path(claims.__file__).read_text()
    assert not any(word in source for word in ("stat()", "os.stat", "mtime", "time.time", "utime"))


# Hearts


def test_the_counter_rises_while_the_worker_lives_and_over_trouble(root, monkeypatch):
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.01)
    seen: list[int] = []

    def wait_for_more(path):
        deadline = time.monotonic() + 30
        while len(seen) < 3 or len(set(seen[-3:])) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.005)
            seen.append(json.loads(path.read_text())["beat"])

    with Heart(root).beating() as heart:
        path = root / ".workers" / heart.name
        wait_for_more(path)
        (root / ".workers").rename(root / "away")  # the file system is not there for a while
        time.sleep(0.05)
        (root / "away").rename(root / ".workers")
        last = seen[-1]
        seen.clear()
        wait_for_more(path)
        assert sorted(seen) == seen
        assert seen[-1] > last
    assert not path.exists()


def test_hearts_have_names_of_their_own(root):
    assert len({Heart(root).name for _ in range(50)}) == 50


def test_who_was_robbed_notices_at_the_next_beat(root, folder, monkeypatch):
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.01)
    interruption.withdraw()
    with Heart(root).beating() as heart:
        attempt = claims.claim(folder, heart, Observer(root))
        with heart.holding(folder, attempt):
            time.sleep(0.05)
            assert not heart.was_robbed
            put_claim(folder, attempt + 1, "robber")
            deadline = time.monotonic() + 30
            while not interruption.requested():
                assert time.monotonic() < deadline
            assert heart.was_robbed
        interruption.withdraw()
        time.sleep(0.05)  # what it holds no longer, nobody can take from it
        assert not interruption.requested()
        with heart.holding(folder, attempt + 1):
            assert not heart.was_robbed


# Claims


@pytest.mark.parametrize("torn", ["", '{"worker": "els', "[]", '{"worker": "other"}'])
def test_a_torn_claim_holds_nothing(root, heart, folder, torn):
    folder.mkdir()
    (folder / "claim-1").write_text(torn)
    assert Observer(root).holder(folder) is None
    assert claims.claim(folder, heart, Observer(root)) == 2


def test_a_released_trial_is_free_and_the_attempt_does_not_count(root, heart, folder):
    observer = Observer(root)
    for _ in range(3):
        assert claims.claim(folder, heart, observer) == 1
        claims.release(folder, 1)
        assert observer.holder(folder) is None
    put_claim(folder, 1)
    assert claims.claim(folder, heart, observer) == 2
    assert claims.in_vain(folder, 2) == 1
    claims.release(folder, 2)
    assert claims.claim(folder, heart, observer) == 2
    assert claims.in_vain(folder, 2) == 1


def test_a_failed_attempt_frees_the_trial_and_keeps_its_cause(root, heart, folder):
    observer = Observer(root)
    for attempt in (1, 2, 3):
        assert claims.claim(folder, heart, observer) == attempt
        claims.fail(folder, attempt, f"cause {attempt}\n")
        assert observer.holder(folder) is None
    assert [claims.failure(folder, n) for n in (1, 2, 3, 4)] == [
        *(f"cause {n}\n" for n in (1, 2, 3)),
        None,
    ]


def test_the_tenth_attempt_follows_the_ninth(root, heart, folder):
    for attempt in range(1, 10):
        put_claim(folder, attempt)
    assert claims.claim(folder, heart, Observer(root)) == 10
    assert claims.in_vain(folder, 10) == 9


@pytest.mark.parametrize(
    ("steps", "now", "expected"),
    [
        ([], None, 0),
        ([None, None], None, 2),
        ([None, None, None], 50, 0),  # the last one has come to something
        ([None, None, 50], 50, 1),
        ([None, 50, 50], 50, 2),
        ([50, 50, 100], 100, 1),
        ([None, 50, None], None, 1),  # its checkpoints have been lost in between
    ],
)
def test_attempts_are_in_vain_since_the_last_checkpoint(folder, steps, now, expected):
    folder.mkdir()
    for attempt, step in enumerate(steps, start=1):
        put_claim(folder, attempt, step=step)
    if now is not None:
        put_checkpoint(folder, 1, now)
    put_claim(folder, len(steps) + 1, step=now)
    assert claims.in_vain(folder, len(steps) + 1) == expected


def test_a_claim_notes_the_checkpoint_that_it_starts_from(root, heart, folder):
    observer = Observer(root)
    assert claims.claim(folder, heart, observer) == 1
    claims.fail(folder, 1, "lost")
    assert claims.in_vain(folder, 2) == 1
    put_checkpoint(folder, 1, 5)
    put_checkpoint(folder, 1, 10)
    assert claims.saved_step(folder) == 10
    assert claims.in_vain(folder, 2) == 0
    assert claims.claim(folder, heart, observer) == 2
    claims.fail(folder, 2, "lost")
    assert claims.in_vain(folder, 3) == 1


# Folders of attempts


def test_what_an_attempt_has_left_is_moved_to_the_next(folder):
    folder.mkdir()
    assert claims.work_folder(folder) is None
    first = claims.adopt(folder, 1)
    (first / "log.jsonl").write_text("said\n")
    assert claims.adopt(folder, 1) == first
    second = claims.adopt(folder, 3)
    assert (second, first.exists()) == (folder / "attempt-3", False)
    assert (second / "log.jsonl").read_text() == "said\n"
    assert claims.work_folder(folder) == second
    (folder / "attempt-9" / "checkpoints").mkdir(parents=True)
    tenth = claims.adopt(folder, 10)
    assert (tenth / "checkpoints").is_dir(), "of two the newer, by number and not by name"
    assert claims.adopt(folder, 10) == tenth


def test_a_process_that_was_robbed_can_write_nothing(folder):
    folder.mkdir()
    first = claims.adopt(folder, 1)
    second = claims.adopt(folder, 2)
    with pytest.raises(FileNotFoundError):
        (first / "log.jsonl").write_text("said\n")
    assert not any(second.iterdir())


def test_forget_counts_anew_and_keeps_what_was_saved(root, heart, folder):
    observer = Observer(root)
    for attempt in (1, 2):
        assert claims.claim(folder, heart, observer) == attempt
        claims.fail(folder, attempt, "lost")
        claims.adopt(folder, attempt)
        put_checkpoint(folder, attempt, attempt)
    for _ in range(2):
        claims.forget(folder)
        assert [p.name for p in folder.iterdir()] == ["attempt-0"]
        assert claims.saved_step(folder) == 2
    assert claims.claim(folder, heart, observer) == 1
    assert claims.in_vain(folder, 1) == 0
    assert claims.adopt(folder, 1) == folder / "attempt-1"
    assert claims.saved_step(folder) == 2
