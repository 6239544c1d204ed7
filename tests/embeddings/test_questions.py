"""Questions to vectors whose answers are known."""

import numpy as np
import pytest
from scipy import stats

from seqlab.data.word_eval import Judged
from seqlab.embeddings import questions
from seqlab.embeddings.questions import Vocabulary
from seqlab.errors import InputError

RNG = np.random.default_rng(0)
WORDS = ("king", "queen", "man", "woman", "well-known", "far")
PLACES = np.array([[5, 1, 0], [5, -1, 0], [0, 2, 0.1], [0, -2, 0.1], [0, 0, 3], [-4, 0.3, 9]])


def vocabulary() -> Vocabulary:
    return Vocabulary(WORDS, PLACES)


def test_similarity_is_the_correlation_of_ranks():
    rows = RNG.normal(size=(8, 3))
    letters = tuple("abcdefgh")
    pairs = [Judged(a, b, float(RNG.integers(9))) for a in letters for b in letters if a < b]
    found = questions.similarity(Vocabulary(letters, rows), [*pairs, Judged("a", "none", 3.0)])
    cosines = [
        np.dot(rows[ord(a) - 97], rows[ord(b) - 97])
        / np.sqrt((rows[ord(a) - 97] ** 2).sum() * (rows[ord(b) - 97] ** 2).sum())
        for a, b, _ in pairs
    ]
    ranks = [stats.rankdata(values) for values in (cosines, [pair.score for pair in pairs])]
    assert found.score == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert found[1:] == (len(pairs), len(pairs) + 1)
    assert questions.similarity(vocabulary(), [Judged("a", "b", 1.0)]) == (0.0, 0, 1)


def test_analogies_are_found_by_differences_and_none_of_the_given_words():
    asked = [
        ("man", "woman", "king", "queen"),
        ("woman", "man", "queen", "king"),
        ("man", "woman", "king", "far"),
        ("man", "woman", "unknown", "queen"),
    ]
    assert questions.analogies(vocabulary(), asked) == (2 / 3, 3, 4)
    # What is nearest to king - man + woman of these is king itself, which is not asked for.
    close = Vocabulary(WORDS[:4], np.array([[5, 0.1], [5, 0.3], [0.1, 5], [0.1, 5.1]]))
    assert questions.analogies(close, asked[:1]).score == 1.0
    assert questions.analogies(vocabulary(), asked[3:]) == (0.0, 0, 1)


def test_the_nearest_to_a_word_and_to_a_sum():
    found = questions.near(vocabulary(), "King", 5)
    unit = PLACES / np.linalg.norm(PLACES, axis=1, keepdims=True)
    expected = sorted(zip(unit @ unit[0], WORDS, strict=True), reverse=True)[1:]
    assert [word for word, _ in found] == [word for _, word in expected]
    np.testing.assert_allclose([c for _, c in found], [c for c, _ in expected])
    for line in ("king - man + woman", "woman  + king − man", "- man + king + woman"):
        assert questions.near(vocabulary(), line, 1)[0][0] == "queen"
    assert len(questions.near(vocabulary(), "well-known", 99)) == 5


@pytest.mark.parametrize("line", ["king man", "king -", "+", "king - - man", "king -man"])
def test_what_is_no_sum_is_one_line(line):
    with pytest.raises(InputError, match="is no sum of words, such as king - man"):
        questions.near(vocabulary(), line, 1)


def test_an_unknown_word_has_a_hint():
    with pytest.raises(InputError, match=r"^no vector for 'quen'. Did you mean 'queen'\?$"):
        questions.near(vocabulary(), "king + quen", 1)
    with pytest.raises(InputError, match=r"^no vector for 'zzzzz'.$"):
        questions.near(vocabulary(), "zzzzz", 1)


def test_the_plane_holds_the_largest_variances():
    rows = RNG.normal(size=(30, 5)) * np.array([1, 5, 1, 3, 1])
    places = questions.plane(rows)
    largest = np.linalg.eigvalsh(np.cov(rows.T, bias=True))[::-1][:2]
    np.testing.assert_allclose(np.cov(places.T, bias=True), np.diag(largest), atol=1e-9)
