"""BLEU of what a network has written, by sacrebleu, the extra `translation`."""

import importlib.util
import itertools
from collections.abc import Sequence

from seqlab.errors import InputError

Words = Sequence[str]


def check() -> None:
    """Raise InputError where sacrebleu is not installed."""
    if importlib.util.find_spec("sacrebleu") is None:
        raise InputError("BLEU needs sacrebleu: pip install -e '.[translation]'")


def corpus(written: Sequence[Words], references: Sequence[Sequence[Words]]) -> float:
    """BLEU-4 of a corpus, from 0 to 100; words are as they stand (`tokenize=none`).

    Args:
        written: the words of each text.
        references: of each text one or more that would be right, not as many of each.
    """
    import sacrebleu

    texts = [" ".join(words) for words in written]
    # sacrebleu wants the first references of all texts, then the second ones; None where none is.
    columns = itertools.zip_longest(*([" ".join(words) for words in of] for of in references))
    return sacrebleu.corpus_bleu(texts, list(map(list, columns)), tokenize="none", force=True).score
