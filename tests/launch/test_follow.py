"""What --follow shows, against what was written; that it reads only what is new, and ends."""

import io
import itertools
import json
import os
import random
import re
import shutil
import signal
import struct
import termios
import threading
from dataclasses import dataclass, field
from fcntl import ioctl
from pathlib import Path

import pytest
from rich.console import Console

from seqlab import cli, interruption, results
from seqlab.launch import claims, follow, status
from seqlab.launch.claims import Heart
from seqlab.launch.follow import BARS, Follower, Varying, sparkline, to_text
from seqlab.launch.plan import Plan
from seqlab.launch.tail import Tail
from seqlab.trial import as_dict, trial_id


@dataclass(frozen=True)
class Model:
    cell: str = "gru"
    width: int = 8


@dataclass(frozen=True)
class Optim:
    width: int = 3
    rate: float = 0.1


@dataclass(frozen=True)
class Trial:
    model: Model = field(default_factory=Model)
    optim: Optim = field(default_factory=Optim)
    seed: int = 0


class Fake:
    __name__ = "fake"


CELLS = ("rnn", "lstm", "gru", "mut1", "mut2", "mut3", "mut4", "mut5")
TRIALS = [Trial(Model(cell), seed=seed) for cell in CELLS for seed in (1, 2)]


@pytest.fixture
def plan(tmp_path):
    return Plan("fake", Fake(), TRIALS, tmp_path)


@pytest.fixture
def heart(plan):
    with Heart(plan.root / plan.name).beating() as heart:
        yield heart


def commit(plan: Plan, trial: Trial, outcome: str = "DONE", error: str | None = None) -> None:
    identity, folder = trial_id(trial), plan.folder(trial)
    folder.mkdir(parents=True, exist_ok=True)
    result = {"trial_id": identity, "config": as_dict(trial), "status": outcome, "metrics": {}}
    results.commit(folder, result | {"error": error, "wall_seconds": 12.4})


def begin(plan: Plan, trial: Trial, worker: str, attempt: int = 1) -> Path:
    """Claim a trial; returns the folder of its log."""
    folder = plan.folder(trial)
    kept = folder / f"attempt-{attempt}"
    kept.mkdir(parents=True)
    (folder / f"claim-{attempt}").write_text(json.dumps({"worker": worker, "step": None}))
    return kept


def append(kept: Path, *lines: dict) -> None:
    with open(kept / "log.jsonl", "a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


# The tail of a log


@pytest.mark.parametrize("seed", range(20))
def test_a_log_is_read_as_it_is_however_it_grows_and_is_cut_back(tmp_path, seed):
    """At every look, the lines since the last beginning are the whole lines of the file."""
    draw = random.Random(seed)
    path, serial, pending, seen = tmp_path / "log.jsonl", itertools.count(), b"", []
    tail = Tail(path)
    assert tail.read() == (False, [])
    for _ in range(200):
        action = draw.random()
        content = path.read_bytes() if path.exists() else b""
        if action < 0.5:  # some bytes of a line
            pending = (
                pending
                or (json.dumps({"n": next(serial), "x": "x" * draw.randrange(9)}) + "\n").encode()
            )
            cut = draw.randrange(1, len(pending) + 1)
            path.write_bytes(content + pending[:cut])
            pending = pending[cut:]
        elif action < 0.55:  # a resumption
            lines = content.splitlines(keepends=True)
            path.write_bytes(b"".join(lines[: draw.randrange(len(lines) + 1)]))
            if not path.read_bytes().endswith(b"\n"):
                path.write_bytes(b"")
            pending = b""
        elif action < 0.57:
            path.unlink(missing_ok=True)
            pending = b""
        else:
            anew, lines = tail.read()
            seen = lines if anew else seen + lines
            whole = [json.loads(line) for line in content.splitlines(True) if line[-1:] == b"\n"]
            if whole:
                assert seen == whole


def test_only_what_is_new_is_read(tmp_path):
    path = tmp_path / "log.jsonl"
    append(tmp_path, *({"n": n} for n in range(100)))
    tail = Tail(path)
    assert tail.read() == (True, [{"n": n} for n in range(100)])
    content = path.read_bytes()
    path.write_bytes(b"?" * 500 + content[500:])  # nobody would look there again
    append(tmp_path, {"n": 100})
    assert tail.read() == (False, [{"n": 100}])
    assert tail.read() == (False, [])


def test_lines_that_are_no_objects_are_skipped(tmp_path):
    (tmp_path / "log.jsonl").write_bytes(b'{"n": 1}\n[2]\n{"n"\n\xff\xfe\n\n{"n": 3}\n{"n": 4')
    assert Tail(tmp_path / "log.jsonl").read() == (True, [{"n": 1}, {"n": 3}])


# The curve


@pytest.mark.parametrize("seed", range(10))
def test_a_curve_keeps_the_order_of_its_values(seed):
    draw = random.Random(seed)
    values = [draw.gauss(0, 10 ** draw.randrange(-3, 4)) for _ in range(draw.randrange(2, 21))]
    bars = [BARS.index(bar) for bar in sparkline(values, 20)]
    assert len(bars) == len(values)
    assert (min(bars), max(bars)) == (0, 7)
    spread = max(values) - min(values)
    for value, bar in zip(values, bars, strict=True):
        assert abs((value - min(values)) / spread - (bar + 0.5) / 8) <= 1 / 16 + 1e-9


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ""),
        ([3.0], "▁"),
        ([2.0, 2.0, 2.0], "▁▁▁"),
        ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
        ([7, 6, 5, 4, 3, 2, 1, 0], "█▇▆▅▄▃▂▁"),
        ([1.0, float("nan"), 2.0, float("inf")], "▁█"),
        ([float("nan")], ""),
        ([0, 100, 50, 50, 100, 100, 0, 0], "▅▅█▁"),
    ],
)
def test_curves_that_can_be_said_beforehand(values, expected):
    assert sparkline(values, 4 if len(values) == 8 and 100 in values else 20) == expected


def test_a_long_curve_is_the_means_of_equal_shares():
    values = [n // 10 for n in range(80)]
    assert sparkline(values, 8) == BARS
    assert len(sparkline([float(n) for n in range(1003)], 20)) == 20


# What tells trials apart


def test_trials_are_told_apart_by_what_varies_alone():
    varying = Varying()
    varying.add({trial_id(trial): trial for trial in TRIALS})
    assert varying.text(TRIALS[7]) == "cell=mut1 seed=2"
    odd = Trial(Model("gru", 9), Optim(4, 1 / 3), 1)
    varying.add({trial_id(odd): odd})
    assert varying.text(odd) == "cell=gru model.width=9 optim.width=4 rate=0.3333 seed=1"
    assert len({varying.text(trial) for trial in [*TRIALS, odd]}) == len(TRIALS) + 1


def test_kinds_of_parts_are_named_by_the_part_and_fields_of_one_kind_do_not_vary():
    @dataclass(frozen=True)
    class Xml:
        length: int = 7

    @dataclass(frozen=True)
    class Ptb:
        words: int = 9

    @dataclass(frozen=True)
    class OnData:
        data: Xml | Ptb

    varying = Varying()
    varying.add({"a": OnData(Xml()), "b": OnData(Ptb())})
    assert [varying.text(OnData(data)) for data in (Xml(), Ptb())] == ["data=Xml", "data=Ptb"]


# A look


def test_a_running_trial_is_one_line_of_all_that_is_known(plan, heart):
    kept = begin(plan, TRIALS[7], heart.name, attempt=3)
    append(
        kept,
        *({"step": n, "train_loss": 8.0 - n, "seconds": 0.5, "sums": {"a": 1}} for n in range(8)),
    )
    follower = Follower({"smoke": plan}, False)
    frame = follower.look()
    host = heart.name.rsplit("-", 2)[0]
    row = [trial_id(TRIALS[7]), "cell=mut1 seed=2", f"{host}:{os.getpid()}", "attempt 3", "step 7"]
    assert frame.running == [(*row, "train_loss 1 seconds 0.5", "train_loss █▇▆▅▄▃▂▁")]
    assert frame.missing
    append(kept, {"step": 8, "epoch": 1, "train_loss": 4.5, "valid_accuracy": 0, "valid_nll": 2.0})
    *_, numbers, curve = follower.look().running[0]
    assert numbers == "train_loss 4.5 valid_nll 2 epoch 1 valid_accuracy 0 seconds 0.5"
    assert curve.startswith("train_loss ")
    append(kept, {"step": 9, "train_loss": 3.25, "seconds": 0.25})
    append(kept, {"step": 10, "epoch": 2, "valid_accuracy": 1, "valid_nll": 1.0})
    *_, step, numbers, curve = follower.look().running[0]
    assert step == "step 10"
    assert numbers == "train_loss 3.25 valid_nll 1 epoch 2 valid_accuracy 1 seconds 0.25"
    assert curve == "valid_nll █▁"


def test_a_torn_line_is_shown_once_it_is_whole(plan, heart):
    kept = begin(plan, TRIALS[0], heart.name)
    append(kept, {"step": 1, "train_loss": 2.0})
    follower = Follower({"smoke": plan}, False)
    line = json.dumps({"step": 2, "train_loss": 1.0}) + "\n"
    for cut in range(1, len(line) + 1):
        with open(kept / "log.jsonl", "a") as file:
            file.write(line[cut - 1])
        assert follower.look().running[0][4] == ("step 2" if cut == len(line) else "step 1")


def test_a_trial_that_is_taken_over_is_shown_with_its_next_attempt(plan, heart):
    kept = begin(plan, TRIALS[0], heart.name)
    append(kept, *({"step": n, "train_loss": 1.0 * n} for n in range(1, 9)))
    follower = Follower({"smoke": plan}, False)
    assert follower.look().running[0][4] == "step 8"
    folder = plan.folder(TRIALS[0])
    (folder / "claim-2").write_text(json.dumps({"worker": heart.name, "step": 3}))
    assert follower.look().running[0][3:5] == ("attempt 2", "step 8")
    kept = kept.rename(folder / "attempt-2")
    (kept / "log.jsonl").write_text("")
    append(kept, {"step": 1, "train_loss": 5.0}, {"step": 2, "train_loss": 4.0})
    row = follower.look().running[0]
    assert row[3:] == ("attempt 2", "step 2", "train_loss 4", "train_loss █▁")


def test_what_has_no_log_yet_or_has_vanished_is_no_trouble(plan, heart, monkeypatch):
    for trial in TRIALS[:3]:
        begin(plan, trial, heart.name)
    shutil.rmtree(plan.folder(TRIALS[1]) / "attempt-1")
    follower = Follower({"smoke": plan}, False)
    assert [row[4:] for row in follower.look().running] == [("", "", "")] * 3
    see = status.see

    def vanishing(*arguments):
        seen = see(*arguments)
        shutil.rmtree(plan.folder(TRIALS[0]))
        return seen

    monkeypatch.setattr(status, "see", vanishing)
    assert [row[0] for row in follower.look().running] == [trial_id(t) for t in TRIALS[:3]]


def test_a_worker_elsewhere_that_is_silent_is_shown_as_silent_until_it_counts_as_dead(
    plan, monkeypatch
):
    clock = [1000.0]
    monkeypatch.setattr(claims.time, "monotonic", lambda: clock[0])
    far = "far-node-12-0123abcd"
    heartbeat = plan.root / plan.name / claims.WORKERS / far
    heartbeat.parent.mkdir(parents=True)
    worker = {"beat": 1, "host": "far-node", "boot": "b", "space": "s", "pid": 12, "started": "1"}
    heartbeat.write_text(json.dumps(worker))
    begin(plan, TRIALS[0], far)
    follower = Follower({"smoke": plan}, False)
    shown = []
    for clock[0] in (1000.0, 1010.0, 1080.0, 1119.0, 1121.0):
        shown.append([row[2] for row in follower.look().running])
    assert shown == [
        ["far-node:12"],
        ["far-node:12"],
        ["far-node:12 silent for 80 s"],
        ["far-node:12 silent for 119 s"],
        [],
    ]
    heartbeat.write_text(json.dumps(worker | {"beat": 2}))
    assert [row[2] for row in follower.look().running] == ["far-node:12"]


def test_the_trials_that_finished_last_are_named_with_their_end(plan):
    for n, trial in enumerate(TRIALS[:7]):
        commit(plan, trial)
        os.utime(plan.folder(trial) / "result.json", ns=(n, 100 - n))  # the first is the newest
    follower = Follower({"smoke": plan}, False)
    expected = [(trial_id(t), TRIALS.index(t)) for t in TRIALS[4::-1]]
    assert [row[0] for row in follower.look().latest] == [i for i, _ in expected]
    commit(plan, TRIALS[9], "FAILED", "Traceback\nValueError: a bug\n")
    latest = follower.look().latest
    assert [row[0] for row in latest] == [i for i, _ in expected[1:]] + [trial_id(TRIALS[9])]
    assert latest[-1][1:] == ("cell=mut2 seed=2", "FAILED", "12 s", "ValueError: a bug")
    assert follower.look().latest == latest


def test_budgets_not_begun_are_left_out_and_do_not_keep_it_waiting(plan):
    other = Plan("fake", Fake(), [Trial(seed=77)], plan.root)
    follower = Follower({"smoke": plan, "paper": other}, True)
    assert follower.look().missing  # nothing is begun, so there is something to wait for
    for trial in TRIALS:
        commit(plan, trial)
    frame = follower.look()
    assert [row["budget"] for row in frame.counts.rows] == ["smoke"]
    assert not frame.missing
    assert Follower({"smoke": plan, "paper": other}, False).look().missing


# The command


def test_plain_blocks_say_everything_and_the_end_comes_by_itself(plan, heart, monkeypatch):
    running = begin(plan, TRIALS[3], heart.name)
    append(running, {"step": 5, "train_loss": 2.5})
    for trial in TRIALS[:3]:
        commit(plan, trial)
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 2:
            for trial in TRIALS[3:]:
                commit(plan, trial)

    monkeypatch.setattr(follow.time, "sleep", sleep)
    output = io.StringIO()
    follow.follow({"smoke": plan}, False, Console(file=output))
    assert len(slept) == 2
    assert min(slept) >= follow.REFRESH_SECONDS
    first, last = re.split(r"(?m)^(?=fake in )", output.getvalue())[1:]  # 30 s have not passed
    assert re.search(r"smoke +16 +3 +1 +12\n", first)
    (line,) = [line for line in first.splitlines() if trial_id(TRIALS[3]) in line]
    assert line.split()[1:3] == ["cell=lstm", "seed=2"]
    assert line.endswith("attempt 1  step 5  train_loss 2.5  train_loss ▁")
    assert all(f"{trial_id(trial)}  " in first for trial in TRIALS[:3])
    assert re.search(r"smoke +16 +16\n", last)
    assert "running" not in last
    assert "\x1b" not in output.getvalue()
    assert all(line == line.rstrip() for line in output.getvalue().splitlines())


@pytest.mark.parametrize("number", interruption.SIGNALS)
def test_ctrl_c_ends_it_with_0_and_changes_nothing(tmp_path, monkeypatch, capsys, number):
    before = [signal.getsignal(n) for n in (*interruption.SIGNALS, signal.SIGHUP)]
    monkeypatch.setattr(follow.time, "sleep", lambda seconds: signal.raise_signal(number))
    arguments = ["status", "mut_vs_lstm_gru", "--budget", "smoke", "--follow"]
    try:
        code = cli.main([*arguments, "--results-dir", str(tmp_path / "none")])
    finally:
        for n, handler in zip((*interruption.SIGNALS, signal.SIGHUP), before, strict=True):
            signal.signal(n, handler)
        interruption.withdraw()
    said = capsys.readouterr()
    assert (code, said.err) == (0, "")
    assert said.out.startswith("mut_vs_lstm_gru in ")
    assert list(tmp_path.iterdir()) == []


def test_other_formats_are_refused_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(interruption, "listen", lambda: None)
    for format in set(cli.FORMATS) - {"text"}:
        code = cli.main(["status", "mut_vs_lstm_gru", "--follow", "--format", format])
        said = capsys.readouterr()
        assert (code, said.out) == (2, "")
        assert said.err.count("\n") == 1
        assert f"--format {format}" in said.err


@pytest.mark.parametrize("size", [(80, 24), (160, 12)])
def test_a_terminal_is_never_overfull(plan, heart, monkeypatch, size):
    columns, lines = size
    for trial in TRIALS[:12]:
        kept = begin(plan, trial, heart.name)
        append(kept, {"step": 1234, "train_loss": 1 / 3, "a_long_name_of_a_number": 1e-9})
    for trial in TRIALS[12:]:
        commit(plan, trial)
    drawn = b""
    leader, follower = os.openpty()
    ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read():
        nonlocal drawn
        while not drawn.endswith(b"\x04"):
            drawn += os.read(leader, 65536)

    reader = threading.Thread(target=read)
    reader.start()
    monkeypatch.setenv("TERM", "xterm")
    for name in ("COLUMNS", "LINES", "NO_COLOR", "TTY_INTERACTIVE", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(follow.time, "sleep", interrupt)
    with open(follower, "w") as terminal:
        follow.follow({"smoke": plan}, False, Console(file=terminal, width=columns, height=lines))
        terminal.write("\x04")
        terminal.flush()
        reader.join()
    os.close(leader)
    assert b"\x1b[?25l" in drawn  # drawn live: without the cursor
    last = drawn.decode().rpartition("fake in ")[2]
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", last).rstrip("\x04").splitlines()
    assert len(plain) <= lines
    assert max(map(len, plain)) <= columns
    trials = [line for line in plain if "step 1234" in line]
    assert len(trials) + int(re.search(r"and (\d+) more", last)[1]) == 12
    assert all(re.match(r"[0-9a-f]{16} .*attempt 1.*▁", line) for line in trials)
    assert sum("DONE" in line for line in plain) == (4 if lines > 12 else 0)


def test_a_frame_of_nothing_is_its_counts(plan):
    lines = to_text(Follower({"smoke": plan}, False).look()).splitlines()
    assert len(lines) == 4
    assert lines[-1].split() == ["smoke", "16", "16"]
