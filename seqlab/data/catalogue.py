"""The data sets that are prepared from files, by name."""

from pathlib import Path
from typing import Literal, NamedTuple

from seqlab.data import (
    characters,
    dna,
    images,
    music,
    prepared,
    ptb,
    scenes,
    sentiment,
    series,
    speech,
    strokes,
    tagging,
    translation,
    wikitext,
    word_eval,
)
from seqlab.errors import InputError, nearest

SOURCES: dict[str, prepared.Source] = {
    ptb.SOURCE.name: ptb.SOURCE,
    **music.SOURCES,
    **images.SOURCES,
    **wikitext.SOURCES,
    **characters.SOURCES,
    **sentiment.SOURCES,
    **tagging.SOURCES,
    **translation.SOURCES,
    **dna.SOURCES,
    **series.SOURCES,
    **speech.SOURCES,
    **strokes.SOURCES,
    **scenes.SOURCES,
    **word_eval.SOURCES,
}


class Entry(NamedTuple):
    """A set and its state on this machine; `size` in bytes."""

    name: str
    state: Literal["prepared", "damaged", "not prepared"]
    folder: Path
    size: int


def available() -> list[str]:
    """The names that `prepare` and `verify` know."""
    return list(SOURCES)


def prepare(name: str) -> Path:
    """Make the set ready, from SEQLAB_DATA or by download; returns its folder.

    Raises:
        InputError: unknown name, damaged original file, no network, or no room.
    """
    return prepared.prepare(_source(name))


def verify(name: str) -> str:
    """One line about the prepared set, after comparing every file with its manifest.

    Raises:
        InputError: unknown name, not prepared, or damaged.
    """
    source = _source(name)
    splits = prepared.verify(source)["splits"]
    counts = ", ".join(f"{split} {splits[split][source.unit]:,}" for split in splits)
    return f"{name}: whole, {counts} {source.unit} in {source.folder}"


def describe() -> list[Entry]:
    """Every set and its state on this machine."""
    return [_entry(source) for source in SOURCES.values()]


def _entry(source: prepared.Source) -> Entry:
    if not source.folder.exists():
        return Entry(source.name, "not prepared", source.folder, 0)
    size = sum(path.stat().st_size for path in source.folder.iterdir())
    try:
        prepared.verify(source)
    except InputError:
        return Entry(source.name, "damaged", source.folder, size)
    return Entry(source.name, "prepared", source.folder, size)


def _source(name: str) -> prepared.Source:
    if name not in SOURCES:
        raise InputError(f"no data set {name!r}.{nearest(name, SOURCES)}")
    return SOURCES[name]
