"""The benchmark as an experiment: what it measures, what it refuses, the table it prints."""

import itertools
import json
import math
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments import cell_benchmark as bench
from experiments.cell_benchmark import CPU_SHAPES, SMALL, Trial
from seqlab import results, tables
from seqlab.benchmark import case, peers, timing
from seqlab.benchmark.case import Disagreement, Program, Shape
from seqlab.cells import CELLS
from seqlab.errors import InputError
from seqlab.trial import BUDGETS, as_dict, trial_id

FEW_UNITS = Shape(2, 4, 3, 3)


@pytest.fixture
def machine(monkeypatch):
    """A machine on which some peers are missing; none unless the test says so."""

    def become(platform: str = "cpu", without: tuple[str, ...] = ()):
        monkeypatch.setattr(bench, "platform", lambda: platform)
        monkeypatch.setattr(
            peers,
            "missing",
            lambda peer, on: f"no {peer} on a {on}" if peer in without else None,
        )

    become(without=("cudnn",))
    return become


# The recipe


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_trials_are_of_the_budget_distinct_and_can_be_run(budget, platform, machine):
    machine(platform)
    trials = bench.trials(budget)
    assert {trial.budget for trial in trials} == {budget}
    assert len({trial_id(trial) for trial in trials}) == len(trials)
    for trial in trials:
        assert bench._why_not(trial) is None
    for trial in {(t.cell, t.shape): t for t in trials}.values():
        bench.check(trial)


def test_smoke_is_three_cells_on_one_shape(machine):
    trials = bench.trials("smoke")
    assert [(t.cell, t.peer) for t in trials] == [
        (cell, peer) for cell in ("lstm", "gru", "mut3") for peer in ("plain", "torch")
    ]
    assert {(t.shape, t.pairs, t.workload) for t in trials} == {(SMALL, 5, "forward+backward")}


def test_default_is_seven_cells_on_four_shapes_against_all_that_there_is(machine):
    trials = bench.trials("default")
    assert {t.pairs for t in trials} == {15}
    assert {(t.workload, t.precision) for t in trials} == {("forward+backward", "float32")}
    assert {t.shape for t in trials} == set(CPU_SHAPES)
    assert Counter(t.peer for t in trials) == {
        "plain": 28,
        "nnx": 28,
        "linen": 28,
        "torch": 28,
        "torch_compile": 4 * 2,  # those without a layer of their own, on 35 steps
        "products": 28,
    }
    assert all(t.shape.time == 35 for t in trials if t.peer == "torch_compile")


def test_paper_is_all_of_it(machine):
    def cases(platform):
        machine(platform)
        return bench.trials("paper")

    on_cpu, on_gpu = cases("cpu"), cases("gpu")
    assert {t.precision for t in on_cpu} == {"float32", "bfloat16"}
    assert {t.precision for t in on_gpu} == {"float32", "tf32", "bfloat16"}
    assert {t.workload for t in on_cpu} == set(case.WORKLOADS)
    assert {t.cell for t in on_cpu if t.peer == "plain"} == set(CELLS)
    assert {t.cell for t in on_cpu if t.peer != "plain"} == set(bench.BENCHMARKED)
    assert {t.peer for t in on_gpu} == set(peers.PEERS) - {"products"}
    assert {(t.cell, t.precision) for t in on_gpu if t.peer == "cudnn"} == {
        ("lstm", "float32"),
        ("lstm", "tf32"),
    }
    assert len({t.shape for t in on_cpu}) == 8


def test_the_peers_of_a_case_follow_one_another(machine):
    """Ours is compiled once for all of them."""
    cases = [(t.cell, t.shape, t.workload, t.precision) for t in bench.trials("default")]
    changes = sum(a != b for a, b in itertools.pairwise(cases))
    assert changes + 1 == len(set(cases))


def test_what_is_missing_here_is_not_tried(machine):
    machine(without=("torch", "torch_compile", "cudnn"))
    assert {t.peer for t in bench.trials("default")} == {"plain", "nnx", "linen", "products"}
    with pytest.raises(InputError, match="no torch on a cpu"):
        bench.check(Trial("smoke", "lstm", SMALL, peer="torch"))


def test_torch_is_missing_where_it_is_not_installed(monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    for peer in ("torch", "torch_compile"):
        assert "pip install -e '.[bench]'" in str(peers.missing(peer, "cpu"))
    for peer in ("plain", "nnx", "linen"):
        assert peers.missing(peer, "cpu") is None


def test_a_compiler_is_missing_where_there_is_none(monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda name: name)
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "C++ compiler" in str(peers.missing("torch_compile", "cpu"))
    assert peers.missing("torch", "cpu") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell": "gur"}, "no cell 'gur'. Did you mean 'gru'"),
        ({"peer": "touch"}, "no peer 'touch'. Did you mean 'torch'"),
        ({"precision": "float23"}, "no precision 'float23'. Did you mean 'float32'"),
        ({"workload": "backward"}, "no workload 'backward'"),
        ({"pairs": 0}, "pairs must be above 0"),
        ({"shape": Shape(20, 0, 3, 3)}, "time must be above 0"),
        ({"precision": "tf32"}, "tf32 is the arithmetic of GPUs"),
        ({"cell": "lstm_peephole", "peer": "torch"}, "torch has no lstm_peephole"),
        ({"peer": "torch_compile", "shape": Shape(2, 36, 3, 3)}, "torch_compile has no gru"),
        ({"peer": "cudnn"}, "cudnn has no gru"),
        ({"cell": "lstm", "peer": "cudnn"}, "no cudnn on a cpu"),
    ],
)
def test_check(changes, message, machine):
    with pytest.raises(InputError, match=message):
        bench.check(replace(Trial("smoke", "gru", SMALL), **changes))


def test_check_asks_the_cell_about_its_widths(machine):
    with pytest.raises(ValueError, match="mut1 needs input_dim == hidden_dim"):
        bench.check(Trial("smoke", "mut1", Shape(2, 3, 4, 5)))


def test_checking_trials_starts_no_device():
    code = """
from experiments import cell_benchmark
from jax._src import xla_bridge
for trial in cell_benchmark.trials("smoke"):
    cell_benchmark.check(trial)
assert not xla_bridge.backends_are_initialized()
"""
    root = Path(bench.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, timeout=120)


# A trial


@pytest.fixture
def in_no_time(monkeypatch):
    monkeypatch.setattr(timing, "WARM_UP_SECONDS", 0.0)
    monkeypatch.setattr(timing, "SAMPLE_SECONDS", 1e-6)
    monkeypatch.setattr(timing, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(bench.roofline, "PRODUCT_SIZE", {})
    monkeypatch.setattr(bench.roofline, "COPIED_BYTES", 2**12)


def test_a_trial_from_beginning_to_end(in_no_time):
    metrics = bench.run(Trial("smoke", "gru", FEW_UNITS, pairs=2))
    json.dumps(metrics, allow_nan=False)
    assert metrics["n_pairs"] == 2
    assert metrics["parity_err"] < 1e-5
    assert metrics["peer_parity_err"] < 1e-5
    assert metrics["flops"] == 3 * 2 * 2 * 4 * 3 * 3 * (3 + 3)
    assert metrics["us_per_step"] == pytest.approx(1000 * metrics["t_ms_median"] / 4)
    fraction = max(metrics["floor_ms"].values()) / metrics["t_ms_median"]
    assert metrics["roofline_frac"] == pytest.approx(fraction)
    assert metrics["dots_in_loop"] != metrics["peer_dots_in_loop"]  # the plain scan does more
    assert metrics["trip_counts"] == metrics["peer_trip_counts"] == [4, 4]
    line = bench.table([row(Trial("smoke", "gru", FEW_UNITS, pairs=2), **metrics)]).rows[0]
    assert line["plain_ratio"] == metrics["ratio_median"]


def test_a_floor_is_held_to_nothing_and_its_column_says_so(in_no_time):
    trial = Trial("default", "mut3", FEW_UNITS, peer="products", pairs=2)
    metrics = bench.run(trial)
    json.dumps(metrics, allow_nan=False)
    assert metrics["parity_err"] < 1e-5  # ours is
    assert metrics["peer_parity_err"] is None
    assert metrics["peer_dots_in_loop"] == metrics["dots_in_loop"] == [3, 3]
    assert metrics["peer_trip_counts"] == metrics["trip_counts"] == [4, 4]
    table = bench.table([row(trial, **metrics)])
    assert table.rows[0]["products_ratio"] == metrics["ratio_median"]
    assert "products alone" in [column.title for column in table.columns]
    assert any("products alone: no competitor but a floor" in note for note in table.notes)


def test_nothing_is_timed_that_computes_something_else(in_no_time, monkeypatch):
    def wrong(case, peer):
        right = prepare(case, peer)
        outputs = {**right.outputs(), "d_w_xr": right.outputs()["d_w_xz"]}
        return Program(no_call, right.wait, lambda: outputs, right.facts)

    def no_call():
        pytest.fail("it was timed")

    prepare = peers.prepare
    monkeypatch.setattr(peers, "prepare", wrong)
    with pytest.raises(Disagreement, match="gru by jax"):
        bench.run(Trial("smoke", "gru", FEW_UNITS, pairs=2))


# The table


def row(trial: Trial, status: str = results.DONE, error: str | None = None, **metrics) -> dict:
    config = json.loads(json.dumps(as_dict(trial)))
    return {
        "trial_id": trial_id(trial),
        "config": config,
        "status": status,
        "error": error,
        "metrics": metrics,
    }


def measured(cell: str, shape: Shape, peer: str, ratio: float, ms: float = 7.0, **changes) -> dict:
    null_ok = changes.pop("null_ok", True)
    return row(
        Trial("default", cell, shape, peer=peer, **changes),
        ratio_median=ratio,
        ratio_p10_p90=[ratio - 0.1, ratio + 0.1],
        null_ratio=1.0 if null_ok else 1.2,
        null_ok=null_ok,
        t_ms_median=ms,
        peer_t_ms_median=ms * ratio,
        roofline_frac=0.25,
    )


A, B = CPU_SHAPES[0], CPU_SHAPES[2]


def line(table: tables.Table, cell: str, shape: str) -> dict:
    (found,) = (r for r in table.rows if (r["cell"], r["shape"]) == (cell, shape))
    return found


def test_a_row_is_a_cell_on_a_shape_and_its_ratio_to_each_peer():
    rows = [measured("lstm", A, "plain", 1.5, ms=6.0), measured("lstm", A, "torch", 0.8, ms=8.0)]
    table = bench.table(rows)
    assert len(table.rows) == 1  # a mean of one shape says nothing
    found = line(table, "lstm", "20×35, 200 → 200")
    assert found["plain"] == "1.50 [1.40-1.60]"
    assert found["torch"] == "0.80 [0.70-0.90]"
    assert found["ms"] == 7.0
    assert found["us_per_step"] == pytest.approx(200.0)
    assert found["roofline"] == 0.25
    assert (found["torch_ratio"], found["torch_p10"], found["torch_ms"]) == (0.8, 0.8 - 0.1, 6.4)
    assert found["section"] == "forward+backward · float32 · 15 pairs · default budget"
    shown = [column.key for column in table.columns if not column.data_only]
    assert shown == ["section", "cell", "shape", "ms", "us_per_step", "roofline", "plain", "torch"]


def test_geometric_mean_over_the_shapes_of_a_cell():
    rows = [
        measured("gru", A, "plain", 1.0),
        measured("gru", B, "plain", 4.0),
        measured("gru", A, "torch_compile", 3.0),
        measured("rnn", A, "plain", 9.0),
        measured("rnn", B, "plain", 1.0),
    ]
    table = bench.table(rows)
    shapes = [str(A), str(B)]
    assert [(r["cell"], r["shape"]) for r in table.rows] == [
        *(("rnn", shape) for shape in shapes),
        *(("gru", shape) for shape in shapes),
        ("rnn", "geometric mean of 2"),
        ("gru", "geometric mean of 2"),
    ]
    mean = line(table, "gru", "geometric mean of 2")
    assert mean["plain_ratio"] == pytest.approx(2.0)
    assert mean["plain"] == "2.00"
    assert mean["torch_compile"] == "3.00 of 1"
    assert "ms" not in mean
    assert line(table, "rnn", "geometric mean of 2")["plain_ratio"] == pytest.approx(3.0)
    assert line(table, "rnn", "geometric mean of 2")["torch_compile"] == "-"


def test_what_was_not_run_and_what_there_is_not():
    rows = [
        measured("gru", A, "torch_compile", 2.0),
        measured("lstm", A, "plain", 1.5),
        measured("lstm", A, "torch", 1.1),
    ]
    table = bench.table(rows)
    assert line(table, "gru", str(A))["plain"] == "not run"
    assert line(table, "gru", str(A))["torch"] == "not run"
    assert line(table, "lstm", str(A))["torch_compile"] == "-"  # torch has a layer for it


def test_a_trial_that_failed_says_so_and_why():
    error = "Traceback (most recent call last):\n  File ...\nDisagreement: off by 1.0e-01\n"
    failed = row(Trial("default", "gru", A, peer="torch"), "FAILED", error)
    table = bench.table([measured("gru", A, "plain", 1.5), failed])
    assert line(table, "gru", str(A))["torch"] == "FAILED"
    assert f"FAILED: gru {A} against torch: Disagreement: off by 1.0e-01" in table.notes
    alone = line(bench.table([failed]), "gru", str(A))
    assert "ms" not in alone


def test_a_disturbed_measurement_is_marked():
    table = bench.table([measured("gru", A, "plain", 1.5), measured("gru", B, "plain", 1.5)])
    assert bench.NULL_NOTE not in table.notes
    rows = [measured("gru", A, "plain", 1.5, null_ok=False), measured("gru", B, "plain", 1.5)]
    table = bench.table(rows)
    assert line(table, "gru", str(A))["plain"] == "1.50 [1.40-1.60] !"
    assert line(table, "gru", str(B))["plain"] == "1.50 [1.40-1.60]"
    assert line(table, "gru", "geometric mean of 2")["plain"] == "1.50 !"
    assert bench.NULL_NOTE in table.notes


def test_other_workloads_precisions_and_pairs_have_sections_of_their_own():
    rows = [
        measured("gru", A, "plain", 1.1),
        measured("gru", A, "plain", 1.2, workload="forward"),
        measured("gru", A, "plain", 1.3, precision="bfloat16"),
        measured("gru", A, "plain", 1.4, pairs=3),
    ]
    table = bench.table(rows)
    assert [r["plain_ratio"] for r in table.rows] == [1.2, 1.4, 1.1, 1.3]
    assert len({r["section"] for r in table.rows}) == 4


def test_a_first_sight_is_called_one():
    trial = Trial("smoke", "gru", SMALL, pairs=5)
    rows = [measured("gru", SMALL, "plain", 1.5)]
    assert bench.SMOKE_NOTE not in bench.table(rows).notes
    rows = [row(trial, **rows[0]["metrics"])]
    assert bench.SMOKE_NOTE in bench.table(rows).notes
    assert "smoke budget" in bench.table(rows).rows[0]["section"]


@pytest.mark.parametrize("format", tables.FORMATS)
def test_the_table_in_every_format(format):
    rows = [measured(cell, s, "plain", 1.5) for cell in ("rnn", "mut3") for s in (A, B)]
    assert "geometric mean of 2" in tables.render(bench.table(rows), format)


def test_peers_have_been_described():
    rows = [measured("gru", A, peer, 1.5) for peer in peers.PEERS]
    for peer in peers.PEERS.values():
        assert f"{peer.title}: {peer.what}." in bench.table(rows).notes
    assert math.isclose(np.mean([r["plain_ratio"] for r in bench.table(rows).rows]), 1.5)
