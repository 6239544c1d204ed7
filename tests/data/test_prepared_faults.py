"""Damage to prepared or original files is found, named and repaired."""

import gzip
import hashlib
import random
import re
from pathlib import Path

import pytest
from small_set import (
    BLOCK,
    WORDS,
    cut_at_block,
    decoded,
    flip_bit,
    leftovers,
    one_line,
    small_source,
)

from seqlab.data import files, prepared
from seqlab.errors import InputError

# Faults in the prepared set


def remove_shard(folder: Path) -> Path:
    path = next(folder.glob("*valid.array_record*"))
    path.unlink()
    return path


def empty_shard(folder: Path) -> Path:
    path = next(folder.glob("*test.array_record*"))
    path.write_bytes(b"")
    return path


def change_words(folder: Path) -> Path:
    path = folder / "metadata.json"
    path.write_text(path.read_text().replace(WORDS[0], WORDS[0][::-1]))
    return path


def cut_manifest(folder: Path) -> Path:
    path = folder / files.MANIFEST
    path.write_bytes(path.read_bytes()[:-40])
    return path


def remove_manifest(folder: Path) -> Path:
    path = folder / files.MANIFEST
    path.unlink()
    return path


def leave_the_folder(folder: Path) -> Path:
    path = folder / files.MANIFEST
    path.write_text(path.read_text().replace('"features.json"', '"../features.json"'))
    return path


def other_originals(folder: Path) -> Path:
    path = folder / files.MANIFEST
    path.write_text(path.read_text().replace(small_source().originals[0].sha256[:16], "0" * 16))
    return path


FAULTS = {
    fault.__name__: fault
    for fault in (
        cut_at_block,
        flip_bit,
        remove_shard,
        empty_shard,
        change_words,
        cut_manifest,
        remove_manifest,
        leave_the_folder,
        other_originals,
    )
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_named_in_one_line_and_repaired_by_preparing(fault, folder, original, cache):
    whole = prepared.load(small_source())
    path = FAULTS[fault](folder)
    for reader in (prepared.check, prepared.load, prepared.verify):
        with pytest.raises(InputError) as caught:
            reader(small_source())
        message = one_line(caught)
        assert message.startswith(f"{path}: ")
        assert message.endswith("; run: python launch.py data prepare ptb")
    assert prepared.prepare(small_source()) == folder
    repaired = prepared.load(small_source())
    assert all(decoded(repaired, split) == decoded(whole, split) for split in whole.splits)
    assert leftovers(cache) == []


def test_message_gives_expected_and_actual_size(folder):
    path = next(folder.glob("*train.array_record*"))
    size = path.stat().st_size
    cut_at_block(folder)
    with pytest.raises(InputError, match=rf"expected {size} bytes, .* found {BLOCK} bytes, "):
        prepared.verify(small_source())


def test_one_flipped_bit_in_any_file_is_found(folder):
    draw = random.Random(0)
    paths = [path for path in folder.iterdir() if path.name != files.MANIFEST]
    assert len(paths) == 6
    for path in paths:
        content = path.read_bytes()
        for position in (0, draw.randrange(len(content)), len(content) - 1):
            changed = bytearray(content)
            changed[position] ^= 1 << draw.randrange(8)
            path.write_bytes(changed)
            with pytest.raises(InputError, match=re.escape(str(path))):
                prepared.verify(small_source())
        path.write_bytes(content)
    prepared.verify(small_source())


# Faults in the original files


def cut_gzip(path: Path) -> str:
    path.write_bytes(path.read_bytes()[:-100])
    return "found a damaged .gz file"


def not_gzip(path: Path) -> str:
    path.write_bytes(b"<html>404</html>")
    return "found a damaged .gz file"


def shorter(path: Path) -> str:
    content = gzip.decompress(path.read_bytes())[:-1]
    path.write_bytes(gzip.compress(content))
    return f"found {len(content)} bytes"


def longer(path: Path) -> str:
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content + bytes(10**6)))
    return f"found more than {len(content)} bytes"


def altered(path: Path) -> str:
    content = gzip.decompress(path.read_bytes()).replace(b"a", b"b", 1)
    path.write_bytes(gzip.compress(content))
    return f"found {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()[:16]}"


@pytest.mark.parametrize("fault", [cut_gzip, not_gzip, shorter, longer, altered])
def test_damaged_original_file_is_refused(fault, cache, original):
    path = original / "ptb" / "ptb.valid.txt.gz"
    found = fault(path)
    for reader in (prepared.check, prepared.load, prepared.prepare):
        with pytest.raises(InputError) as caught:
            reader(small_source())
        message = one_line(caught)
        expected = small_source().originals[1]
        stamp = f"expected {expected.size} bytes, sha256 {expected.sha256[:16]}"
        assert message.startswith(f"{path}: {stamp}, {found}")
    assert not small_source().folder.exists()


def test_one_missing_original_file_is_the_one_named(cache, original):
    (original / "ptb" / "ptb.test.txt.gz").unlink()
    with pytest.raises(InputError, match=r"^ptb/ptb\.test\.txt\[\.gz\|\.xz\]: not found in "):
        prepared.check(small_source())
