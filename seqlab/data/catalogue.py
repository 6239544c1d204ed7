"""The data sets that are prepared from files, by name."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from seqlab.data import (
    characters,
    coco,
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


def by_default() -> list[str]:
    """The names that are meant where none is named: all but coco_captions, a download of 38 GiB."""
    return list(SOURCES)


def prepare(name: str) -> Path:
    """Make the set ready, from SEQLAB_DATA or by download; returns its folder.

    Raises:
        InputError: unknown name, damaged original file, no network, or no room.
    """
    if name == coco.NAME:
        return coco.prepare()
    return prepared.prepare(_source(name))


def verify(name: str) -> str:
    """One line about the prepared set, after comparing every file with its manifest.

    Raises:
        InputError: unknown name, not prepared, or damaged.
    """
    if name == coco.NAME:
        return _whole(name, coco.verify(), "pictures", coco.folder())
    source = _source(name)
    splits = prepared.verify(source)["splits"]
    counts = {split: splits[split][source.unit] for split in splits}
    return _whole(name, counts, source.unit, source.folder)


def describe() -> list[Entry]:
    """Every set and its state on this machine."""
    entries = [
        _entry(source.name, source.folder, partial(prepared.verify, source))
        for source in SOURCES.values()
    ]
    return [*entries, _entry(coco.NAME, coco.folder(), partial(coco.check, coco.CocoCaptions()))]


def _entry(name: str, folder: Path, check: Callable[[], object]) -> Entry:
    if not folder.exists():
        return Entry(name, "not prepared", folder, 0)
    size = sum(path.stat().st_size for path in folder.iterdir())
    try:
        check()
    except InputError:
        return Entry(name, "damaged", folder, size)
    return Entry(name, "prepared", folder, size)


def _whole(name: str, counts: Mapping[str, int], unit: str, folder: Path) -> str:
    told = ", ".join(f"{split} {count:,}" for split, count in counts.items())
    return f"{name}: whole, {told} {unit} in {folder}"


def _source(name: str) -> prepared.Source:
    if name not in SOURCES:
        raise InputError(f"no data set {name!r}.{nearest(name, [*SOURCES, coco.NAME])}")
    return SOURCES[name]
