"""The command line: one line for a mistake, JSON and nothing else, and grids that survive kills."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import pytest

from experiments import mut_vs_lstm_gru as mut
from seqlab import cli, commands, interruption, results, stream_trial
from seqlab.cells import CELLS
from seqlab.launch import claims, engine, progress, provenance, worker
from seqlab.trial import as_dict, only, replace, set_values, trial_id

REPOSITORY = Path(__file__).resolve().parent.parent
NAME = "mut_vs_lstm_gru"
SOURCE = REPOSITORY / "experiments" / f"{NAME}.py"
EXPERIMENTS = sorted(p.stem for p in (REPOSITORY / "experiments").glob("*.py"))


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    """Run one command in this process, in an empty folder; no data and no results of one's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SEQLAB_DATA", "")
    monkeypatch.delenv("SEQLAB_RESULTS", raising=False)
    stream_trial.check_data.cache_clear()  # a command is a process: it has seen no data yet

    def run(*arguments: str) -> Done:
        code = cli.main(list(arguments))
        return Done(code, *capsys.readouterr())

    before = {number: signal.getsignal(number) for number in interruption.SIGNALS}
    yield run
    for number, handler in before.items():
        signal.signal(number, handler)
    interruption.forget()


def metrics(**changes) -> dict:
    return {
        "valid_nll": 1.0,
        "test_nll": 1.0,
        "test_accuracy": 0.5,
        "units": 3,
        "params": 99,
        "seconds_per_step": 0.01,
    } | changes


def commit(
    root: Path, trial, status: str = results.DONE, error: str | None = None, **origin: str
) -> Path:
    folder = results.trial_folder(root, NAME, trial_id(trial))
    folder.mkdir(parents=True, exist_ok=True)
    row = {
        "trial_id": trial_id(trial),
        "config": as_dict(trial),
        "status": status,
        "metrics": metrics() if status == results.DONE else {},
        "error": error,
        "wall_seconds": 1.0,
        "provenance": provenance.provenance(SOURCE) | origin,
    }
    assert results.commit(folder, row)
    return folder


# Mistakes


BAD = {
    "no command": ([], "COMMAND"),
    "unknown command": (["rnu", NAME], "'rnu'. Did you mean 'run'?"),
    "no experiment": (["run"], "EXPERIMENT"),
    "unknown experiment": (["run", "mut_vs_lstm_gro"], f"Did you mean '{NAME}'?"),
    "path as experiment": (["table", "../launch"], "no '../launch'"),
    "unknown flag": (["run", NAME, "--workes", "2"], "--workes. Did you mean '--workers'?"),
    "unknown budget": (["run", NAME, "--budget", "smok"], "Did you mean 'smoke'?"),
    "unknown format": (["table", NAME, "--format", "jsno"], "Did you mean 'json'?"),
    "no workers": (["run", NAME, "--workers", "0"], "'0' is not a whole number from 1"),
    "no attempt": (["run", NAME, "--attempts", "0"], "'0' is not a whole number from 1"),
    "unknown engine": (["run", NAME, "--on", "slrum"], "Did you mean 'slurm'?"),
    "no engine option": (["run", NAME, "--engine-option", "mem"], "'mem' is not KEY=VALUE"),
    "half a worker": (["run", NAME, "--workers", "0.5"], "'0.5' is not a whole number"),
    "unknown data action": (["data", "prepar"], "Did you mean 'prepare'?"),
    "no shape": (["account", "vgg16", "--input", "224,x"], "'x' is not a whole number from 1"),
    "no named shape": (["account", "f.py:f", "--param", "3,3"], "'3,3' is not NAME=N,M"),
    "no amount": (["account", "vgg16", "--fits", "much"], "'much' is not an amount of memory"),
    "unknown dtype": (["account", "vgg16", "--dtype", "float23"], "Did you mean 'float32'?"),
    "negative padding": (["output-size", "7", "3", "--padding", "-1"], "not a whole number"),
}
BAD_ACCOUNTS = {
    "unknown network": (["account", "vvg16"], "no network or cell 'vvg16'. Did you mean 'vgg16'?"),
    "image too small": (["account", "lenet5", "--input", "4,4,1"], "window 5×5 does not fit"),
    "2.33 positions": (["output-size", "7", "3", "--stride", "3"], "N=7, window F=3, stride S=3"),
    "the number itself": (["output-size", "7", "3", "--stride", "3"], "= 2.33 is not whole"),
    "no such file": (["account", "nowhere.py:f"], "no file nowhere.py"),
}
BAD_VALUES = {
    "unknown field": (["--set", "model.parameter_buget=9"], "Did you mean 'parameter_budget'?"),
    "unknown part": (["--set", "optimizer.rate=9"], "Did you mean 'optim'?"),
    "wrong type": (["--set", "optim.learning_rate=fast"], "takes float, not 'fast'"),
    "no whole number": (["--set", "seed=1.5"], "seed takes int, not '1.5'"),
    "not a number": (["--set", "optim.learning_rate=nan"], "takes float, not 'nan'"),
    "no value": (["--set", "seed"], "'seed' is not of the form path=value"),
    "unknown cell": (["--set", "model.cell=gur"], "no cell 'gur'. Did you mean 'gru'?"),
    "unknown optimizer": (["--set", "optim.optimizer=sdg"], "Did you mean 'sgd'?"),
    "unknown task": (["--set", "task=xlm"], "no task 'xlm'"),
    "negative rate": (["--set", "optim.learning_rate=-1"], "must be above 0, not -1.0"),
    "zero batch": (["--set", "train.batch_size=0"], "train.batch_size must be above 0, not 0"),
    "too few parameters": (["--set", "model.parameter_budget=50"], "50 is too small"),
    "empty stream": (["--set", "data.train_size=0"], "train_size must be 1 or more"),
    "nothing left": (["--only", "model.cell=lstm"], "no trial has model.cell=lstm."),
    "condition on no field": (["--only", "model.cel=gru"], "Did you mean 'cell'?"),
}


def assert_one_line(done: Done, *parts: str):
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert done.err.endswith("\n")
    for part in parts:
        assert part in done.err


@pytest.mark.parametrize(("arguments", "part"), BAD.values(), ids=BAD.keys())
def test_a_mistake_in_the_command_is_one_line(command, tmp_path, arguments, part):
    assert_one_line(command(*arguments), part)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("arguments", "part"), BAD_ACCOUNTS.values(), ids=BAD_ACCOUNTS.keys())
def test_what_cannot_be_accounted_for_is_one_line(command, arguments, part):
    assert_one_line(command(*arguments), part)


def test_output_sizes_of_the_lectures(command):
    assert command("output-size", "7", "3").out == "5\n"
    assert command("output-size", "7", "3", "--stride", "2").out == "3\n"
    assert command("output-size", "32", "5").out == "28\n"


def test_account_in_json_is_json_and_has_every_key(command):
    done = command("account", "lenet5", "--batch", "3", "--format", "json")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert {"name", "rows", "totals"} <= found.keys()
    keys = {"layer", "output_shape", "activations", "params", "weights", "macs", "receptive_field"}
    assert all(keys <= row.keys() for row in found["rows"])
    assert found["totals"]["macs"] == 3 * 416_520
    assert found["totals"]["params"] == sum(row["params"] for row in found["rows"]) == 61_706


@pytest.mark.parametrize(("arguments", "part"), BAD_VALUES.values(), ids=BAD_VALUES.keys())
def test_a_mistake_in_a_value_is_one_line_and_starts_nothing(command, tmp_path, arguments, part):
    assert_one_line(command("run", NAME, "--budget", "smoke", *arguments), part)
    assert not any((tmp_path / "results").glob("*"))


def test_missing_data_names_the_file_the_folder_and_the_command(command, tmp_path, monkeypatch):
    run = ["run", NAME, "--only", "task=ptb"]
    prepare = "python launch.py data prepare ptb"
    file = "ptb/ptb.train.txt"
    assert_one_line(command(*run), file, "SEQLAB_DATA is not set", str(tmp_path / "cache"), prepare)
    (tmp_path / "files").mkdir()
    monkeypatch.setenv("SEQLAB_DATA", str(tmp_path / "files"))
    assert_one_line(command(*run), file, str(tmp_path / "files"), prepare)
    monkeypatch.setenv("SEQLAB_DATA", "")
    asked = command(*run, "--data-dir", str(tmp_path / "elsewhere"))
    assert_one_line(asked, file, str(tmp_path / "elsewhere"), prepare)


@pytest.mark.parametrize("content", [b"", b"a b c \n", b"x" * 5_101_618])
def test_an_altered_data_file_is_named_with_both_hashes(command, tmp_path, content):
    path = tmp_path / "files" / "ptb" / "ptb.train.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    done = command("run", NAME, "--only", "task=ptb", "--data-dir", str(tmp_path / "files"))
    found = hashlib.sha256(content).hexdigest()[:16]
    assert_one_line(done, str(path), "5101618 bytes", f"{len(content)} bytes", found)


@pytest.mark.parametrize("verb", ["run", "work"])
def test_a_results_directory_that_cannot_be_written_is_named(command, tmp_path, verb):
    (tmp_path / "file").write_text("in the way")
    words = verb, NAME, "--budget", "smoke", "--results-dir", str(tmp_path / "file" / "results")
    done = command(*words)
    assert_one_line(done, str(tmp_path / "file" / "results"), "cannot be written")


def test_a_table_without_results_says_how_to_get_them(command):
    assert_one_line(command("table", NAME), "no results", f"python launch.py run {NAME}")


def test_a_table_of_what_is_not_there_names_what_is(command, tmp_path):
    commit(tmp_path / "results", mut.trials("smoke")[0])
    assert_one_line(command("table", NAME, "--budget", "paper"), "budget=paper", "smoke")
    assert_one_line(command("table", NAME, "--only", "model.cell=grr"), "model.cell=grr")


# Without JAX


def test_mistakes_and_the_list_need_no_jax():
    script = (
        "import json, sys\n"
        "from seqlab import cli\n"
        "codes = [cli.main(arguments) for arguments in json.loads(sys.argv[1])]\n"
        "loaded = {'jax', 'numpy', 'flax', 'rich'} & set(sys.modules)\n"
        "print(json.dumps([codes, sorted(loaded)]))\n"
    )
    commands = [["list"], *(arguments for arguments, _ in BAD.values())]
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(commands)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    *listed, last = done.stdout.splitlines()
    assert json.loads(last) == [[0] + [2] * len(BAD), []]
    assert len(done.stderr.splitlines()) == len(BAD)
    assert [line.partition(": ")[0] for line in listed] == EXPERIMENTS


def test_list_gives_every_experiment_its_first_line(command):
    done = command("list")
    assert (done.code, done.err) == (0, "")
    lines = dict(line.split(": ", 1) for line in done.out.splitlines())
    assert sorted(lines) == EXPERIMENTS
    assert lines[NAME] == mut.__doc__.splitlines()[0]
    assert all(len(text) > 20 for text in lines.values())


# A grid whose workers are stood in for


class StandIn:
    """An engine whose workers are one function, called at every poll until it returns false.

    Attributes:
        started: what workers were started with.
        stopped: how often they were stopped.
    """

    def __init__(self, work):
        self.work = work
        self.started: list[tuple[list[str], int]] = []
        self.stopped = 0

    def default_workers(self):
        return 2

    def start(self, command, num_workers):
        self.started.append((command, num_workers))

    def poll(self, missing):
        command, _ = self.started[-1]
        options = cli._parser().parse_args(command[1:])
        root = results.named_root(options.results_dir)
        return self.work(commands.plan_of(options, options.budget, root))

    def stop(self):
        self.stopped += 1


@pytest.fixture
def hire(monkeypatch):
    """Have a function do the work of the workers."""
    monkeypatch.setattr(engine, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(progress, "RECOUNT_SECONDS", 0.0)

    def hire(work) -> StandIn:
        stand_in = StandIn(work)
        monkeypatch.setattr(engine, "named", lambda name, options: stand_in)
        return stand_in

    return hire


def missing(plan) -> list:
    return [trial for trial, result in plan.known().values() if result is None]


def do_all(plan) -> bool:
    for trial in missing(plan):
        commit(plan.root, trial)
    return False


@pytest.fixture
def hired(hire) -> StandIn:
    return hire(do_all)


def test_workers_get_the_trials_of_the_launcher(command, hired, tmp_path):
    asked = ["--only", "model.cell=gru,mut1", "--set", "seed=3,4", "--set", "optim.clip_norm=2"]
    done = command("run", NAME, "--budget", "smoke", "--workers", "3", *asked, "--format", "json")
    assert done.code == 0
    assert [num_workers for _, num_workers in hired.started] == [3]
    expected = set_values(
        only(mut.trials("smoke"), ["model.cell=gru,mut1"]), ["seed=3,4", "optim.clip_norm=2"]
    )
    folders = {p.parent.name for p in (tmp_path / "results" / NAME).glob("*/result.json")}
    assert folders == {trial_id(t) for t in expected}
    assert len(folders) == 4


def test_a_finished_grid_starts_nobody_and_prints_its_table(command, hired, tmp_path):
    for trial in mut.trials("smoke"):
        commit(tmp_path / "results", trial)
    files = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    done = command("run", NAME, "--budget", "smoke", "--format", "json")
    assert (done.code, hired.started) == (0, [])
    ours = {r["cell"]: r["best"] for r in json.loads(done.out)["rows"] if r["cell"]}
    assert ours == dict.fromkeys(mut.ARCHITECTURES, 0.5)
    assert f"{len(mut.trials('smoke'))} of {len(mut.trials('smoke'))} trials" in done.err
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == files


@pytest.mark.parametrize(
    ("status", "code"), [("DONE", 0), ("DIVERGED", 0), ("FAILED", 1), ("OOM", 1)]
)
def test_the_exit_code_tells_of_failures(command, hired, tmp_path, status, code):
    first, *others = mut.trials("smoke")
    commit(tmp_path / "results", first, status, None if status == "DONE" else "the reason")
    for trial in others:
        commit(tmp_path / "results", trial)
    run = ["run", NAME, "--budget", "smoke", "--format", "json"]
    done = command(*run)
    assert (done.code, hired.started) == (code, [])
    rows = {r["cell"]: r for r in json.loads(done.out)["rows"]}
    not_done = rows[first.model.cell]["not_done"]
    assert not_done == ("" if status == "DONE" else f"1 {status}")
    again = command(*run, "--retry-failed")
    assert again.code == 0
    assert len(hired.started) == code


def test_workers_are_told_how_to_treat_trouble(command, hired):
    run = ["run", NAME, "--budget", "smoke", "--format", "json"]
    assert command(*run).code == 0
    told, defaults = hired.started[0][0], {"--attempts": "3"}
    assert [told[told.index(flag) + 1] for flag in defaults] == list(defaults.values())
    assert not {"--allow-changes", "--tensorboard", "--fail-fast"} & set(told)
    options = cli._parser().parse_args(told[1:])
    assert (options.attempts, options.allow_changes, options.tensorboard) == (3, False, False)
    other = ["--attempts", "7", "--allow-changes", "--tensorboard", "--set", "seed=9"]
    assert command(*run, *other).code == 0
    options = cli._parser().parse_args(hired.started[1][0][1:])
    assert (options.attempts, options.allow_changes, options.tensorboard) == (7, True, True)


def test_the_engine_is_the_one_that_was_asked_for(command, hired, monkeypatch):
    asked = []
    monkeypatch.setattr(engine, "named", lambda *of: asked.append(of) or hired)
    for on in ([], ["--on", "slurm", "--engine-option", "a=1", "--engine-option", "b=x=y"]):
        assert command("run", NAME, "--budget", "smoke", "--format", "json", *on).code == 0
    assert asked == [("local", {}), ("slurm", {"a": "1", "b": "x=y"})]
    assert hired.started[0][1] == hired.default_workers()


def test_fail_fast_stops_the_rest_and_the_same_command_without_it_finishes(command, hire, tmp_path):
    def do_one(plan) -> bool:
        """The second and the fourth that are run fail."""
        done = len(list((plan.root / NAME).glob("*/result.json")))
        todo = missing(plan)
        if todo:
            commit(plan.root, todo[0], *[results.FAILED, "no"] * (done in (1, 3)))
        return bool(todo)

    run = ["run", NAME, "--budget", "smoke", "--format", "json"]
    total = len(mut.trials("smoke"))
    for stop_after in (2, 4):  # a failure of before stops nothing
        stand_in = hire(do_one)
        done = command(*run, "--fail-fast")
        assert (done.code, stand_in.stopped) == (1, 1)
        assert f"{total - stop_after} trials have no result" in done.err
        assert "Traceback" not in done.err
        assert len(results.rows(tmp_path / "results", NAME)) == stop_after
        assert json.loads(done.out)["rows"]
    stand_in = hire(do_one)
    done = command(*run)
    assert (done.code, stand_in.stopped) == (1, 0)
    assert "no result" not in done.err
    assert len(results.rows(tmp_path / "results", NAME)) == total
    hire(do_all)
    assert command(*run, "--retry-failed").code == 0


@pytest.mark.parametrize("begun", ["a result", "a trial in the middle"])
def test_other_code_is_refused_in_one_line_until_it_is_allowed(command, hired, tmp_path, begun):
    first, *_ = mut.trials("smoke")
    root, then = tmp_path / "results", {"code_sha256": "f00d" * 16, "git": "c0ffee" * 6}
    if begun == "a result":
        commit(root, first, **then)
    else:
        kept = results.trial_folder(root, NAME, trial_id(first)) / "attempt-1"
        kept.mkdir(parents=True)
        (kept / provenance.ORIGIN).write_text(json.dumps(provenance.code(SOURCE) | then))
    now = provenance.code(SOURCE)["code_sha256"]
    for verb in ("run", "work"):
        refused = command(verb, NAME, "--budget", "smoke")
        assert_one_line(refused, "f00df00d (c0ffeec0ff", now[:8], "--allow-changes")
    assert hired.started == []
    done = command("run", NAME, "--budget", "smoke", "--format", "json", "--allow-changes")
    assert (done.code, len(hired.started)) == (0, 1)
    again = command("run", NAME, "--budget", "smoke", "--format", "json")
    assert (again.code, len(hired.started)) == (0, 1), "a finished plan never refuses"


def test_a_worker_without_room_says_so_in_one_line_and_ends_with_3(command, monkeypatch):
    def full(*_):
        raise worker.DiskFull("disk full: no room for results in /there")

    monkeypatch.setattr(worker, "work", full)
    done = command("work", NAME, "--budget", "smoke")
    assert done == (3, "", "error: disk full: no room for results in /there\n")


def test_a_grid_whose_workers_all_died_says_so(command, hire):
    hire(lambda plan: False)
    done = command("run", NAME, "--budget", "smoke", "--format", "json")
    assert done.code == 1
    assert f"{len(mut.trials('smoke'))} trials have no result" in done.err
    assert [r for r in json.loads(done.out)["rows"] if r["cell"]] == []


@pytest.mark.parametrize("number", interruption.SIGNALS)
def test_an_interrupted_grid_exits_with_130(command, hire, number):
    stand_in = hire(lambda plan: signal.raise_signal(number))
    done = command("run", NAME, "--budget", "smoke", "--format", "json")
    assert (done.code, done.out, stand_in.stopped) == (130, "", 1)
    assert done.err.splitlines()[-1].startswith("interrupted: ")


def test_a_worker_that_is_interrupted_leaves_the_word_to_its_launcher(command, monkeypatch):
    monkeypatch.setattr(worker, "work", lambda *_: signal.raise_signal(signal.SIGTERM))
    assert command("work", NAME, "--budget", "smoke") == (130, "", "")


def test_what_nohup_ignores_stays_ignored(command):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert command("list").code == 0
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_what_a_cell_says_of_its_widths_is_one_line(command, monkeypatch):
    trial = mut.trials("smoke")[0]

    def check(_):
        CELLS["mut1"].init(jax.random.key(0), 3, 4)

    monkeypatch.setattr(mut, "check", check)
    only_one = f"model.cell={trial.model.cell}"
    done = command("run", NAME, "--budget", "smoke", "--only", only_one)
    assert_one_line(done, "mut1 needs input_dim == hidden_dim, got 3 and 4")


@pytest.mark.parametrize("verb", ["status", "table"])
def test_json_is_all_there_is_on_standard_output(command, tmp_path, verb):
    first, *others = mut.trials("smoke")
    root = tmp_path / "elsewhere"
    commit(root, first, results.DIVERGED, "the loss is not finite at step 31")
    for trial in others[:4]:
        commit(root, trial)
    commit(root, replace(first, {"seed": 77}), results.FAILED, "Traceback …\nValueError: no")
    done = command(verb, NAME, "--format", "json", "--results-dir", str(root))
    assert (done.code, done.err) == (0, "")
    table = json.loads(done.out)
    assert {"columns", "rows"} <= set(table)
    assert all(set(row) == set(table["columns"]) for row in table["rows"])
    if verb == "status":
        smoke, other = table["rows"]
        assert smoke["trials"] == len(mut.trials("smoke"))
        assert [smoke[s] for s in ("DONE", "DIVERGED", "PENDING")] == [4, 1, smoke["trials"] - 5]
        assert [other[s] for s in ("trials", "FAILED")] == [1, 1]
        diverged = f"{trial_id(first)} DIVERGED: the loss is not finite at step 31"
        assert diverged in table["notes"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["table", NAME],
        ["table", NAME, "--by", "model.cell", "--metric", "test_nll", "--best"],
        ["status", NAME],
    ],
)
def test_who_only_looks_waits_for_nothing_that_computes(tmp_path, arguments):
    for trial in mut.trials("smoke")[:3]:
        commit(tmp_path, trial)
    arguments = [*arguments, "--results-dir", str(tmp_path)]
    program = f"import sys; from seqlab import cli; assert cli.main({arguments}) == 0; "
    program += "print(*{'polars', 'jax', 'flax', 'scipy', 'pandas'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "polars"


# A grid of real processes


TINY = [
    *("--budget", "smoke", "--only", "task=xml", "--format", "json", "--workers", "1"),
    *("--set", "model.parameter_budget=3000", "--set", "optim.optimizer=sgd"),
    *("--set", "data.train_size=7000", "--set", "data.valid_size=700"),
    *("--set", "data.test_size=700", "--set", "train.steps_per_epoch=5"),
    *("--set", "train.schedule.max_epochs=16", "--set", "train.schedule.patience=100"),
]  # fmt: skip
TWO_CELLS = [*TINY, "--only", "model.cell=rnn,gru", "--set", "optim.learning_rate=0.1,3e38"]
ONE_CELL = [*TINY, "--only", "model.cell=gru", "--set", "optim.learning_rate=0.1"]
DEADLINE = 240.0


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Start `launch.py run` as a process group of its own, in another folder."""
    folder = tmp_path_factory.mktemp("somewhere")
    started: list[subprocess.Popen] = []

    def run(arguments: list[str], root: Path) -> subprocess.Popen:
        line = [sys.executable, str(REPOSITORY / "launch.py"), "run", NAME, *arguments]
        process = subprocess.Popen(
            [*line, "--results-dir", str(root)],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)  # its workers end with it
        process.communicate()


def finish(process: subprocess.Popen) -> Done:
    out, err = process.communicate(timeout=DEADLINE)
    return Done(process.returncode, out, err)


def wait_until(condition, process: subprocess.Popen):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def shared(start, tmp_path_factory) -> tuple[Path, list[Done]]:
    """A directory that two launchers filled at once."""
    root = tmp_path_factory.mktemp("shared")
    launchers = [start(TWO_CELLS, root) for _ in range(2)]
    return root, [finish(launcher) for launcher in launchers]


def worker_of(folder: Path, attempt: int) -> int:
    """The process that made this attempt."""
    claim = json.loads((folder / f"claim-{attempt}").read_text())
    return int(claim["worker"].split("-")[-2])


def lines_of(folder: Path) -> list[dict]:
    """What the last attempt has said so far, without times."""
    kept = claims.work_folder(folder)
    log = kept / "log.jsonl" if kept else None
    whole = log.read_text().split("\n")[:-1] if log and log.exists() else []
    return [
        {name: value for name, value in json.loads(line).items() if "seconds" not in name}
        for line in whole
    ]


def config_of(row: dict) -> tuple[str, float]:
    return row["config"]["model"]["cell"], row["config"]["optim"]["learning_rate"]


def test_two_launchers_on_one_directory_share_the_grid(shared):
    root, launchers = shared
    rows = {config_of(row): row for row in results.rows(root, NAME)}
    assert {key: row["status"] for key, row in rows.items()} == {
        ("rnn", 0.1): "DONE",
        ("gru", 0.1): "DONE",
        ("rnn", 3e38): "DIVERGED",
        ("gru", 3e38): "DIVERGED",
    }
    workers = set()
    for row in rows.values():
        folder = root / NAME / row["trial_id"]
        assert {p.name for p in folder.iterdir()} == {"claim-1", "attempt-1", "result.json"}
        kept = {p.name for p in (folder / "attempt-1").iterdir()}
        assert kept - {"log.jsonl"} == {"origin.json", "data_sha256"}
        workers.add(worker_of(folder, 1))
    assert os.getpid() not in workers
    assert not any((root / NAME / claims.WORKERS).iterdir()), "all workers have ended"
    for row in (rows["rnn", 3e38], rows["gru", 3e38]):
        assert (
            row["error"] == f"the loss is not finite at step {row['metrics']['diverged_at_step']}"
        )
    for launcher in launchers:
        assert launcher.code == 0
        assert "Traceback" not in launcher.err
        assert "4 of 4 trials (2 DIVERGED)" in launcher.err.splitlines()[-1]
    tables = [json.loads(launcher.out) for launcher in launchers]
    assert tables[0] == tables[1]
    cells = {r["cell"]: r for r in tables[0]["rows"] if r["cell"]}
    assert {cell: r["not_done"] for cell, r in cells.items()} == dict.fromkeys(
        ("rnn", "gru"), "1 DIVERGED"
    )
    for cell, r in cells.items():
        assert r["best"] == rows[cell, 0.1]["metrics"]["test_accuracy"]


def test_a_second_run_repeats_nothing(shared, command):
    root, (first, _) = shared
    files = {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file()}
    done = command("run", NAME, *TWO_CELLS, "--results-dir", str(root))
    assert (done.code, json.loads(done.out)) == (0, json.loads(first.out))
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file()} == files


def test_a_grid_interrupted_and_killed_ends_with_the_same_bits(shared, start, tmp_path):
    undisturbed = next(r for r in results.rows(shared[0], NAME) if config_of(r) == ("gru", 0.1))
    folder = tmp_path / NAME / undisturbed["trial_id"]

    def epochs() -> int:
        try:
            return sum("epoch" in line for line in lines_of(folder))
        except FileNotFoundError:  # it has just been moved to the next attempt
            return 0

    launcher = start(ONE_CELL, tmp_path)
    wait_until(lambda: epochs() >= 2, launcher)
    os.killpg(launcher.pid, signal.SIGINT)  # as a terminal does
    interrupted = finish(launcher)
    assert (interrupted.code, interrupted.out) == (130, "")
    assert "Traceback" not in interrupted.err
    assert interrupted.err.count("interrupted") == 1
    assert not (folder / "result.json").exists()
    assert [p.name for p in folder.iterdir()] == ["attempt-1"], "it was given back"
    assert not any((tmp_path / NAME / claims.WORKERS).iterdir())
    before = epochs()
    assert claims.saved_step(folder) == lines_of(folder)[-1]["step"], "nothing is done again"

    launcher = start(ONE_CELL, tmp_path)
    wait_until(lambda: epochs() > before + 1, launcher)
    os.kill(worker_of(folder, 1), signal.SIGKILL)
    finished = finish(launcher)
    assert finished.code == 0
    row = results.read(folder)
    assert row["attempts"] == 2
    assert results.digest([row]) == results.digest([undisturbed])
    assert row["metrics"]["params_sha256"] == undisturbed["metrics"]["params_sha256"]
    assert lines_of(folder) == lines_of(shared[0] / NAME / undisturbed["trial_id"])
    assert json.loads(finished.out)["rows"][0]["best"] == row["metrics"]["test_accuracy"]
