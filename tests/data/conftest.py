"""The small set as original files and prepared, each test with folders of its own; and texts."""

import gzip
import os
import shutil
from pathlib import Path

import pytest
from small_set import CONTENTS, small_source
from small_texts import make_up

from seqlab.data import prepared


@pytest.fixture(scope="session")
def prepared_once(tmp_path_factory) -> Path:
    """The cache folder with the small set in it, prepared from gzipped files; copied, not used."""
    root = tmp_path_factory.mktemp("small")
    for path, content in CONTENTS.items():
        (root / "original" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "original" / f"{path}.gz").write_bytes(gzip.compress(content))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQLAB_DATA", str(root / "original"))
        patch.setenv("SEQLAB_CACHE", str(root / "cache"))
        prepared.prepare(small_source())
    return root


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache folder, and no original files."""
    monkeypatch.setenv("SEQLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SEQLAB_DATA", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def original(prepared_once, tmp_path, monkeypatch) -> Path:
    """The original files of the small set, gzipped, in a folder of this test."""
    shutil.copytree(prepared_once / "original", tmp_path / "original")
    monkeypatch.setenv("SEQLAB_DATA", str(tmp_path / "original"))
    return tmp_path / "original"


@pytest.fixture
def folder(prepared_once, cache) -> Path:
    """The prepared small set in a cache of this test."""
    shutil.copytree(prepared_once / "cache", cache)
    return small_source().folder


@pytest.fixture(scope="module", params=["made up", "published"])
def texts(request, tmp_path_factory) -> Path:
    """The folder of the original files of every text: made up, and published where at hand."""
    root = tmp_path_factory.mktemp("texts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQLAB_CACHE", str(root / "cache"))
        if request.param == "made up":
            make_up(root / "original", patch)
            patch.setenv("SEQLAB_DATA", str(root / "original"))
        else:
            request.getfixturevalue("original_files")
        yield Path(os.environ["SEQLAB_DATA"])


@pytest.fixture(scope="module")
def is_published(texts) -> bool:
    """Whether the counts are to be those of the published files."""
    return texts.name != "original"
