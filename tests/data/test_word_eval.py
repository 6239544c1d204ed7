"""What people say of words, against its files, read apart from the code under test."""

from small_texts import content

from seqlab import data
from seqlab.data import WordEval
from seqlab.data.word_eval import PAIRS

FILES = {
    "wordsim353": "EN-WS-353-ALL",
    "similarity": "EN-WS-353-SIM",
    "relatedness": "EN-WS-353-REL",
    "simlex999": "EN-SIMLEX-999",
    "rg65": "EN-RG-65",
    "men": "EN-MEN-TR-3k",
}


def test_pairs_are_those_of_the_files(texts, is_published):
    found = data.load(WordEval()).similarity
    assert found.keys() == FILES.keys() == PAIRS.keys()
    for name, file in FILES.items():
        lines = content(texts, f"word_eval/{file}.txt").decode().splitlines()
        expected = [(*map(str.lower, line.split()[:2]), float(line.split()[2])) for line in lines]
        assert list(found[name]) == expected
        if is_published:
            assert len(expected) == PAIRS[name]


def test_analogies_are_those_of_the_file_by_section(texts, is_published):
    found = data.load(WordEval()).analogies
    lines = content(texts, "word_eval/questions-words.txt").decode().splitlines()
    written = []
    for section, rows in found.items():
        written += [f": {section}", *(" ".join(row) for row in rows)]
    assert written == [line.lower() for line in lines]
    if is_published:
        assert len(found) == 14
        assert sum(map(len, found.values())) == 19_544
        assert ("man", "woman", "king", "queen") in found["family"]
