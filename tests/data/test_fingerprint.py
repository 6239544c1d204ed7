"""The fingerprint sees everything that a result depends on."""

import numpy as np

from seqlab.data.fingerprint import fingerprint
from seqlab.data.stream import Dataset, Stream


def test_fingerprint_changes_with_everything_in_the_data_set():
    def stream() -> Stream:
        return Stream(np.arange(6, dtype=np.int32), np.ones(6, dtype=bool))

    dataset = Dataset(stream(), stream(), stream(), ("a", "b"), channels=2, start=0)
    reference = fingerprint(dataset)
    assert fingerprint(Dataset(*dataset)) == reference
    changed_value, changed_score = stream(), stream()
    changed_value.values[5] = 0
    changed_score.scored[0] = False
    changes = [
        dataset._replace(symbols=("a", "c")),
        dataset._replace(symbols=None),
        dataset._replace(channels=3),
        dataset._replace(start=1),
        dataset._replace(train=Stream(stream().values[::-1], stream().scored)),
        dataset._replace(train=Stream(stream().values.reshape(2, 3), stream().scored)),
        dataset._replace(train=Stream(stream().values.view(np.uint32), stream().scored)),
        *(dataset._replace(**{split: changed_value}) for split in ("train", "valid", "test")),
        *(dataset._replace(**{split: changed_score}) for split in ("train", "valid", "test")),
    ]
    assert len({reference, *map(fingerprint, changes)}) == len(changes) + 1
