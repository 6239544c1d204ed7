"""How long it takes to open 230,000 results, as many as Jozefowicz et al. 2015 tried settings.

    python -m seqlab.benchmark.index            as many files, 1.2 GiB, in a temporary folder
    python -m seqlab.benchmark.index 10000

The files are as a worker writes them. Each line is a process of its own, its seconds without the
time to import; memory is the most that it held, and what it held when everything was imported.
"""

import hashlib
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXPERIMENT = "search"
NUMBER = 230_000
PLANNED = 1_000
CELLS = ("rnn", "lstm", "gru", "mut1", "mut2", "mut3")
TASKS = ("arithmetic", "xml", "ptb", "music", "memorisation")
SETTINGS = 1_000


@dataclass(frozen=True)
class Trial:
    """Its identity is that of a result; the configuration in the result is a longer one."""

    number: int


def main(arguments: list[str]) -> None:
    if len(arguments) == 2:
        _measure(*arguments)
        return
    number = int(arguments[0]) if arguments else NUMBER
    root = tempfile.mkdtemp(prefix="seqlab-index-")
    try:
        began = time.perf_counter()
        generate(Path(root) / EXPERIMENT, number)
        print(f"{number:,} files written in {time.perf_counter() - began:.1f} s", flush=True)
        for name in STEPS:
            subprocess.run([sys.executable, "-m", "seqlab.benchmark.index", name, root], check=True)
    finally:
        shutil.rmtree(root)


def _measure(name: str, root: str) -> None:
    step = STEPS[name]()
    before = _mebibytes()
    began = time.perf_counter()
    step(Path(root))
    seconds = time.perf_counter() - began
    print(f"{name:36}{seconds:8.2f} s{_mebibytes():8,.0f} MiB, {before:,.0f} before", flush=True)


def _mebibytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# What is measured: a function that imports what it needs and returns what is timed


def _load() -> Callable[[Path], Any]:
    from seqlab import aggregate, index, results  # noqa: F401

    return lambda root: results.load(EXPERIMENT, str(root))


def _by(*names: str) -> Callable[[], Callable[[Path], Any]]:
    def imported() -> Callable[[Path], Any]:
        from seqlab import aggregate, index, tables

        def table(root: Path) -> str:
            frame = index.table(root / EXPERIMENT)
            grouped = aggregate.table(frame, "benchmark", names, "test_accuracy", best=True)
            return tables.render(aggregate.ordered(grouped, "-mean"), "json")

        return table

    return imported


def _status() -> Callable[[Path], Any]:
    from types import SimpleNamespace

    from seqlab.launch import status
    from seqlab.launch.plan import Plan

    def table(root: Path) -> Any:
        experiment: Any = SimpleNamespace(follow_up=lambda trials, finished: [])
        plan = Plan(EXPERIMENT, experiment, [Trial(n) for n in range(PLANNED)], root)
        return status.table({"default": plan}, everything=True)

    return table


def _rows() -> Callable[[Path], Any]:
    from seqlab import index

    return lambda root: index.rows(root / EXPERIMENT)


def _leave() -> Callable[[Path], Any]:
    from seqlab import index
    from seqlab.trial import trial_id

    return lambda root: index.leave(root / EXPERIMENT, [trial_id(Trial(0))])


STEPS = {
    "load, and make the index": _load,
    "load": _load,
    "table --by model.cell,task --best": _by("model.cell", "task"),
    "table --by setting --best": _by("setting"),
    f"status, {PLANNED:,} of them in a plan": _status,
    "rows of an experiment's own table": _rows,
    "a trial leaves": _leave,
}


# Results


def generate(folder: Path, number: int) -> None:
    """Write results that differ in 12 values, most of them DONE."""
    from seqlab.trial import trial_id

    draw = random.Random(0)
    template = json.dumps(_result(), indent=1, sort_keys=True) + "\n"
    for index in range(number):
        identity = trial_id(Trial(index))
        status = "DONE" if draw.random() < 0.97 else draw.choice(("FAILED", "DIVERGED", "OOM"))
        values = {
            "@trial": json.dumps(identity),
            "@status": json.dumps(status),
            "@cell": json.dumps(draw.choice(CELLS)),
            "@task": json.dumps(draw.choice(TASKS)),
            "@rate": json.dumps(round(10 ** draw.uniform(-4, -1), 6)),
            "@setting": str(index % SETTINGS),
            "@digest": json.dumps(hashlib.sha256(identity.encode()).hexdigest()),
            "@error": "null" if status == "DONE" else json.dumps("Traceback …\nValueError: no"),
            **{f"@metric{i}": json.dumps(draw.random()) for i in range(8)},
        }
        text = template
        for marker, value in values.items():
            text = text.replace(f'"{marker}"', value)
        digest = hashlib.sha256(text.encode()).hexdigest()
        text = text.replace('\n "status"', f'\n "sha256": "{digest}",\n "status"')
        (folder / identity).mkdir(parents=True)
        (folder / identity / "result.json").write_text(text)


def _result() -> dict[str, Any]:
    names = ("valid_nll", "valid_accuracy", "test_nll", "test_accuracy", "seconds_per_step")
    names += ("device_seconds", "valid_probability", "test_probability")
    optim = {"kind": "Optim", "optimizer": "adam", "learning_rate": "@rate", "clip_norm": 1.0}
    schedule = {"kind": "Schedule", "max_epochs": 10, "patience": 3, "halvings": 4}
    train = {"kind": "TrainConfig", "batch_size": 20, "unroll": 35, "schedule": schedule}
    packages = ("seqlab", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "trial_id": "@trial",
        "experiment": EXPERIMENT,
        "config": {
            "kind": "Trial",
            "budget": "paper",
            "task": "@task",
            "data": {"kind": "Xml", "seed": 0, "train_size": 1_680_000, "test_size": 70_000},
            "model": {"kind": "Model", "cell": "@cell", "num_layers": 1, "parameter_budget": 10**6},
            "optim": optim | {"init_scale": 1.0, "dropout_rate": None},
            "train": train | {"steps_per_epoch": 240},
            "setting": "@setting",
            "stage": "search",
            "seed": 0,
        },
        "status": "@status",
        "metrics": {name: f"@metric{i}" for i, name in enumerate(names)}
        | {"params": 249_774, "units": 199, "epochs": 10, "params_sha256": "@digest"},
        "error": "@error",
        "wall_seconds": 104.94,
        "attempts": 1,
        "provenance": {
            "finished": "2026-01-01T00:00:00+00:00",
            "git": "f9246e1200694c0c792174602f8a2e79fda213ca",
            "git_dirty": False,
            "code_sha256": "99ab016a8fa164935b7698f7b914ee03a19317fa43edd3c3f8ad24814258eadd",
            "python": "3.11.7",
            "packages": dict.fromkeys(packages, "1.2.3"),
            "platform": "cpu",
            "device": "cpu",
            "machine": "16 cores of a processor",
            "host": "node17",
            "pid": 12345,
            "matmul_precision": "default",
            "environment": {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "NPROC": "1"},
        },
    }


if __name__ == "__main__":
    main(sys.argv[1:])
