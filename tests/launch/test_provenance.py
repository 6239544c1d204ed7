"""Where results come from, and the refusal to go on with other code."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from seqlab import results
from seqlab.errors import Changed
from seqlab.history import DATA
from seqlab.launch import claims, provenance
from seqlab.launch.plan import Plan
from seqlab.trial import as_dict, trial_id


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A package of its own: code that results depend on, and code around it."""
    folder = tmp_path / "package"
    for name in ("train.py", "cells/gru.py", "cli.py", "launch/worker.py", "tables/text.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"name = {name!r}")
    monkeypatch.setattr(provenance, "PACKAGE", folder)
    look_again()
    yield folder
    look_again()


@pytest.fixture
def source(package) -> Path:
    path = package.parent / "experiment.py"
    path.write_text("def trials(budget): ...")
    return path


def look_again():
    """As a new process would."""
    provenance.here.cache_clear()
    provenance.code.cache_clear()


def digest(source: Path | None = None) -> str:
    look_again()
    return provenance.code(source)["code_sha256"]


def change(path: Path) -> None:
    path.write_text(path.read_text() + "\n# changed")
    look_again()


# The digest of the code


def changed(name: str) -> Callable[[Path], None]:
    return lambda package: change(package / name)


DEPENDED_ON = {
    "a module": changed("train.py"),
    "a deep module": changed("cells/gru.py"),
    "the experiment": changed("../experiment.py"),
    "a new module": lambda package: (package / "cells" / "new.py").write_text(""),
    "one module less": lambda package: (package / "train.py").unlink(),
    "another name": lambda package: (package / "train.py").rename(package / "fit.py"),
    "two exchanged": lambda package: [
        (package / name).write_text(text)
        for name, text in (
            ("train.py", "name = 'cells/gru.py'"),
            ("cells/gru.py", "name = 'train.py'"),
        )
    ],
}
AROUND = {
    "the command line": changed("cli.py"),
    "what starts workers": changed("launch/worker.py"),
    "what shows results": changed("tables/text.py"),
    "what is no code": lambda package: (package / "notes.txt").write_text("x"),
}


@pytest.mark.parametrize("edit", DEPENDED_ON.values(), ids=DEPENDED_ON.keys())
def test_the_digest_is_of_all_that_a_result_depends_on(package, source, edit):
    before = digest(source)
    assert digest(source) == before
    edit(package)
    assert digest(source) != before


@pytest.mark.parametrize("edit", AROUND.values(), ids=AROUND.keys())
def test_the_digest_is_of_nothing_else(package, source, edit):
    before = digest(source)
    edit(package)
    assert digest(source) == before


def test_the_digest_does_not_depend_on_where_the_package_lies(package, source, monkeypatch):
    before = digest(source)
    package.rename(package.with_name("elsewhere"))
    monkeypatch.setattr(provenance, "PACKAGE", package.with_name("elsewhere"))
    assert digest(source.rename(source.with_name("other_name.py"))) == before


def test_what_is_said_to_be_around_is_there():
    """A file that was renamed would silently count again."""
    assert [name for name in provenance.AROUND if not (provenance.PACKAGE / name).exists()] == []


# What differs


def origin_of(source: Path, **changes) -> dict:
    return json.loads(json.dumps(provenance.code(source))) | changes


def test_nothing_differs_from_the_same_code(package, source):
    same = origin_of(source)
    assert provenance.difference([], source) is None
    assert provenance.difference([same, same | {"git": "other", "git_dirty": True}], source) is None
    version = same["packages"] | {"seqlab": "0.0.0"}
    assert provenance.difference([same | {"packages": version}], source) is None


def test_what_differs_is_said_in_one_line_with_both_sides(package, source):
    before = origin_of(source, git="a" * 40, git_dirty=True)
    older = before | {"packages": before["packages"] | {"jax": "0.0.1"}}
    change(package / "train.py")
    line = provenance.difference([before, older, before], source)
    now = digest(source)
    for part in (
        f"2 of the trials: code {before['code_sha256'][:8]} (aaaaaaaaaa+changes) then, {now[:8]} (",
        "1 of the trials: code",
        f"jax 0.0.1 then, {before['packages']['jax']} now",
        "--allow-changes",
        "--results-dir",
    ):
        assert part in line
    assert "\n" not in line
    assert line.index("2 of the trials") < line.index("1 of the trials"), "the most first"


@pytest.mark.parametrize("origin", [{}, {"code_sha256": None}, {"git": None, "packages": {}}])
def test_an_unknown_origin_is_another_one(package, source, origin):
    assert "code unknown (no commit) then" in provenance.difference([origin], source)


# Trials that were begun


def test_a_trial_goes_on_with_the_code_that_it_was_begun_with(package, source, tmp_path):
    kept = tmp_path / "attempt-1"
    kept.mkdir()
    for _ in range(2):
        provenance.begin(kept, source, allow_changes=False)
    before = (kept / provenance.ORIGIN).read_text()
    then = digest(source)
    change(source)
    with pytest.raises(Changed) as error:
        provenance.begin(kept, source, allow_changes=False)
    assert then[:8] in str(error.value)
    assert digest(source)[:8] in str(error.value)
    assert (kept / provenance.ORIGIN).read_text() == before
    provenance.begin(kept, source, allow_changes=True)
    provenance.begin(kept, source, allow_changes=False)
    assert json.loads((kept / provenance.ORIGIN).read_text())["code_sha256"] == digest(source)


@pytest.mark.parametrize("damage", ["", "{", "[1]", "null", "{}"])
def test_a_damaged_note_is_of_unknown_origin(package, source, tmp_path, damage):
    (tmp_path / provenance.ORIGIN).write_text(damage)
    with pytest.raises(Changed, match="code unknown"):
        provenance.begin(tmp_path, source, allow_changes=False)


def test_allowed_changes_are_those_of_the_data_too(package, source, tmp_path):
    (tmp_path / DATA).write_text("0" * 64)
    provenance.begin(tmp_path, source, allow_changes=False)
    assert (tmp_path / DATA).exists()
    provenance.begin(tmp_path, source, allow_changes=True)
    assert not (tmp_path / DATA).exists()


# Plans


@dataclass(frozen=True)
class Trial:
    name: str


class Experiment:
    """Two trials, and none that their results call for."""


@pytest.fixture
def plan(source, tmp_path) -> Plan:
    return Plan("fake", Experiment(), [Trial("a"), Trial("b")], tmp_path / "results", source)


def finish(plan: Plan, name: str, **changes) -> None:
    folder = plan.folder(Trial(name))
    folder.mkdir(parents=True, exist_ok=True)
    row = {"trial_id": trial_id(Trial(name)), "config": as_dict(Trial(name)), "status": "DONE"}
    row |= {"metrics": {}, "provenance": provenance.provenance(plan.source)}
    assert results.commit(folder, {k: v for k, v in (row | changes).items() if v is not None})


def begin(plan: Plan, name: str) -> None:
    folder = plan.folder(Trial(name))
    folder.mkdir(parents=True)
    provenance.begin(claims.adopt(folder, 1), plan.source, allow_changes=False)


def afresh(plan: Plan) -> Plan:
    return Plan(plan.name, plan.experiment, plan.first, plan.root, plan.source)


@pytest.mark.parametrize("earlier", [finish, begin])
def test_an_unfinished_plan_of_other_code_has_changed(plan, source, earlier):
    assert plan.changes() is None, "nothing was begun"
    earlier(plan, "a")
    then = digest(source)
    assert afresh(plan).changes() is None
    change(source)
    line = afresh(plan).changes()
    for part in (then[:8], digest(source)[:8], "1 of the trials"):
        assert part in line
    assert "\n" not in line


def test_a_finished_plan_has_never_changed(plan, source):
    finish(plan, "a")
    change(source)
    assert afresh(plan).changes() is not None
    finish(plan, "b")
    assert afresh(plan).changes() is None
    change(source)
    assert afresh(plan).changes() is None


def test_what_is_to_be_run_again_does_not_count_as_finished(plan, source):
    finish(plan, "a")
    finish(plan, "b", status="FAILED")
    change(source)
    assert afresh(plan).changes() is None
    assert afresh(plan).changes(again=("FAILED",)) is not None
    assert afresh(plan).changes(again=("OOM",)) is None


def test_results_that_do_not_say_where_they_come_from_are_not_asked(plan):
    finish(plan, "a", provenance=None)
    assert afresh(plan).changes() is None
