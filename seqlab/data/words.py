"""Word-level language modelling: the words of three texts, and <eos> for line ends."""

from collections import Counter

import numpy as np

from seqlab.data import prepared
from seqlab.data.stream import Dataset, Stream

_LINES_PER_RECORD = 1000  # a record for every line would cost a second at every start


def dataset(source: prepared.Source) -> Dataset:
    """Every line ends in <eos>, every position is scored, and <eos> comes before the first word.

    Raises:
        InputError: the data is not there or is damaged; names the command that prepares it.
    """
    records = prepared.load(source)
    streams = {}
    for split in records.splits:
        values = records.joined(split)["values"]
        streams[split] = Stream(values, scored=np.ones(len(values), dtype=bool))
    return Dataset(
        **streams,
        symbols=records.symbols,
        channels=len(records.symbols),
        start=records.symbols.index("<eos>"),
    )


def parse(train: bytes, valid: bytes, test: bytes) -> prepared.Records:
    """Words numbered by how often they occur in train, ties in alphabetical order."""
    texts = {
        split: [f"{line} <eos>".split() for line in content.decode().splitlines()]
        for split, content in (("train", train), ("valid", valid), ("test", test))
    }
    counts = Counter(word for line in texts["train"] for word in line)
    words = sorted(counts, key=lambda word: (-counts[word], word))
    number = {word: i for i, word in enumerate(words)}

    def run(lines: list[list[str]]) -> dict[str, np.ndarray]:
        words = [number[word] for line in lines for word in line]
        return {"values": np.array(words, dtype=np.int32)}

    step = _LINES_PER_RECORD
    splits = {
        split: [run(lines[start : start + step]) for start in range(0, len(lines), step)]
        for split, lines in texts.items()
    }
    return prepared.Records(splits, tuple(words))
