"""Writers of the prepared sets, a module apart because tensorflow-datasets is slow to import.

Every builder names array_record, the one format that needs no TensorFlow. The records of a split,
put together in their order, make up the split.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from seqlab.data.prepared import VERSION


class _Arrays(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Writes records of arrays that are already in memory."""

    VERSION = tfds.core.Version(VERSION)
    ARRAYS: Mapping[str, tfds.features.Tensor]

    def __init__(
        self,
        *,
        splits: Mapping[str, Sequence[Mapping[str, np.ndarray]]],
        symbols: Sequence[str],
        data_dir: Path,
    ):
        self._splits = splits
        self._symbols = symbols
        super().__init__(file_format="array_record", data_dir=data_dir)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(self.ARRAYS),
            metadata=tfds.core.MetadataDict(symbols=list(self._symbols)),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        return {split: self._generate_examples(split) for split in self._splits}

    def _generate_examples(self, split: str) -> Iterator:
        yield from enumerate(self._splits[split])


def _rows(*shape: int, dtype: type = np.uint8) -> tfds.features.Tensor:
    """Any number of rows of this shape."""
    return tfds.features.Tensor(shape=(None, *shape), dtype=dtype, encoding="bytes")


class Ptb(_Arrays):
    """Penn Treebank, words as numbers: a record is a run of lines, each closed by <eos>."""

    ARRAYS: ClassVar = {"values": _rows(dtype=np.int32)}


class WikiText2(_Arrays):
    """WikiText-2, words as numbers: a record is a run of lines, each closed by <eos>."""

    ARRAYS: ClassVar = {"values": _rows(dtype=np.int32)}


class _PianoRolls(_Arrays, skip_registration=True):
    """Polyphonic music: a record is one piece, frames of 88 notes that sound (1) or do not (0)."""

    ARRAYS: ClassVar = {"values": _rows(88)}


class Nottingham(_PianoRolls):
    """Nottingham: British and American folk tunes with chords."""


class PianoMidi(_PianoRolls):
    """Piano-midi.de: classical piano pieces."""


class JsbChorales(_PianoRolls):
    """JSB Chorales: four-part chorales of J. S. Bach."""


class MuseData(_PianoRolls):
    """MuseData: orchestral and piano classical music."""


class _SmallGrey(_Arrays, skip_registration=True):
    """A record is a run of pictures of one channel and their classes."""

    ARRAYS: ClassVar = {"images": _rows(28, 28, 1), "labels": _rows(dtype=np.int32)}


# Not registered with tensorflow-datasets, which has sets of its own by these names.


class Mnist(_SmallGrey, skip_registration=True):
    """MNIST: handwritten digits."""


class FashionMnist(_SmallGrey, skip_registration=True):
    """Fashion-MNIST: articles of clothing."""


class Cifar10Jpeg(_Arrays):
    """CIFAR-10 after JPEG compression: a record is a run of pictures and their classes."""

    ARRAYS: ClassVar = {"images": _rows(32, 32, 3), "labels": _rows(dtype=np.int32)}


class _Texts(_Arrays, skip_registration=True):
    """A record is the text of one file."""

    ARRAYS: ClassVar = {"text": _rows()}


class TinyShakespeare(_Texts, skip_registration=True):
    """Tiny Shakespeare: some of the plays."""


class PtbChar(_Texts):
    """Penn Treebank, character level: every symbol is followed by a space."""


class SstBinary(_Texts):
    """Stanford Sentiment Treebank, two classes: the number of a class, a space, a sentence."""


class SstFine(_Texts):
    """Stanford Sentiment Treebank, five classes: the number of a class, a space, a sentence."""


class RtPolarity(_Texts):
    """Film reviews: negative and positive sentences, a line each, in Windows-1252."""


class UdEnglishEwt(_Texts):
    """English Web Treebank: words, universal tags and Penn tags, a record each, line by line."""


class Multi30k(_Texts, skip_registration=True):
    """Multi30k: captions in English, German and French, a record each, line by line."""


class TatoebaFraEng(_Texts):
    """Tatoeba: sentences in English and French, a record each, line by line."""


class Splice(_Texts):
    """Splice junctions: class, name and bases of a piece of DNA on a line."""


class Promoters(_Texts):
    """Promoters: class, name and bases of a piece of DNA on a line."""


class _TimeSeries(_Arrays, skip_registration=True):
    """The one record is the whole series."""

    ARRAYS: ClassVar = {"values": _rows(dtype=np.float64)}


class Airline(_TimeSeries):
    """Passengers of international airlines, in thousands, by month."""


class Sunspots(_TimeSeries):
    """Sunspot numbers of Zürich, by month."""


class Temperatures(_TimeSeries):
    """Minimum temperatures of Melbourne, by day."""


class Births(_TimeSeries):
    """Girls born in California, by day."""


class Fsdd(_Arrays):
    """Free Spoken Digit Dataset: the recordings of one speaker and digit, as log-mel frames."""

    ARRAYS: ClassVar = {
        "frames": _rows(40, dtype=np.float32),
        "digits": _rows(dtype=np.int32),
        "numbers": _rows(dtype=np.int32),
    }


class _Strokes(_Arrays, skip_registration=True):
    """A record is a run of drawings: ways of a pen, and 1 where a drawing begins."""

    ARRAYS: ClassVar = {"points": _rows(3, dtype=np.int16), "begins": _rows()}


class AaronSheep(_Strokes):
    """The Sheep Market of A. Koblin: sheep, drawn by many people."""


class ShortKanji(_Strokes):
    """Characters of Japanese with few strokes."""


class Omniglot(_Strokes, skip_registration=True):
    """Letters of fifty alphabets."""


class EasyVqa(_Arrays):
    """easy-VQA: a record is a run of pictures, and lines of what is asked of them."""

    ARRAYS: ClassVar = {"images": _rows(64, 64, 3), "text": _rows()}


class Nlvr(_Arrays, skip_registration=True):
    """NLVR: a record is a run of halved pictures, and lines of what is said of them."""

    ARRAYS: ClassVar = {"images": _rows(50, 200, 3), "text": _rows()}


class WordEval(_Texts):
    """Pairs of words and how alike they are; and analogies: a line each, a record a file."""


BUILDERS: dict[str, type[_Arrays]] = {
    "ptb": Ptb,
    "nottingham": Nottingham,
    "piano_midi": PianoMidi,
    "jsb_chorales": JsbChorales,
    "muse_data": MuseData,
    "mnist": Mnist,
    "fashion_mnist": FashionMnist,
    "cifar10_jpeg": Cifar10Jpeg,
    "wikitext2": WikiText2,
    "tinyshakespeare": TinyShakespeare,
    "ptb_char": PtbChar,
    "sst_binary": SstBinary,
    "sst_fine": SstFine,
    "rt_polarity": RtPolarity,
    "ud_english_ewt": UdEnglishEwt,
    "multi30k": Multi30k,
    "tatoeba_fra_eng": TatoebaFraEng,
    "splice": Splice,
    "promoters": Promoters,
    "airline": Airline,
    "sunspots": Sunspots,
    "temperatures": Temperatures,
    "births": Births,
    "fsdd": Fsdd,
    "aaron_sheep": AaronSheep,
    "short_kanji": ShortKanji,
    "omniglot": Omniglot,
    "easy_vqa": EasyVqa,
    "nlvr": Nlvr,
    "word_eval": WordEval,
}
