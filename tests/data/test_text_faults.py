"""Every set of text, made up: kept as it is, and damage to its files or shards found and named."""

import shutil
from pathlib import Path

import pytest
from small_set import one_line
from small_texts import CONTENTS, MODULES, make_up

from seqlab import data
from seqlab.data import builders, catalogue, files, prepared
from seqlab.errors import InputError

CONFIGS = {
    "tinyshakespeare": data.Shakespeare(),
    "ptb_char": data.PtbChar(),
    "wikitext2": data.WikiText2(),
    "sst_binary": data.Sst(2),
    "sst_fine": data.Sst(5),
    "rt_polarity": data.MovieReviews(),
    "ud_english_ewt": data.Ewt(),
    "multi30k": data.Multi30k(),
    "tatoeba_fra_eng": data.Tatoeba(),
    "splice": data.Splice(),
    "promoters": data.Promoters(),
    "airline": data.TimeSeries("airline"),
    "sunspots": data.TimeSeries("sunspots"),
    "temperatures": data.TimeSeries("temperatures"),
    "births": data.TimeSeries("births"),
    "word_eval": data.WordEval(),
}


@pytest.fixture(scope="module")
def everything(tmp_path_factory) -> Path:
    """Original files, and the sets prepared from them; copied, not used."""
    root = tmp_path_factory.mktemp("everything")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQLAB_DATA", str(root / "original"))
        patch.setenv("SEQLAB_CACHE", str(root / "cache"))
        make_up(root / "original", patch)
        for name in CONTENTS:
            catalogue.prepare(name)
    return root


@pytest.fixture(params=CONTENTS)
def name(request, everything, tmp_path, monkeypatch) -> str:
    """A set with original files and a prepared folder of this test."""
    make_up(tmp_path / "made_up", monkeypatch)
    shutil.copytree(everything / "original", tmp_path / "original")
    folder = catalogue.SOURCES[request.param].folder.relative_to(files.prepared_folder("", ""))
    shutil.copytree(everything / "cache" / "data" / folder, tmp_path / "cache" / "data" / folder)
    monkeypatch.setenv("SEQLAB_DATA", str(tmp_path / "original"))
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    return request.param


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def refused(name: str) -> list[str]:
    messages = []
    for reader in (data.check, data.load):
        with pytest.raises(InputError) as caught:
            reader(CONFIGS[name])
        messages.append(one_line(caught))
    return messages


def test_a_flipped_bit_in_a_shard_is_named_and_repaired(name, tmp_path):
    data.check(CONFIGS[name])
    source = catalogue.SOURCES[name]
    shards = list(source.folder.glob("*.array_record*"))
    assert len(shards) == len(prepared.verify(source)["splits"])
    for path in shards:
        flip(path)
        for message in refused(name):
            assert message.startswith(f"{path}: expected {path.stat().st_size} bytes, sha256 ")
            assert message.endswith(f"; run: python launch.py data prepare {name}")
        catalogue.prepare(name)
        data.check(CONFIGS[name])


def test_a_flipped_bit_in_an_original_file_is_named(name, tmp_path):
    source = catalogue.SOURCES[name]
    shutil.rmtree(source.folder)
    for original in source.originals:
        path = files.find_original(original)
        assert path is not None
        whole = path.read_bytes()
        flip(path)
        for message in refused(name):
            stamp = f"expected {original.size} bytes, sha256 {original.sha256[:16]}, found "
            assert message.startswith(f"{path}: {stamp}")
        path.write_bytes(whole)
    assert not source.folder.exists()


def test_missing_files_are_one_line_with_the_command(name, tmp_path):
    source = catalogue.SOURCES[name]
    shutil.rmtree(source.folder)
    shutil.rmtree(tmp_path / "original")
    for message in refused(name):
        assert message.startswith(f"{source.originals[0].path}[.gz|.xz]: not found in ")
        assert message.endswith(f"; run: python launch.py data prepare {name}")


def test_every_kind_every_source_and_every_builder_is_there():
    text = {name for module in MODULES for name in module.SOURCES}
    assert set(CONTENTS) == set(CONFIGS) == text
    assert text < set(catalogue.SOURCES) == set(builders.BUILDERS)
    kinds = set(data.EXAMPLE_KINDS) | set(data.JUDGEMENT_KINDS)
    kinds |= {data.PtbChar, data.Shakespeare, data.WikiText2}
    kinds.remove(data.Hello)  # three words of the code itself
    assert {type(config) for config in CONFIGS.values()} == kinds
    assert set(data.CHANNELS) == set(data.KINDS)
    for source in catalogue.SOURCES.values():
        for original in source.originals:
            assert len(original.sha256) == 64
            assert original.url is None or original.url.startswith("https://raw.githubusercontent")
