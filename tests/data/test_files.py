"""Preparing a set: where it goes, what it touches, what it says, and two at a time."""

import gzip
import multiprocessing
import shutil
import socket
from pathlib import Path

import pytest
from small_set import CONTENTS, cut_at_block, decoded, leftovers, one_line, small_source

from seqlab.data import files, prepared, ptb
from seqlab.errors import InputError


def assert_is_the_text(records: prepared.Records) -> None:
    for path, content in CONTENTS.items():
        words = content.decode().replace("\n", " <eos> ").split()
        assert decoded(records, path.split(".")[1]) == " ".join(words)


def test_what_was_prepared_reads_back_as_the_text(folder):
    assert_is_the_text(prepared.load(small_source()))


def test_preparing_is_silent_offline_and_leaves_the_home_folder_alone(
    cache, original, tmp_path, monkeypatch, capfd
):
    def refuse(*args):
        raise AssertionError("network used")

    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    prepared.load(small_source())
    assert capfd.readouterr().out == ""
    assert list((tmp_path / "home").iterdir()) == []
    assert leftovers(cache) == []


def test_plain_original_files_are_as_good_as_gzipped(cache, original):
    for path in list(original.rglob("*.gz")):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert_is_the_text(prepared.load(small_source()))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SEQLAB_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a/data/x/1"),
        ({"SEQLAB_CACHE": "", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/seqlab/data/x/1"),
        ({"SEQLAB_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/c"}, "/c/.cache/seqlab/data/x/1"),
    ],
)
def test_place_of_prepared_data(variables, expected, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert files.prepared_folder("x", "1") == Path(expected)


def test_missing_data_names_file_places_and_command(cache, monkeypatch, tmp_path):
    for folder, tried in ((None, "SEQLAB_DATA is not set"), (tmp_path, f"not found in {tmp_path}")):
        if folder:
            monkeypatch.setenv("SEQLAB_DATA", str(folder))
        for reader in (prepared.check, prepared.load):
            with pytest.raises(InputError) as caught:
                reader(small_source())
            assert one_line(caught) == (
                f"ptb/ptb.train.txt[.gz|.xz]: {tried}, and {cache}/data/ptb/1.0.0 does not exist; "
                "run: python launch.py data prepare ptb"
            )


def test_cache_that_cannot_be_written_is_one_line(original, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"cannot be written .*SEQLAB_CACHE") as caught:
        prepared.load(small_source())
    one_line(caught)


# Two at a time


@pytest.mark.parametrize("damaged", [False, True])
def test_who_comes_second_discards_his_own(damaged, prepared_once, cache, original):
    if damaged:
        shutil.copytree(prepared_once / "cache", cache)
        cut_at_block(small_source().folder)
    first: list[int] = []

    def overtaken(*contents):
        folder = prepared.prepare(small_source())
        first.append((folder / files.MANIFEST).stat().st_ino)
        return ptb.SOURCE.parse(*contents)

    folder = prepared.prepare(small_source(parse=overtaken))
    assert [(folder / files.MANIFEST).stat().st_ino] == first
    assert leftovers(cache) == []


def test_two_processes_prepare_one_whole_set(cache, original):
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=prepared.prepare, args=(small_source(),)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    prepared.verify(small_source())
    assert leftovers(cache) == []
