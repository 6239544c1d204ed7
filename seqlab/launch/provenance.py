"""Where a result comes from: code, versions, device, flags."""

import datetime
import functools
import hashlib
import json
import os
import platform
import re
import socket
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from seqlab.errors import Changed
from seqlab.launch import claims
from seqlab.launch.environment import in_force

PACKAGES = ("seqlab", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
# The parts of the package that no result depends on: they start trials and show results.
AROUND = (
    *("launch", "tables", "figures", "report", "cli.py", "commands.py"),
    *("results.py", "index.py", "frame.py", "forms.py", "rows.py", "aggregate.py"),
    *("plots.py", "comparison.py", "intervals.py"),
)
PACKAGE = Path(__file__).parent.parent
ORIGIN = "origin.json"


def provenance(source: Path | None = None) -> dict[str, Any]:
    """Everything about this process that a result may depend on."""
    finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"finished": finished} | here(source)


@functools.cache
def here(source: Path | None = None) -> dict[str, Any]:
    """What does not change while this process lives.

    Args:
        source: the file of the experiment.
    """
    import jax  # here: only looking needs no jax, which is slow to import

    return code(source) | {
        "platform": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "machine": _machine(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "matmul_precision": jax.config.jax_default_matmul_precision  # pyright: ignore
        or "default",
        "environment": in_force(os.environ),
    }


@functools.cache
def code(source: Path | None = None) -> dict[str, Any]:
    """The part of the provenance that needs no device, so that a launcher can ask for it, too."""
    return {
        "git": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain")),
        "code_sha256": _code_sha256(source),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _code_sha256(source: Path | None) -> str:
    """Of the experiment's file and of all of the package that a result depends on."""
    files = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    files = {name: path for name, path in files.items() if name.split("/")[0] not in AROUND}
    if source is not None:
        files["experiment"] = source
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


# Trials that were begun elsewhere, or before


def begin(kept: Path, source: Path | None, allow_changes: bool) -> None:
    """Note what a trial is begun with, in the folder of its attempt.

    Raises:
        Changed: it was begun with other code, and that is not allowed.
    """
    from seqlab import history

    path = kept / ORIGIN
    if allow_changes:
        (kept / history.DATA).unlink(missing_ok=True)
    if path.exists():
        changed = difference([_load(path)], source)
        if changed is None:
            return
        if not allow_changes:
            raise Changed(changed)
    history.note(path, json.dumps(code(source)))


def origin(folder: Path) -> dict[str, Any] | None:
    """What the unfinished trial in `folder` was begun with; None where none was begun."""
    kept = claims.work_folder(folder)
    path = kept / ORIGIN if kept else None
    return _load(path) if path and path.exists() else None


def _load(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except ValueError:  # damaged: of unknown origin
        found = {}
    return found if isinstance(found, dict) else {}


def difference(origins: Iterable[dict[str, Any]], source: Path | None) -> str | None:
    """In one line, how the code and packages here differ from those of earlier work."""
    ours, changed = code(source), Counter()
    for theirs in origins:
        parts = []
        if theirs.get("code_sha256") != ours["code_sha256"]:
            parts.append(f"code {_code(theirs)} then, {_code(ours)} now")
        for name, version in ours["packages"].items():
            before = theirs.get("packages", {}).get(name)
            if before != version and name != "seqlab":
                parts.append(f"{name} {before} then, {version} now")
        changed[", ".join(parts)] += 1
    del changed[""]
    if not changed:
        return None
    said = "; ".join(f"{count} of the trials: {what}" for what, count in changed.most_common(3))
    return (
        f"the code has changed since this was begun ({said}). "
        "--allow-changes goes on all the same, another --results-dir begins anew"
    )


def _code(origin: dict[str, Any]) -> str:
    commit = (origin.get("git") or "no commit")[:10] + "+changes" * bool(origin.get("git_dirty"))
    return f"{(origin.get('code_sha256') or 'unknown')[:8]} ({commit})"


def _machine() -> str:
    """The processor in its own words, and how many cores of it there are to use."""
    cores = len(os.sched_getaffinity(0))
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*)$", info.read_text(), re.M) if info.exists() else []
    return f"{cores} cores of {names[0] if names else platform.machine()}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """One line for the foot of a table: how many results, from when, made by what, on what."""
    from seqlab.rows import Rows  # here: polars takes time to import

    found = Rows.of(rows)
    seen = found.columns(("wall_seconds", "provenance.finished"))
    seen = seen.filter(found.by_form(lambda form: "provenance" in form, bool))
    if seen.is_empty():
        return "The origin of these results is not known."
    different = ("git", "git_dirty", "platform", "device", "machine")
    columns = [f"provenance.{name}" for name in different]
    origins = found.different(columns, "provenance")
    sources = [row["provenance"] for row in origins if "provenance" in row]
    days = sorted(seen["provenance.finished"].str.head(10).unique())
    commits = sorted(
        {(s["git"] or "unknown")[:10] + "+changes" * bool(s["git_dirty"]) for s in sources}
    )
    packages = {
        f"{name} {source['packages'][name]}"
        for source in sources
        for name in ("jax", "flax", "optax")
    }
    machines = {
        ", ".join(filter(None, (s["platform"], s["device"], s.get("machine")))) for s in sources
    }
    machine = "; ".join(sorted(machines))
    hours = sum(seen["wall_seconds"].to_list()) / 3600
    return (
        f"{len(seen)} results, {hours:.1f} worker hours, {days[0]} to {days[-1]}: "
        f"commit {' '.join(commits)}; {', '.join(sorted(packages))}; {machine}; "
        f"digest without times {found.digest()[:16]}."
    )
