"""What results were made by, and on what."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from seqlab import results
from seqlab.tables import Column, Table

COLUMNS = (
    Column("commit", "commit"),
    Column("code", "code sha256"),
    Column("packages", "packages"),
    Column("device", "device"),
    Column("machine", "machine"),
    Column("precision", "products"),
    Column("results", "results", "d"),
    Column("hours", "worker hours", ".2f"),
    Column("first", "first, UTC"),
    Column("last", "last, UTC"),
)


def origins(rows: Sequence[dict[str, Any]]) -> Table:
    """One line for each code and machine that made some of the results."""
    groups = defaultdict(list)
    for row in rows:
        groups[_origin(row.get("provenance", {}))].append(row)
    lines = []
    for origin, made in groups.items():
        finished = sorted(row["provenance"]["finished"] for row in made if "provenance" in row)
        hours = sum(row.get("wall_seconds", 0.0) for row in made) / 3600
        line = dict(origin) | {"results": len(made), "hours": hours}
        lines.append(line | {"first": _minute(finished[:1]), "last": _minute(finished[-1:])})
    note = f"Digest of all results, without times: {results.digest(rows)}."
    return Table("Code and machines", COLUMNS, tuple(lines), notes=(note,))


def _origin(source: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    packages = source.get("packages", {})
    told = {
        "commit": (source.get("git") or "unknown")[:10]
        + "+changes" * bool(source.get("git_dirty")),
        "code": (source.get("code_sha256") or "unknown")[:10],
        "packages": _listed(
            [f"python {source.get('python')}", *(f"{n} {v}" for n, v in packages.items() if v)]
        ),
        "device": _listed([source.get("platform"), source.get("device")]),
        "machine": _listed([source.get("host"), source.get("machine")]),
        "precision": source.get("matmul_precision") or "unknown",
    }
    return tuple(told.items())


def _minute(finished: list[str]) -> str:
    return "".join(finished)[:16].replace("T", " ")


def _listed(parts: Iterable[str | None]) -> str:
    return ", ".join(dict.fromkeys(part for part in parts if part))
