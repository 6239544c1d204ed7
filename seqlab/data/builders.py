"""What writes the prepared sets: a module apart, for tensorflow-datasets is slow to import.

Every builder names array_record, the one format that needs no TensorFlow. The records of a split,
put together in their order, make up the split.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from seqlab.data.prepared import VERSION


class _Arrays(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Writes arrays that are already in memory, each one a record."""

    VERSION = tfds.core.Version(VERSION)
    VALUES: tfds.features.Tensor

    def __init__(
        self,
        *,
        splits: Mapping[str, Sequence[np.ndarray]],
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
            features=tfds.features.FeaturesDict({"values": self.VALUES}),
            metadata=tfds.core.MetadataDict(symbols=list(self._symbols)),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        return {split: self._generate_examples(split) for split in self._splits}

    def _generate_examples(self, split: str) -> Iterator:
        for number, values in enumerate(self._splits[split]):
            yield number, {"values": values}


class Ptb(_Arrays):
    """Penn Treebank, words as numbers: a record is a run of lines, each closed by <eos>."""

    VALUES = tfds.features.Tensor(shape=(None,), dtype=np.int32, encoding="bytes")


class _PianoRolls(_Arrays, skip_registration=True):
    """Polyphonic music: a record is one piece, frames of 88 notes that sound (1) or do not (0)."""

    VALUES = tfds.features.Tensor(shape=(None, 88), dtype=np.uint8, encoding="bytes")


class Nottingham(_PianoRolls):
    """Nottingham: British and American folk tunes with chords."""


class PianoMidi(_PianoRolls):
    """Piano-midi.de: classical piano pieces."""


class JsbChorales(_PianoRolls):
    """JSB Chorales: four-part chorales of J. S. Bach."""


class MuseData(_PianoRolls):
    """MuseData: orchestral and piano classical music."""


BUILDERS: dict[str, type[_Arrays]] = {
    "ptb": Ptb,
    "nottingham": Nottingham,
    "piano_midi": PianoMidi,
    "jsb_chorales": JsbChorales,
    "muse_data": MuseData,
}
