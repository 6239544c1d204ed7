"""Trials that raise, diverge, ask for too much memory or kill their process, among good ones."""

import json
import os
import shutil
import subprocess
import time

import pytest
import trouble
from fault_grid import Door, finish, rows_of, trials_with_one_result, words

from seqlab import results
from seqlab.launch.local import num_accelerators

pytestmark = pytest.mark.fault

EXPECTED = {
    "good": ("DONE", None),
    "raises": ("FAILED", "ZeroDivisionError: integer division or modulo by zero"),
    "asks_device": ("OOM", "RESOURCE_EXHAUSTED"),
    "asks_host": ("OOM", "Unable to allocate 8.00 PiB"),
    "is_limited": ("OOM", "Unable to allocate 2.00 GiB"),
    "dies": ("FAILED", "its process died\nFAILED after 3 attempts"),
}


@pytest.fixture(scope="module")
def troubled(tree, compiled, tmp_path_factory):
    """A grid of every trouble, run by two workers: its results by name, and what was said."""
    folder = tmp_path_factory.mktemp("troubled")
    door = Door(tree, compiled, folder / "around")
    command = ("run", "trouble", "--budget", "smoke", "--workers", "2", "--format", "json")
    done = door.run(*command, root=folder)
    found = rows_of(folder, "trouble").values()
    assert len(found) == len(trouble.trials("smoke"))
    good = [row for row in found if row["config"]["name"] == "good"]
    assert len(good) == len(trouble.TROUBLE) + 1
    for row in good:
        assert (row["status"], row["error"]) == ("DONE", None)
        assert row["metrics"] == {"square": row["config"]["number"] ** 2}
    return {row["config"]["name"]: row for row in found}, done


def assert_trouble(troubled, name: str) -> dict:
    rows, done = troubled
    status, reason = EXPECTED[name]
    row = rows[name]
    assert row["status"] == status
    assert reason in row["error"]
    assert done.code == 1
    return row


@pytest.mark.fault("10", "a trial raises")
def test_a_trial_that_raises(troubled, measured):
    row = assert_trouble(troubled, "raises")
    assert row["error"].startswith("Traceback (most recent call last):")
    assert "return 1 // 0" in row["error"]
    assert row["attempts"] == 1
    _, done = troubled
    (said,) = [line for line in done.err.splitlines() if row["trial_id"] in line]
    measured.trials = f"{len(troubled[0])} kinds of trial, the good ones unharmed"
    measured.said = said


@pytest.mark.fault("9c", "a trial that kills its process, each time")
def test_a_trial_that_kills_its_process_is_given_up(troubled, measured):
    row = assert_trouble(troubled, "dies")
    assert row["attempts"] == 3
    measured.trials = "FAILED after 3 attempts, the good ones unharmed"
    measured.said = row["error"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("asks_device", marks=pytest.mark.fault("12", "no memory: of the device")),
        pytest.param("asks_host", marks=pytest.mark.fault("12b", "no memory: of the host")),
        pytest.param("is_limited", marks=pytest.mark.fault("12c", "no memory: ulimit -v")),
    ],
)
def test_a_trial_that_asks_for_too_much_memory(troubled, measured, name):
    row = assert_trouble(troubled, name)
    assert row["attempts"] == 1, "it would ask for as much again"
    last = row["error"].strip().splitlines()[-1]
    assert EXPECTED[name][1] in last
    measured.trials = "OOM at once, the good ones unharmed"
    measured.said = last[:100]


@pytest.mark.fault("11", "a learning rate at which the loss is not a number, among good ones")
def test_divergence(door, undisturbed, measured, tmp_path):
    command = words(2, optim__learning_rate="0.1,3e38")
    done = door.run("run", *command, "--workers", "2", "--format", "json", root=tmp_path)
    assert done.code == 0, "a setting that diverges is a finding"
    rows = rows_of(tmp_path)
    bad = [row for row in rows.values() if row["config"]["optim"]["learning_rate"] > 1]
    assert {row["status"] for row in bad} == {"DIVERGED"}
    assert len(bad) == 4
    good = [rows[i] for i in rows if i in undisturbed.rows]
    assert results.digest(good) == results.digest(undisturbed.rows[r["trial_id"]] for r in good)
    table = {r["cell"]: r for r in json.loads(done.out)["rows"] if r["cell"]}
    for cell in ("rnn", "gru"):
        assert table[cell]["not_done"] == "2 DIVERGED"
        accuracies = [r["metrics"]["test_accuracy"] for r in good if _cell(r) == cell]
        assert table[cell]["best"] in accuracies, "a diverged trial is in no mean"
    measured.trials = f"{len(good)} DONE, {len(bad)} DIVERGED"
    measured.digest = "yes"
    measured.said = bad[0]["error"]


@pytest.mark.fault("10b", "--fail-fast: a batch that no memory holds, every second of 40 trials")
def test_fail_fast_and_retry(door, undisturbed, measured, tmp_path):
    command = words(10, train__batch_size="1000000000000,20")
    flags = ("--workers", "1", "--format", "json", "--fail-fast")
    done = door.run("run", *command, *flags, root=tmp_path)
    assert done.code == 1
    rows = rows_of(tmp_path).values()
    bad = [row for row in rows if row["config"]["train"]["batch_size"] > 20]
    good = [row for row in rows if row["config"]["train"]["batch_size"] == 20]
    assert {row["status"] for row in bad} == {"OOM"}
    assert len(good) < 20, "it did not go on to the end"
    assert results.digest(good) == results.digest(undisturbed.rows[r["trial_id"]] for r in good)
    assert "trials have no result: the same command goes on" in done.last
    measured.trials = f"{len(good)} DONE, {len(bad)} OOM, then it stopped"
    measured.digest = "yes"
    measured.said = done.last


def _cell(row: dict) -> str:
    return row["config"]["model"]["cell"]


# Many, and elsewhere


@pytest.mark.fault("21c", f"a grid of {trouble.MANY:,} trials, two workers")
def test_ten_thousand_trials(door, measured, tmp_path):
    command = ("trouble", "--budget", "paper")
    began = time.monotonic()
    workers = [
        door.start("work", *command, "--start", start, root=tmp_path) for start in ("0", "0.5")
    ]
    for worker in workers:
        assert finish(worker) == (0, "", "")
    seconds = time.monotonic() - began
    rows = rows_of(tmp_path, "trouble")
    assert len(rows) == trouble.MANY
    assert len(list((tmp_path / "trouble").glob("*/claim-*"))) == trouble.MANY
    for row in rows.values():
        assert row["metrics"] == {"square": row["config"]["number"] ** 2}
    began = time.monotonic()
    status = door.run("status", *command, "--format", "json", root=tmp_path)
    assert json.loads(status.out)["rows"][0]["DONE"] == trouble.MANY
    measured.trials = f"{len(rows)}/{trouble.MANY}"
    measured.lost = f"{1000 * seconds / trouble.MANY:.1f} ms a trial"
    measured.said = f"status in {time.monotonic() - began:.1f} s"
    shutil.rmtree(tmp_path / "trouble")  # so many files are not worth keeping


@pytest.mark.fault("22", "one core, and everything else on it")
def test_on_one_busy_core(door, undisturbed, measured, tmp_path):
    core = str(min(os.sched_getaffinity(0)))
    busy = [
        subprocess.Popen(["taskset", "-c", core, "sh", "-c", "while :; do :; done"])
        for _ in range(2)
    ]
    try:
        began = time.monotonic()
        command = ("work", *words(2))
        worker = door.start(*command, root=tmp_path, by=("taskset", "-c", core))
        assert finish(worker) == (0, "", "")
    finally:
        for process in busy:
            process.kill()
            process.wait()
    measured.trials = trials_with_one_result(tmp_path, 4)
    assert undisturbed.same(tmp_path, 4)
    measured.digest = "yes"
    measured.lost = f"{time.monotonic() - began:.0f} s on the wall for 4 trials"
    measured.said = "nothing"


@pytest.mark.fault("22b", "a GPU: the same trials twice, and beside the CPU's")
def test_on_a_gpu(door, undisturbed, measured, tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    if not num_accelerators():
        pytest.skip("there is no accelerator here")
    found = []
    for name in ("first", "second"):
        variables = {"JAX_PLATFORMS": "", "XLA_CLIENT_MEM_FRACTION": "0.3"}
        done = door.run("work", *words(2), root=tmp_path / name, **variables)
        assert done.code == 0
        found.append(rows_of(tmp_path / name))
    first, second = found
    for identity, row in first.items():
        expected = undisturbed.rows[identity]["metrics"]["test_nll"]
        assert row["metrics"]["test_nll"] == pytest.approx(expected, rel=1e-2)
    measured.trials = trials_with_one_result(tmp_path / "first", 4)
    equal = results.digest(first.values()) == results.digest(second.values())
    measured.digest = f"{'yes' if equal else 'no'} (nothing is promised)"
