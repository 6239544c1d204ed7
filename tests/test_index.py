"""The index holds what the files hold, whatever has happened to it and to them."""

import json
import math
import random
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from seqlab import index, results
from seqlab.errors import InputError
from seqlab.launch.plan import Plan

VALUES = (0, 1, -7, 2**60, 2**70, 0.5, 1.0, 1e-5, True, False, None, "gru", "1", "é", [1, 2], "")
UPDATERS = 2
ROUNDS = 12
SMALL = "index.SEGMENT_ROWS, index.LARGE, index.MOST_SMALL = 8, 4, 3"
UPDATE = f"""
import sys
from pathlib import Path
from seqlab import index
{SMALL}
folder = Path(sys.argv[1])
seen = {{}}
while not (folder.parent / "stop").exists():
    found = index.table(folder)
    for identity, version in zip(found["trial_id"], found["metrics.version"]):
        assert seen.get(identity, 0) <= version, (identity, seen, version)
        seen[identity] = version
    (folder.parent / sys.argv[2]).touch()
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "experiment"


def put(folder: Path, name: str, /, status: str = "DONE", **changes) -> None:
    row = {"trial_id": name, "config": {}, "status": status, "metrics": {}, "error": None}
    row |= {"wall_seconds": 1.5, "attempts": 1, "provenance": {"git": "abc", "packages": {}}}
    (folder / name).mkdir(parents=True, exist_ok=True)
    assert results.commit(folder / name, row | changes)


def expected(folder: Path) -> dict[str, dict]:
    """What stands in the files, by identity and dotted path, by a walk of one's own."""
    found = {}
    for path in folder.glob("[!.]*/result.json"):
        row = json.loads(path.read_text())
        values = {}
        todo = [("config", row["config"])]
        while todo:
            prefix, part = todo.pop()
            for name, value in part.items():
                if isinstance(value, dict):
                    todo.append((f"{prefix}.{name}", value))
                else:
                    values[f"{prefix}.{name}"] = value
        values |= {f"metrics.{name}": value for name, value in row["metrics"].items()}
        values |= {
            f"provenance.{name}": value
            for name, value in row["provenance"].items()
            if not isinstance(value, dict)
        }
        for name in ("trial_id", "status", "error", "wall_seconds", "attempts"):
            values[name] = row[name]
        found[row["trial_id"]] = values
    return found


def same(shown, value) -> bool:
    """A column holds one kind of value; what is of another kind stands there as text."""
    if isinstance(shown, str) and not isinstance(value, str):
        return json.loads(shown) == value or (
            isinstance(value, float | int) and math.isclose(float(shown), value)
        )
    return shown == value and (shown is None) == (value is None)


def check(folder: Path) -> None:
    """The index agrees with the files, in every value and no other."""
    frame = index.table(folder)
    truth = expected(folder)
    assert frame["trial_id"].to_list() == sorted(truth)
    assert set(frame.columns) >= set().union(*truth.values())
    for row in frame.to_dicts():
        values = truth[row["trial_id"]]
        for name, shown in row.items():
            assert same(shown, values.get(name)), (name, shown, values.get(name))
    found, wanted = index.rows(folder), results.rows(folder.parent, folder.name)
    for numbers in (range(0, len(wanted), 2), range(len(wanted))):
        assert as_written(found.take(numbers)) == as_written(wanted[n] for n in numbers)
    assert as_written(found) == as_written(wanted)


def as_written(rows) -> list[str]:
    """1 is not 1.0, nor True."""
    return [json.dumps(row) for row in rows]


def files(folder: Path) -> list[Path]:
    return sorted((folder / ".index").rglob("*.parquet"))


def make_small(monkeypatch) -> None:
    monkeypatch.setattr(index, "SEGMENT_ROWS", 8)
    monkeypatch.setattr(index, "LARGE", 4)
    monkeypatch.setattr(index, "MOST_SMALL", 3)


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The trials whose results have been opened, in order."""
    opened = []
    read = results.read

    def spy(path: Path):
        opened.append(path.name)
        return read(path)

    monkeypatch.setattr(results, "read", spy)
    return opened


# What it holds


@pytest.mark.parametrize("seed", range(4))
def test_it_holds_what_the_files_hold_however_they_came(folder, monkeypatch, seed):
    """Of any kinds of values; in one go, and as they came, in segments that are merged."""
    make_small(monkeypatch)
    draw = random.Random(seed)
    names = [f"{draw.getrandbits(32):08x}" for _ in range(30)]
    kinds = {name: draw.sample(VALUES, 3) for name in "abcde"}
    for number, name in enumerate(names):
        config = {key: draw.choice(kind) for key, kind in kinds.items() if draw.random() < 0.7}
        config |= {"deep": {"er": {"x": number}, "list": [1, {"a": 2}]}}
        if draw.random() < 0.3:
            config["deep"] = "flat"
        metrics = {"nll": draw.random(), "many": {"a": [number]}, "some": draw.choice(VALUES)}
        status = draw.choice(results.STATUSES)
        put(
            folder,
            name,
            status,
            config=config,
            metrics=metrics,
            error="a\nb" if number % 3 else None,
        )
        if draw.random() < 0.4:
            index.table(folder)
            sizes = [pq.ParquetFile(path).metadata.num_rows for path in files(folder)]
            assert sum(size < index.LARGE for size in sizes) <= index.MOST_SMALL + 1
            assert max(sizes) <= index.SEGMENT_ROWS + index.LARGE
    check(folder)
    came = index.table(folder)
    shutil.rmtree(folder / ".index")
    assert index.table(folder).equals(came)
    check(folder)


def test_what_comes_first_and_what_is_no_single_value(folder):
    put(folder, "a", config={"z": 1, "m": {"n": 2}}, metrics={"many": {"k": [1, 2]}})
    frame = index.table(folder)
    assert frame.columns == [
        *("trial_id", "status", "error", "wall_seconds", "attempts"),
        *("config.m.n", "config.z", "metrics.many", "provenance.git"),
    ]
    assert frame["metrics.many"].to_list() == ['{"k": [1, 2]}']


def test_text_that_is_none_comes_through(folder):
    put(folder, "a", error="no file b\udcff")
    assert list(index.rows(folder)) == results.rows(folder.parent, folder.name)
    assert index.table(folder)["error"].to_list() == ["no file b\\udcff"]


def test_results_of_another_program_come_through(folder):
    (folder / "a").mkdir(parents=True)
    row = {"trial_id": "a", "config": [1], "status": "DONE", "metrics": None}
    (folder / "a" / "result.json").write_text(json.dumps(row))
    assert list(index.rows(folder)) == [row]
    assert index.table(folder).to_dicts() == [
        {"trial_id": "a", "status": "DONE", "error": None, "wall_seconds": None, "attempts": None}
    ]


def test_nothing_is_there_yet(folder):
    for _ in range(2):
        assert index.table(folder).is_empty()
        assert list(index.rows(folder)) == []
        index.leave(folder, ["a"])
        folder.mkdir(exist_ok=True)


def test_load_names_the_experiment(folder, monkeypatch):
    put(folder, "a")
    assert results.load("experiment", str(folder.parent)).equals(index.table(folder))
    monkeypatch.setenv("SEQLAB_RESULTS", str(folder.parent))
    assert results.load("experiment").equals(index.table(folder))
    with pytest.raises(
        InputError, match=r"^no results of 'experimen' .* Did you mean 'experiment'"
    ):
        results.load("experimen")


# What comes and goes


def test_only_what_is_new_is_read(folder, reads):
    for name in "abc":
        put(folder, name)
    index.table(folder)
    assert reads == ["a", "b", "c"]
    reads.clear()
    index.rows(folder)
    assert reads == []
    put(folder, "d")
    (folder / "begun").mkdir()
    index.table(folder)
    assert reads == ["begun", "d"]
    put(folder, "begun")
    reads.clear()
    index.table(folder)
    assert reads == ["begun"]
    check(folder)


def test_what_is_discarded_or_deleted_leaves_and_may_come_again(folder):
    for name in "abcd":
        put(folder, name, metrics={"x": 1})
    index.table(folder)
    shutil.rmtree(folder / "a")
    (folder / "b" / "result.json").unlink()
    index.leave(folder, ["b", "none of its"])
    check(folder)
    assert index.table(folder)["trial_id"].to_list() == ["c", "d"]
    put(folder, "a", metrics={"x": 2})
    put(folder, "b", metrics={"x": 2})
    check(folder)
    assert index.table(folder)["metrics.x"].to_list() == [2, 2, 1, 1]
    shutil.rmtree(folder / "c")
    put(folder, "e")
    check(folder)
    for name in "abde":
        shutil.rmtree(folder / name)
    check(folder)
    put(folder, "a", metrics={"x": 3})
    check(folder)


TAKEN_AWAY = {
    "discarded": lambda plan, trial: plan.forget([trial]),
    "deleted": lambda plan, trial: (plan.folder(trial) / "result.json").unlink(),
    "damaged": lambda plan, trial: (plan.folder(trial) / "result.json").write_text("{"),
    "its folder deleted": lambda plan, trial: shutil.rmtree(plan.folder(trial)),
}


@pytest.mark.parametrize("take", TAKEN_AWAY.values(), ids=TAKEN_AWAY.keys())
def test_a_trial_that_is_run_again_is_shown_as_it_is_now(folder, take, caplog):
    """Whoever runs trials tells the index which ones have no result."""
    trial = {"x": 1}
    experiment = SimpleNamespace()
    plan = Plan(folder.name, experiment, [trial], folder.parent)  # pyright: ignore
    name = plan.folder(trial).name
    put(folder, name, metrics={"x": 1})
    put(folder, "other")
    assert index.table(folder)["metrics.x"].null_count() == 1
    take(plan, trial)
    again = Plan(folder.name, experiment, [trial], folder.parent)  # pyright: ignore
    again.prepare()
    assert index.table(folder)["trial_id"].to_list() == ["other"]
    results.set_aside_damaged(folder / name)
    put(folder, name, metrics={"x": 2})
    check(folder)
    again.prepare()
    check(folder)


def test_results_of_another_directory_are_copied_into_it(folder, reads):
    other = folder.parent / "other" / "experiment"
    for name in "abc":
        put(folder, name)
    for name in "cde":
        put(other, name)
    index.table(folder)
    index.table(other)
    for name in "de":
        shutil.copytree(other / name, folder / name)
    reads.clear()
    check(folder)
    assert reads[:2] == ["d", "e"]
    shutil.copytree(other, folder, dirs_exist_ok=True)  # its index, too
    check(folder)


@pytest.mark.parametrize("indexed", [False, True])
def test_what_was_read_before_it_was_discarded_is_not_written_after(folder, monkeypatch, indexed):
    """Between the reading of a result and the writing of the index it is run again."""
    if indexed:
        put(folder, "b")
        index.table(folder)
    put(folder, "a", metrics={"x": 1})
    read = results.read

    def read_and_run_again(path: Path):
        monkeypatch.setattr(results, "read", read)
        found = read(path)
        (path / "result.json").unlink()
        index.leave(folder, [path.name])
        put(folder, path.name, metrics={"x": 2})
        return found

    monkeypatch.setattr(results, "read", read_and_run_again)
    index.table(folder)
    check(folder)
    assert index.table(folder)["metrics.x"][0] == 2


def test_what_came_while_it_was_read_is_not_taken_for_gone(folder, monkeypatch):
    put(folder, "a")
    index.table(folder)
    segments = index._segments

    def come_and_list(generation: Path):
        monkeypatch.setattr(index, "_segments", segments)
        put(folder, "b")
        index.table(folder)
        return segments(generation)

    monkeypatch.setattr(index, "_segments", come_and_list)
    assert index.table(folder)["trial_id"].to_list() == ["a", "b"]
    assert {path.parent.name for path in files(folder)} == {"1"}


def test_what_was_left_by_killed_processes_is_cleared_away(folder):
    put(folder, "a")
    index.table(folder)
    (folder / ".index" / "1" / ".torn.tmp").write_text("x")
    shutil.copytree(folder / ".index" / "1", folder / ".index" / "2.host-1-abcd")
    index.leave(folder, ["a"])
    check(folder)
    assert [path.name for path in (folder / ".index").iterdir()] == ["2"]


# Damage


def test_any_flipped_byte_and_any_end_of_it_is_seen(folder):
    put(folder, "a", metrics={"x": 0.5})
    index.table(folder)
    (path,) = files(folder)
    whole = path.read_bytes()
    unseen = []
    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << position % 8
        for content in (flipped, whole[:position]):
            path.write_bytes(content)
            if index._read(path) is not None:
                unseen.append(position)
    assert unseen == []
    path.write_bytes(whole)
    assert index._read(path) is not None


def test_a_damaged_index_is_made_again_and_says_so(folder, caplog):
    for name in "abc":
        put(folder, name, metrics={"x": 0.5})
    before = index.table(folder)
    size = files(folder)[0].stat().st_size
    for number, position in enumerate(
        [0, 3, 4, size // 3, size // 2, size - 200, size - 6, size - 1]
    ):
        (path,) = files(folder)
        content = bytearray(path.read_bytes())
        content[position] ^= 255
        path.write_bytes(content if number % 2 else content[:position])
        caplog.clear()
        assert index.table(folder).equals(before)
        (said,) = caplog.messages
        assert said == f"{path} is damaged: its results are read again"
        caplog.clear()
        assert index.table(folder).equals(before)
        assert caplog.messages == []
        check(folder)
        shutil.rmtree(folder / ".index")
        index.table(folder)


def test_a_damaged_file_is_dropped(folder, caplog):
    put(folder, "a")
    index.table(folder)
    files(folder)[0].with_name(f"{'0' * 64}.parquet").write_bytes(b"")
    check(folder)
    assert len(caplog.messages) == 1
    check(folder)
    assert len(caplog.messages) == 1
    assert len(files(folder)) == 1


def test_a_damaged_result_is_named_and_is_in_it_when_it_was_made_again(folder, caplog):
    put(folder, "a")
    put(folder, "b")
    path = folder / "b" / "result.json"
    path.write_text(path.read_text().replace("DONE", "DONE "))
    assert index.table(folder)["trial_id"].to_list() == ["a"]
    assert caplog.messages == [f"{path} is not a whole result, skipped"]
    results.set_aside_damaged(folder / "b")
    put(folder, "b")
    check(folder)


# Where it cannot be written


def refuse(*_, **__):
    raise OSError(30, "Read-only file system")


@pytest.mark.parametrize("before", [False, True])
def test_a_read_only_directory_is_read_all_the_same(folder, monkeypatch, before):
    put(folder, "a")
    if before:
        index.table(folder)
    put(folder, "b")
    names = files(folder)
    monkeypatch.setattr(Path, "mkdir", refuse)
    for _ in range(2):
        check(folder)
    shutil.rmtree(folder / "a")
    check(folder)
    assert files(folder) == names


def test_what_is_gone_and_cannot_leave_is_said_in_one_line(folder, monkeypatch):
    put(folder, "a")
    index.table(folder)
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match=r"^[^\n]*up to date: Read-only file system\. Delete it$"):
        index.leave(folder, ["a"])


# Many at once


def test_processes_that_update_it_at_once_never_make_it_wrong(folder, monkeypatch):
    """While results come, are discarded, and come again, others read, merge and add."""
    make_small(monkeypatch)
    put(folder, "first", metrics={"version": 1})
    updaters = [
        subprocess.Popen(
            [sys.executable, "-c", UPDATE, str(folder), f"ready-{who}"],
            stderr=subprocess.PIPE,
            text=True,
        )
        for who in range(UPDATERS)
    ]
    try:
        while len(list(folder.parent.glob("ready-*"))) < UPDATERS:
            assert all(updater.poll() is None for updater in updaters)
        names = [f"t{number}" for number in range(6)]
        for version in range(1, ROUNDS + 1):
            for name in names:
                put(folder, name, metrics={"version": version})
                shown = index.table(folder).filter(trial_id=name)["metrics.version"].to_list()
                assert shown == [version]
            again = names if version < ROUNDS else []
            for name in again[version % 2 :: 2]:
                (folder / name / "result.json").unlink()
            for name in again[1 - version % 2 :: 2]:
                shutil.rmtree(folder / name)
            index.leave(folder, again)
            assert again == [] or index.table(folder)["trial_id"].to_list() == ["first"]
    finally:
        (folder.parent / "stop").touch()
        said = [updater.communicate(timeout=60)[1] for updater in updaters]
    assert said == [""] * UPDATERS
    check(folder)
    assert set(index.table(folder)["metrics.version"]) == {1, ROUNDS}
