"""Where a result comes from: code, versions, device, flags."""

import datetime
import functools
import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from seqlab.launch.environment import in_force

PACKAGES = ("seqlab", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def provenance() -> dict[str, Any]:
    """Everything about this process that a result may depend on."""
    return {"finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")} | _here()


@functools.cache
def _here() -> dict[str, Any]:
    return {
        "git": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain")),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "machine": _machine(),
        "matmul_precision": jax.config.jax_default_matmul_precision  # pyright: ignore
        or "default",
        "environment": in_force(os.environ),
    }


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


def summary(rows: list[dict[str, Any]]) -> str:
    """One line for the foot of a table: how many results, from when, made by what, on what."""
    rows = [row for row in rows if "provenance" in row]
    if not rows:
        return "Nothing is known of where these results come from."
    sources = [row["provenance"] for row in rows]
    days = sorted({source["finished"][:10] for source in sources})
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
    hours = sum(row["wall_seconds"] for row in rows) / 3600
    return (
        f"{len(rows)} results, {hours:.1f} worker hours, {days[0]} to {days[-1]}: "
        f"commit {' '.join(commits)}; {', '.join(sorted(packages))}; {'; '.join(sorted(machines))}."
    )
