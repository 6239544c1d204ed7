"""A result does not depend on how full the machine was, and the launcher takes no device."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = [
    *("--budget", "smoke", "--only", "model.cell=mut1", "--set", "model.parameter_budget=20000"),
    *(
        "--set",
        "data.train_size=7000",
        "--set",
        "data.valid_size=700",
        "--set",
        "data.test_size=700",
    ),
    *("--set", "train.steps_per_epoch=10", "--set", "train.schedule.max_epochs=1"),
]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is only one core")
def test_a_result_has_the_same_bits_on_one_core_and_on_all(tmp_path):
    cores = os.sched_getaffinity(0)
    digests = set()
    for name, share in {"one": {min(cores)}, "all": cores}.items():
        command = ["launch.py", "work", "mut_vs_lstm_gru", "--results-dir", str(tmp_path / name)]
        os.sched_setaffinity(0, share)
        try:
            subprocess.run([sys.executable, *command, *SMALL], cwd=ROOT, check=True, timeout=300)
        finally:
            os.sched_setaffinity(0, cores)
        (path,) = (tmp_path / name).glob("*/*/result.json")
        digests.add(json.loads(path.read_text())["metrics"]["params_sha256"])
    assert len(digests) == 1


def test_checking_all_trials_starts_no_device():
    code = """
from experiments import mut_vs_lstm_gru
from jax._src import xla_bridge
for trial in mut_vs_lstm_gru.trials("smoke"):
    mut_vs_lstm_gru.check(trial)
assert not xla_bridge.backends_are_initialized()
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)
