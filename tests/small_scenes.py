"""Small pictures in which there is something to be said: the left half is dark, or the right."""

import numpy as np

from seqlab.data import CaptionDataset, Captioned, QuestionDataset
from seqlab.data.examples import encode
from seqlab.data.scenes import Questioned

SIDES = ("left", "right")
CAPTIONS = ("the {side} is dark", "it is dark on the {side} side")
SYMBOLS = ("<unk>", "<s>", "</s>", "the", "is", "dark", "it", "on", "side", *SIDES)
WORDS = ("<unk>", "is", "the", "which", "side", "dark", *SIDES)
ANSWERS = ("yes", "no", *SIDES)


def pictures(sides: np.ndarray, seed: int) -> np.ndarray:
    """uint8 [N, 16, 24, 3], noisy, dark on that side."""
    images = np.random.default_rng(seed).integers(150, 256, (len(sides), 16, 24, 3))
    for image, side in zip(images, sides, strict=True):
        image[:, 12 * side : 12 * (side + 1)] -= 140
    return images.astype(np.uint8)


def captioned(size: int, seed: int) -> Captioned:
    """Two captions of every picture, of the first only one."""
    sides = np.random.default_rng(seed).integers(2, size=size)
    told = [(n, way.format(side=SIDES[s])) for n, s in enumerate(sides) for way in CAPTIONS][1:]
    shown = np.array([n for n, _ in told], np.int32)
    return Captioned(pictures(sides, seed), shown, encode([t.split() for _, t in told], SYMBOLS))


def captions() -> CaptionDataset:
    return CaptionDataset(captioned(60, 0), captioned(10, 1), captioned(9, 2), SYMBOLS)


def asked(size: int, seed: int) -> Questioned:
    """Of every picture which side is dark, and of either side whether it is."""
    sides = np.random.default_rng(seed).integers(2, size=size)
    lines = []
    for n, s in enumerate(sides):
        lines.append((n, "which side is dark", SIDES[s]))
        lines += [(n, f"is the {side} side dark", ANSWERS[SIDES[s] != side]) for side in SIDES]
    return Questioned(
        pictures(sides, seed),
        np.array([n for n, _, _ in lines], np.int32),
        encode([question.split() for _, question, _ in lines], WORDS),
        np.array([ANSWERS.index(answer) for _, _, answer in lines], np.int32),
    )


def questions() -> QuestionDataset:
    return QuestionDataset(asked(60, 0), asked(10, 1), asked(9, 2), WORDS, ANSWERS)
