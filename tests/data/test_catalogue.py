"""Sets by name, and their states."""

import sys

import pytest
from small_archives import stand_in, tar_xz
from small_set import CONTENTS, flip_bit, small_source

from seqlab.data import catalogue, speech
from seqlab.errors import InputError


@pytest.mark.parametrize("question", [catalogue.prepare, catalogue.verify])
def test_unknown_name_suggests_the_nearest(question, cache):
    with pytest.raises(InputError, match=r"no data set 'notingham'. Did you mean 'nottingham'\?"):
        question("notingham")
    for name in ("../ptb", "ptb/1.0.0", "", "."):
        with pytest.raises(InputError, match=r"^no data set "):
            question(name)
    assert not cache.exists()


def test_states_of_the_catalogue(folder, monkeypatch, tmp_path):
    monkeypatch.setitem(catalogue.SOURCES, "ptb", small_source())
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    described = [entry.name for entry in catalogue.describe()]
    assert described == [*catalogue.by_default(), "coco_captions"]  # which has to be asked for
    states = {entry.name: entry.state for entry in catalogue.describe()}
    others = dict.fromkeys(described[1:], "not prepared")
    assert states == {"ptb": "prepared", **others}
    words = {p.split(".")[1]: c.count(b"\n") + len(c.split()) for p, c in CONTENTS.items()}
    assert catalogue.verify("ptb") == (
        f"ptb: whole, train {words['train']:,}, valid {words['valid']:,}, test {words['test']:,} "
        f"positions in {folder}"
    )
    assert catalogue.describe()[0].size == sum(path.stat().st_size for path in folder.iterdir())
    flip_bit(folder)
    assert catalogue.describe()[0].state == "damaged"
    with pytest.raises(InputError, match=r"does not exist; run: .* data prepare muse_data"):
        catalogue.verify("muse_data")


def test_a_set_that_cannot_be_had_is_a_line_and_the_others_are_prepared(
    cache, original, command, tmp_path, monkeypatch
):
    """One has no download and no file here, one lacks an extra, the last one is whole."""
    stand_in(speech, "fsdd", tar_xz({"recordings/0_theo_0.wav": b""}), tmp_path, monkeypatch)
    monkeypatch.setitem(sys.modules, "kaldi_native_fbank", None)
    sources = {name: catalogue.SOURCES[name] for name in ("cifar10_jpeg", "fsdd")}
    monkeypatch.setattr(catalogue, "SOURCES", sources | {"ptb": small_source()})

    def refused(question):
        lines = []
        for name in sources:
            with pytest.raises(InputError) as caught:
                question(name)
            lines.append(f"error: {name}: {caught.value}")
        return lines

    place = small_source().folder
    code, out, err = command("data", "prepare")
    assert (code, out) == (2, f"ptb: prepared in {place}\n")
    assert err.splitlines() == refused(catalogue.prepare)
    assert "there is no download" in err
    assert "pip install -e '.[speech]'" in err
    code, out, err = command("data", "verify")
    assert (code, out) == (2, f"{catalogue.verify('ptb')}\n")
    assert err.splitlines() == refused(catalogue.verify)
    for action in ("prepare", "verify"):
        code, out, err = command("data", action, "fsdd")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert command("data", action, "ptb")[0] == 0
    for name in sources:
        monkeypatch.delitem(catalogue.SOURCES, name)
    assert [command("data", action)[0] for action in ("prepare", "verify")] == [0, 0]
