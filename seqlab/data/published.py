"""Sets of text, kept as it was published: what is a word and what is a number is decided later."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from seqlab.data import prepared
from seqlab.data.files import Original


def source(
    name: str,
    splits: Mapping[str, Sequence[Original]],
    keep: Callable[[bytes], Sequence[bytes]] = lambda content: [content],
) -> prepared.Source:
    """The prepared set whose records are the files of each split, in their order.

    Args:
        keep: from the content of a file to the texts that are kept of it; all of it, by default.
    """

    def parse(*contents: bytes) -> prepared.Records:
        remaining = iter(contents)
        records = {
            split: [
                {"text": np.frombuffer(text, np.uint8)}
                for _ in originals
                for text in keep(next(remaining))
            ]
            for split, originals in splits.items()
        }
        return prepared.Records(records, symbols=())

    originals = tuple(original for files in splits.values() for original in files)
    return prepared.Source(name, originals, parse, unit="bytes")


def read(source: prepared.Source) -> dict[str, list[bytes]]:
    """The kept texts of each split, in the order of its files.

    Raises:
        InputError: the data is not there or is damaged; names the command that prepares it.
    """
    records = prepared.load(source)
    return {
        split: [record["text"].tobytes() for record in kept]
        for split, kept in records.splits.items()
    }


def lines(text: bytes, encoding: str = "utf-8") -> list[str]:
    """The lines, without their ends."""
    # Not str.splitlines(), for which a sentence of Windows-1252 may have line ends inside.
    return text.decode(encoding).removesuffix("\n").split("\n")


def sentences(text: bytes, encoding: str = "utf-8") -> list[list[str]]:
    """The words of each line: what stands between spaces."""
    return [line.split() for line in lines(text, encoding)]
