"""Notes of a roll against a loop, and a file of them against what mido reads."""

import mido
import numpy as np
import pytest

from seqlab import midi
from seqlab.errors import InputError
from seqlab.midi import Note
from seqlab.sample_files import writes


def random_roll(frames: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(2, size=(frames, 88), dtype=np.uint8)


def test_what_stands_in_frames_one_after_the_other_is_one_note():
    roll, expected = random_roll(), []
    for channel in range(88):
        frame = 0
        while frame < len(roll):
            if roll[frame, channel]:
                start = frame
                while frame < len(roll) and roll[frame, channel]:
                    frame += 1
                expected.append(Note(channel + 21, start, frame))
            frame += 1
    assert midi.notes(roll) == sorted(expected, key=lambda note: (note.start, note.key))
    assert midi.notes(np.zeros((3, 88), np.uint8)) == []


@pytest.mark.parametrize(("frames_per_quarter", "bpm"), [(1, 80.0), (2, 120.0)])
def test_a_file_read_again_has_the_frames_that_were_written(tmp_path, frames_per_quarter, bpm):
    roll, path = random_roll(seed=1), tmp_path / "piece.mid"
    midi.write(path, midi.notes(roll), frames_per_quarter, bpm)
    seconds_of_a_frame = 60 / bpm / frames_per_quarter
    found, now, held = np.zeros_like(roll), 0.0, set()
    for message in mido.MidiFile(path):  # with times in seconds
        begun, now = now, now + message.time
        for frame in range(round(begun / seconds_of_a_frame), round(now / seconds_of_a_frame)):
            found[frame, [key - 21 for key in held]] = 1
        if message.type == "note_on":
            held.add(message.note)
        elif message.type == "note_off":
            held.remove(message.note)
    np.testing.assert_array_equal(found, roll)
    assert not held


def test_a_file_that_is_there_is_left_as_it_is(tmp_path):
    path = tmp_path / "piece.mid"
    say = writes({".mid": lambda path: f"{path.write_text('new')} letters"})
    assert say(str(path)) == f"{path}: 3 letters"
    path.write_text("old")
    real = writes({".mid": lambda path: str(midi.write(path, [], 1, 80.0))})
    with pytest.raises(InputError, match=r"piece\.mid is there already"):
        real(str(path))
    assert path.read_text() == "old"
    for line in ("piece.wav", "piece", ".mid"):
        with pytest.raises(InputError, match=r"a name that ends in \.mid"):
            real(line)
    with pytest.raises(InputError, match="cannot be written: No such file"):
        real(str(tmp_path / "nowhere" / "piece.mid"))
