"""What is refused, in one line and before any work; and what the product never does."""

import ast
import json
import os
import pickle
import shutil
import sys
import time
from pathlib import Path

import psutil
import pytest
from fault_grid import (
    NAME,
    REPOSITORY,
    Door,
    finish,
    folders,
    rows_of,
    trials_with_one_result,
    words,
)

from seqlab import results
from seqlab.errors import InputError

pytestmark = pytest.mark.fault

SOURCE = sorted(
    path
    for part in ("seqlab", "experiments")
    for path in (REPOSITORY / part).rglob("*.py")
)  # fmt: skip
SOURCE.append(REPOSITORY / "launch.py")


def assert_one_line(done, *parts: str):
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    for part in parts:
        assert part in done.err


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.fault("14", "other code, other data, another setting or seed for what was begun")
def test_a_trial_begun_with_other_code_or_data(
    tree, compiled, begun, undisturbed, measured, tmp_path
):
    changed = tmp_path / "changed"
    shutil.copytree(tree, changed)
    with open(changed / "seqlab" / "losses.py", "a") as file:
        file.write("\n# changed\n")
    door = Door(changed, compiled, tmp_path / "around")
    before = files_below(begun)
    for command in (["run", *words(1, "gru"), "--workers", "1"], ["work", *words(1, "gru")]):
        refused = door.run(*command, root=begun)
        assert_one_line(refused, "the code has changed", " then, ", " now", "--allow-changes")
        assert files_below(begun) == before

    (data,) = (begun / NAME).glob("*/attempt-1/data_sha256")
    data.write_text("0" * 64)
    same_code = Door(tree, compiled, tmp_path / "around")
    other_data = same_code.run("work", *words(1, "gru"), root=begun)
    assert_one_line(other_data, "the data have changed", "0000000000000000 then")

    other = same_code.run("work", *words(1, "gru", optim__clip_norm="9"), root=begun)
    assert (other.code, other.err) == (0, "")
    assert len(rows_of(begun)) == 1, "another setting is another trial, which goes on with nothing"
    assert rows_of(begun).keys().isdisjoint(undisturbed.rows)
    shutil.rmtree(begun / NAME / next(iter(rows_of(begun))))

    allowed = door.run("work", *words(1, "gru"), "--allow-changes", root=begun)
    assert (allowed.code, allowed.err) == (0, "")
    measured.trials = trials_with_one_result(begun, 1)
    assert undisturbed.same(begun, 1)
    measured.digest = "yes, after --allow-changes"
    measured.said = refused.last


# Never


def calls(path: Path) -> set[str]:
    """Dotted names of what a file calls, and of the keywords it calls it with."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            found |= {name} | {f"{name} {ast.unparse(k)}" for k in node.keywords if k.arg}
    return found


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


TELLS_TIMES = {"follow.py"}  # it shows a spectator what has finished last
UNSAFE = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "compile", "yaml.load", "yaml.unsafe_load", "os.system", "os.popen"}
CLOCKS_AND_LOCKS = {"sqlite3", "fcntl", "filelock", "portalocker"}
OF_FILES = (
    "st_mtime",
    "st_ctime",
    "getmtime",
    "getctime",
    "st_atime",
    "os.utime",
    "flock",
    "lockf",
)


@pytest.mark.fault("16", "nothing is unpickled or evaluated, in any file of the source")
def test_source_reads_no_code_from_data(measured):
    for path in SOURCE:
        assert imports(path).isdisjoint(UNSAFE), path
        called = calls(path)
        assert called.isdisjoint(UNSAFE_CALLS), path
        assert not [c for c in called if c.endswith(("allow_pickle=True", "shell=True"))], path
    measured.trials = f"{len(SOURCE)} files"


@pytest.mark.fault("20b", "no lock, no database, no time of a file, in any file of the source")
def test_source_asks_no_file_for_its_time_and_locks_none(measured):
    for path in SOURCE:
        assert imports(path).isdisjoint(CLOCKS_AND_LOCKS), path
        if path.name in TELLS_TIMES:
            continue
        text = path.read_text()
        assert not [word for word in OF_FILES if word in text], path
    measured.trials = f"{len(SOURCE)} files"


def test_the_lint_sees_what_it_is_to_see(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text("import pickle.x\nfrom marshal import loads\nnp.load(f, allow_pickle=True)\n")
    assert imports(path) == {"pickle", "marshal"}
    assert "np.load allow_pickle=True" in calls(path)


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


@pytest.mark.fault("16b", "pickles of a stranger in the place of every file")
def test_planted_pickles(door, begun, measured, tmp_path):
    canary = tmp_path / "canary"
    bomb = pickle.dumps(Bomb(canary))
    pickle.loads(bomb)
    canary.rmdir()  # it works
    assert not [n for n, content in files_below(begun).items() if content[:1] == b"\x80"]
    paths = [path for path in begun.rglob("*") if path.is_file()]
    (folder,) = folders(begun)
    for path in [*paths, folder / "claim-1", folder / "result.json"]:
        path.write_bytes(bomb)
    codes = [
        door.run("status", NAME, "--budget", "smoke", root=begun).code,
        door.run("table", NAME, root=begun).code,
    ]
    done = door.run("run", *words(1, "gru"), "--workers", "1", "--allow-changes", root=begun)
    assert "Traceback" not in done.err
    assert codes == [0, 2]
    assert done.code == 1
    assert not canary.exists()
    measured.trials = f"{len(paths) + 2} files, none was unpickled"
    (row,) = rows_of(begun).values()
    measured.said = f"FAILED: {row['error'].replace(str(begun), 'DIR')}"


# Names that lead elsewhere

ELSEWHERE = {
    "experiment": ["run", "../launch"],
    "absolute experiment": ["work", "/etc/passwd"],
    "data set": ["data", "prepare", "../../escaped"],
    "data of a trial": [
        *("run", NAME, "--budget", "default"),
        *("--only", "task=nottingham", "--set", "data.name=../../escaped"),
    ],
    "cell": ["run", NAME, "--budget", "smoke", "--set", "model.cell=../../escaped"],
    "task": ["run", NAME, "--budget", "smoke", "--set", "task=../escaped"],
    "budget": ["run", NAME, "--budget", "../escaped"],
}


@pytest.mark.fault("17", "paths in the place of names")
def test_names_are_no_paths(door, measured, tmp_path):
    inside = tmp_path / "deep" / "inside"
    inside.mkdir(parents=True)
    for arguments in ELSEWHERE.values():
        place = {} if arguments[0] == "data" else {"root": inside / "results"}
        command = [sys.executable, str(door.tree / "launch.py"), *arguments]
        command += ["--results-dir", str(place["root"])] if place else []
        done = finish(door.process(*command, SEQLAB_CACHE=str(inside / "cache")))
        assert_one_line(done)
    for name in ("..", "../x", "/x", ".hidden", "a/b", "a\0b", "", "~"):
        with pytest.raises(InputError):
            results.trial_folder(inside, name, "0" * 16)
        with pytest.raises(InputError):
            results.trial_folder(inside, NAME, name)
    assert list(tmp_path.rglob("*escaped*")) == []
    assert files_below(tmp_path) == {}
    measured.trials = f"{len(ELSEWHERE)} commands refused, nothing was written"
    measured.said = done.last


@pytest.mark.fault("17b", "a results directory that is a symbolic link")
def test_a_link_is_followed_and_nothing_lies_beside_it(door, undisturbed, measured, tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    done = door.run("work", *words(1, "gru"), root=tmp_path / "link")
    assert done.code == 0
    measured.trials = trials_with_one_result(tmp_path / "target", 1)
    assert undisturbed.same(tmp_path / "target", 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["around", "link", "target"]
    assert list((tmp_path / "around").iterdir()) == []
    measured.digest = "yes"


@pytest.mark.fault("18", "sockets that listen while a grid runs")
def test_no_socket_is_open_to_others(door, measured, tmp_path):
    launcher = door.start("run", *words(2), "--workers", "2", root=tmp_path)
    seen, looks = set(), 0
    while launcher.poll() is None:
        try:
            parent = psutil.Process(launcher.pid)
            processes = [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            break
        for process in processes:
            try:
                connections = process.net_connections(kind="inet")
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            looks += 1
            seen |= {c.laddr.ip for c in connections if c.status in ("LISTEN", "NONE")}
        time.sleep(0.05)
    assert finish(launcher).code == 0
    assert seen <= {"127.0.0.1", "::1"}
    assert looks > 20
    measured.trials = f"{looks} looks at 3 processes: {sorted(seen) or 'none listens'}"


MISTAKES = {
    "experiment": (["run", "mut_vs_lstm_gro"], f"Did you mean '{NAME}'?"),
    "flag": (["run", NAME, "--worker", "2"], "Did you mean '--workers'?"),
    "budget": (["work", NAME, "--budget", "smok"], "Did you mean 'smoke'?"),
    "engine": (["run", NAME, "--on", "slrum"], "Did you mean 'slurm'?"),
}
WRONG_VALUES = {
    "field": ("model.hiden=3", "no field 'model.hiden'"),
    "type": ("optim.learning_rate=abc", "takes float, not 'abc'"),
    "cell": ("model.cell=mut9", "Did you mean 'mut3'?"),
    "range": ("train.batch_size=0", "must be above 0, not 0"),
}


@pytest.mark.fault("19", "typing errors, wrong types, empty and doubled grids")
def test_mistakes_cost_one_line(door, measured, tmp_path):
    """All others: tests/test_cli.py."""
    no_jax = tmp_path / "no_jax"
    no_jax.mkdir()
    (no_jax / "jax.py").write_text("raise ImportError('too early')")
    root, slowest = tmp_path / "results", 0.0
    for arguments, part in MISTAKES.values():
        began = time.monotonic()
        done = door.run(*arguments, root=root, PYTHONPATH=str(no_jax))
        slowest = max(slowest, time.monotonic() - began)
        assert_one_line(done, part)
    for assignment, part in WRONG_VALUES.values():
        assert_one_line(door.run("run", *words(1), "--set", assignment, root=root), part)
    assert_one_line(door.run("run", NAME, "--only", "model.cell=none", root=root), "no trial has")
    assert not root.exists()
    doubled = door.run("status", *words(2, seed="1,1,1"), "--format", "json", root=root)
    assert json.loads(doubled.out)["rows"][0]["trials"] == 2
    measured.trials = f"{len(MISTAKES) + len(WRONG_VALUES) + 1} refused before any work"
    measured.lost = f"{slowest:.1f} until the line is there, without jax"
    measured.said = done.last
