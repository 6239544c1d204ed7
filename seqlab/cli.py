"""The command line. Arguments are checked here, before anything that takes time is imported."""

import argparse
import ast
import dataclasses
import importlib
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from seqlab.errors import InputError, nearest
from seqlab.trial import BUDGETS

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"
FORMATS = ("text", "markdown", "csv", "latex", "json", "html")


class _Parser(argparse.ArgumentParser):
    """Errors in one line, with the nearest valid name."""

    def error(self, message: str) -> NoReturn:
        choice = re.match(r"argument (\S+): invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if choice:
            argument, given, choices = choice.groups()
            valid = [c.strip("' ") for c in choices.split(",")]
            message = f"{argument}: no {given!r}.{nearest(given, valid)}"
        unknown = re.match(r"unrecognized arguments: (\S+)", message)
        if unknown:
            flag = unknown[1].partition("=")[0]
            message = f"unknown argument {flag}.{nearest(flag, _flags(self))}"
        raise InputError(message)


def _flags(parser: argparse.ArgumentParser) -> set[str]:
    flags = set()
    for action in parser._actions:
        flags |= set(action.option_strings)
        if isinstance(action, argparse._SubParsersAction):
            flags |= set().union(*(_flags(p) for p in action.choices.values()))
    return flags


def main(arguments: list[str]) -> int:
    """Run one command.

    Returns:
        The exit code: 0 all done, 1 some trial failed, 2 bad input, 130 interrupted (resumable).
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)  # also where a shell has told us to ignore Ctrl-C
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # not under nohup
        signal.signal(signal.SIGHUP, _interrupt)
    try:
        options = _parser().parse_args(arguments)
        if getattr(options, "data_dir", None):
            os.environ["SEQLAB_DATA"] = options.data_dir
        code = options.command(options)
        sys.stdout.flush()  # here, where a reader that has gone away is no error
        return code
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _interrupt(number: int, _: object) -> NoReturn:
    raise KeyboardInterrupt(signal.Signals(number).name)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="launch.py", description="Recurrent cells: run the grid, read the table.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    names = sorted(p.stem for p in EXPERIMENTS.glob("*.py"))

    def add(name: str, command: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.set_defaults(command=command)
        return added

    add("list", _list, "the experiments")
    for name, command, text in (
        ("run", _run, "run what is missing of an experiment and print its table"),
        ("work", _work, "be one worker of a run"),
        ("status", _status, "how far an experiment is"),
        ("table", _table, "the table of an experiment's results"),
        ("plot", _plot, "the figures of an experiment's results, as png and svg"),
    ):
        sub = add(name, command, text)
        sub.add_argument("experiment", choices=names, metavar="EXPERIMENT", help=", ".join(names))
        sub.add_argument("--results-dir", help="default: $SEQLAB_RESULTS, or results")
        if name in ("run", "work"):
            sub.add_argument("--budget", choices=BUDGETS, default="default")
            sub.add_argument("--data-dir", help="original data files; default: $SEQLAB_DATA")
        else:
            sub.add_argument("--budget", choices=BUDGETS, help="only this one")
        if name not in ("table", "plot"):
            sub.add_argument(
                "--set",
                action="append",
                default=[],
                metavar="PATH=V1,V2",
                help="give a field of every trial these values, e.g. optim.learning_rate=0.1,0.5",
            )
        sub.add_argument(
            "--only",
            action="append",
            default=[],
            metavar="PATH=V1,V2",
            help="keep the trials with these values, e.g. task=xml",
        )
        if name in ("run", "status", "table"):
            sub.add_argument("--format", choices=FORMATS, default="text")
        if name == "table":
            sub.add_argument("--columns", metavar="A,B", help="these alone, by their keys in json")
        if name == "plot":
            sub.add_argument("--output-dir", help="default: RESULTS/EXPERIMENT/plots")
        if name == "run":
            sub.add_argument("--workers", type=_positive, help="default: one a core")
            sub.add_argument("--retry-failed", action="store_true", help="run FAILED and OOM again")
        if name == "work":
            sub.add_argument("--start", type=float, default=0.0, help="where in the list to begin")

    explain = add("explain", _explain, "what of a cell runs in the loop over time")
    explain.add_argument("cell", metavar="CELL")
    for name, default in (("batch", 20), ("time", 35), ("input", 128), ("hidden", 128)):
        explain.add_argument(f"--{name}", type=_positive, default=default, metavar="N")

    account = add("account", _account, "params, multiply-adds and memory of a network or a cell")
    account.add_argument(
        "name", metavar="NAME", help="a network, a cell, or FILE.py:NAME of one's own"
    )
    account.add_argument(
        "--input", action="append", default=[], type=_shape, metavar="H,W,C", help="without batch"
    )
    account.add_argument(
        "--param",
        action="append",
        default=[],
        type=_named_shape,
        metavar="NAME=N,M",
        help="the shape of a function's argument that is a parameter",
    )
    account.add_argument("--batch", type=_positive, default=1, metavar="N")
    account.add_argument("--hidden", type=_positive, default=128, metavar="N", help="of a cell")
    account.add_argument("--steps", type=_positive, default=35, metavar="N", help="of a cell")
    account.add_argument(
        "--save", choices=("products", "carries", "segments"), default="products", help="of a cell"
    )
    account.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    account.add_argument(
        "--compile", action="store_true", help="ask the compiler (of JAX_PLATFORMS, or cpu) as well"
    )
    account.add_argument(
        "--fits", type=_bytes, metavar="16GiB", help="the largest batch in so much memory"
    )
    account.add_argument(
        "--optimizer",
        choices=("sgd", "momentum", "adam"),
        default="sgd",
        help="the training step that --fits compiles",
    )
    account.add_argument("--format", choices=FORMATS, default="text")

    size = add("output-size", _output_size, "(N - F + 2P)/S + 1 of a convolution or a pool")
    size.add_argument("size", type=_positive, metavar="N", help="of the input")
    size.add_argument("window", type=_positive, metavar="F", help="of the filter")
    size.add_argument("--stride", type=_positive, default=1, metavar="S")
    size.add_argument("--padding", type=_from_zero, default=0, metavar="P", help="on each side")

    data = add("data", _data, "the data sets that are made from files")
    data.add_argument(
        "action", choices=("list", "prepare", "verify"), metavar="list|prepare|verify"
    )
    data.add_argument("name", nargs="?", help="a data set")
    data.add_argument("--data-dir", help="original data files; default: $SEQLAB_DATA")
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _from_zero(text: str) -> int:
    return 0 if text == "0" else _positive(text)


def _shape(text: str) -> tuple[int, ...]:
    return tuple(_positive(length.strip()) for length in text.split(","))


def _named_shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, equals, shape = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=N,M")
    return name, _shape(shape)


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount of memory such as 16GiB")
    number, unit = found.groups()
    base = 1000 if unit and not unit.endswith("i") else 1024
    return int(float(number) * base ** (" KMGT".index(unit[0]) if unit else 0))


def _list(_: argparse.Namespace) -> int:
    for path in sorted(EXPERIMENTS.glob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        print(f"{path.stem}: {docstring.partition(chr(10))[0]}")
    return 0


def _plan(options: argparse.Namespace, budget: str, root: Path) -> Any:
    from seqlab import trial
    from seqlab.launch.plan import Plan

    experiment: Any = importlib.import_module(f"experiments.{options.experiment}")
    trials = trial.set_values(trial.only(experiment.trials(budget), options.only), options.set)
    return Plan(options.experiment, experiment, trials, root)


def _check(plan: Any) -> None:
    for trial in plan.first:
        try:
            plan.experiment.check(trial)
        except ValueError as error:  # a cell says of D and H that they do not fit
            raise InputError(str(error)) from error


def _run(options: argparse.Namespace) -> int:
    from seqlab import results
    from seqlab.launch import local, progress

    plan = _plan(options, options.budget, results.named_root(options.results_dir))
    _check(plan)
    num_workers = options.workers or local.default_workers()
    if plan.experiment.ALONE:
        num_workers = _alone(options)
    results.writable_root(options.results_dir, options.experiment)
    if options.retry_failed:
        for t, result in plan.known().values():
            if result and result["status"] in (results.FAILED, results.OOM):
                plan.forget(t)
    command = [str(EXPERIMENTS.parent / "launch.py"), "work", plan.name, "--budget", options.budget]
    command += ["--results-dir", str(plan.root)]
    command += [f"--only={value}" for value in options.only]
    command += [f"--set={value}" for value in options.set]
    with progress.GridProgress(plan) as shown:
        if shown.watch():
            local.run(command, num_workers, shown.watch)
    rows = [result for _, result in plan.known().values() if result]
    _print(_with_origin(plan.experiment.table(rows), rows), options.format)
    missing = len(plan.known()) - len(rows)
    if missing:
        print(f"{missing} trials have no result: their workers died", file=sys.stderr)
    return int(missing > 0 or any(row["status"] in (results.FAILED, results.OOM) for row in rows))


def _alone(options: argparse.Namespace) -> int:
    """One worker, with all cores: it measures time."""
    if options.workers not in (None, 1):
        raise InputError(f"{options.experiment} measures time: one trial runs at a time")
    os.environ.setdefault("NPROC", str(len(os.sched_getaffinity(0))))
    return 1


def _work(options: argparse.Namespace) -> int:
    from seqlab import results
    from seqlab.launch import environment, local

    # a worker that was started by hand; jax reads these when it is imported, by the next line
    os.environ.update(environment.complete(os.environ, local.platform(), started=True))
    from seqlab.launch import worker

    root = results.writable_root(options.results_dir, options.experiment)
    plan = _plan(options, options.budget, root)
    _check(plan)
    try:
        worker.work(plan, options.start)
    except KeyboardInterrupt:
        return 130  # the launcher says the rest
    return 0


def _rows(options: argparse.Namespace) -> tuple[Any, list[dict[str, Any]]]:
    from seqlab import results

    experiment: Any = importlib.import_module(f"experiments.{options.experiment}")
    rows = results.load(results.named_root(options.results_dir), options.experiment)
    conditions = list(options.only)
    if options.budget and any("budget" in row["config"] for row in rows):  # else all are the same
        conditions.append(f"budget={options.budget}")
    if not rows:
        raise InputError(
            f"no results of {options.experiment} yet: python launch.py run {options.experiment}"
        )
    return experiment, results.select(rows, conditions)


def _table(options: argparse.Namespace) -> int:
    from seqlab import tables

    experiment, rows = _rows(options)
    table = _with_origin(experiment.table(rows), rows)
    if options.columns:
        table = tables.select(table, options.columns.split(","))
    _print(table, options.format)
    return 0


def _plot(options: argparse.Namespace) -> int:
    from seqlab import results

    name = options.experiment
    experiment: Any = importlib.import_module(f"experiments.{name}")
    if not hasattr(experiment, "figures"):
        raise InputError(f"{name} has no figures; its table: python launch.py table {name}")
    try:
        from seqlab import plots
    except ModuleNotFoundError as error:
        raise InputError("figures need matplotlib: pip install -e '.[plots]'") from error
    _, rows = _rows(options)
    folder = options.output_dir or results.named_root(options.results_dir) / name / "plots"
    for path in plots.draw(experiment.figures, rows, Path(folder)):
        print(path)
    return 0


def _status(options: argparse.Namespace) -> int:
    from seqlab import results
    from seqlab.launch import status

    if (options.only or options.set) and not options.budget:
        raise InputError("--only and --set need --budget here: each budget has its own trials")
    root = results.named_root(options.results_dir)
    budgets = [options.budget] if options.budget else BUDGETS
    plans = {budget: _plan(options, budget, root) for budget in budgets}
    _print(status.table(plans, everything=options.budget is None), options.format)
    return 0


def _with_origin(table: Any, rows: list[dict[str, Any]]) -> Any:
    from seqlab.launch.provenance import summary

    return dataclasses.replace(table, notes=(*table.notes, summary(rows)))


def _print(table: Any, format: str) -> None:
    from seqlab import tables

    if format == "text" and sys.stdout.isatty():
        from rich.console import Console

        console = Console()
        for part in tables.fitted(table, console.width):
            console.print(part)
    else:
        print(tables.render(table, format))


def _explain(options: argparse.Namespace) -> int:
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


def _account(options: argparse.Namespace) -> int:
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


def _output_size(options: argparse.Namespace) -> int:
    from seqlab.models.convnets.layers import output_size

    try:
        print(output_size(options.size, options.window, options.stride, options.padding))
    except ValueError as error:
        raise InputError(str(error)) from error
    return 0


def _data(options: argparse.Namespace) -> int:
    from seqlab.data import catalogue

    if options.action == "list":
        for entry in catalogue.describe():
            print(f"{entry.name}: {entry.state}, {entry.size:,} bytes, {entry.folder}")
        return 0
    names = [options.name] if options.name else catalogue.available()
    for name in names:
        if options.action == "prepare":
            print(f"{name}: prepared in {catalogue.prepare(name)}")
        else:
            print(catalogue.verify(name))
    return 0
