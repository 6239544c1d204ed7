"""The command line. Arguments are checked here, before anything that takes time is imported."""

import argparse
import os
import re
import sys
from typing import Any, NoReturn

from seqlab import commands, interruption
from seqlab.commands import EXPERIMENTS
from seqlab.errors import InputError, nearest
from seqlab.trial import BUDGETS

ENGINES = ("local", "slurm", "ray")
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
        The exit code: 0 all done, 1 some trial failed, 2 bad input, 3 a worker found the disk full,
        130 interrupted (resumable).
    """
    interruption.listen()
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
        interruption.ignore()
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="launch.py", description="Recurrent cells: run the grid, read the table.")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    names = sorted(p.stem for p in EXPERIMENTS.glob("*.py"))

    def add(name: str, command: Any, text: str) -> argparse.ArgumentParser:
        added = subparsers.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.set_defaults(command=command)
        return added

    add("list", commands.list_experiments, "the experiments")
    for name, command, text in (
        ("run", commands.run, "run an experiment's missing trials and print its table"),
        ("work", commands.work, "be one worker of a run"),
        ("status", commands.status, "the progress of an experiment"),
        ("table", commands.table, "the table of an experiment's results"),
        ("plot", commands.plot, "figures of an experiment's results, as png, svg and pdf"),
        ("report", commands.report, "everything about an experiment on one self-contained page"),
    ):
        sub = add(name, command, text)
        sub.add_argument("experiment", choices=names, metavar="EXPERIMENT", help=", ".join(names))
        sub.add_argument("--results-dir", help="default: $SEQLAB_RESULTS, or results")
        if name in ("run", "work"):
            sub.add_argument("--budget", choices=BUDGETS, default="default")
            sub.add_argument("--data-dir", help="original data files; default: $SEQLAB_DATA")
        else:
            sub.add_argument("--budget", choices=BUDGETS, help="only this one")
        if name not in ("table", "plot", "report"):
            sub.add_argument(
                "--set",
                action="append",
                default=[],
                metavar="PATH=V1,V2",
                help="run every trial with each of these values, e.g. optim.learning_rate=0.1,0.5",
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
            sub.add_argument("--columns", metavar="A,B", help="only these, by their keys in json")
            sub.add_argument(
                "--by", metavar="PATH,PATH", help="one row per group of these, e.g. model.cell,task"
            )
            sub.add_argument("--metric", metavar="NAME", help="what to compare, e.g. test_accuracy")
            sub.add_argument(
                "--best", action="store_true", help="add each group's best trial by validation loss"
            )
            sub.add_argument(
                "--sort", metavar="COLUMN", help="sort groups; --sort=-mean for the largest first"
            )
        if name == "plot":
            sub.add_argument("--output-dir", help="default: RESULTS/EXPERIMENT/plots")
        if name == "report":
            sub.add_argument(
                "--output", metavar="FILE", help="default: RESULTS/EXPERIMENT/report.html"
            )
        if name in ("plot", "report"):
            sub.add_argument("--by", metavar="PATH", help="what to compare, e.g. model.cell")
            sub.add_argument("--metric", metavar="NAME", help="what to show, e.g. test_nll")
            sub.add_argument(
                "--against", metavar="VALUE", help="a value of --by: show differences from it"
            )
        if name == "run":
            sub.add_argument("--workers", type=_positive, metavar="N", help="default: one a core")
            sub.add_argument(
                "--on", choices=ENGINES, default="local", help="who starts the workers"
            )
            sub.add_argument(
                "--engine-option",
                action="append",
                default=[],
                type=_assignment,
                metavar="KEY=VALUE",
                help="an option of submitit or Ray, e.g. timeout_min=60",
            )
            sub.add_argument("--retry-failed", action="store_true", help="run FAILED and OOM again")
            sub.add_argument("--fail-fast", action="store_true", help="stop at first FAILED or OOM")
            sub.add_argument(
                "--dry-run",
                action="store_true",
                help="say what it would take, and start nothing",
            )
        if name in ("run", "work"):
            sub.add_argument(
                "--attempts",
                type=_positive,
                default=3,
                metavar="K",
                help="attempts at a trial whose worker or device fails",
            )
            sub.add_argument(
                "--allow-changes", action="store_true", help="continue with changed code or data"
            )
            sub.add_argument("--tensorboard", action="store_true", help="write event files")
            sub.add_argument(
                "--pack",
                type=_pack,
                metavar="N|auto",
                help="train N trials of one shape as one program; default: auto, as many as fit "
                "into memory, and 1 on a CPU",
            )
            sub.add_argument(
                "--memory",
                type=_bytes,
                metavar="16GiB",
                help="how much of a device a pack may take; default: all but a tenth",
            )
        if name == "status":
            sub.add_argument("--follow", action="store_true", help="watch until all is done")
        if name == "work":
            sub.add_argument("--start", type=float, default=0.0, help="where to begin, from 0 to 1")

    systems = add("systems", commands.systems, "one table of all systems that have results")
    systems.add_argument("--results-dir", help="default: $SEQLAB_RESULTS, or results")
    systems.add_argument("--budget", choices=BUDGETS, help="only this one")
    systems.add_argument("--format", choices=FORMATS, default="text")

    sample = add("sample", commands.sample, "use a trained network: continue, label, translate …")
    speaking = sorted(n for n in names if "\ndef sampler(" in (EXPERIMENTS / f"{n}.py").read_text())
    sample.add_argument(
        "experiment", choices=speaking, metavar="EXPERIMENT", help=", ".join(speaking)
    )
    sample.add_argument("--prompt", metavar="TEXT", help="default: each line of standard input")
    sample.add_argument("--trial", metavar="ID", help="default: the best by validation loss")
    sample.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PATH=V1,V2",
        help="choose among the trials with these values, e.g. model.cell=gru",
    )
    sample.add_argument("--results-dir", help="default: $SEQLAB_RESULTS, or results")
    sample.add_argument("--data-dir", help="original data files; default: $SEQLAB_DATA")
    own = "default: the experiment's"
    sample.add_argument("--temperature", type=_temperature, metavar="T", help=own)
    sample.add_argument("--length", type=_positive, metavar="N", help=f"of what is written; {own}")
    sample.add_argument("--seed", type=_from_zero, metavar="N", help="default: 0")

    explain = add("explain", commands.explain, "which parts of a cell run in the loop over time")
    explain.add_argument("cell", metavar="CELL")
    for name, default in (("batch", 20), ("time", 35), ("input", 128), ("hidden", 128)):
        explain.add_argument(f"--{name}", type=_positive, default=default, metavar="N")

    account = add(
        "account", commands.account, "params, multiply-adds and memory of a network or a cell"
    )
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

    size = add("output-size", commands.output_size, "(N - F + 2P)/S + 1 of a convolution or a pool")
    size.add_argument("size", type=_positive, metavar="N", help="of the input")
    size.add_argument("window", type=_positive, metavar="F", help="of the filter")
    size.add_argument("--stride", type=_positive, default=1, metavar="S")
    size.add_argument("--padding", type=_from_zero, default=0, metavar="P", help="on each side")

    data = add("data", commands.data, "the data sets that are made from files")
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


def _temperature(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")
    return value


def _pack(text: str) -> int | str:
    if text == "auto":
        return text
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto nor a whole number from 1")
    return int(text)


def _from_zero(text: str) -> int:
    return 0 if text == "0" else _positive(text)


def _shape(text: str) -> tuple[int, ...]:
    return tuple(_positive(length.strip()) for length in text.split(","))


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return name, value


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
