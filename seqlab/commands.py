"""What the commands do. What takes time to import is imported by the command that needs it."""

import argparse
import ast
import contextlib
import dataclasses
import gc
import importlib
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab import interruption
from seqlab.errors import InputError, nearest
from seqlab.trial import BUDGETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"


def list_experiments(_: argparse.Namespace) -> int:
    for path in sorted(EXPERIMENTS.glob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        print(f"{path.stem}: {docstring.partition(chr(10))[0]}")
    return 0


def plan_of(options: argparse.Namespace, budget: str, root: Path) -> Any:
    from seqlab import trial
    from seqlab.launch.plan import Plan

    experiment: Any = importlib.import_module(f"experiments.{options.experiment}")
    trials = trial.set_values(trial.only(experiment.trials(budget), options.only), options.set)
    source = EXPERIMENTS / f"{options.experiment}.py"
    return Plan(options.experiment, experiment, trials, root, source)


def _check(plan: Any, options: argparse.Namespace) -> None:
    if options.tensorboard:
        from seqlab.launch import tensorboard

        tensorboard.check()
    _pack_size(options, plan)
    for trial in plan.first:
        try:
            plan.experiment.check(trial)
        except ValueError as error:  # a cell says of D and H that they do not fit
            raise InputError(str(error)) from error


def run(options: argparse.Namespace) -> int:
    """Run what is missing of an experiment, and print its table."""
    from seqlab import results
    from seqlab.launch import engine, progress

    plan = plan_of(options, options.budget, results.named_root(options.results_dir))
    _check(plan, options)
    starter = engine.named(options.on, dict(options.engine_option))
    num_workers = options.workers or starter.default_workers()
    if plan.alone:
        num_workers = _alone(options)
    if options.dry_run:
        _print(_forecast(plan, options, num_workers), options.format)
        return 0
    results.writable_root(options.results_dir, options.experiment)
    again = (results.FAILED, results.OOM) if options.retry_failed else ()
    _refuse_changes(plan, options, again)
    plan.forget([t for t, result in plan.known().values() if result and result["status"] in again])
    plan.prepare()
    with progress.GridProgress(plan) as shown:
        if shown.watch():
            failed_before = shown.failed

            def watch() -> int:
                missing = shown.watch()
                if options.fail_fast and shown.failed > failed_before:
                    raise _FailedFast
                return missing

            with contextlib.suppress(_FailedFast):
                engine.run(starter, _worker_command(plan, options), num_workers, watch)
    rows = [result for _, result in plan.known().values() if result]
    _print(_with_origin(plan.experiment, rows), options.format)
    missing = len(plan.known()) - len(rows)
    if missing:
        print(f"{missing} trials have no result: the same command goes on", file=sys.stderr)
    return int(missing > 0 or any(row["status"] in (results.FAILED, results.OOM) for row in rows))


class _FailedFast(Exception):
    """A trial has failed under --fail-fast."""


def _worker_command(plan: Any, options: argparse.Namespace) -> list[str]:
    """What follows `python` to start a worker of the same trials."""
    command = [str(EXPERIMENTS.parent / "launch.py"), "work", plan.name, "--budget", options.budget]
    command += ["--results-dir", str(plan.root), "--attempts", str(options.attempts)]
    command += [f"--only={value}" for value in options.only]
    command += [f"--set={value}" for value in options.set]
    command += ["--allow-changes"] * options.allow_changes
    command += [f"--pack={options.pack}"] * (options.pack is not None)
    command += [f"--memory={options.memory}"] * (options.memory is not None)
    return command + ["--tensorboard"] * options.tensorboard


def _refuse_changes(plan: Any, options: argparse.Namespace, again: tuple[str, ...] = ()) -> None:
    if not options.allow_changes and (changed := plan.changes(again)):
        raise InputError(changed)


def _alone(options: argparse.Namespace) -> int:
    """One worker, with all cores: it measures time."""
    if options.workers not in (None, 1):
        raise InputError(f"{options.experiment} measures time: one trial runs at a time")
    os.environ.setdefault("NPROC", str(len(os.sched_getaffinity(0))))
    return 1


def work(options: argparse.Namespace) -> int:
    """Be one worker of a run."""
    from seqlab import results
    from seqlab.launch import environment, local

    # a worker that was started by hand; jax reads these when it is imported, by the next line
    os.environ.update(environment.complete(os.environ, local.platform(), started=True))
    from seqlab.launch import worker

    root = results.writable_root(options.results_dir, options.experiment)
    plan = plan_of(options, options.budget, root)
    _check(plan, options)
    _refuse_changes(plan, options)
    plan.prepare()
    pack = _pack_size(options, plan)
    more = (options.tensorboard, pack, options.memory)
    terms = worker.Terms(options.attempts, options.allow_changes, *more)
    try:
        worker.work(plan, options.start, terms)
    except KeyboardInterrupt:
        interruption.ignore()
        return 130  # the launcher says the rest
    except worker.DiskFull as full:
        print(f"error: {full}", file=sys.stderr)
        return 3
    return 0


def _pack_size(options: argparse.Namespace, plan: Any) -> int | None:
    """How many trials make a pack; None for as many as fit.

    On a CPU one: a process a core trains as many trials in less time (`pack_throughput`).
    """
    from seqlab.launch import local, packing

    if packing.packable(plan.experiment) is None:
        if options.pack not in (None, 1):
            raise InputError(f"the trials of {plan.name} are not trained in packs")
        return 1
    if options.pack is None:
        return 1 if local.platform() == "cpu" else None
    return None if options.pack == "auto" else options.pack


def _forecast(plan: Any, options: argparse.Namespace, num_workers: int) -> Any:
    from seqlab.launch import forecast, packing

    pack = _pack_size(options, plan)
    experiment = packing.packable(plan.experiment)

    def size(trials: list[Any]) -> int:
        if experiment and pack is None and options.memory is not None:
            return packing.predicted_size(experiment, trials, options.memory)
        return pack or packing.LARGEST

    return forecast.table(plan, size, num_workers)


def _rows(options: argparse.Namespace) -> tuple[Any, list[dict[str, Any]]]:
    experiment, rows = _indexed(options)
    return experiment, list(rows)


def _indexed(options: argparse.Namespace) -> tuple[Any, Any]:
    from seqlab import index, results

    experiment: Any = importlib.import_module(f"experiments.{options.experiment}")
    gc.freeze()  # what was imported stays to the end: nothing of it is to be collected
    rows = index.rows(results.named_root(options.results_dir) / options.experiment)
    conditions = list(options.only)
    if options.budget and "config.budget" in rows.names:  # else all are the same
        conditions.append(f"budget={options.budget}")
    if not rows:
        raise InputError(_none_yet(options))
    return experiment, rows.select(conditions)


def _none_yet(options: argparse.Namespace) -> str:
    return f"no results of {options.experiment} yet: python launch.py run {options.experiment}"


def _grouped(options: argparse.Namespace) -> Any:
    """The table of one metric over groups; nothing is asked of the experiment."""
    from seqlab import aggregate, frame, index, results

    rows = index.table(results.named_root(options.results_dir) / options.experiment)
    if rows.is_empty():
        raise InputError(_none_yet(options))
    conditions = list(options.only)
    if options.budget and "config.budget" in rows.columns:  # else all are the same
        conditions.append(f"budget={options.budget}")
    rows = frame.select(rows, conditions)
    title = f"{options.metric} of {options.experiment}"
    table = aggregate.table(rows, title, options.by.split(","), options.metric, options.best)
    return aggregate.ordered(table, options.sort) if options.sort else table


def table(options: argparse.Namespace) -> int:
    from seqlab import tables

    if bool(options.by) != bool(options.metric):
        raise InputError("--by and --metric go together: --by model.cell --metric test_accuracy")
    if (options.best or options.sort) and not options.by:
        raise InputError("--best and --sort need --by and --metric")
    if options.by:
        table = _grouped(options)
    else:
        experiment, rows = _indexed(options)
        table = _with_origin(experiment, rows)
    if options.columns:
        table = tables.select(table, options.columns.split(","))
    _print(table, options.format)
    return 0


def plot(options: argparse.Namespace) -> int:
    from seqlab import results

    name = options.experiment
    experiment: Any = importlib.import_module(f"experiments.{name}")
    general = any((options.by, options.metric, options.against))
    if not general and not hasattr(experiment, "figures"):
        raise InputError(
            f"{name} has no figures of its own; --by PATH --metric NAME draws those of any "
            f"experiment, and its table is: python launch.py table {name}"
        )
    try:
        from seqlab import plots
    except ModuleNotFoundError as error:
        raise InputError("figures need matplotlib: pip install -e '.[plots]'") from error
    _, rows = _rows(options)
    figures = partial(_general_figures, options) if general else experiment.figures
    folder = options.output_dir or results.named_root(options.results_dir) / name / "plots"
    paths = plots.draw(figures, rows, Path(folder))
    if not paths:
        raise InputError("there is nothing to draw in these results")
    for path in paths:
        print(path)
    return 0


def _general_figures(
    options: argparse.Namespace, rows: list[dict[str, Any]]
) -> "dict[str, Figure]":
    from seqlab.figures import still

    return {chart.name: still.figure(chart) for chart in _charts(options, rows)}


def _charts(options: argparse.Namespace, rows: list[dict[str, Any]]) -> list[Any]:
    from seqlab import figures, results

    folder = results.named_root(options.results_dir) / options.experiment
    return figures.charts(rows, folder, options.by, options.metric, options.against)


def report(options: argparse.Namespace) -> int:
    """Everything about an experiment's results on one page."""
    import tempfile

    from seqlab import results

    try:
        from seqlab import plots, report
    except ModuleNotFoundError as error:
        needed = "a report needs matplotlib, plotly, itables: pip install -e '.[report]'"
        raise InputError(needed) from error
    name = options.experiment
    experiment, rows = _rows(options)
    with tempfile.TemporaryDirectory() as folder:
        drawn = []
        if hasattr(experiment, "figures") and any(r["status"] == results.DONE for r in rows):
            drawn = plots.draw(experiment.figures, rows, Path(folder), formats=("svg",))
        page = report.page(experiment.table(rows), rows, _charts(options, rows), drawn)
    output = Path(options.output or results.named_root(options.results_dir) / name / "report.html")
    try:
        output.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror}") from error
    print(output)
    return 0


def status(options: argparse.Namespace) -> int:
    from seqlab import results
    from seqlab.launch import status

    if (options.only or options.set) and not options.budget:
        raise InputError("--only and --set need --budget here: each budget has its own trials")
    if options.follow and options.format != "text":
        raise InputError(f"--follow is text only: use --format {options.format} without it")
    root = results.named_root(options.results_dir)
    budgets = [options.budget] if options.budget else BUDGETS
    plans = {budget: plan_of(options, budget, root) for budget in budgets}
    if options.follow:
        from rich.console import Console

        from seqlab.launch.follow import follow

        follow(plans, options.budget is None, Console())
        return 0
    _print(status.table(plans, everything=options.budget is None), options.format)
    return 0


def _with_origin(experiment: Any, rows: "Sequence[dict[str, Any]]") -> Any:
    """The experiment's table and, found out meanwhile, where its results come from."""
    from concurrent.futures import ThreadPoolExecutor

    from seqlab.launch.provenance import summary

    with ThreadPoolExecutor(1) as beside:
        origin = beside.submit(summary, rows)
        table = experiment.table(rows)
        return dataclasses.replace(table, notes=(*table.notes, origin.result()))


def _print(table: Any, format: str) -> None:
    from seqlab import tables

    if format == "text" and sys.stdout.isatty():
        from rich.console import Console

        from seqlab.tables.terminal import fitted

        console = Console()
        for part in fitted(table, console.width):
            console.print(part)
    else:
        print(tables.render(table, format))


def systems(options: argparse.Namespace) -> int:
    """One table of all systems with results: ours, the baselines and the published values."""
    from seqlab import results, systems

    root, tables = results.named_root(options.results_dir), {}
    for path in sorted(EXPERIMENTS.glob("*.py")):
        if (root / path.stem).is_dir() and (rows := _of_budget(root / path.stem, options.budget)):
            experiment: Any = importlib.import_module(f"experiments.{path.stem}")
            tables[path.stem] = experiment.table(rows)
    _print(systems.overview(tables), options.format)
    return 0


def _of_budget(folder: Path, budget: str | None) -> "Sequence[dict[str, Any]]":
    """The results of an experiment, of one budget or of all; there may be none."""
    from seqlab import index

    rows = index.rows(folder)
    if not rows or budget is None:
        return rows
    try:
        return rows.select([f"budget={budget}"])
    except InputError:
        return ()


def sample(options: argparse.Namespace) -> int:
    """What a trained network says of a line, or of each line of standard input."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # one line at a time: no device is to be taken
    from seqlab import results, sample

    name = options.experiment
    experiment: Any = importlib.import_module(f"experiments.{name}")
    root = results.named_root(options.results_dir)
    rows = results.rows(root, name)
    if not rows:
        raise InputError(_none_yet(options))
    if options.only or options.trial:
        rows = results.select(rows, options.only)
    else:
        rows = sample.meant(rows, experiment.SAMPLED)
    if options.trial:
        rows = _of_trial(rows, options)
    row, folder = sample.trained(root, name, rows)
    trial = sample.as_trial(experiment.Trial, row)
    asked = sample.Asked(options.temperature, options.length, options.seed)
    say = experiment.sampler(trial, folder, asked)
    print(f"trial {row['trial_id']}, {row['metrics']['params']:,} params", file=sys.stderr)
    if options.prompt is not None:
        print(say(options.prompt))
        return 0
    return sample.lines(sys.stdin, say)


def _of_trial(rows: list[dict[str, Any]], options: argparse.Namespace) -> list[dict[str, Any]]:
    found = [row for row in rows if row["trial_id"] == options.trial]
    if not found:
        wanted = "".join(f" with {condition}" for condition in options.only)
        near = nearest(options.trial, [row["trial_id"] for row in rows])
        raise InputError(f"no result of trial {options.trial}{wanted}.{near}")
    return found


def explain(options: argparse.Namespace) -> int:
    from seqlab.cells import CELLS
    from seqlab.recurrence.explain import explain

    if options.cell not in CELLS:
        raise InputError(f"no cell {options.cell!r}.{nearest(options.cell, CELLS)}")
    cell = CELLS[options.cell]
    try:
        print(explain(cell, options.batch, options.time, options.input, options.hidden))
    except ValueError as error:  # a cell says of D and H that they do not fit
        raise InputError(str(error)) from error
    return 0


def account(options: argparse.Namespace) -> int:
    import json

    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # shapes alone; no device is to be taken
    from seqlab.accounting import named, report

    sizes = named.Sizes(
        options.input, dict(options.param), options.hidden, options.steps, options.save
    )
    found = named.find(options.name, sizes)
    if options.fits is not None:
        table = report.fits(options.name, found, options.fits, options.dtype, options.optimizer)
        _print(table, options.format)
        return 0
    shown = report.Report(options.name, found, options.batch, options.dtype, options.compile)
    if options.format == "json":
        print(json.dumps(shown.as_json(), indent=1))
    else:
        _print(shown.as_table(), options.format)
    return 0


def output_size(options: argparse.Namespace) -> int:
    from seqlab.models.convnets.layers import output_size

    try:
        print(output_size(options.size, options.window, options.stride, options.padding))
    except ValueError as error:
        raise InputError(str(error)) from error
    return 0


def data(options: argparse.Namespace) -> int:
    from seqlab.data import catalogue

    if options.action == "list":
        for entry in catalogue.describe():
            print(f"{entry.name}: {entry.state}, {entry.size:,} bytes, {entry.folder}")
        return 0
    handled = _prepared if options.action == "prepare" else catalogue.verify
    if options.name:
        print(handled(options.name))
        return 0
    code = 0
    for name in catalogue.by_default():
        try:
            print(handled(name), flush=True)
        except InputError as error:  # the sets after it do not depend on it
            print(f"error: {name}: {error}", file=sys.stderr)
            code = 2
    return code


def _prepared(name: str) -> str:
    from seqlab.data import catalogue

    return f"{name}: prepared in {catalogue.prepare(name)}"
