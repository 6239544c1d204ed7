"""Spoken digits: the Free Spoken Digit Dataset, as frames of log-mel energies."""

import io
import math
import re
import wave
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from seqlab.data import prepared
from seqlab.data.archives import read_tar_xz
from seqlab.data.examples import ExampleDataset, Examples, Ragged
from seqlab.data.files import Original
from seqlab.errors import InputError, nearest

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
OFFICIAL = "official"
CLASSES = tuple("0123456789")

RATE = 8_000  # samples a second
MELS = 40
WINDOW_MS, SHIFT_MS = 25, 10  # of a frame, and from one to the next

TESTED = range(5)  # numbers of recordings; those of every speaker and digit are from 0 to 49
VALIDATES = range(5, 10)
_LARGEST = 1_000_000  # bytes of a recording: the longest, of 2.3 s, has 36,556


@dataclass(frozen=True)
class SpokenDigits:
    """What is tested: `official`, which is recordings 0 to 4 of each speaker and digit; or a
    speaker, of whom nothing is heard in training.

    Of what is not tested, recordings 5 to 9 are for validation.
    """

    test: str = OFFICIAL

    def __post_init__(self):
        if self.test not in (OFFICIAL, *SPEAKERS):
            near = nearest(self.test, (OFFICIAL, *SPEAKERS))
            raise InputError(f"test is official or a speaker, not {self.test!r}.{near}")


class _Recordings(NamedTuple):
    """Of all speakers; one entry, or a run of levelled frames, for each recording."""

    frames: Ragged
    digits: np.ndarray
    numbers: np.ndarray
    speakers: np.ndarray


def load(config: SpokenDigits) -> ExampleDataset:
    """3,000 recordings of six speakers; float32 frames [N, 40], levelled, and the digit of each.

    Inputs are (frame - mean of its recording) / std, by band, std over all of train. A microphone
    and its distance add the same to all frames of a recording; the subtraction removes it.

    Official: 2,400 / 300 / 300. A speaker left out: 2,250 / 250 / 500.

    Raises:
        InputError: the data is not there or is damaged; names the command that prepares it.

    Source: Jackson et al. 2018, github.com/Jakobovski/free-spoken-digit-dataset, v1.0.10 and later.
        The validation split is seqlab's: there is no published one.
    """
    recordings = _recordings()
    splits = _splits(config, recordings)
    std = _deviation(recordings, splits["train"])
    examples = {}
    for split, chosen in splits.items():
        values, lengths = _take(recordings.frames, chosen)
        examples[split] = Examples(Ragged(values / std, lengths), recordings.digits[chosen])
    return ExampleDataset(**examples, symbols=(), classes=CLASSES)


def deviation(config: SpokenDigits) -> np.ndarray:
    """float32 [40], the std that a new recording is divided by when `log_mel` is `levelled`.

    Raises:
        InputError: as `load`.
    """
    recordings = _recordings()
    return _deviation(recordings, _splits(config, recordings)["train"])


def levelled(frames: Ragged) -> Ragged:
    """Each frame less the mean of its recording."""
    of = np.repeat(np.arange(len(frames.lengths)), frames.lengths)
    sums = np.zeros((len(frames.lengths), frames.values.shape[1]))
    np.add.at(sums, of, frames.values)
    means = (sums / frames.lengths[:, None]).astype(np.float32)
    return Ragged(frames.values - means[of], frames.lengths)


def check(config: SpokenDigits) -> None:
    """Raise the InputError that `load` would raise, before any work has started."""
    prepared.check(SOURCES["fsdd"])


def _recordings() -> _Recordings:
    records = prepared.load(SOURCES["fsdd"])
    speakers = [records.joined(speaker) for speaker in SPEAKERS]
    frames, digits, numbers = (
        np.concatenate([speaker[name] for speaker in speakers])
        for name in ("frames", "digits", "numbers")
    )
    of = np.repeat(np.arange(len(SPEAKERS)), [len(speaker["frames"]) for speaker in speakers])
    # A recording begins where any of the three changes.
    which = np.stack([of, digits, numbers], axis=1)
    starts = np.flatnonzero(np.concatenate([[True], (which[1:] != which[:-1]).any(axis=1)]))
    lengths = np.diff(starts, append=len(frames)).astype(np.int32)
    whole = levelled(Ragged(frames, lengths))
    return _Recordings(whole, digits[starts], numbers[starts], of[starts])


def _splits(config: SpokenDigits, recordings: _Recordings) -> dict[str, np.ndarray]:
    """Which recordings are in each, bool."""
    if config.test == OFFICIAL:
        tested = np.isin(recordings.numbers, TESTED)
    else:
        tested = recordings.speakers == SPEAKERS.index(config.test)
    validates = ~tested & np.isin(recordings.numbers, VALIDATES)
    return {"train": ~tested & ~validates, "valid": validates, "test": tested}


def _deviation(recordings: _Recordings, train: np.ndarray) -> np.ndarray:
    # Of what is levelled the mean is 0.
    return _take(recordings.frames, train).values.std(axis=0, dtype=np.float64).astype(np.float32)


def _take(frames: Ragged, chosen: np.ndarray) -> Ragged:
    return Ragged(frames.values[np.repeat(chosen, frames.lengths)], frames.lengths[chosen])


# From sound to frames


def log_mel(wav: bytes, name: str) -> np.ndarray:
    """Log energies in 40 bands of equal width on the mel scale, 20 to 4,000 Hz, every 10 ms.

    Of each window of 25 ms: less its mean, pre-emphasis 0.97, Povey's window, power spectrum,
    triangles on 1127 ln(1 + f / 700), natural logarithm; no dither. What lacks a whole window at
    the end is left out. Of several channels their mean is taken; another rate than 8 kHz is
    resampled, polyphase with a Kaiser window.

    Args:
        wav: a WAV file of 16-bit samples.
        name: what to call it where it is not what it should be.

    Returns:
        float32 [T, 40].

    Raises:
        InputError: no such file, too short for one window, or kaldi-native-fbank is missing.

    Source: Povey et al. 2011, The Kaldi speech recognition toolkit.
    """
    try:
        import kaldi_native_fbank  # when the set is prepared, or for a recording of one's own
    except ImportError as error:
        raise InputError(
            "frames of sound need kaldi-native-fbank: pip install -e '.[speech]'"
        ) from error

    samples = _samples(wav, name)
    if len(samples) < RATE * WINDOW_MS // 1000:
        raise InputError(f"{name}: {len(samples)} samples are shorter than a frame")
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = RATE
    options.frame_opts.frame_length_ms = WINDOW_MS
    options.frame_opts.frame_shift_ms = SHIFT_MS
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = MELS
    bank = kaldi_native_fbank.OnlineFbank(options)
    bank.accept_waveform(RATE, samples.tolist())
    bank.input_finished()
    return np.stack([bank.get_frame(n) for n in range(bank.num_frames_ready)])


def _samples(wav: bytes, name: str) -> np.ndarray:
    """[N] at RATE, in the unit of 16-bit samples."""
    try:
        with wave.open(io.BytesIO(wav)) as file:
            channels, width, rate, *_ = file.getparams()
            content = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise InputError(f"{name}: expected a WAV file, found {str(error) or 'its end'}") from error
    if width != 2:
        raise InputError(f"{name}: expected samples of 16 bits, found {8 * width}")
    whole = content[: len(content) // (2 * channels) * 2 * channels]
    samples = np.frombuffer(whole, "<i2").reshape(-1, channels).mean(axis=1)
    if rate == RATE or not len(samples):
        return samples
    import scipy.signal

    common = math.gcd(rate, RATE)
    return scipy.signal.resample_poly(samples, RATE // common, rate // common)


# The published archive

_ARCHIVE = "fsdd_recordings.tar.xz"
_RECORDING = re.compile(rf"recordings/([0-9])_({'|'.join(SPEAKERS)})_([0-9]|[1-4][0-9])\.wav")
_EXPECTED = re.compile(rf"README\.md|speakers\.json|{_RECORDING.pattern}")


def _parse(archive: bytes) -> prepared.Records:
    """For each speaker a record for each digit: its recordings, by number."""
    frames: dict[tuple[str, int, int], np.ndarray] = {}
    for name, content in read_tar_xz(archive, _EXPECTED, _LARGEST, _ARCHIVE).items():
        if match := _RECORDING.fullmatch(name):
            key = match[2], int(match[1]), int(match[3])
            frames[key] = log_mel(content, f"{_ARCHIVE}: {name!r}")
    splits: dict[str, list[dict[str, np.ndarray]]] = {}
    for speaker in SPEAKERS:
        splits[speaker] = []
        for digit in range(len(CLASSES)):
            keys = sorted(key for key in frames if key[:2] == (speaker, digit))
            if not keys:
                raise InputError(f"{_ARCHIVE}: expected {speaker} to say {digit}, found nothing")
            lengths = [len(frames[key]) for key in keys]
            splits[speaker].append(
                {
                    "frames": np.concatenate([frames[key] for key in keys]),
                    "digits": np.full(sum(lengths), digit, np.int32),
                    "numbers": np.repeat([key[2] for key in keys], lengths).astype(np.int32),
                }
            )
    return prepared.Records(splits, symbols=())


SOURCES = {
    "fsdd": prepared.Source(
        "fsdd",
        (
            Original(
                f"fsdd/{_ARCHIVE}",
                13_504_988,
                "3ec254e87dcd85bef29b90a4d875ebd006a87818cb2f5d9398c09091c6284be2",
                url=None,
                origin=(
                    "it packs github.com/Jakobovski/free-spoken-digit-dataset at commit "
                    "26eb9aaf76e81b692f806f9140c2d2777410d7a1 as recordings/DIGIT_SPEAKER_N.wav; "
                    "set SEQLAB_DATA to a folder that holds it"
                ),
            ),
        ),
        _parse,
        unit="frames",
    )
}
