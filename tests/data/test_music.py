"""The four music sets against the published arrays, read apart from the code under test."""

import numpy as np
import pytest
import scipy.io

from seqlab.data import music
from seqlab.data.stream import Dataset, Stream
from seqlab.errors import InputError

FILES = {
    "nottingham": "Nottingham.mat",
    "piano_midi": "Piano_midi.mat",
    "jsb_chorales": "JSB_Chorales.mat",
    "muse_data": "MuseData.mat",
}
PIECES = {
    "nottingham": {"train": 694, "valid": 173, "test": 170},
    "piano_midi": {"train": 87, "valid": 12, "test": 25},
    "jsb_chorales": {"train": 229, "valid": 76, "test": 77},
    "muse_data": {"train": 524, "valid": 135, "test": 124},
}
FRAMES = {
    "nottingham": {"train": 176_561, "valid": 45_513, "test": 44_463},
    "piano_midi": {"train": 75_911, "valid": 8_540, "test": 19_036},
    "jsb_chorales": {"train": 13_807, "valid": 4_602, "test": 4_725},
    "muse_data": {"train": 245_202, "valid": 82_755, "test": 64_339},
}


def pieces_of(stream: Stream) -> list[np.ndarray]:
    """Cut after every unscored frame, and leave that frame out."""
    ends = np.flatnonzero(~stream.scored)
    assert ends[-1] == len(stream.values) - 1
    return [piece[:-1] for piece in np.split(stream.values, ends[:-1] + 1)]


@pytest.fixture(scope="module", params=FILES)
def loaded(request, original_files, tmp_path_factory) -> tuple[str, Dataset]:
    config = music.Music(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQLAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        music.check(config)
        music.load(config)
        patch.delenv("SEQLAB_DATA")
        return request.param, music.load(config)  # from the prepared set alone


def test_every_frame_is_there_once_and_pieces_end_in_unscored_silence(loaded, original_files):
    name, dataset = loaded
    published = scipy.io.loadmat(original_files / "polymusic" / FILES[name])
    for split in ("train", "valid", "test"):
        stream = dataset._asdict()[split]
        expected = list(published[f"{split}data"].ravel())
        found = pieces_of(stream)
        assert len(found) == len(expected) == PIECES[name][split]
        assert all(map(np.array_equal, found, expected))
        assert stream.scored.sum() == FRAMES[name][split]
        assert len(stream.values) == FRAMES[name][split] + PIECES[name][split]
        assert not stream.values[~stream.scored].any()
        assert stream.values.dtype == np.uint8
        assert np.unique(stream.values).tolist() == [0, 1]
    assert (dataset.channels, dataset.start, dataset.symbols) == (88, 0, None)


@pytest.mark.parametrize("question", [music.load, music.check])
def test_unknown_name_suggests_the_nearest(question):
    with pytest.raises(InputError, match=r"no music set 'piano'. Did you mean 'piano_midi'\?"):
        question(music.Music("piano"))
    for name in ("../nottingham", "ptb", ""):
        with pytest.raises(InputError, match=r"^no music set "):
            question(music.Music(name))
