"""The results directory under races and damage."""

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from seqlab import results
from seqlab.errors import InputError

PROCESSES = 4
COMMIT = """
import json, sys
from pathlib import Path
from seqlab import results
root, who = Path(sys.argv[1]), int(sys.argv[2])
(root / f"ready-{who}").touch()
while not (root / "go").exists():
    pass
won = []
for number in range(int(sys.argv[3])):
    folder = root / "trials" / f"t{number}"
    payload = {"trial_id": folder.name, "config": {}, "status": "DONE", "metrics": {"by": who}}
    won += [(number, who)] if results.commit(folder, payload | {"x": [who] * 20_000}) else []
print(json.dumps(won))
"""


def race(root: Path, rounds: int, meanwhile) -> list[tuple[int, int]]:
    """What each of some processes won that committed the same trials at the same time."""
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", COMMIT, str(root), str(who), str(rounds)],
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
    finally:
        said = [racer.communicate()[0] for racer in racers]
    return [tuple(win) for text in said for win in json.loads(text)]


def result(folder: Path, **changes) -> dict:
    whole = {"trial_id": folder.name, "config": {}, "status": "DONE", "metrics": {"a": 0.1 + 0.2}}
    return whole | changes


def sha256_of(row: dict) -> str:
    """As it would be checked by hand: of the file without the line of the digest."""
    text = json.dumps(row, indent=1, sort_keys=True) + "\n"
    return hashlib.sha256(text.encode()).hexdigest()


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

    won = race(tmp_path, rounds, read_until_all_are_there)
    assert sorted(number for number, _ in won) == list(range(rounds))
    for number, who in won:
        assert results.read(folders[number])["metrics"] == {"by": who}
        assert [path.name for path in folders[number].iterdir()] == ["result.json"]


def test_a_result_comes_back_as_it_was_and_is_never_written_over(folder):
    first = result(folder, config={"a": [1, None, "é"]}, metrics={"nll": 1 / 3, "n": 2**60})
    assert results.commit(folder, first)
    assert not results.commit(folder, result(folder, status="FAILED"))
    (row,) = results.rows(folder.parent.parent, "experiment")
    assert results.read(folder) == row
    assert row.pop("sha256") == sha256_of(first)
    assert row == first


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
    assert results.rows(folder.parent.parent, "experiment") == []
    results.set_aside_damaged(folder)
    assert (folder / "result.json.damaged").read_bytes() == damage
    assert results.commit(folder, result(folder))
    results.set_aside_damaged(folder)
    assert results.read(folder) == result(folder) | {"sha256": sha256_of(result(folder))}


def test_any_flipped_bit_of_a_result_is_seen(folder):
    """Of one that a worker has committed: it says where it comes from."""
    results.commit(folder, result(folder, provenance={"git": "abc"}, error="tränen"))
    path = folder / "result.json"
    whole = path.read_bytes()
    assert results.read(folder) is not None
    unseen = []
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        if results.read(folder) is not None:
            unseen.append(bit)
    assert unseen == []
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        assert results.read(folder) is None
    path.write_bytes(whole + b"\n")
    assert results.read(folder) is None
    path.write_bytes(whole)
    assert results.read(folder) is not None


def test_a_result_of_another_program_is_read_as_it_is(folder):
    """It has the fields that tables need, and no digest."""
    (folder / "result.json").write_text(json.dumps(result(folder), indent=4))
    assert results.read(folder) == result(folder)
    (folder / "result.json").write_text(json.dumps(result(folder) | {"sha256": "0" * 64}))
    assert results.read(folder) is None


def test_the_digest_of_results_is_of_what_was_found(folder):
    def digest(*changes, order=1):
        rows = [result(Path(name), **changed) for name, changed in zip("ab", changes, strict=True)]
        return results.digest(rows[::order])

    quick = {"metrics": {"nll": 0.1, "seconds_per_step": 1.0}, "error": None, "wall_seconds": 2.0}
    slow = {"metrics": {"nll": 0.1, "seconds_per_step": 9.0}, "error": "x", "wall_seconds": 3.0}
    other = {"metrics": {"nll": np.nextafter(0.1, 1), "seconds_per_step": 1.0}}
    failed = quick | {"status": "FAILED"}
    assert digest(quick, quick) == digest(slow, quick, order=-1)
    assert len({digest(quick, it) for it in (quick, other, failed)}) == 3
    assert digest(quick, other) != digest(other, quick)


def test_load_gives_the_whole_results_in_the_order_of_their_identities(tmp_path):
    names = ["c0", "a0", "b0", "b1"]
    for name in names:
        (tmp_path / "e" / name).mkdir(parents=True)
        results.commit(tmp_path / "e" / name, result(tmp_path / "e" / name))
    (tmp_path / "e" / "b0" / "result.json").write_text("{")
    (tmp_path / "e" / "a file").touch()
    (tmp_path / "e" / "unfinished").mkdir()
    assert [row["trial_id"] for row in results.rows(tmp_path, "e")] == ["a0", "b1", "c0"]
    assert results.rows(tmp_path, "other") == []


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
