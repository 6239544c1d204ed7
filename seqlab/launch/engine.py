"""What starts workers. The results directory is the queue, so that no engine hands out work.

A worker is `python launch.py work EXPERIMENT …`, the same process under every engine and by hand.
"""

import importlib
import math
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from seqlab.errors import InputError, nearest

# By name, with what each needs installed. They are imported when they are asked for.
ENGINES = {
    "local": ("seqlab.launch.local", "Local", None),
    "slurm": ("seqlab.launch.slurm", "Slurm", "submitit"),
    "ray": ("seqlab.launch.ray", "Ray", "ray"),
}
POLL_SECONDS = 0.5


class Engine(Protocol):
    """Starts workers, says whether any is left, and stops them.

    All methods may raise InputError, one line, for what a person can fix.
    """

    def default_workers(self) -> int:
        """How many workers there is room for."""
        ...

    def start(self, command: list[str], num_workers: int) -> None:
        """Start workers.

        Args:
            command: what follows `python` to start one; `--start FRACTION` is appended for each, so
                that they begin apart in the list of trials.
            num_workers: how many.
        """
        ...

    def poll(self, missing: int) -> bool:
        """Whether any worker is left.

        Args:
            missing: how many trials have no result. While there are any, a worker that died is
                replaced; after several deaths without progress, no more.
        """
        ...

    def stop(self) -> None:
        """Have the workers save, give their trials back and end, and wait until they have.

        Raises:
            KeyboardInterrupt: again, while waiting: they have been killed.
        """
        ...


def named(name: str, options: dict[str, str]) -> Engine:
    """The engine of this name.

    Args:
        name: in `ENGINES`.
        options: what the engine's own library is told, by its names.

    Raises:
        InputError: its library is not installed, or there is no such option.
    """
    module, kind, extra = ENGINES[name]
    try:
        return getattr(importlib.import_module(module), kind)(options)
    except ModuleNotFoundError as error:
        if extra is None or error.name != extra:
            raise
        raise InputError(f"--on {name} needs {extra}: pip install -e '.[{name}]'") from error


def parsed(
    name: str, options: dict[str, str], kinds: Mapping[str, type]
) -> dict[str, str | int | float]:
    """The options of an engine as what its library takes.

    Args:
        name: of the engine.
        options: as text.
        kinds: str, int or float for each option that there is; numbers are from 0.

    Raises:
        InputError: there is no such option, or it takes something else.
    """
    return {option: _parsed(name, option, text, kinds) for option, text in options.items()}


def _parsed(name: str, option: str, text: str, kinds: Mapping[str, type]) -> str | int | float:
    if option not in kinds:
        raise InputError(f"--on {name} has no option {option!r}.{nearest(option, kinds)}")
    if not text or not text.isprintable():  # a line of its own would be a command of a job's script
        raise InputError(f"--engine-option {option} takes one line of text, not {text!r}")
    if kinds[option] is str:
        return text
    try:
        value = kinds[option](text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        what = "a whole number" if kinds[option] is int else "a number"
        raise InputError(f"--engine-option {option} takes {what}, not {text!r}")
    return value


def run(engine: Engine, command: list[str], num_workers: int, watch: Callable[[], int]) -> None:
    """Start workers and wait until they have finished.

    Args:
        engine: starts them.
        command: see `Engine.start`.
        num_workers: how many.
        watch: called twice a second; how many trials are missing.

    Raises:
        KeyboardInterrupt: after the workers have given their trials back.
    """
    try:
        engine.start(command, num_workers)
        while engine.poll(watch()):
            time.sleep(POLL_SECONDS)
    except BaseException:
        engine.stop()
        raise
