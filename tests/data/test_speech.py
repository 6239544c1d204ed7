"""Spoken digits: frames against Kaldi's equations, window by window, and splits by speaker."""

import functools
import io
import math
import struct
import tarfile
import wave
from pathlib import Path

import numpy as np
import pytest
from small_archives import stand_in, tar_xz
from small_set import one_line

from seqlab import data
from seqlab.data import SpokenDigits, speech
from seqlab.data.examples import Examples
from seqlab.errors import InputError

RANDOM = np.random.default_rng(0)


def wav(samples: np.ndarray, rate: int = 8_000, width: int = 2) -> bytes:
    """[N] or [N, channels]."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1 if samples.ndim == 1 else samples.shape[1], width, rate, 0, "NONE", ""))
        out.writeframes(np.rint(samples).astype({1: "u1", 2: "<i2", 4: "<i4"}[width]).tobytes())
    return file.getvalue()


def mel(hz: float) -> float:
    return 1127 * math.log(1 + hz / 700)


@functools.cache
def triangles() -> np.ndarray:
    """[40, 129]: the weight that a band has for a frequency."""
    edges = np.linspace(mel(20), mel(4000), 42)
    weights = np.zeros((40, 129))
    for band, (low, centre, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        for k in range(128):
            at = mel(8000 * k / 256)
            if low < at < high:
                weights[band, k] = min((at - low) / (centre - low), (high - at) / (high - centre))
    return weights


def of_kaldi(samples: np.ndarray) -> np.ndarray:
    window = [(0.5 - 0.5 * math.cos(2 * math.pi * n / 199)) ** 0.85 for n in range(200)]
    frames = []
    for start in range(0, len(samples) - 199, 80):
        piece = samples[start : start + 200].astype(np.float64)
        piece = piece - piece.mean()
        piece = piece - 0.97 * np.concatenate([piece[:1], piece[:-1]])
        power = np.abs(np.fft.rfft(piece * window, 256)) ** 2
        frames.append(np.log(np.maximum(triangles() @ power, np.finfo(np.float32).eps)))
    return np.array(frames)


@pytest.mark.parametrize("length", [200, 279, 280, 1000])
def test_frames_are_those_of_the_equations(length):
    samples = np.rint(RANDOM.normal(0, 3000, length) + 500)
    found = speech.log_mel(wav(samples), "a.wav")
    expected = of_kaldi(samples)
    assert found.dtype == np.float32
    assert found.shape == (1 + (length - 200) // 80, 40)
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("rate", [16_000, 11_025, 44_100])
def test_a_recording_of_another_rate_sounds_the_same(rate):
    def tone(rate: int) -> np.ndarray:
        return 8000 * np.sin(2 * np.pi * 1000 * np.arange(rate // 4) / rate)

    ours = speech.log_mel(wav(tone(rate), rate), "a.wav")
    expected = of_kaldi(tone(8_000))
    loud = expected[10] > expected[10].max() - 5
    assert loud.sum() >= 2
    np.testing.assert_allclose(ours[5:15, loud], expected[5:15, loud], atol=0.05)
    silent = speech.log_mel(wav(tone(rate) * 0.01, rate), "a.wav")
    assert silent[10, loud].max() < ours[10, loud].min()


def test_of_two_channels_it_is_the_mean():
    samples = np.rint(RANDOM.normal(0, 3000, (400, 2)))
    found = speech.log_mel(wav(samples), "a.wav")
    np.testing.assert_allclose(found, of_kaldi(samples.mean(axis=1)), atol=2e-3)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"no sound", "expected a WAV file, found "),
        (b"", "expected a WAV file, found its end"),
        (wav(np.zeros(400))[:30], "expected a WAV file, found "),
        (wav(np.zeros(400), width=1), "expected samples of 16 bits, found 8"),
        (wav(np.zeros(400), width=4), "expected samples of 16 bits, found 32"),
        (wav(np.zeros(199)), "199 samples are shorter than a frame"),
        (wav(np.zeros(150), rate=16_000), "75 samples are shorter than a frame"),
        (wav(np.zeros(0), rate=16_000), "0 samples are shorter than a frame"),
        (
            wav(np.zeros(400)).replace(struct.pack("<H", 1), struct.pack("<H", 7), 1),
            "expected a WAV file, found ",
        ),
    ],
)
def test_what_is_no_such_recording_is_one_line(content, complaint):
    with pytest.raises(InputError) as caught:
        speech.log_mel(content, "a.wav")
    assert one_line(caught).startswith(f"a.wav: {complaint}")


# The data set

NUMBERS = (0, 3, 4, 5, 9, 10, 49)
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
SOUNDS = {
    (speaker, digit, number): np.rint(RANDOM.normal(0, 1000, 200 + 80 * int(RANDOM.integers(3))))
    for number in reversed(NUMBERS)  # the archive is in no order
    for digit in range(10)
    for speaker in SPEAKERS
}


def named(sounds: dict) -> dict[str, bytes]:
    return {f"recordings/{d}_{s}_{n}.wav": wav(samples) for (s, d, n), samples in sounds.items()}


ARCHIVE = {"README.md": b"made up", "speakers.json": b"{}", **named(SOUNDS)}
PACKED = tar_xz(ARCHIVE)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("speech")


@pytest.fixture
def small(root, monkeypatch) -> None:
    """The made-up archive is the published one; it is prepared once."""
    stand_in(speech, "fsdd", PACKED, root, monkeypatch)


def expected_splits(test: str) -> dict[str, list[tuple[str, int, int]]]:
    splits: dict[str, list] = {"train": [], "valid": [], "test": []}
    for key in sorted(SOUNDS):
        speaker, _, number = key
        if speaker == test or (test == "official" and number <= 4):
            splits["test"].append(key)
        else:
            splits["valid" if 5 <= number <= 9 else "train"].append(key)
    return splits


def level(key: tuple[str, int, int]) -> np.ndarray:
    frames = of_kaldi(SOUNDS[key])
    return frames - frames.mean(axis=0)


def pieces(examples: Examples) -> list[np.ndarray]:
    return np.split(examples.inputs.values, np.cumsum(examples.inputs.lengths)[:-1])


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("test", ["official", "jackson", "yweweler"])
def test_splits_are_by_number_or_by_speaker_and_scaled_by_train(test):
    dataset = data.load(SpokenDigits(test))
    splits = expected_splits(test)
    std = np.concatenate([level(key) for key in splits["train"]]).std(axis=0)
    for split, keys in splits.items():
        examples = dataset._asdict()[split]
        assert examples.targets.tolist() == [digit for _, digit, _ in keys]
        for found, key in zip(pieces(examples), keys, strict=True):
            np.testing.assert_allclose(found * std, level(key), atol=5e-3)
        assert examples.inputs.values.dtype == np.float32
    np.testing.assert_allclose(speech.deviation(SpokenDigits(test)), std, rtol=1e-3)
    assert dataset.classes == tuple("0123456789")


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ({"recordings/0_george_50.wav": b""}, "'recordings/0_george_50.wav': expected a file "),
        ({"recordings/0_nobody_1.wav": b""}, "'recordings/0_nobody_1.wav': expected a file "),
        ({"../0_george_1.wav": b""}, "'../0_george_1.wav': expected a file "),
        ({"recordings/0_george_1.wav": b"x"}, "'recordings/0_george_1.wav': expected a WAV file"),
        (
            named({k: s for k, s in SOUNDS.items() if k[:2] != ("theo", 3)}),
            "expected theo to say 3",
        ),
    ],
)
def test_an_archive_of_something_else_is_one_line(members, complaint, tmp_path, monkeypatch):
    stand_in(speech, "fsdd", tar_xz(members), tmp_path, monkeypatch)
    with pytest.raises(InputError) as caught:
        data.load(SpokenDigits())
    assert one_line(caught).startswith(f"fsdd_recordings.tar.xz: {complaint}")


def test_what_cannot_be_is_refused():
    with pytest.raises(
        InputError, match=r"^test is official or a speaker, not 'teo'\. Did .*'theo'"
    ):
        SpokenDigits("teo")


def test_the_published_recordings(original_files, tmp_path, monkeypatch):
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path))
    dataset = data.load(SpokenDigits())
    for examples, each in zip(dataset[:3], (240, 30, 30), strict=True):
        assert np.bincount(examples.targets).tolist() == [each] * 10
    for speaker in SPEAKERS:
        left = data.load(SpokenDigits(speaker))
        for examples, each in zip(left[:3], (225, 25, 50), strict=True):
            assert np.bincount(examples.targets).tolist() == [each] * 10
    with tarfile.open(original_files / "fsdd" / "fsdd_recordings.tar.xz") as archive:
        content = archive.extractfile("recordings/7_lucas_3.wav").read()
    samples = np.frombuffer(content[44:], "<i2")
    place = 50 * 2 + 5 * 7 + 3  # of test: 50 of each speaker, 5 of each digit
    found = pieces(dataset.test)[place] * speech.deviation(SpokenDigits())
    expected = of_kaldi(samples)
    assert len(expected) == len(found) > 20
    np.testing.assert_allclose(found, expected - expected.mean(axis=0), atol=0.01)
