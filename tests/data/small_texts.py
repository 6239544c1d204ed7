"""Made-up original files for every set of text or of time series, and how to read the published.

What is made up has the oddities of the published files: spaces at the ends of lines and two in a
row, bytes of Windows-1252, words that are two, comments, copies.
"""

import gzip
import hashlib
import io
import lzma
import random
import string
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from seqlab.data import (
    catalogue,
    characters,
    dna,
    sentiment,
    series,
    tagging,
    translation,
    wikitext,
    word_eval,
)

MODULES = (characters, dna, sentiment, series, tagging, translation, wikitext, word_eval)
DRAW = random.Random(0)
WORDS = ["".join(DRAW.choices("abcdefghij", k=3)) for _ in range(150)]


def sentence(draw: random.Random = DRAW) -> str:
    return " ".join(draw.choices(WORDS, weights=range(len(WORDS)), k=draw.randint(1, 12)))


def text(line: str, count: int) -> bytes:
    """Lines of a sentence each, put into the place that `line` has for it."""
    return "".join(line.format(sentence()) for _ in range(count)).encode()


def conllu(count: int) -> bytes:
    paragraphs = []
    for number in range(count):
        tagged = list(zip(sentence().split(), string.ascii_uppercase, strict=False))
        rows = [f"# sent_id = {number}", f"# text = {tagged}"]
        for place, (word, tag) in enumerate(tagged, 1):
            if place == 1 and len(tagged) > 1:
                rows.append("1-2\tjoined" + "\t_" * 8)
            rows.append(f"{place}\t{word.title()}\tlemma\t{tag}\t{tag}{tag}" + "\t_" * 5)
            if place == 2:
                rows.append(f"{place}.1\tunderstood\t_\tZ\tZZ" + "\t_" * 5)
        paragraphs.append("".join(f"{row}\n" for row in rows) + "\n")
    return "".join(paragraphs).encode()


def pairs(count: int) -> bytes:
    lines = []
    for number in range(count):
        english = sentence(random.Random(number // 2)).capitalize()  # translated twice, each
        lines.append(f"{english}, isn't it?\t{sentence().capitalize()}\u202f! L’{number}.\n")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("fra-eng/_about.txt", "Made up.\n")
        archive.writestr("fra-eng/fra.txt", "".join(lines))
    return file.getvalue()


def dna_of(classes: str, letters: str, gap: str, count: int) -> bytes:
    kinds = classes.split()
    rows = [
        (kinds[i * len(kinds) // count], f"NAME-{i}", "".join(DRAW.choices(letters, k=9)))
        for i in range(count)
    ]
    return "".join(
        f"{','.join(f'{gap}{part}' for part in row).lstrip()}\n" for row in rows
    ).encode()


def csv(count: int) -> bytes:
    rows = "".join(f'"1950-{i:03}",{DRAW.randint(0, 999) / 10}\n' for i in range(count))
    return f'"Month","Value"\n{rows}'.encode()


def judged(separator: str) -> bytes:
    rows = (separator.join((*DRAW.sample(WORDS, 2), f"{DRAW.randint(0, 999) / 100}")) for _ in "ab")
    return "".join(f"{row.capitalize()}\n" for row in rows).encode()


PLAY = "\n !$&',-.3:;?" + string.ascii_letters
LETTERS = "\n#$&'*-./0123456789<>N\\_" + string.ascii_lowercase


def spaced(symbols: str) -> bytes:
    return "".join(f"{symbol} " for symbol in symbols).encode()


CONTENTS: dict[str, list[bytes]] = {
    "tinyshakespeare": [f"{PLAY}{''.join(DRAW.choices(PLAY, k=2001))}".encode()],
    "ptb_char": [
        spaced(LETTERS + "a_b\n"),
        spaced("".join(DRAW.choices(LETTERS, k=99))),
        spaced("end\n"),
    ],
    "wikitext2": [
        f" \n = {' '.join(WORDS)} <unk> = \n \n".encode() + text(" {} \n", 1200),
        text(" {} \n", 20),
        text(" {} \n", 20),
    ],
    "sst_binary": [
        text("1 {} .\n", 60) + text("0 {} .\n", 50),
        text("0 {}\n", 9),
        "1 crème\n".encode(),
    ],
    "sst_fine": [
        b"".join(text(f"{label} {{}} .\n", 20) for label in range(5)),
        text("2 {}\n", 9),
        b"0 4 1\n",
    ],
    "rt_polarity": [text("{} . \n", 130) + b"caf\xe9 \x97 \x85 \n", text("{}  ' \n", 131)],
    "ud_english_ewt": [conllu(80), conllu(9), conllu(7)],
    "multi30k": [
        text(f"{{}}  {language} .\n", count)
        for count in (70, 8, 7, 6, 5)
        for language in ("en", "de", "&apos;")
    ],
    "tatoeba_fra_eng": [pairs(1600)],
    "splice": [dna_of("EI IE N N", "ACGTDNRS", "   ", 203)],
    "promoters": [dna_of("+ -", "acgt", "\t", dna.PROMOTERS)],
    "airline": [csv(60)],
    "sunspots": [csv(61)],
    "temperatures": [csv(62)],
    "births": [csv(63)],
    "word_eval": [
        *(judged(separator) for separator in "\t \t \t "),
        b": Capital-Cities\nAthens Greece Oslo Norway\nOslo Norway Athens Greece\n"
        b": gram1\ngood better Bad worse\n",
    ],
}


def make_up(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Write the made-up files, plain, .gz and .xz in turn, and let the sets stand for them."""
    written = 0
    for module in MODULES:
        for name, source in module.SOURCES.items():
            originals = []
            for original, content in zip(source.originals, CONTENTS[name], strict=True):
                path = folder / original.path
                path.parent.mkdir(parents=True, exist_ok=True)
                if written % 3 == 0 or original.path.endswith(".zip"):
                    path.write_bytes(content)
                elif written % 3 == 1:
                    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content))
                else:
                    path.with_name(f"{path.name}.xz").write_bytes(lzma.compress(content))
                written += 1
                sha256 = hashlib.sha256(content).hexdigest()
                originals.append(original._replace(size=len(content), sha256=sha256))
            small = source._replace(originals=tuple(originals))
            patch.setitem(module.SOURCES, name, small)
            patch.setitem(catalogue.SOURCES, name, small)
    for name, known in series.SERIES.items():
        values = CONTENTS[name][0].count(b"\n") - 1
        small = known._replace(source=series.SOURCES[name], values=values)
        patch.setitem(series.SERIES, name, small)


def content(folder: Path, path: str) -> bytes:
    """The unpacked original file."""
    if (folder / path).exists():
        return (folder / path).read_bytes()
    if (folder / f"{path}.gz").exists():
        return gzip.decompress((folder / f"{path}.gz").read_bytes())
    return lzma.decompress((folder / f"{path}.xz").read_bytes())


def most_frequent(sequences: list[list[str]], min_count: int) -> list[str]:
    """Words that occur so often, the most frequent first, ties in alphabetical order."""
    counts = Counter(word for words in sequences for word in words)
    kept = sorted(word for word in counts if counts[word] >= min_count)
    return sorted(kept, key=counts.__getitem__, reverse=True)


def known(sequences: list[list[str]], vocabulary: list[str]) -> list[list[str]]:
    """The same words, <unk> for those that are not in the vocabulary."""
    there = set(vocabulary)
    return [[word if word in there else "<unk>" for word in words] for words in sequences]
