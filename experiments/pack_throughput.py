"""Trials per hour: many trained as one program, against the same trials run one after another.

Claim: a small network leaves most of an accelerator idle; N of them as one program, a pack, fill
it. One network already keeps a CPU core busy: there a pack saves nothing.

    python launch.py run pack_throughput --budget smoke     one small network; half a minute
    NPROC=1 python launch.py run pack_throughput            three sizes; eight minutes on one core
    python launch.py run pack_throughput --budget paper     packs of up to 128; accelerators

Protocol: a language model of one layer, batch 20, unroll 35, 50 symbols, plain SGD; each member has
a seed and a learning rate of its own. Before timing, every member is checked against the same trial
trained alone. A dispatch of the pack and one of a single trial take turns in one process,
A, B, B, A; the ratio is N times the single trial's time divided by the pack's. Neither validation
nor compilation is timed.

On a CPU the alternative to a pack is one process per core, so only a measurement on one core,
NPROC=1, tells which is faster; with more cores, compare CPU time instead. Results with another
number of threads or of another machine belong in another --results-dir.

Source: ours.
"""

import functools
import operator
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqlab import packs, results, train
from seqlab.accounting.products import dot_flops
from seqlab.benchmark import roofline, timing
from seqlab.benchmark.case import PRECISIONS, Disagreement, Program, relative_error
from seqlab.cells import CELLS
from seqlab.data.stream import Stream
from seqlab.errors import InputError, nearest
from seqlab.models.rnn import stack
from seqlab.models.sequence import LanguageModel
from seqlab.optim import Settings
from seqlab.tables import Column, Table
from seqlab.train import SYMBOLS, TrainState, Windows
from seqlab.trial import BUDGETS

ALONE = True

BATCH_SIZE, UNROLL, NUM_SYMBOLS, NUM_WINDOWS = 20, 35, 50, 10
STEPS_OF_A_TRIAL = 2400  # ten epochs of 240 steps: a trial of `mut_vs_lstm_gru --budget smoke`
TOLERANCE = PRECISIONS["float32"].tolerance


@dataclass(frozen=True)
class Trial:
    """A pack of `members` networks, D = H, against one of them; `count` steps a dispatch."""

    budget: str
    cell: str
    hidden_dim: int
    members: int
    count: int = 10
    pairs: int = 7


def trials(budget: str) -> list[Trial]:
    """Cells × H × N. Dispatches are as long as those of `train.fit` in the paper's budget alone."""
    if budget == "smoke":
        return [Trial(budget, "lstm", 32, members, pairs=5) for members in (1, 8)]
    if budget not in BUDGETS:
        raise InputError(f"no budget {budget!r}.{nearest(budget, BUDGETS)}")
    is_paper = budget == "paper"
    make = functools.partial(Trial, count=50, pairs=15) if is_paper else Trial
    return [
        make(budget, cell, hidden_dim, members)
        for cell in (("lstm", "gru", "mut1") if is_paper else ("lstm",))
        for hidden_dim in (32, 128, 256)
        for members in ((1, 8, 32, 128) if is_paper else (1, 8, 32))
    ]


def check(trial: Trial) -> None:
    """Raise InputError for what cannot be run."""
    if trial.cell not in CELLS:
        raise InputError(f"no cell {trial.cell!r}.{nearest(trial.cell, CELLS)}")
    for name in ("hidden_dim", "members", "count", "pairs"):
        if getattr(trial, name) < 1:
            raise InputError(f"{name} must be above 0, not {getattr(trial, name)}")


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Compare what is learnt, then the times. Nothing is kept in the folder.

    Raises:
        Disagreement: a member of the pack learns something else than it does alone.
    """
    settings = _settings(trial.members)
    pack = prepare(trial, packs.init_states, packs.train_steps, settings)
    alone = prepare(trial, train.init_state, train.train_steps, _member(settings, 0))
    error = _checked_error(pack, alone, settings)
    ours, spent = timed(pack)
    theirs, alone_spent = timed(alone)
    samples, (calls, alone_calls) = timing.take_turns(ours, theirs, trial.pairs)
    peaks = roofline.measure("float32")

    of_a_step = timing.Samples(
        ours=samples.ours / trial.count, theirs=trial.members * samples.theirs / trial.count
    )
    times = timing.summary(of_a_step)
    seconds, flops = times["t_ms_median"] / 1000, step_flops(trial)
    return {
        **times,
        "alone_t_ms_median": times["peer_t_ms_median"] / trial.members,
        "cpu_ratio": trial.members * statistics.median(alone_spent) / statistics.median(spent),
        "trials_per_hour": 3600 * trial.members / (STEPS_OF_A_TRIAL * seconds),
        "flops": flops,
        "peaks": peaks._asdict(),
        "peak_share": flops / seconds / peaks.flops_per_second,
        "peak_mem": pack.peak_mem,
        "alone_peak_mem": alone.peak_mem,
        "parity_err": error,
        "compile_s": pack.compile_s,
        "inner": calls,
        "alone_inner": alone_calls,
        "threads": timing.num_threads(),
        "platform": jax.default_backend(),
    }


class Steps(NamedTuple):
    """A dispatch of training, compiled: that of a pack, or of one network alone.

    Attributes:
        init: settings -> state.
        call: (settings, state) -> (state, losses); the state is donated.
        settings: those that it is timed with.
        peak_mem: bytes by the compiler: arguments, outputs that overwrite none, temporaries.
        compile_s: seconds, tracing included.
    """

    init: Callable[[Settings], TrainState]
    call: Callable[[Settings, TrainState], tuple[TrainState, jax.Array]]
    settings: Settings
    peak_mem: int
    compile_s: float


def prepare(trial: Trial, init: Callable, train_steps: Any, settings: Settings) -> Steps:
    """Compile `train.train_steps` or `packs.train_steps`, which take the same arguments."""
    program, split = train.Program(_model(trial), SYMBOLS, "sgd"), _windows()
    first = jax.tree.map(lambda a: a[0], split)
    state = jax.eval_shape(functools.partial(init, program), settings, first)
    began = time.perf_counter()
    compiled = train_steps.lower(program, settings, state, split, trial.count).compile()
    compile_s = time.perf_counter() - began
    memory = compiled.memory_analysis()
    ends = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return Steps(
        init=lambda settings: init(program, settings, first),
        call=lambda settings, state: compiled(settings, state, split),
        settings=settings,
        peak_mem=ends - memory.alias_size_in_bytes + memory.temp_size_in_bytes,
        compile_s=compile_s,
    )


def step_flops(trial: Trial) -> int:
    """FLOP of the matrix products of a step of the pack, 3 × those on the way forward."""
    model = _model(trial)
    symbols = jax.ShapeDtypeStruct((BATCH_SIZE, UNROLL), jnp.int32)
    params = jax.eval_shape(model.init, jax.random.key(0), symbols)
    return 3 * trial.members * dot_flops(jax.make_jaxpr(model.apply)(params, symbols).jaxpr)


def timed(steps: Steps) -> tuple[Program, list[float]]:
    """Dispatches, each from where the last one has come to, and the CPU seconds of each."""
    state, spent = steps.init(steps.settings), []

    def call() -> np.ndarray:
        nonlocal state
        began = time.process_time()
        state, losses = steps.call(steps.settings, state)
        losses = np.asarray(losses)  # waits, as `fit` does after every dispatch
        spent.append(time.process_time() - began)
        return losses

    return Program(call, lambda losses: None, dict, {}), spent


def _checked_error(pack: Steps, alone: Steps, settings: Settings) -> float:
    """The largest relative error of a member: of its losses, or of a leaf of its params."""
    learnt, errors = _learnt(pack, settings), []
    for n in range(len(settings.seed)):  # pyright: ignore  # an array here
        own = jax.tree.map(operator.itemgetter(n), learnt)
        errors.append(relative_error(own, _learnt(alone, _member(settings, n))))
    if not max(errors) <= TOLERANCE:
        raise Disagreement(
            f"member {int(np.argmax(errors))} of {len(errors)} is off by {max(errors):.1e} from "
            f"what it is alone; {TOLERANCE:.0e} is allowed"
        )
    return max(errors)


def _learnt(steps: Steps, settings: Settings) -> dict[str, np.ndarray]:
    """The losses of the first dispatch and the params after it, by name."""
    state, losses = steps.call(settings, steps.init(settings))
    params = jax.tree_util.tree_leaves_with_path(state.params)
    return {
        "losses": np.asarray(losses),
        **{jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in params},
    }


def _model(trial: Trial) -> LanguageModel:
    layers = stack(CELLS[trial.cell], trial.hidden_dim, 1)
    return LanguageModel(layers, NUM_SYMBOLS, trial.hidden_dim)


def _windows() -> Windows:
    """A stream of symbols drawn at random: the time does not depend on what they are."""
    size = BATCH_SIZE * UNROLL * NUM_WINDOWS
    symbols = np.random.default_rng(0).integers(NUM_SYMBOLS, size=size, dtype=np.int32)
    return train.windows(Stream(symbols, np.ones(size, bool)), 0, BATCH_SIZE, UNROLL)


def _settings(members: int) -> Settings:
    """Of each member, [N]: seeds and learning rates are their own."""
    return Settings(
        learning_rate=jnp.linspace(0.5, 1.0, members),
        clip_norm=jnp.full(members, 5.0),
        init_scale=jnp.ones(members),
        dropout_rate=None,
        seed=jnp.arange(members, dtype=jnp.int32),
    )


def _member(settings: Settings, n: int) -> Settings:
    return jax.tree.map(operator.itemgetter(n), settings)


# The table

COLUMNS = (
    Column("section", "section"),
    Column("cell", "cell"),
    Column("hidden_dim", "H", "d"),
    Column("members", "N", "d"),
    Column("pack_ms", "pack, ms/step", ".2f"),
    Column("alone_ms", "alone, ms/step", ".2f"),
    Column("shown", "ratio"),
    Column("cpu_ratio", "CPU time", ".2f"),
    Column("trials_per_hour", "trials an hour", ",.0f"),
    Column("peak_share", "of the peak", ".2f"),
    Column("mib", "MiB", ",.1f"),
    Column("null_ratio", "null", ".3f"),
    Column("device", "on"),
    *(
        Column(name, name, data_only=True)
        for name in ("budget", "count", "pairs", "ratio", "p10", "p90", "alone_mib")
    ),
)
NOTES = (
    "ratio: N times the time of a step alone, divided by that of a step of the pack, median over "
    "pairs [10-90 % of pairs]: above 1, the pack is faster. CPU time: the same in CPU seconds. "
    "null: the ratio of the pack's own samples in a pair.",
    f"trials an hour: of {STEPS_OF_A_TRIAL:,} steps, without validation and compilation. of the "
    "peak: FLOP/s of the matrix products (three times those of the forward pass), relative to one "
    "large product in the same run. MiB: of the pack, as reported by the compiler.",
)
NULL_NOTE = (
    "!: the samples of the pack in a pair differ by more than 3 %; something disturbed them."
)
SMOKE_NOTE = "SMOKE: a first sight, few pairs of one small network."


def table(rows: list[dict[str, Any]]) -> Table:
    """A line a pack."""
    ordered = sorted(rows, key=_order)
    notes = list(NOTES)
    if any(row["status"] == results.DONE and not row["metrics"]["null_ok"] for row in rows):
        notes.append(NULL_NOTE)
    notes += [_failure(row) for row in ordered if row["status"] != results.DONE]
    if any(row["config"]["budget"] == "smoke" for row in rows):
        notes.append(SMOKE_NOTE)
    return Table("Packs", COLUMNS, tuple(map(_line, ordered)), "section", tuple(notes))


def _line(row: dict[str, Any]) -> dict[str, Any]:
    config, metrics = row["config"], row["metrics"]
    about = ("budget", "cell", "hidden_dim", "members", "count", "pairs")
    line = {name: config[name] for name in about}
    line["section"] = (
        f"{config['count']} steps a dispatch · {config['pairs']} pairs · {config['budget']} budget"
    )
    if row["status"] != results.DONE:
        return line | {"shown": row["status"]}
    low, high = metrics["ratio_p10_p90"]
    threads = metrics["threads"]
    on_cpu = metrics["platform"] == "cpu"  # where the threads are what computes
    mark = "" if metrics["null_ok"] else " !"
    return line | {
        "pack_ms": metrics["t_ms_median"],
        "alone_ms": metrics["alone_t_ms_median"],
        "shown": f"{metrics['ratio_median']:.2f} [{low:.2f}-{high:.2f}]{mark}",
        "ratio": metrics["ratio_median"],
        "p10": low,
        "p90": high,
        "cpu_ratio": metrics["cpu_ratio"] if on_cpu else None,
        "trials_per_hour": metrics["trials_per_hour"],
        "peak_share": metrics["peak_share"],
        "mib": metrics["peak_mem"] / 2**20,
        "alone_mib": metrics["alone_peak_mem"] / 2**20,
        "null_ratio": metrics["null_ratio"],
        "device": f"{threads} core{'s' * (threads > 1)}" if on_cpu else metrics["platform"],
    }


def _order(row: dict[str, Any]) -> tuple[int, ...]:
    config = row["config"]
    cells = [*CELLS, config["cell"]]
    return (
        BUDGETS.index(config["budget"]),
        config["count"],
        config["pairs"],
        cells.index(config["cell"]),
        config["hidden_dim"],
        config["members"],
    )


def _failure(row: dict[str, Any]) -> str:
    """Why there is a status in place of a ratio: the last line of the error."""
    config, lines = row["config"], (row["error"] or "").strip().splitlines()
    what = f"{config['members']} × {config['cell']} of {config['hidden_dim']}"
    return f"{row['status']}: {what}: {lines[-1] if lines else 'no reason known'}"
