"""How long it takes to open 230,000 results, as many as Jozefowicz et al. 2015 tried settings.

    python -m seqlab.benchmark.index            as many files, 1.2 GiB, in a temporary folder
    python -m seqlab.benchmark.index 10000

They are what `--budget paper` of the flagship and `--set` make, and the files as a worker writes
them. Each line is a command, all that it takes from the start of Python to its end: seconds on the
clock, seconds of processors, and the most memory that it held.
"""

import argparse
import hashlib
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EXPERIMENT = "mut_vs_lstm_gru"
NUMBER = 230_000
LAUNCH = Path(__file__).parent.parent.parent / "launch.py"

# Programs that read results without the command line
LOAD = "from seqlab import results; results.load(NAME, ROOT)"
DICTS = "from pathlib import Path; from seqlab import index; list(index.rows(Path(ROOT, NAME)))"
LEAVE = """
from pathlib import Path; from seqlab import index
folder = Path(ROOT, NAME)
index.leave(folder, [min(path.name for path in folder.glob("[0-9a-f]*"))])
"""


def main(arguments: list[str]) -> None:
    number = int(arguments[0]) if arguments else NUMBER
    root = Path(tempfile.mkdtemp(prefix="seqlab-index-"))
    try:
        began = time.perf_counter()
        generate(root, number)
        print(f"{number:,} files written in {time.perf_counter() - began:.1f} s", flush=True)
        measure(root)
    finally:
        shutil.rmtree(root)


def measure(root: Path) -> None:
    """Print what each command takes on these results; the first one makes their index."""
    print(f"{'':54}{'clock':>8}  {'processors':>12}{'memory':>12}")
    for name, command in commands(root).items():
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        processors, memory = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
        print(f"{name:54}{seconds:8.2f} s{processors:12.2f} s{memory:8,.0f} MiB", flush=True)


def commands(root: Path) -> dict[str, list[str]]:
    def launch(command: str, *options: str) -> list[str]:
        return [str(LAUNCH), command, EXPERIMENT, "--results-dir", str(root), *options]

    def program(text: str) -> list[str]:
        return ["-c", f"NAME, ROOT = {EXPERIMENT!r}, {str(root)!r}\n{text}"]

    def by(names: str) -> list[str]:
        return launch("table", "--by", names, "--metric", "test_nll", "--best", "--sort=-mean")

    return {
        "results.load, and make the index": program(LOAD),
        "results.load": program(LOAD),
        f"launch.py table {EXPERIMENT}": launch("table"),
        "launch.py table … --by model.cell,task --best": by("model.cell,task"),
        "launch.py table … --by setting --best": by("setting"),
        f"launch.py status {EXPERIMENT}": launch("status"),
        "all rows, as dicts": program(DICTS),
        "a trial leaves": program(LEAVE),
    }


# Results


def generate(root: Path, number: int) -> None:
    """Write results of trials of the flagship, most of them DONE."""
    from seqlab import results
    from seqlab.trial import as_dict, trial_id

    draw = random.Random(0)
    for trial in itertools.islice(_trials(root), number):
        identity = trial_id(trial)
        status = "DONE" if draw.random() < 0.97 else draw.choice(results.STATUSES[1:])
        folder = results.trial_folder(root, EXPERIMENT, identity)
        folder.mkdir(parents=True)
        result = _result(draw, status) | {"trial_id": identity, "config": as_dict(trial)}
        text = json.dumps(result, indent=1, sort_keys=True) + "\n"
        digest = hashlib.sha256(text.encode()).hexdigest()
        text = text.replace('\n "status"', f'\n "sha256": "{digest}",\n "status"')
        (folder / results.RESULT).write_text(text)  # as `results.commit`, which waits for the disk


def _trials(root: Path) -> Iterator[Any]:
    """The search of the flagship's paper budget, and what `--set` makes of it, again and again."""
    from seqlab.commands import plan_of
    from seqlab.trial import replace

    options = argparse.Namespace(experiment=EXPERIMENT, only=[], set=[])
    search = plan_of(options, "paper", root).first
    yield from search
    for seed in range(1, 6):
        yield from (replace(t, {"stage": "seeds", "seed": seed}) for t in search if t.setting == 0)
    for unroll in (20, 70):
        yield from (replace(trial, {"train.unroll": unroll}) for trial in search)
    for number in itertools.count():
        rate = {"optim.learning_rate": number / 1000 + 0.0005}
        yield from (replace(trial, rate) for trial in search)


def _result(draw: random.Random, status: str) -> dict[str, Any]:
    names = ("valid_nll", "valid_accuracy", "valid_probability", "test_nll", "test_accuracy")
    names += ("test_probability", "seconds_per_step", "device_seconds")
    metrics: dict[str, Any] = {name: draw.random() for name in names}
    metrics |= {"best_epoch": draw.randrange(10), "epochs": 10, "steps": 2400}
    metrics |= {"params": draw.randrange(240_000, 250_000), "units": draw.randrange(100, 200)}
    metrics |= {"params_sha256": f"{draw.getrandbits(256):064x}", "dataset_sha256": "88c2e9da" * 8}
    failed = {"DONE": metrics, "DIVERGED": {"diverged_at_step": draw.randrange(2400)}}
    packages = ("seqlab", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "experiment": EXPERIMENT,
        "status": status,
        "metrics": failed.get(status, {}),
        "error": "Traceback …\nValueError: no" if status in ("FAILED", "OOM") else None,
        "wall_seconds": round(draw.uniform(40, 120), 3),
        "attempts": 1,
        "provenance": {
            "finished": f"2026-01-{draw.randrange(1, 32):02}T{draw.randrange(24):02}:00:00+00:00",
            "git": "f9246e1200694c0c792174602f8a2e79fda213ca",
            "git_dirty": False,
            "code_sha256": "99ab016a8fa164935b7698f7b914ee03a19317fa43edd3c3f8ad24814258eadd",
            "python": "3.11.7",
            "packages": dict.fromkeys(packages, "1.2.3"),
            "platform": "cpu",
            "device": "cpu",
            "machine": "16 cores of a processor",
            "host": f"node{draw.randrange(32)}",
            "pid": draw.randrange(1000, 32_000),
            "matmul_precision": "default",
            "environment": {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "NPROC": "1"},
        },
    }


if __name__ == "__main__":
    main(sys.argv[1:])
