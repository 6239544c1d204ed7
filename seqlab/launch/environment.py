"""What the environment of a worker holds before its process starts, and why: one table.

What the user has set stays as it is, as does every flag in the user's XLA_FLAGS. Nothing here
imports jax, which reads most of these when it is imported.
"""

import functools
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from seqlab.tables import Column, Table

PLATFORMS = ("cpu", "gpu", "tpu")

# Values that only the machine knows
CACHE_FOLDER = "~/.cache/seqlab/compiled-UID"
MEMORY_SHARE = "0.75 / workers on the GPU"


@dataclass(frozen=True)
class Row:
    """A variable of the environment.

    Attributes:
        name: of the variable.
        value: what it is set to, or one of the two above.
        platforms: where.
        why: one line.
        measured: a ratio of times, of what and on what; or what there is to say instead.
        before_start: a process that runs already is not changed by it.
        unless: an older name of the variable, which may not be there as well.
    """

    name: str
    value: str
    platforms: tuple[str, ...]
    why: str
    measured: str = "unmeasured"
    before_start: bool = False
    unless: str | None = None


TABLE = (
    Row(
        name="GLIBC_TUNABLES",
        value="glibc.malloc.hugetlb=1",
        platforms=("cpu",),
        why="large temporaries, mapped afresh at every call, come in fewer pages",
        measured="0.93 of a step on Penn Treebank, two AMD EPYC cores",
        before_start=True,
    ),
    Row(
        name="NPROC",
        value="1",
        platforms=("cpu",),
        why="one core a worker: the number of threads can show in the last bits of a product",
        measured="not for speed",
    ),
    Row(
        name="XLA_FLAGS",
        value="--xla_gpu_enable_command_buffer=+WHILE --xla_gpu_graph_min_graph_size=1",
        platforms=("gpu",),
        why="meant to make a loop over time one CUDA graph; only where XLA takes these flags",
    ),
    Row(
        name="JAX_DEFAULT_MATMUL_PRECISION",
        value="float32",
        platforms=("gpu", "tpu"),
        why="cells are compared in the same arithmetic on every device, which is the papers'; "
        "JAX's own is tf32 on recent GPUs, bfloat16 on TPUs, float32 on CPUs",
        measured="not for speed; what it costs is unmeasured",
    ),
    Row(
        name="XLA_CLIENT_MEM_FRACTION",
        value=MEMORY_SHARE,
        platforms=("gpu",),
        why="each worker reserves its share when it starts, 0.75 if it is alone, as JAX does",
        measured="not for speed",
        unless="XLA_PYTHON_CLIENT_MEM_FRACTION",
    ),
    Row(
        name="JAX_COMPILATION_CACHE_DIR",
        value=CACHE_FOLDER,
        platforms=("gpu", "tpu"),
        why="a network is compiled once and not by each worker; not on CPUs, some of "
        "which refuse with an error what they have compiled (reported in jax-ml/jax#38445)",
        measured="unmeasured there; on one AMD EPYC core a trial of ten steps took 0.30 of its "
        "time, 0.45 without the next two (MUT1, medians of 5 pairs, a busy machine)",
    ),
    Row(
        name="JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
        value="0",
        platforms=("gpu", "tpu"),
        why="the many small programs of a start are kept too",
        measured="see JAX_COMPILATION_CACHE_DIR",
    ),
    Row(
        name="JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES",
        value="-1",
        platforms=("gpu", "tpu"),
        why="the same, whatever the file system",
        measured="see JAX_COMPILATION_CACHE_DIR",
    ),
)


def complete(
    environ: Mapping[str, str],
    platform: str,
    workers_per_device: int = 1,
    started: bool = False,
) -> dict[str, str]:
    """The environment with what the table adds to it; completing it again changes nothing.

    Args:
        environ: the user's.
        platform: one of PLATFORMS.
        workers_per_device: how many processes share the memory of one GPU.
        started: it is the environment of a process that runs already, and has not imported jax.
    """
    completed = dict(environ)
    for row in TABLE:
        if platform not in row.platforms or (started and row.before_start):
            continue
        if row.name == "XLA_FLAGS":
            completed |= _with_flags(row.value.split(), completed)
        elif row.name not in completed and row.unless not in completed:
            value = _value(row, workers_per_device)
            completed |= {} if value is None else {row.name: value}
    return completed


def in_force(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of the table that are set, whoever has set them."""
    return {row.name: environ[row.name] for row in TABLE if row.name in environ}


def _value(row: Row, workers_per_device: int) -> str | None:
    if row.value == MEMORY_SHARE:
        return f"{0.75 / workers_per_device:.3g}"
    if row.value == CACHE_FOLDER:
        folder = cache_folder()
        return None if folder is None else str(folder)
    return row.value


def _with_flags(flags: list[str], environ: Mapping[str, str]) -> dict[str, str]:
    """XLA_FLAGS with ours before the user's: of two values of a flag, the later one wins."""
    given = environ.get("XLA_FLAGS", "").split()
    if given and not given[0].startswith("-"):
        return {}  # it names a file of flags
    names = {flag.partition("=")[0] for flag in given}
    missing = [flag for flag in flags if flag.partition("=")[0] not in names]
    return {"XLA_FLAGS": " ".join(missing + given)} if missing and xla_takes(*missing) else {}


@functools.cache
def xla_takes(*flags: str) -> bool:
    """Whether this jaxlib has these flags and values: XLA aborts a process at one that it has not.

    A subprocess without an accelerator tries them. The plugins have the same flags, because JAX
    uses only plugins of its own version.
    """
    asked = subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"],
        env=os.environ | {"XLA_FLAGS": " ".join(flags), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
    )
    return asked.returncode == 0


# The cache holds code that is run, so that nobody else may write there.


def cache_folder() -> Path | None:
    """The user's folder of compiled programs, for the user alone; None where it cannot be that."""
    try:
        folder = _cache_root() / f"compiled-{os.getuid()}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            return None
        folder.chmod(0o700)
        (folder / "CACHEDIR.TAG").write_text(TAG)
    except (OSError, RuntimeError):  # the latter where there is no home
        return None  # slower, not wrong
    return folder


# What backups and people look for: https://bford.info/cachedir/
TAG = """Signature: 8a477f597d28d172789f06886806bc55
# Programs compiled by JAX for the workers of seqlab. The folder can be deleted at any time.
"""


def _cache_root() -> Path:
    if cache := os.environ.get("SEQLAB_CACHE"):
        return Path(cache).expanduser().absolute()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg).absolute() / "seqlab"
    return Path.home() / ".cache" / "seqlab"


def table() -> Table:
    """The table as people read it."""
    columns = (
        Column("name", "variable"),
        Column("value", "value"),
        Column("platforms", "on"),
        Column("why", "why"),
        Column("measured", "time, of what it was without"),
    )
    rows = tuple(
        {
            "name": row.name,
            "value": row.value,
            "platforms": ", ".join(row.platforms),
            "why": row.why,
            "measured": row.measured,
        }
        for row in TABLE
    )
    return Table("The environment of a worker", columns, rows)
