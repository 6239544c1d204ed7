"""Piano rolls as music: notes that begin and end, and a file of them."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seqlab.errors import InputError

LOWEST = 21  # A0, the first of the 88 keys of a piano
TICKS = 480  # of a quarter note
LOUDNESS = 80  # of 127


class Note(NamedTuple):
    """A key that is held.

    Attributes:
        key: as MIDI counts them, 60 is the middle C.
        start: first frame.
        end: the frame after its last.
    """

    key: int
    start: int
    end: int


def notes(roll: np.ndarray) -> list[Note]:
    """What stands in frames one after the other is one note that is held.

    A roll does not tell a held note from one that is struck again.

    Args:
        roll: [T, 88] of 0 and 1.

    Returns:
        Notes by their start, the lowest first.
    """
    edges = np.diff(np.pad(roll.astype(np.int8), ((1, 1), (0, 0))), axis=0).T
    starts, ends = np.argwhere(edges == 1), np.argwhere(edges == -1)
    held = [
        Note(int(key) + LOWEST, int(start), int(end))
        for (key, start), (_, end) in zip(starts, ends, strict=True)
    ]
    return sorted(held, key=lambda note: (note.start, note.key))


def write(path: Path, held: Iterable[Note], frames_per_quarter: int, bpm: float) -> None:
    """A MIDI file of one piano; bpm are quarter notes a minute.

    Raises:
        InputError: mido is not installed.
        FileExistsError: the file is there already.
        OSError: it cannot be written.
    """
    try:
        import mido
    except ImportError as error:
        raise InputError("MIDI is written by mido: pip install -e '.[music]'") from error
    per_frame = TICKS // frames_per_quarter
    # A key that ends and begins in one frame ends first.
    events = sorted(
        (frame, on, note.key)
        for note in held
        for frame, on in ((note.start, True), (note.end, False))
    )
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(bpm))])
    now = 0
    for frame, on, key in events:
        kind, loudness = ("note_on", LOUDNESS) if on else ("note_off", 0)
        delta = (frame - now) * per_frame
        track.append(mido.Message(kind, note=key, velocity=loudness, time=delta))
        now = frame
    with open(path, "xb") as file:
        mido.MidiFile(type=0, ticks_per_beat=TICKS, tracks=[track]).save(file=file)
