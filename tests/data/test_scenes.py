"""Pictures and what is asked or said of them, against made-up archives and the published ones."""

import hashlib
import io
import itertools
import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from small_archives import stand_in, tar_xz
from small_set import one_line

from seqlab import data
from seqlab.data import Captions, Questions, scenes
from seqlab.data.examples import decode
from seqlab.errors import InputError

RANDOM = np.random.default_rng(0)
SHAPES = ("circle", "rectangle", "triangle")
COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
ANSWERS = ("circle", "red", "yes", "black", "rectangle", "triangle", "blue", "no")


def png(array: np.ndarray, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(array).convert(mode).save(file, "PNG")
    return file.getvalue()


def flat(number: int, height: int, width: int) -> np.ndarray:
    """A picture of one colour, by which it is known again."""
    return np.full((height, width, 3), (number // 256, number % 256, 7), np.uint8)


def known(images: np.ndarray) -> list[int]:
    assert (images == images[:, :1, :1]).all()
    return [int(image[0, 0, 0]) * 256 + int(image[0, 0, 1]) for image in images]


# easy-VQA


def of_one_shape(picture: int, shape: str, colour: str, told: str) -> list[list]:
    """Questions that tell a shape, a colour, both or neither; each in two of its forms."""
    other = next(s for s in SHAPES if s != shape)
    questions = {
        "shape": [
            ["what shape is in the image?", shape, picture],
            [f"is there a {shape}?", "yes", picture],
            [f"does the image not contain a {other}?", "yes", picture],
        ],
        "colour": [
            [f"is there not a {colour} shape?", "no", picture],
            ["does the image not contain a green shape?", "yes", picture],
            [f"is no {colour} shape present?", "no", picture],
        ],
        "both": [[f"what color is the {shape}?", colour, picture]],
        "neither": [["is a teal shape present?", "no", picture]],
    }
    return questions[told]


TOLD = ("shape", "colour", "both", "neither")
EASY = {
    split: [
        (str(RANDOM.choice(SHAPES)), str(RANDOM.choice(["black", "blue", "red"])), TOLD[n % 4])
        for n in range(size)
    ]
    for split, size in (("train", 130), ("test", 12))
}
NUMBERS = {"train": 0, "test": 5000}  # of the first picture


def easy(**changes: bytes) -> bytes:
    members: dict[str, bytes] = {"data/answers.txt": "\n".join(ANSWERS).encode()}
    for split, pictures in EASY.items():
        questions = [q for n, known in enumerate(pictures) for q in of_one_shape(n, *known)]
        questions.sort(key=lambda q: q[0])  # in no order of pictures
        members[f"data/{split}/questions.json"] = json.dumps(questions).encode()
        for n in range(len(pictures)):
            picture = flat(NUMBERS[split] + n, 64, 64)
            members[f"data/{split}/images/{n}.png"] = png(picture)
    return tar_xz(members | changes)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("scenes")


@pytest.fixture
def small(root, monkeypatch) -> None:
    """The made-up archives are the published ones; they are prepared once."""
    stand_in(scenes, "easy_vqa", EASY_PACKED, root, monkeypatch)
    stand_in(scenes, "nlvr", NLVR_PACKED, root, monkeypatch)


@pytest.mark.usefixtures("small")
def test_every_question_is_asked_of_its_picture_and_no_picture_is_in_two_splits():
    dataset = data.load(Questions())
    assert dataset.classes == ANSWERS
    found = {}
    for split, asked in zip(("train", "valid", "test"), dataset[:3], strict=True):
        numbers = known(asked.images)
        sentences = [" ".join(words) for words in decode(asked.questions, dataset.symbols)]
        answers = [dataset.classes[n] for n in asked.answers]
        pictures = [numbers[n] for n in asked.shown]
        found[split] = Counter(zip(pictures, sentences, answers, strict=True))
        assert set(pictures) == set(numbers)
    expected = {
        split: Counter(
            (NUMBERS[split] + n, question.replace("?", " ?"), answer)
            for number, known in enumerate(pictures)
            for question, answer, n in of_one_shape(number, *known)
        )
        for split, pictures in EASY.items()
    }
    assert found["train"] + found["valid"] == expected["train"]
    assert found["test"] == expected["test"]
    train, valid = ({p for p, _, _ in found[split]} for split in ("train", "valid"))
    assert not train & valid
    assert len(valid) == 13  # a tenth


@pytest.mark.usefixtures("small")
def test_captions_say_what_is_known_of_shape_and_colour():
    dataset = data.load(Captions())
    expected = {
        (NUMBERS[split] + n, f"{colour} {shape}")
        for split, pictures in EASY.items()
        for n, (shape, colour, told) in enumerate(pictures)
        if told == "both"
    }
    found = Counter()
    for captioned in dataset[:3]:
        numbers = known(captioned.images)
        assert captioned.shown.tolist() == sorted(captioned.shown.tolist())
        assert set(captioned.shown.tolist()) == set(range(len(numbers)))
        said = decode(captioned.captions, dataset.symbols)
        for picture, words in zip(captioned.shown, said, strict=True):
            colour, shape = (next(w for w in words if w in of) for of in (COLOURS, SHAPES))
            found[numbers[picture], f"{colour} {shape}"] += 1
            assert f"a {colour} {shape}" in " ".join(words)
            assert len(words) >= 4  # BLEU-4 has something to count
    assert set(found) == expected
    assert set(found.values()) == {3}
    assert dataset.symbols[:3] == ("<unk>", "<s>", "</s>")


# NLVR


def nlvr(**changes: bytes) -> bytes:
    """Four pictures were shown together; 0 of a test is a picture of dev, too."""
    members: dict[str, bytes] = {}
    for split, (first, presentations) in NLVR.items():
        rows = []
        for n in range(4 * presentations):
            number = first + n
            identifier = f"{first + n // 4}-{n % 4}"
            place = {"directory": "1"} if split == "dev" else {}
            rows.append(
                {
                    "sentence": f"There are {number} boxes,\tand\none  circle.",
                    "identifier": identifier,
                    "label": "true" if n % 3 else "false",
                    **place,
                }
            )
            shown = NLVR["dev"][0] + 8 if (split, n) == ("test", 0) else number
            members[f"{split}/images/{n % 2}/{split}-{identifier}-0.png"] = png(
                flat(shown, 100, 400), "RGBA"
            )
        members[f"{split}/{split}.json"] = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return tar_xz(members | changes)


NLVR = {"dev": (1000, 20), "test": (2000, 6), "hidden": (3000, 22)}
EASY_PACKED, NLVR_PACKED = easy(), nlvr()


@pytest.mark.usefixtures("small")
def test_pictures_shown_together_are_in_one_split_and_none_is_in_two():
    dataset = data.load(Questions("nlvr"))
    found, pictures = {}, {}
    for split, asked in zip(("train", "valid", "test"), dataset[:3], strict=True):
        assert asked.images.shape[1:] == (50, 200, 3)
        assert asked.shown.tolist() == list(range(len(asked.images)))
        pictures[split] = known(asked.images)
        found[split] = {
            number: dataset.classes[answer]
            for number, answer in zip(pictures[split], asked.answers, strict=True)
        }
    double = NLVR["dev"][0] + 8
    expected = {
        split: {first + n: "true" if n % 3 else "false" for n in range(4 * presentations)}
        for split, (first, presentations) in NLVR.items()
    }
    del expected["dev"][double]
    tested = expected["test"]
    tested[double] = tested.pop(NLVR["test"][0])
    assert found["test"] == tested
    assert found["train"] | found["valid"] == expected["dev"] | expected["hidden"]
    assert not set(pictures["train"]) & set(pictures["valid"])
    together = {n // 4 for n in pictures["valid"]}
    assert not together & {n // 4 for n in pictures["train"]}
    assert len(together) == 4  # a tenth of 42 presentations
    said = decode(data.load(Questions("nlvr")).train.questions, dataset.symbols)
    assert said[0] == [
        "there",
        "are",
        str(pictures["train"][0]),
        "boxes",
        ",",
        "and",
        "one",
        "circle",
        ".",
    ]


@pytest.mark.usefixtures("small")
def test_captions_of_nlvr_are_its_true_sentences():
    asked, told = data.load(Questions("nlvr")), data.load(Captions("nlvr"))
    for question, caption in zip(asked[:3], told[:3], strict=True):
        true = question.answers == asked.classes.index("true")
        assert known(caption.images) == [
            n for n, t in zip(known(question.images), true, strict=True) if t
        ]
        sentences = decode(question.questions, asked.symbols)
        assert [s[4:] for s, t in zip(sentences, true, strict=True) if t] == [
            s[4:] for s in decode(caption.captions, told.symbols)
        ]


# Words, pictures and faults


@pytest.mark.usefixtures("small")
def test_a_word_of_test_alone_is_unknown():
    dataset = data.load(Questions("nlvr"))
    words = {w for said in decode(dataset.train.questions, dataset.symbols) for w in said}
    assert set(dataset.symbols) == words | {"<unk>"}
    assert all("<unk>" in said for said in decode(dataset.test.questions, dataset.symbols)[1:])
    few = data.load(Questions("nlvr", min_count=2))
    assert set(few.symbols) == {"<unk>", "there", "are", "boxes", ",", "and", "one", "circle", "."}


def test_a_picture_of_another_size_is_the_mean_of_what_each_pixel_covers():
    picture = RANDOM.integers(256, size=(100, 400, 3), dtype=np.uint8)
    found = scenes.read_picture(png(picture), 50, 200, "a.png")
    expected = picture.reshape(50, 2, 200, 2, 3).mean(axis=(1, 3))
    assert np.abs(found - expected).max() <= 1  # rounded across, and down
    np.testing.assert_array_equal(scenes.read_picture(png(picture), 100, 400, "a.png"), picture)
    grey = scenes.read_picture(png(picture, "L"), 10, 12, "a.png")
    assert grey.shape == (10, 12, 3)
    assert (grey == grey[..., :1]).all()
    for content in (b"", b"no picture", png(picture)[:200]):
        with pytest.raises(InputError) as caught:
            scenes.read_picture(content, 50, 200, "a.png")
        assert one_line(caught).startswith("a.png: not a PNG or JPEG picture (")


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("easy_vqa", easy(**{"data/x/0.png": b""}), "'data/x/0.png': expected a file "),
        ("easy_vqa", easy(**{"../0.png": b""}), "'../0.png': expected a file "),
        ("easy_vqa", tar_xz({"data/answers.txt": b"no"}), "expected a file data/train/questions"),
        (
            "easy_vqa",
            easy(**{"data/answers.txt": b"no yes"}),
            "data/train/questions.json: no answer",
        ),
        (
            "easy_vqa",
            easy(**{"data/test/questions.json": b'[["is it?", "no", 1]]'}),
            "data/test/questions.json: expected something of every picture, found a gap",
        ),
        (
            "easy_vqa",
            easy(**{"data/test/images/3.png": b"?"}),
            "'data/test/images/3.png': not a PNG",
        ),
        ("nlvr", nlvr(**{"dev/images/0/dev-1-1-0.jpg": b""}), "'dev/images/0/dev-1-1-0.jpg': exp"),
        (
            "nlvr",
            nlvr(**{"dev/dev.json": b'{"sentence": "a", "identifier": "7-0", "label": "true"}\n'}),
            "expected a file dev-7-0-0.png, found none",
        ),
        ("nlvr", b"no archive", "expected a tar.xz, found "),
        ("nlvr", tar_xz({"README.md": b""}, tarfile.SYMTYPE), "'README.md': expected a file "),
    ],
)
def test_an_archive_of_something_else_is_one_line(name, content, complaint, tmp_path, monkeypatch):
    stand_in(scenes, name, content, tmp_path, monkeypatch)
    (original,) = scenes.SOURCES[name].originals
    with pytest.raises(InputError) as caught:
        data.load(Questions(name))
    assert one_line(caught).startswith(f"{original.path.partition('/')[2]}: {complaint}")


def test_what_cannot_be_is_refused():
    for kind in (Questions, Captions):
        with pytest.raises(InputError, match=r"^no scenes 'nlvr2'\. Did you mean 'nlvr'\?"):
            kind("nlvr2")
        with pytest.raises(InputError, match=r"^min_count must be 1 or more, not 0"):
            kind("nlvr", 0)


# The published sets


def test_the_published_sets_have_the_published_sizes(original_files, tmp_path, monkeypatch):
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path))
    dataset = data.load(Questions())
    sizes = [(len(asked.images), len(asked.answers)) for asked in dataset[:3]]
    assert [n for n, _ in sizes] == [3_600, 400, 1_000]
    assert sizes[0][1] + sizes[1][1] == 38_575
    assert sizes[2][1] == 9_673
    assert len(dataset.classes) == 13
    assert "<unk>" not in {
        w for words in decode(dataset.test.questions, dataset.symbols) for w in words
    }
    told = data.load(Captions())
    assert [len(split.images) for split in told[:3]] == [3_179, 363, 880]

    dataset = data.load(Questions("nlvr"))
    digests = [
        {hashlib.sha256(i.tobytes()).digest() for i in asked.images} for asked in dataset[:3]
    ]
    for one, other in itertools.combinations(digests, 2):
        assert not one & other
    assert [len(asked.answers) for asked in dataset[:3]] == [1_760, 196, 990]
    archive = original_files / "nlvr" / "nlvr_dev_test_hidden_perm0.tar.xz"
    with tarfile.open(archive) as files:
        rows = files.extractfile("test/test.json").read().decode().splitlines()
        test = [json.loads(row) for row in rows]
        name = f"test/images/{test[5]['directory']}/test-{test[5]['identifier']}-0.png"
        with PIL.Image.open(files.extractfile(name)) as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(float)
    assert [dataset.classes[n] for n in dataset.test.answers] == [row["label"] for row in test]
    halved = pixels.reshape(50, 2, 200, 2, 3).mean(axis=(1, 3))
    assert np.abs(dataset.test.images[5] - halved).max() <= 1
