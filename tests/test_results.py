"""The results directory under races, damage and deaths."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seqlab import results
from seqlab.errors import InputError

PROCESSES = 4
RACE = """
import json, sys, time
from pathlib import Path
from seqlab import results
root, kind, who = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
(root / f"ready-{who}").touch()
while not (root / "go").exists():
    pass
won = []
for number in range(int(sys.argv[4])):
    folder = root / "trials" / f"t{number}"
    if kind == "claim":
        taken = results.claim(folder)
        won += [] if taken is None else [(number, taken)]
    else:
        payload = {"trial_id": folder.name, "config": {}, "status": "DONE", "metrics": {"by": who}}
        won += [(number, who)] if results.commit(folder, payload | {"x": [who] * 20_000}) else []
print(json.dumps(won), flush=True)
sys.stdin.read()  # a claim is held by a living process
"""


def race(root: Path, kind: str, rounds: int, meanwhile=lambda: None) -> list[list[int]]:
    """What each of some processes won that went through the same trials at the same time."""
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(root), kind, str(who), str(rounds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for who in range(PROCESSES)
    ]
    try:
        deadline = time.monotonic() + 60
        while len(list(root.glob("ready-*"))) < PROCESSES:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (root / "go").touch()
        meanwhile()
        return [tuple(win) for racer in racers for win in json.loads(racer.stdout.readline())]
    finally:
        for racer in racers:
            racer.communicate()


def claim_of(**owner) -> str:
    return json.dumps({"host": socket.gethostname()} | owner)


def result(folder: Path, **changes) -> dict:
    whole = {"trial_id": folder.name, "config": {}, "status": "DONE", "metrics": {"a": 0.1 + 0.2}}
    return whole | changes


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "experiment" / "0123456789abcdef"
    path.mkdir(parents=True)
    return path


# Results


def test_of_racing_commits_one_wins_and_no_reader_sees_a_part(tmp_path):
    rounds = 40
    folders = [tmp_path / "trials" / f"t{number}" for number in range(rounds)]
    for folder in folders:
        folder.mkdir(parents=True)

    def read_until_all_are_there():
        deadline = time.monotonic() + 60
        missing = set(folders)
        while missing:
            assert time.monotonic() < deadline
            for folder in list(missing):
                try:
                    text = (folder / "result.json").read_text()
                except FileNotFoundError:
                    continue
                json.loads(text)
                missing.remove(folder)

    won = race(tmp_path, "commit", rounds, read_until_all_are_there)
    assert sorted(number for number, _ in won) == list(range(rounds))
    for number, who in won:
        assert results.read(folders[number])["metrics"] == {"by": who}
        assert [path.name for path in folders[number].iterdir()] == ["result.json"]


def test_a_result_comes_back_as_it_was_and_is_never_written_over(folder):
    first = result(folder, config={"a": [1, None, "é"]}, metrics={"nll": 1 / 3, "n": 2**60})
    assert results.commit(folder, first)
    assert not results.commit(folder, result(folder, status="FAILED"))
    assert results.read(folder) == first
    assert results.load(folder.parent.parent, "experiment") == [first]


DAMAGE = {
    "empty": b"",
    "cut in half": b'{"trial_id": "0123456789abcdef", "config": {"se',
    "not text": b"\xff\xfe\x00\x01",
    "not a dict": b"[1, 2]",
    "null": b"null",
    "another trial's": json.dumps(result(Path("fedcba9876543210"))).encode(),
    "no metrics": b'{"trial_id": "0123456789abcdef", "config": {}, "status": "DONE"}',
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_result_counts_as_missing_and_makes_way_for_a_new_one(folder, damage):
    (folder / "result.json").write_bytes(damage)
    assert results.read(folder) is None
    assert results.load(folder.parent.parent, "experiment") == []
    results.set_aside_damaged(folder)
    assert (folder / "result.json.damaged").read_bytes() == damage
    assert results.commit(folder, result(folder))
    results.set_aside_damaged(folder)
    assert results.read(folder) == result(folder)


def test_load_gives_the_whole_results_in_the_order_of_their_identities(tmp_path):
    names = ["c0", "a0", "b0", "b1"]
    for name in names:
        (tmp_path / "e" / name).mkdir(parents=True)
        results.commit(tmp_path / "e" / name, result(tmp_path / "e" / name))
    (tmp_path / "e" / "b0" / "result.json").write_text("{")
    (tmp_path / "e" / "a file").touch()
    (tmp_path / "e" / "unfinished").mkdir()
    assert [row["trial_id"] for row in results.load(tmp_path, "e")] == ["a0", "b1", "c0"]
    assert results.load(tmp_path, "other") == []


def test_discard_forgets_result_and_attempts_and_keeps_checkpoints(folder):
    results.claim(folder)
    results.commit(folder, result(folder))
    (folder / "checkpoints" / "3").mkdir(parents=True)
    (folder / "log.jsonl").write_text("{}\n")
    results.discard(folder)
    assert sorted(p.name for p in folder.iterdir()) == ["checkpoints", "log.jsonl"]
    assert results.claim(folder) == 1


# Claims


def test_of_racing_claims_one_wins(tmp_path):
    rounds = 300
    won = race(tmp_path, "claim", rounds)
    assert sorted(won) == [(number, 1) for number in range(rounds)]


def test_the_claims_of_the_dead_are_taken_over_once(tmp_path):
    rounds = 100
    for number in range(rounds):
        folder = tmp_path / "trials" / f"t{number}"
        folder.mkdir(parents=True)
        (folder / "claim-1").write_text(claim_of(pid=os.getpid(), started="1"))
    won = race(tmp_path, "claim", rounds)
    assert sorted(won) == [(number, 2) for number in range(rounds)]


def claim_in_a_child(folder: Path) -> subprocess.Popen:
    script = "import sys, pathlib; from seqlab import results; "
    script += "print(results.claim(pathlib.Path(sys.argv[1])), flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "1\n"
    return child


def test_a_claim_lasts_as_long_as_its_process(folder):
    assert not results.is_running(folder)
    child = claim_in_a_child(folder)
    assert results.is_running(folder)
    assert results.claim(folder) is None
    child.kill()
    child.communicate()
    assert not results.is_running(folder)
    assert results.claim(folder) == 2
    assert results.is_running(folder)
    assert results.claim(folder) is None


def test_a_killed_process_that_nobody_waited_for_is_dead(folder):
    child = claim_in_a_child(folder)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
    assert Path(f"/proc/{child.pid}").exists()
    assert results.claim(folder) == 2
    child.communicate()


def test_a_process_with_the_same_number_is_not_the_same(folder):
    (folder / "claim-1").write_text(claim_of(pid=os.getpid(), started="1"))
    assert not results.is_running(folder)
    assert results.claim(folder) == 2


def test_a_process_on_another_host_is_taken_to_be_alive(folder):
    owner = {"host": "elsewhere", "pid": os.getpid(), "started": "1"}
    (folder / "claim-1").write_text(json.dumps(owner))
    assert results.is_running(folder)
    assert results.claim(folder) is None


def test_a_torn_claim_holds_nothing(folder):
    (folder / "claim-1").write_text('{"host": "els')
    assert not results.is_running(folder)
    assert results.claim(folder) == 2


def test_a_released_trial_is_free_and_the_attempt_does_not_count(folder):
    for _ in range(3):
        assert results.claim(folder) == 1
        results.release(folder, 1)
        assert not results.is_running(folder)
    (folder / "claim-1").write_text(claim_of(pid=os.getpid(), started="1"))
    assert results.claim(folder) == 2
    results.release(folder, 2)
    assert results.claim(folder) == 2


def test_the_tenth_attempt_follows_the_ninth(folder):
    for attempt in range(1, 10):
        (folder / f"claim-{attempt}").write_text(claim_of(pid=os.getpid(), started="1"))
    assert results.claim(folder) == 10
    assert results.claim(folder) is None


# The directory


def test_the_root_is_what_was_asked_for_or_the_variable_or_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEQLAB_RESULTS", str(tmp_path / "variable"))
    asked = {str(tmp_path / "asked" / "for"): "asked/for", "relative": "relative", None: "variable"}
    for directory, expected in asked.items():
        assert results.named_root(directory) == tmp_path / expected
    assert not any(tmp_path.iterdir()), "naming it makes nothing"
    for directory, expected in asked.items():
        assert results.writable_root(directory, "some") == tmp_path / expected
        assert [p.name for p in (tmp_path / expected).rglob("*")] == ["some"]
    monkeypatch.delenv("SEQLAB_RESULTS")
    assert results.named_root(None) == tmp_path / "results"


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_root_that_cannot_be_written_is_refused_in_one_line(tmp_path, below):
    (tmp_path / "file").write_text("in the way")
    root = tmp_path / "file" / below
    with pytest.raises(InputError) as caught:
        results.writable_root(str(root), "some")
    assert str(root) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc", ".hidden", "-x", "a b", "a\n", "a\0", "é"]
)
def test_names_that_could_leave_the_root_are_refused(tmp_path, name):
    for names in ((name, "0123"), ("experiment", name)):
        with pytest.raises(InputError, match="is not a name"):
            results.trial_folder(tmp_path, *names)


def test_a_trials_folder_lies_two_below_the_root(tmp_path):
    assert results.trial_folder(tmp_path, "a_b", "01") == tmp_path / "a_b" / "01"


# Selection


def rows() -> list[dict]:
    return [
        {"config": {"kind": "Trial", "model": {"cell": cell, "rate": rate}, "seed": seed}}
        for cell in ("gru", "lstm")
        for rate in (None, 0.5)
        for seed in (0, 1)
    ]


def test_select_keeps_the_rows_that_meet_every_condition():
    kept = results.select(rows(), ["model.cell=gru,lstm", "seed=1"])
    assert [(r["config"]["model"]["cell"], r["config"]["seed"]) for r in kept] == [
        ("gru", 1),
        ("gru", 1),
        ("lstm", 1),
        ("lstm", 1),
    ]
    assert results.select(rows(), ["model.rate=0.5", "seed=0", "model.cell=gru"]) == [rows()[2]]
    assert results.select(rows(), []) == rows()


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("model.cell=gur", "no result has model.cell=gur. Did you mean 'gru'?"),
        ("model.cel=gru", "no result has model.cel=gru."),
        ("seed=0,7", "no result has seed=7."),
        ("seed", "'seed' is not of the form path=value"),
        ("seed.deeper=0", "no result has seed.deeper=0."),
    ],
)
def test_select_refuses_what_matches_nothing(condition, message):
    with pytest.raises(InputError) as caught:
        results.select(rows(), [condition])
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_select_leaves_out_rows_without_the_field():
    other = {"config": {"seed": 0}}
    assert results.select([*rows(), other], ["model.cell=gru"]) == rows()[:4]
