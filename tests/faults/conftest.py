"""The fault table: what every fault has cost and what was said, printed when its tests have run."""

import dataclasses
import os
import re
import shutil
import time
from pathlib import Path

import psutil
import pytest
from fault_grid import GRID, REPOSITORY, Door, Undisturbed, rows_of

TABLE = pytest.StashKey[list]()
MEASURED = pytest.StashKey["Measured"]()
COLUMNS = ("row", "fault", "held", "trials", "digest equal", "seconds lost", "what was said")

# Rows of the table that are tested in other folders.
ELSEWHERE = (
    ("8b", "slurmd killed, its worker lives on", "tests/launch/test_slurm.py"),
    ("9b", "a node of a Ray cluster lost", "tests/launch/test_ray.py"),
)


@dataclasses.dataclass
class Measured:
    """What a test has found out for its row of the table.

    Attributes:
        trials: with exactly one valid result, of those there should be; or what else was counted.
        digest: whether results are equal to those of the undisturbed run, in all but times.
        lost: seconds, and of which clock.
        said: the message that a person saw.
    """

    trials: str = "—"
    digest: str = "—"
    lost: str = "—"
    said: str = "—"


def pytest_addoption(parser: pytest.Parser):
    parser.addoption("--fault-table", metavar="PATH", type=Path, help="write it as Markdown, too")


@pytest.fixture
def measured(request) -> Measured:
    """The row of this test; its number and its fault are the arguments of the marker."""
    row = request.node.stash[MEASURED] = Measured()
    return row


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = yield
    marker = item.get_closest_marker("fault")
    if marker and marker.args and (report.when == "call" or report.outcome != "passed"):
        held = {"passed": "yes", "failed": "NO", "skipped": "not run"}[report.outcome]
        row = item.stash.get(MEASURED, Measured())
        if report.skipped:
            row.said = report.longrepr[2].removeprefix("Skipped: ")
        rows = item.config.stash.setdefault(TABLE, [])
        rows.append((*marker.args, held, *dataclasses.astuple(row)))
    return report


def pytest_terminal_summary(terminalreporter, config: pytest.Config):
    rows = config.stash.get(TABLE, [])
    if not rows:
        return
    rows = rows + [(number, what, f"see {where}", *"————") for number, what, where in ELSEWHERE]
    rows.sort(key=lambda row: (int(re.match(r"\d+", row[0])[0]), row[0]))
    lines = [COLUMNS, ("---",) * len(COLUMNS), *rows]
    text = [f"| {' | '.join(' '.join(cell.split()) for cell in line)} |" for line in lines]
    terminalreporter.section("fault table")
    for line in text:
        terminalreporter.write_line(line)
    path = config.getoption("fault_table", None)  # None, too, where this file was read too late
    if path is not None:
        path.write_text("\n".join(text) + "\n")


# The product, and what it does when nothing disturbs it


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    """A copy of the product with one more experiment, which nobody edits while the tests run."""
    tree = tmp_path_factory.mktemp("product")
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("seqlab", "experiments"):
        shutil.copytree(REPOSITORY / name, tree / name, ignore=ignore)
    shutil.copy(REPOSITORY / "launch.py", tree)
    shutil.copy(Path(__file__).parent / "trouble.py", tree / "experiments")
    return tree


@pytest.fixture(scope="session")
def compiled(tmp_path_factory) -> Path:
    """Compiled programs are kept between workers: starting them is most of these tests."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def door(tree, compiled, tmp_path):
    """The front door of the copy; whatever it has started is gone after the test."""
    yield Door(tree, compiled, tmp_path / "around")
    _end_all_below(tmp_path)


@pytest.fixture(scope="session")
def undisturbed(tree, compiled, tmp_path_factory) -> Undisturbed:
    """The grid as nothing has disturbed it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    door = Door(tree, compiled, folder / "around")
    began = time.monotonic()
    done = door.run("run", *GRID, "--workers", "2", "--format", "json", root=folder / "results")
    assert done.code == 0, done.err
    rows = rows_of(folder / "results")
    assert len(rows) == 40
    assert {row["status"] for row in rows.values()} == {"DONE"}
    assert {row["attempts"] for row in rows.values()} == {1}
    return Undisturbed(folder / "results", rows, time.monotonic() - began)


@pytest.fixture
def begun(door, tmp_path) -> Path:
    """A results directory with one unfinished trial, of two checkpoints at least."""
    root = tmp_path / "begun"
    door.interrupt_one(root)
    return root


def _end_all_below(folder: Path):
    """End the processes that have this folder on their command line: the ones of a test."""
    for process in psutil.process_iter(["pid", "cmdline"]):
        if process.pid != os.getpid() and str(folder) in " ".join(process.info["cmdline"] or ()):
            process.kill()
