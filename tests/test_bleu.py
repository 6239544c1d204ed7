"""BLEU against the paper's definition, with one reference and with several."""

import math
from collections import Counter

import numpy as np
import pytest

from seqlab import bleu


def grams(words, n):
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def by_hand(written, references):
    """Papineni et al. 2002: counts clipped by the most in any reference, the closest length."""
    log_precision = 0.0
    for n in range(1, 5):
        right = total = 0
        for words, some in zip(written, references, strict=True):
            most = Counter()
            for reference in some:
                most |= grams(reference, n)
            right += sum((grams(words, n) & most).values())
            total += sum(grams(words, n).values())
        log_precision += math.log(right / total) / 4
    size = sum(map(len, written))
    closest = sum(
        min((abs(len(one) - len(words)), len(one)) for one in some)[1]
        for words, some in zip(written, references, strict=True)
    )
    return 100 * math.exp(log_precision + min(0.0, 1 - closest / size))


@pytest.mark.parametrize("most", [1, 2, 5])
def test_bleu_is_that_of_the_paper(most):
    rng = np.random.default_rng(most)

    def text():
        return [*"abcdefg"[: rng.integers(5, 8)], "."]

    references = [[text() for _ in range(rng.integers(1, most + 1))] for _ in range(40)]
    written = [[w for w in some[-1] if rng.random() > 0.08] for some in references]
    assert bleu.corpus(written, references) == pytest.approx(by_hand(written, references))


def test_what_is_right_is_right():
    assert bleu.corpus([list("abcde")], [[list("xyz"), list("abcde")]]) == pytest.approx(100)
