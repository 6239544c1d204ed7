"""Drawings against their files, read apart from the code under test."""

import io
import zipfile

import numpy as np
import pytest
from small_archives import stand_in
from small_set import one_line

from seqlab import data
from seqlab.data import Examples, Strokes, strokes
from seqlab.errors import InputError

RANDOM = np.random.default_rng(0)
SPLITS = ("train", "valid", "test")
SIZES = {
    "aaron_sheep": (7_400, 300, 300),
    "short_kanji": (10_000, 600, 500),
    "omniglot": (30_000, 1_000, 1_000),
}


def drawings(number: int) -> dict[str, np.ndarray]:
    lengths = RANDOM.integers(1, 12, number, dtype=np.int32)
    points = RANDOM.normal((3, -2, 0), 400, (lengths.sum(), 3)).astype(np.int16)
    points[:, 2] = RANDOM.random(len(points)) < 0.2
    return {"points": points, "lengths": lengths}


def fields() -> dict[str, np.ndarray]:
    return {
        f"{split}_{field}": array
        for split, number in zip(SPLITS, (1203, 30, 20), strict=True)
        for field, array in drawings(number).items()
    }


def npz(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


ARRAYS = fields()
PACKED = npz(ARRAYS)


def cut(points: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    return np.split(points, np.cumsum(lengths)[:-1])


def against_the_file(arrays: dict[str, np.ndarray], name: str, max_length: int) -> None:
    dataset = data.load(Strokes(name, max_length))
    kept = {
        split: [
            drawing
            for drawing in cut(arrays[f"{split}_points"], arrays[f"{split}_lengths"])
            if len(drawing) <= max_length
        ]
        for split in SPLITS
    }
    ways = np.concatenate(kept["train"])[:, :2]
    assert dataset.scale == pytest.approx(np.std(ways.ravel().astype(float)))
    for split, expected in kept.items():
        examples = dataset._asdict()[split]
        assert isinstance(examples, Examples)
        assert examples.inputs.lengths.tolist() == list(map(len, expected))
        found, whole = examples.inputs.values, np.concatenate(expected)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found[:, 2], whole[:, 2])
        limited = np.maximum(np.minimum(whole[:, :2], 1000), -1000)
        np.testing.assert_allclose(found[:, :2] * dataset.scale, limited, rtol=1e-5)
        for target, mine in zip(examples.targets, examples.inputs, strict=True):
            np.testing.assert_array_equal(target, mine)


@pytest.mark.parametrize("max_length", [5, 250])
def test_drawings_are_those_of_the_file_scaled_by_train(max_length, tmp_path, monkeypatch):
    assert max(np.abs(ARRAYS[f"{split}_points"]).max() for split in SPLITS) > 1000
    stand_in(strokes, "short_kanji", PACKED, tmp_path, monkeypatch)
    against_the_file(ARRAYS, "short_kanji", max_length)


@pytest.mark.parametrize("name", SIZES)
def test_the_published_drawings(name, original_files, tmp_path, monkeypatch):
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path))
    with np.load(original_files / "sketch_rnn" / f"{name}.flat.npz") as archive:
        arrays = dict(archive)
    against_the_file(arrays, name, 250)
    sizes = tuple(len(examples.inputs.lengths) for examples in data.load(Strokes(name))[:3])
    assert sizes == SIZES[name]


def changed(**arrays: np.ndarray | None) -> dict[str, np.ndarray]:
    return {field: array for field, array in {**ARRAYS, **arrays}.items() if array is not None}


VALID = ARRAYS["valid_points"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"no npz", "expected an npz of numbers, found "),
        (npy(VALID), "expected an npz of numbers, found "),
        (PACKED[: len(PACKED) // 2], "expected an npz of numbers, found "),
        (npz(changed(valid_point=VALID)), "no field 'valid_point'. Did you mean 'valid_points'?"),
        (npz(changed(valid_points=None)), "expected a field valid_points, found none"),
        (
            npz(changed(valid_points=VALID.astype(np.int64))),
            "expected valid_points of int16 in 2 dimensions, found int64 in 2",
        ),
        (
            npz(changed(test_lengths=ARRAYS["test_lengths"][:, None])),
            "expected test_lengths of int32 in 1 dimensions, found int32 in 2",
        ),
        (
            npz(changed(valid_points=VALID[:, :2])),
            "valid: expected points of (dx, dy, pen), found 2 each",
        ),
        (npz(changed(valid_points=VALID[1:])), "valid: the lengths do not add up to "),
        (npz(changed(test_lengths=ARRAYS["test_lengths"][:0])), "test: the lengths do not add up"),
        (
            npz(changed(valid_points=VALID + np.int16(1))),
            "valid: expected a pen of 0 or 1, found 2",
        ),
        (
            npz(changed(train_points=np.array([[{}]], dtype=object))),
            "expected an npz of numbers, found Object arrays cannot be loaded",
        ),
    ],
)
def test_a_file_of_something_else_is_one_line(content, complaint):
    with pytest.raises(InputError) as caught:
        strokes.read_strokes(content, "cats.npz")
    assert one_line(caught).startswith(f"cats.npz: {complaint}")


def test_a_damaged_member_is_one_line():
    file = io.BytesIO(PACKED)
    with zipfile.ZipFile(file) as members:
        place = members.getinfo("valid_points.npy").header_offset + 100
    damaged = bytearray(PACKED)
    damaged[place] ^= 255
    with pytest.raises(InputError) as caught:
        strokes.read_strokes(bytes(damaged), "cats.npz")
    assert one_line(caught).startswith("cats.npz: expected an npz of numbers, found ")


def test_what_cannot_be_is_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"^no drawings 'sheep'\. Did you mean 'aaron_sheep'\?"):
        Strokes("sheep")
    with pytest.raises(InputError, match=r"^max_length must be 2 or more, not 1\.$"):
        Strokes(max_length=1)
    long = {**ARRAYS, "test_lengths": np.array([len(ARRAYS["test_points"])], np.int32)}
    stand_in(strokes, "omniglot", npz(long), tmp_path, monkeypatch)
    complaint = (
        "^max_length: no drawing of test of omniglot has 9 points or less; the shortest has "
    )
    with pytest.raises(InputError, match=complaint):
        data.load(Strokes("omniglot", 9))
