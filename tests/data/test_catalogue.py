"""Sets by name, and their states."""

import pytest
from small_set import CONTENTS, flip_bit, small_source

from seqlab.data import catalogue
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
