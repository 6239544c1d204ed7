"""Trials of the comparison of cells in packs: what each finds alone, whatever befalls the pack."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny_trials import ASKED, NAME, SMOKE, TINY, plan_of, tiny

from experiments import mut_vs_lstm_gru as mut
from seqlab import interruption, packs, results, stream_trial, train
from seqlab.accounting.compiled import figures
from seqlab.accounting.memory import predicted_peak
from seqlab.data import Music
from seqlab.data.stream import Dataset, Stream
from seqlab.launch import claims, packing, worker
from seqlab.launch.worker import Terms
from seqlab.trial import replace, trial_id

REPOSITORY = Path(__file__).parents[2]
DISPATCHES = 2  # an epoch
SCORED = 700  # positions of a split
POSITION = 1.0 / SCORED

# The same numbers are added up in another order. A float32 has 6e-8; 400 steps of plain descent,
# which at these rates is no chaos, make of it less than 1e-6. Adam divides by the root of a mean
# square, so that where gradients are next to nothing their last bits are all there is. Of two
# members the losses are further apart than ten times that.
TOLERANCE = {"sgd": 1e-5, "adam": 1e-4, "frames": 1e-5}


def frames(**changes) -> mut.Trial:
    """A trial on music, which here is made up."""
    unset = {path: value for path, value in TINY.items() if not path.startswith("data.")}
    trial = replace(SMOKE["rnn"], unset | {"model.parameter_budget": 6000})
    changes = {path.replace("__", "."): value for path, value in changes.items()}
    return replace(trial, {"data": Music("nottingham")} | changes)


ADAM = {"optim__optimizer": "adam", "train__schedule__max_epochs": 2}
TRIALS = {
    "sgd": [
        tiny(),
        tiny(seed=1, optim__learning_rate=1e-30),  # it stops early
        tiny(seed=2, optim__learning_rate=3e38),  # it diverges
        tiny(seed=3, optim__init_scale=2.0),
        tiny(seed=4, optim__clip_norm=0.1, setting=3),
    ],
    "adam": [
        tiny(**ADAM, optim__learning_rate=0.01, optim__dropout_rate=0.1),
        tiny(**ADAM, optim__learning_rate=0.01, optim__dropout_rate=0.5),
        tiny(**ADAM, optim__learning_rate=0.003, optim__dropout_rate=0.1, stage="seeds"),
    ],
    "frames": [
        frames(train__schedule__max_epochs=2, optim__dropout_rate=0.0),
        frames(train__schedule__max_epochs=2, optim__dropout_rate=0.4),
        frames(train__schedule__max_epochs=2, optim__dropout_rate=0.0, seed=5),
    ],
}
KINDS = tuple(TRIALS)


def made_up_music() -> Dataset:
    rng = np.random.default_rng(0)

    def stream(length):
        often = rng.random(88) * 0.4
        return Stream((rng.random((length, 88)) < often).astype(np.uint8), np.ones(length, bool))

    return Dataset(stream(2000), stream(700), stream(700), symbols=None, channels=88, start=0)


@pytest.fixture(scope="module", autouse=True)
def around():
    """Music that needs no files, and what Adam of optax needs."""
    load, made_up = stream_trial.load, (made_up_music(), "5" * 64)
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.setattr(stream_trial, "load", lambda c: made_up if isinstance(c, Music) else load(c))
        yield


@pytest.fixture(autouse=True)
def quiet():
    """No request of a test is left to the next."""
    interruption.forget()
    yield
    interruption.forget()


def work(trials, root: Path, pack: int | None, **terms) -> None:
    """As a new process would."""
    worker.work(plan_of(trials, root), terms=Terms(pack=pack, **terms))


def rows_of(root: Path) -> dict[str, dict]:
    return {row["trial_id"]: row for row in results.rows(root, NAME)}


def log_of(root: Path, identity: str) -> list[dict]:
    """What a trial has said, but for times."""
    path = claims.work_folder(root / NAME / identity) / "log.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [timeless(line) for line in lines]


def timeless(values: dict) -> dict:
    return {name: value for name, value in values.items() if "seconds" not in name}


def packs_in(root: Path) -> list[Path]:
    there = root / NAME / packing.PACKS
    return list(there.iterdir()) if there.exists() else []


def held(root: Path) -> list[Path]:
    """Claims on what has no result."""
    there = (root / NAME).rglob("claim-*")
    return [path for path in there if not (path.parent / "result.json").exists()]


def bits_of(root: Path) -> tuple[str, dict]:
    """Everything that was found, to the last bit, and said on the way."""
    rows = rows_of(root)
    return results.digest(rows.values()), {identity: log_of(root, identity) for identity in rows}


@pytest.fixture(scope="module")
def alone(around, tmp_path_factory) -> dict[str, Path]:
    roots = {kind: tmp_path_factory.mktemp(f"{kind}-alone") for kind in KINDS}
    for kind, root in roots.items():
        work(TRIALS[kind], root, pack=1)
        assert not (root / NAME / packing.PACKS).exists()
    return roots


@pytest.fixture(scope="module")
def together(around, tmp_path_factory) -> dict[str, Path]:
    roots = {kind: tmp_path_factory.mktemp(f"{kind}-together") for kind in KINDS}
    for kind, root in roots.items():
        work(TRIALS[kind], root, pack=None)
    return roots


# What a trial finds


@pytest.mark.parametrize("kind", KINDS)
def test_the_trials_are_a_test_of_what_follows(alone, kind):
    """What they find is apart, and they do not all end together."""
    rows = list(rows_of(alone[kind]).values())
    done = [row["metrics"] for row in rows if row["status"] == "DONE"]
    nlls = sorted(metrics["test_nll"] for metrics in done)
    assert min(np.diff(nlls)) > 10 * TOLERANCE[kind] * max(nlls)
    if kind == "sgd":
        assert {row["status"] for row in rows} == {"DONE", "DIVERGED"}
        assert {metrics["epochs"] for metrics in done} == {3, 4}
    assert len({log_of(alone[kind], row["trial_id"])[0]["train_loss"] for row in rows[1:]}) > 1


def assert_close(found: dict, expected: dict, tolerance: float) -> None:
    """Whatever is counted is equal, but for the prediction of one position."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if "accuracy" in name:
            assert found[name] == pytest.approx(value, abs=1.01 * POSITION), name
        elif isinstance(value, float):
            assert found[name] == pytest.approx(value, rel=tolerance, abs=0), name
        else:
            assert found[name] == value, name


@pytest.mark.parametrize("kind", KINDS)
def test_a_trial_of_a_pack_has_the_result_that_it_has_alone(alone, together, kind):
    expected, found = rows_of(alone[kind]), rows_of(together[kind])
    assert found.keys() == expected.keys() == set(map(trial_id, TRIALS[kind]))
    for identity, row in found.items():
        other = expected[identity]
        for field in ("status", "error", "config", "experiment", "attempts"):
            assert row[field] == other[field], field
        assert row.keys() == other.keys()
        ours, theirs = timeless(row["metrics"]), timeless(other["metrics"])
        ours.pop("params_sha256", None)  # the last bits show in it
        theirs.pop("params_sha256", None)
        assert_close(ours, theirs, TOLERANCE[kind])
        assert row["metrics"].keys() == other["metrics"].keys()


@pytest.mark.parametrize("kind", KINDS)
def test_a_trial_of_a_pack_has_the_log_that_it_has_alone(alone, together, kind):
    for identity in rows_of(together[kind]):
        ours, theirs = log_of(together[kind], identity), log_of(alone[kind], identity)
        assert len(ours) == len(theirs)
        for line, expected in zip(ours, theirs, strict=True):
            assert_close(line, expected, TOLERANCE[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_the_results_say_that_they_are_of_one_pack(alone, together, kind):
    origins = [row["provenance"] for row in rows_of(together[kind]).values()]
    assert len({origin["pack"] for origin in origins}) == 1
    assert {origin["pack_members"] for origin in origins} == {len(TRIALS[kind])}
    before = [row["provenance"] for row in rows_of(alone[kind]).values()]
    assert not any({"pack", "pack_members"} & origin.keys() for origin in before)
    assert packs_in(together[kind]) == []
    assert held(together[kind]) == []


def test_what_is_left_of_a_trial_is_as_if_it_had_been_alone(alone, together):
    for kind in KINDS:
        files = [
            sorted(
                path.relative_to(root).as_posix()
                for path in (root / NAME).glob("[!.]*/**/*")
                if path.name not in ("data_sha256", "log.jsonl")
            )
            for root in (alone[kind], together[kind])
        ]
        assert files[0] == files[1]


# Interruptions and deaths


@pytest.mark.parametrize("later", [1, 2, None])
def test_a_pack_stopped_at_every_boundary_ends_with_the_same_bits(
    together, tmp_path, monkeypatch, later
):
    steps, calls = packs.train_steps, []

    class Signalled:
        lower = staticmethod(steps.lower)

        def __call__(self, *arguments):
            calls.append(len(arguments[1].seed))
            interruption.request()
            return steps(*arguments)

    monkeypatch.setattr(packs, "train_steps", Signalled())
    trials, pack, folders = TRIALS["sgd"], 9, set()
    stops, ended = 0, False
    while not ended:
        try:
            work(trials, tmp_path, pack)
            ended = True
        except KeyboardInterrupt:
            interruption.forget()
            stops += 1
        assert held(tmp_path) == []
        if packs_in(tmp_path):
            folders |= {path.name for path in packs_in(tmp_path)}
        pack = later
    assert bits_of(tmp_path) == bits_of(together["sgd"])
    assert stops == len(calls) == 4 * DISPATCHES
    assert sorted(set(calls)) == [3, 5]
    rows = rows_of(tmp_path).values()
    assert folders == {row["provenance"]["pack"] for row in rows}
    assert {row["attempts"] for row in rows} == {1}
    assert packs_in(tmp_path) == []


class Killed(BaseException):
    """The process is no more."""


@pytest.mark.parametrize(("function", "call"), [("train_steps", 6), ("evaluate", 4)])
def test_a_pack_whose_process_died_goes_on_from_its_last_epoch(
    together, tmp_path, monkeypatch, function, call
):
    original, calls = getattr(packs, function), []

    class Fatal:
        lower = staticmethod(original.lower)

        def __call__(self, *arguments):
            calls.append(None)
            if len(calls) == call:
                raise Killed
            return original(*arguments)

    trials = TRIALS["sgd"]
    with monkeypatch.context() as patch:
        patch.setattr(packs, function, Fatal())
        patch.setattr(claims, "give_back", lambda *_: None)
        with pytest.raises(Killed):
            work(trials, tmp_path, pack=9, attempts=1)
    (pack,) = packs_in(tmp_path)
    assert claims.last_attempt(pack) == 1
    epochs = claims.saved_step(pack) // 100
    assert epochs >= 1
    trained, steps = [], packs.train_steps

    class Counted:
        lower = staticmethod(steps.lower)

        def __call__(self, *arguments):
            trained.append(None)
            return steps(*arguments)

    monkeypatch.setattr(packs, "train_steps", Counted())
    work(trials, tmp_path, pack=1, attempts=1)
    assert len(trained) == (4 - epochs) * DISPATCHES
    assert bits_of(tmp_path) == bits_of(together["sgd"])
    attempts = {row["attempts"] for row in rows_of(tmp_path).values() if row["status"] == "DONE"}
    assert attempts == {2}
    assert packs_in(tmp_path) == []


def test_what_was_begun_alone_goes_on_alone_with_the_same_bits(alone, tmp_path, monkeypatch):
    trials = TRIALS["sgd"][3:]
    with monkeypatch.context() as patch:
        patch.setattr(train, "train_steps", signalling(train.train_steps))
        with pytest.raises(KeyboardInterrupt):
            work(trials, tmp_path, pack=1)
    interruption.forget()
    assert claims.saved_step(tmp_path / NAME / trial_id(trials[0])) == 50
    work(trials, tmp_path, pack=9)
    rows, expected = rows_of(tmp_path), rows_of(alone["sgd"])
    for trial in trials:  # the other one, which was left, is alone as well
        identity = trial_id(trial)
        assert timeless(rows[identity]["metrics"]) == timeless(expected[identity]["metrics"])
        assert "pack" not in rows[identity]["provenance"]


def signalling(steps):
    def signalled(*arguments):
        interruption.request()
        return steps(*arguments)

    return signalled


# Memory


@pytest.mark.parametrize("cell", ["rnn", "gru"])
def test_as_many_as_are_predicted_to_fit_do_fit_by_the_compilers_figure(cell):
    trials = [tiny(cell, seed=seed) for seed in range(12)]
    one, memory = (predicted_peak(mut.outline(trials[:n]).dispatch) for n in (1, 6))
    size = packing.predicted_size(mut, trials, memory)
    assert 1 < size < 6
    assert figures(mut.outline(trials[:size]).dispatch).peak <= memory
    limit = packing.PREDICTED_SHARE * memory
    peaks = [predicted_peak(mut.outline(trials[:n]).dispatch) for n in (size, size + 1)]
    assert one < peaks[0] <= limit < peaks[1]
    assert packing.predicted_size(mut, trials[:size], memory) == size
    assert packing.predicted_size(mut, trials, one // 2) == 1


@pytest.fixture
def watched(monkeypatch) -> list[int]:
    """The sizes of the programs that are run."""
    steps, sizes = packs.train_steps, []

    class Watched:
        lower = staticmethod(steps.lower)

        def __call__(self, *arguments):
            sizes.append(len(arguments[1].seed))
            return steps(*arguments)

    monkeypatch.setattr(packs, "train_steps", Watched())
    return sizes


def test_a_pack_that_does_not_fit_is_split_before_anything_is_run(tmp_path, watched, capfd, caplog):
    trials = [tiny(seed=seed, train__schedule__max_epochs=1) for seed in range(2)]
    needed = figures(mut.outline(trials).dispatch).peak
    watched.clear()  # what was traced
    with jax.log_compiles():
        work(trials, tmp_path, pack=2, memory=needed - 1)
        assert watched == []
        rows = rows_of(tmp_path)
        assert {row["status"] for row in rows.values()} == {"DONE"}
        assert not any("pack" in row["provenance"] for row in rows.values())
        list(mut.run_pack(trials, None, needed))
        assert watched == [2] * DISPATCHES
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("pack ")]
    assert "is split in two: MemoryError: 2 members take " in line
    assert line.endswith(f" bytes of {needed - 1:,}")
    assert packs_in(tmp_path) == []
    # The program that was asked about, twice, is the one that was run.
    said = [record.getMessage() for record in caplog.records]
    compiled = [line for line in said if "Finished XLA compilation of jit(train_steps)" in line]
    assert len(compiled) == 1


# Real processes

LONG = [
    *("work", NAME, *ASKED, "--set", "train.schedule.max_epochs=12"),
    *("--set", "train.schedule.patience=99", "--set", "seed=0,1,2,3,4"),
]
DEADLINE = 240.0


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Start a worker as a process; what it compiles is kept for the next."""
    compiled = tmp_path_factory.mktemp("compiled")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SEQLAB_")} | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    started: list[subprocess.Popen] = []

    def run(root: Path, *arguments: str) -> subprocess.Popen:
        line = [sys.executable, str(REPOSITORY / "launch.py"), *LONG, "--results-dir", str(root)]
        process = subprocess.Popen(
            [*line, *arguments], cwd=compiled, env=environment, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if not process.stderr.closed:
            process.kill()
            process.communicate()


def finish(process: subprocess.Popen) -> tuple[int, str]:
    _, err = process.communicate(timeout=DEADLINE)
    return process.returncode, err


def saved_epochs(root: Path) -> int:
    """Of the only pack that there is."""
    try:
        return sum((claims.saved_step(pack) or 0) // 100 for pack in packs_in(root))
    except FileNotFoundError:  # it has just been moved to the next attempt
        return 0


def wait_until(condition, process: subprocess.Popen):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_pack_interrupted_and_killed_ends_with_the_same_bits(start, tmp_path):
    undisturbed, root = tmp_path / "undisturbed", tmp_path / "disturbed"
    assert finish(start(undisturbed, "--pack", "5")) == (0, "")

    first = start(root, "--pack", "5")
    wait_until(lambda: saved_epochs(root) >= 2, first)
    first.send_signal(signal.SIGTERM)
    assert finish(first) == (130, "")
    assert held(root) == []
    epochs = saved_epochs(root)
    assert 2 <= epochs < 12

    second = start(root)  # without packs, as on this device by default
    wait_until(lambda: saved_epochs(root) >= epochs + 2, second)
    second.send_signal(signal.SIGKILL)
    finish(second)
    assert len(held(root)) == 1 + 5
    assert finish(start(root, "--pack", "2")) == (0, "")

    assert bits_of(root) == bits_of(undisturbed)
    rows = rows_of(root)
    assert {row["provenance"]["pack_members"] for row in rows.values()} == {5}
    assert {row["attempts"] for row in rows.values()} == {2}
    assert packs_in(root) == []


def test_two_workers_with_different_packs_run_nothing_twice(start, tmp_path):
    workers = [
        start(tmp_path, "--pack", "2", "--start", "0"),
        start(tmp_path, "--pack", "3", "--start", "0.4"),
    ]
    assert [finish(process) for process in workers] == [(0, "")] * 2
    rows = rows_of(tmp_path)
    assert {row["config"]["seed"] for row in rows.values()} == {0, 1, 2, 3, 4}
    assert {(row["status"], row["attempts"]) for row in rows.values()} == {("DONE", 1)}
    members: dict[str, int] = {}
    for row in rows.values():
        claimed = [p.name for p in (tmp_path / NAME / row["trial_id"]).glob("claim-*")]
        assert claimed == ["claim-1"]
        if pack := row["provenance"].get("pack"):
            members.setdefault(pack, 0)
            members[pack] += 1
            assert row["provenance"]["pack_members"] in (2, 3)
    sizes = {
        row["provenance"]["pack"]: row["provenance"]["pack_members"]
        for row in rows.values()
        if "pack" in row["provenance"]
    }
    assert members == sizes
    assert packs_in(tmp_path) == []
