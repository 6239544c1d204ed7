"""A small data set of random words, in the shape of Penn Treebank, for tests without real data."""

import hashlib
import random
from pathlib import Path

import pytest

from seqlab.data import files, prepared, ptb

BLOCK = 65_536  # of array_record: a shard cut here reads as empty records, without an error


def random_text(lines: int, words: list[str], seed: int) -> bytes:
    draw = random.Random(seed)
    text = "".join(f" {' '.join(draw.choices(words, k=20))} \n" for _ in range(lines))
    return text.encode()


LETTERS = random.Random(0)
WORDS = ["".join(LETTERS.choices("abcdefghij", k=5)) for _ in range(3000)]
CONTENTS = {
    "ptb/ptb.train.txt": " ".join(WORDS).encode() + b"\n" + random_text(2500, WORDS, 1),
    "ptb/ptb.valid.txt": random_text(30, WORDS, 2),
    "ptb/ptb.test.txt": random_text(30, WORDS, 3),
}


def small_source(url: str = "https://example.invalid/", parse=ptb.SOURCE.parse) -> prepared.Source:
    originals = tuple(
        files.Original(path, len(content), hashlib.sha256(content).hexdigest(), url + path)
        for path, content in CONTENTS.items()
    )
    return prepared.Source("ptb", originals, parse)


def decoded(records: prepared.Records, split: str) -> str:
    words = [records.symbols[number] for run in records.splits[split] for number in run["values"]]
    return " ".join(words)


def one_line(caught: pytest.ExceptionInfo) -> str:
    message = str(caught.value)
    assert "\n" not in message
    return message


def leftovers(cache: Path) -> list[Path]:
    return [path for path in (cache / "data" / "ptb").iterdir() if path.name != prepared.VERSION]


def cut_at_block(folder: Path) -> Path:
    path = next(folder.glob("*train.array_record*"))
    assert path.stat().st_size > BLOCK
    path.write_bytes(path.read_bytes()[:BLOCK])
    return path


def flip_bit(folder: Path) -> Path:
    path = next(folder.glob("*train.array_record*"))
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    return path
