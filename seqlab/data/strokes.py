"""Drawings as strokes of a pen: sheep, characters of Japanese, letters of fifty alphabets.

The sheep are of Koblin's Sheep Market, licensed for non-commercial use (CC BY-NC 4.0), the
characters of KanjiVG (CC BY-SA 3.0): they are read, never passed on.
"""

import functools
import io
import zipfile
import zlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from seqlab.data import prepared
from seqlab.data.examples import Examples, Ragged
from seqlab.data.files import Original
from seqlab.data.ranges import check_range
from seqlab.errors import InputError, nearest

LARGEST = 1000  # of dx and dy, before scaling: a longer way is a slip of the pen
_SPLITS = ("train", "valid", "test")
_FIELDS = {
    **{f"{split}_points": ("int16", 2) for split in _SPLITS},
    **{f"{split}_lengths": ("int32", 1) for split in _SPLITS},
}
_DRAWINGS_PER_RECORD = 500


@dataclass(frozen=True)
class Strokes:
    """Which drawings: aaron_sheep, short_kanji or omniglot.

    Those of more than `max_length` points are left out.
    """

    name: str = "aaron_sheep"
    max_length: int = 250

    def __post_init__(self):
        if self.name not in SOURCES:
            raise InputError(f"no drawings {self.name!r}.{nearest(self.name, SOURCES)}")
        check_range(2, max_length=self.max_length)


class StrokeDataset(NamedTuple):
    """Three splits and the scale of their numbers.

    Attributes:
        train, valid, test: inputs float32 [N, 3], for each point of a drawing the offset from the
            point before, dx to the right and dy down, and 1 where the pen is lifted after it, else
            0; the targets are the inputs, for drawings are to be generated.
        scale: dx and dy times this are in the unit of the file.
    """

    train: Examples
    valid: Examples
    test: Examples
    scale: float


def load(config: Strokes) -> StrokeDataset:
    """Drawings in the published splits; offsets are clipped to ±1,000 and scaled.

    The scale is the standard deviation of all dx and dy of train before clipping.

    Raises:
        InputError: the data is not there or is damaged, or no drawing of a split is so short.

    Source: Ha and Eck 2017, A Neural Representation of Sketch Drawings; the sets are those of
        github.com/hardmaru/sketch-rnn-datasets.
    """
    records = prepared.load(SOURCES[config.name])
    published = {split: _drawings(records.joined(split)) for split in _SPLITS}
    drawings = {split: _short(published[split], config, split) for split in _SPLITS}
    scale = float(drawings["train"].values[:, :2].astype(np.float64).std())
    examples = {}
    for split, (points, lengths) in drawings.items():
        values = points.astype(np.float32)
        values[:, :2] = values[:, :2].clip(-LARGEST, LARGEST) / np.float32(scale)
        examples[split] = Examples(Ragged(values, lengths), Ragged(values, lengths))
    return StrokeDataset(**examples, scale=scale)


def check(config: Strokes) -> None:
    """Raise the InputError that `load` would raise, before any work has started."""
    prepared.check(SOURCES[config.name])


def _drawings(split: dict[str, np.ndarray]) -> Ragged:
    starts = np.flatnonzero(split["begins"])
    lengths = np.diff(starts, append=len(split["begins"])).astype(np.int32)
    return Ragged(split["points"], lengths)


def _short(drawings: Ragged, config: Strokes, split: str) -> Ragged:
    short = drawings.lengths <= config.max_length
    if not short.any():
        raise InputError(
            f"max_length: no drawing of {split} of {config.name} has {config.max_length} points "
            f"or less; the shortest has {drawings.lengths.min()}"
        )
    return Ragged(drawings.values[np.repeat(short, drawings.lengths)], drawings.lengths[short])


# The published files


def read_strokes(content: bytes, name: str) -> dict[str, Ragged]:
    """The drawings of each split in an npz file of train, valid and test `points` and `lengths`.

    Args:
        name: what to call the file where it is not what it should be.

    Returns:
        Points int16 [N, 3] as (dx, dy, pen), and lengths int32, which add up to N.

    Raises:
        InputError: another format or field; lengths that do not fit; a pen neither up nor down.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {field: archive[field] for field in archive.files}
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{name}: expected an npz of numbers, found {error}") from error
    for field in arrays:
        if field not in _FIELDS:
            raise InputError(f"{name}: no field {field!r}.{nearest(field, _FIELDS)}")
    for field, (dtype, dimensions) in _FIELDS.items():
        if field not in arrays:
            raise InputError(f"{name}: expected a field {field}, found none")
        found = arrays[field]
        if (found.dtype, found.ndim) != (np.dtype(dtype), dimensions):
            raise InputError(
                f"{name}: expected {field} of {dtype} in {dimensions} dimensions, "
                f"found {found.dtype} in {found.ndim}"
            )
    return {
        split: _fitting(arrays[f"{split}_points"], arrays[f"{split}_lengths"], f"{name}: {split}")
        for split in _SPLITS
    }


def _fitting(points: np.ndarray, lengths: np.ndarray, where: str) -> Ragged:
    if points.shape[1] != 3:
        raise InputError(f"{where}: expected points of (dx, dy, pen), found {points.shape[1]} each")
    if not len(lengths) or lengths.min() < 1 or lengths.sum() != len(points):
        raise InputError(f"{where}: the lengths do not add up to {len(points)} points, 1 or more")
    if not np.isin(points[:, 2], (0, 1)).all():
        raise InputError(f"{where}: expected a pen of 0 or 1, found {points[:, 2].max()}")
    return Ragged(points, lengths)


def _parse(npz: bytes, *, name: str) -> prepared.Records:
    splits = {
        split: [{"points": run.values, "begins": _begins(run.lengths)} for run in _runs(drawings)]
        for split, drawings in read_strokes(npz, name).items()
    }
    return prepared.Records(splits, symbols=())


def _runs(drawings: Ragged) -> list[Ragged]:
    cuts = np.arange(_DRAWINGS_PER_RECORD, len(drawings.lengths), _DRAWINGS_PER_RECORD)
    ends = np.cumsum(drawings.lengths)[cuts - 1]
    return [
        Ragged(points, lengths)
        for points, lengths in zip(
            np.split(drawings.values, ends), np.split(drawings.lengths, cuts), strict=True
        )
    ]


def _begins(lengths: np.ndarray) -> np.ndarray:
    """uint8 [N]: 1 at the first point of each drawing."""
    begins = np.zeros(lengths.sum(), np.uint8)
    begins[np.cumsum(lengths) - lengths] = 1
    return begins


def _source(name: str, size: int, sha256: str) -> prepared.Source:
    file = f"{name}.flat.npz"
    original = Original(
        f"sketch_rnn/{file}",
        size,
        sha256,
        url=None,
        origin=(
            f"it has the numbers of {name} of github.com/hardmaru/sketch-rnn-datasets at commit "
            "7c854dee76090aa18c321c7af2cede815bbd475e without pickled objects; set SEQLAB_DATA to "
            "a folder that holds it"
        ),
    )
    return prepared.Source(name, (original,), functools.partial(_parse, name=file), unit="points")


_SOURCES = (
    _source(
        "aaron_sheep",
        2_206_907,
        "b0756849f04ebfd480cfaa2ffe334228d48064215830a94356abbbad7cc2a9bc",
    ),
    _source(
        "short_kanji",
        1_365_337,
        "1b51af37bbb1f90c9c21535df99bb3dba0a0dcebd1d060a5b2b697205ed77342",
    ),
    _source(
        "omniglot",
        2_105_537,
        "46cce271f2e22043cc4f678d3a853c131f4cb3f352363e64e9c7bb880b0a6b2f",
    ),
)
SOURCES = {source.name: source for source in _SOURCES}
