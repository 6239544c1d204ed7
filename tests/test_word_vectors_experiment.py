"""Vectors of words, as an experiment: the lecture's matrix, recipes, answers, tables."""

import itertools

import numpy as np
import pytest

from experiments import word_vectors, word_vectors_speed
from experiments.word_vectors import CBOW, SKIP_GRAM, Goodbye, Svd, Trial
from seqlab import data, tables
from seqlab.data import Ptb, WikiText2, WordQuestions
from seqlab.data.word_eval import PAIRS, Judged
from seqlab.embeddings.corpus import Corpus, Words
from seqlab.embeddings.word2vec import Sampling
from seqlab.errors import InputError
from seqlab.sample import Asked
from seqlab.trial import BUDGETS, as_dict, replace, trial_id

LECTURE = """
         you  say  goodbye  and  I  hello  .
you      0    1    0        0    0  0      0
say      1    0    1        0    1  1      0
goodbye  0    1    0        1    1  0      0
and      0    0    1        0    1  0      0
I        0    1    0        1    0  0      0
hello    0    1    0        0    0  0      1
.        0    0    0        0    0  1      0
"""


def test_the_sentence_is_the_lectures_but_for_its_slip():
    words, counts = word_vectors.sentence_counts()
    rows = [line.split() for line in LECTURE.strip().splitlines()]
    assert words == rows[0] == [row[0] for row in rows[1:]]
    printed = np.array([row[1:] for row in rows[1:]], int)
    # Printed 1 there and 0 at its mirror image: the two are not side by side.
    goodbye, i = words.index("goodbye"), words.index("I")
    assert (printed != printed.T).sum() == 2
    printed[goodbye, i] = 0
    np.testing.assert_array_equal(counts, printed)


def test_the_sentence_alone_is_printed_as_a_matrix():
    trial = word_vectors.trials("default")[0]
    word_vectors.check(trial)
    row = {"config": as_dict(trial), "status": "DONE", "metrics": word_vectors.run(trial)}
    table = word_vectors.table([row])
    printed = [[line[column.key] for column in table.columns] for line in table.rows]
    words, counts = word_vectors.sentence_counts()
    assert [column.title for column in table.columns] == ["", *words]
    expected = [[w, *line] for w, line in zip(words, counts.tolist(), strict=True)]
    assert printed == expected
    assert any("but for goodbye, I" in note for note in table.notes)
    wider = row | {"config": as_dict(replace(trial, {"model.window": 2}))}
    assert not any("but for" in note for note in word_vectors.table([wider]).notes)
    with pytest.raises(InputError, match="nothing is learnt from it"):
        word_vectors.check(replace(trial, {"model": CBOW}))


# The recipes


def test_learnt_vectors_have_every_seed_and_counted_ones_one():
    for budget, num_seeds, dim in (("default", 3, 100), ("paper", 5, 300)):
        planned = word_vectors.trials(budget)
        assert len({trial_id(t) for t in planned}) == len(planned)
        texts = [t for t in planned if not isinstance(t.data, Goodbye)]
        assert len(planned) - len(texts) == 1
        assert {t.model.dim for t in texts} == {dim}
        seeds = {}
        for t in texts:
            seeds.setdefault((t.data, t.model), []).append(t.seed)
        assert len(seeds) == 2 * 3
        for (_, model), found in seeds.items():
            assert found == list(range(1 if isinstance(model, Svd) else num_seeds))
    for experiment in (word_vectors, word_vectors_speed):
        assert all(t.budget == "smoke" for t in experiment.trials("smoke"))
        with pytest.raises(InputError, match="Did you mean 'paper'"):
            experiment.trials("papr")


def test_what_cannot_be_run_is_one_line(monkeypatch):
    monkeypatch.setattr(word_vectors, "check_data", lambda config: None)
    for budget in BUDGETS:
        for trial in word_vectors.trials(budget):
            word_vectors.check(trial)
    trial = Trial("smoke", Ptb(), CBOW)
    for changes, complaint in (
        ({"model.objective": "cbov"}, "no objective 'cbov'. Did you mean 'cbow'"),
        ({"model.dim": 0}, "model.dim must be above 0, not 0"),
        ({"model.sampling.subsample": 0.0}, "model.sampling.subsample must be above 0"),
        ({"min_count": 0}, "min_count must be above 0"),
        ({"seed": -1}, "seed must be from 0"),
    ):
        with pytest.raises(InputError, match=complaint):
            word_vectors.check(replace(trial, changes))


# Runs on an invented text


TOPICS = (
    ("king", "queen", "man", "woman", "monday", "tuesday"),
    ("river", "song", "bank", "company", "france", "june"),
)


def invented() -> Corpus:
    """Lines of eight words of one topic or the other."""
    rng = np.random.default_rng(0)
    ids = [rng.integers(6, size=8) + 6 * (n % 2) for n in range(200)]
    lines = np.repeat(np.arange(200, dtype=np.int32), 8)
    words = Words(np.concatenate(ids).astype(np.int32), lines)
    symbols = tuple(itertools.chain(*TOPICS))
    return Corpus(words, words, symbols, np.bincount(words.ids))


def judgements() -> WordQuestions:
    """Two words of a topic are alike, two of either are not."""
    pairs = [
        Judged(a, b, 9.0 if (a in TOPICS[0]) == (b in TOPICS[0]) else 1.0)
        for a, b in itertools.combinations(itertools.chain(*TOPICS), 2)
    ]
    rows = (("man", "woman", "king", "queen"), ("man", "woman", "king", "nobody"))
    similarity = dict.fromkeys(PAIRS, (*pairs, Judged("man", "nobody", 5.0)))
    return WordQuestions(similarity, {"family": rows})


FEW = Sampling(window=3, shared=8, subsample=1.0, runs=4, length=8)
SMALL = {"dim": 8, "epochs": 20, "sampling": FEW}
MODELS = {
    "counted": Svd(dim=8, window=3),
    "cbow": replace(CBOW, SMALL),
    "skip-gram": replace(SKIP_GRAM, SMALL | {"learning_rate": 0.1}),
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """By model, its trial, its folder and its result."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_vectors, "load", lambda config, min_count: (invented(), "of this test"))
        patch.setattr(data, "load", lambda config: judgements())
        for name, model in MODELS.items():
            trial = Trial("default", WikiText2(), model)
            folder = tmp_path_factory.mktemp(name)
            row = {"trial_id": trial_id(trial), "config": as_dict(trial), "status": "DONE"}
            found[name] = (trial, folder, row | {"metrics": word_vectors.run(trial, folder)})
        yield found


@pytest.mark.parametrize("name", MODELS)
def test_every_model_tells_the_topics(name, rows):
    metrics = rows[name][2]["metrics"]
    for asked in PAIRS:
        assert metrics[f"{asked}_pairs"] == [66, 67]
        assert metrics[asked] > 0.7
        assert abs(metrics[f"{asked}_baseline"]["random vectors"]) < 0.5
    assert metrics["analogies_pairs"] == [1, 2]
    assert metrics["params"] == 2 * 12 * 8
    assert set(metrics["near"]["river"]) <= set(TOPICS[1])
    assert 1 <= metrics["king"]["rank"] <= 9
    assert metrics["valid_nll"] < 6 * np.log(2)  # that of vectors that are 0
    words = metrics["picture"]["words"]
    assert set(words) <= set(itertools.chain(*TOPICS))
    assert len(words) == len(metrics["picture"]["places"]) == len(metrics["picture"]["groups"])


@pytest.mark.parametrize("name", MODELS)
def test_what_a_run_has_left_can_be_asked(name, rows):
    trial, folder, row = rows[name]
    say = word_vectors.sampler(trial, folder, Asked(length=5))
    assert say("river").split()[::2] == row["metrics"]["near"]["river"]
    assert len(say("king - man + woman").split()) == 10
    assert say("king - man + woman").split()[::2] == row["metrics"]["king"]["found"]
    with pytest.raises(InputError, match=r"no vector for 'rivr'\. Did you mean 'river'"):
        say("rivr")
    with pytest.raises(InputError, match=r"--(temperature|seed): there is no such choice"):
        word_vectors.sampler(trial, folder, Asked(temperature=1.0))


def test_the_table_has_a_line_a_model_and_says_what_was_covered(rows):
    table = word_vectors.table([row for _, _, row in rows.values()])
    for shown in word_vectors.SHOWN:
        lines = [line for line in table.rows if line["task"] == f"WikiText2_{shown}"]
        ours = {line["system"].split(",")[0]: line for line in lines if line["kind"] == "ours"}
        assert ours.keys() == MODELS.keys()
        for name, line in ours.items():
            assert line["value"] == pytest.approx(100 * rows[name][2]["metrics"][shown])
        covered = "(1 of 2)" if shown == "analogies" else "(66 of 67)"
        assert all(covered in line["section"] for line in lines)
        assert [line["system"] for line in lines if line["kind"] == "trivial"] == [
            "baseline: random vectors"
        ]
    assert "king - man + woman, cbow" in tables.render(table, "text")
    for name, (_, _, row) in rows.items():
        (note,) = [n for n in table.notes if n.startswith(f"Nearest words, {name},")]
        about, _, said = note.partition(". ")
        assert about.endswith("on WikiText-2")
        near = row["metrics"]["near"]
        shown = {
            word: found.split(", ")
            for word, _, found in (part.partition(": ") for part in said[:-1].split("; "))
        }
        assert shown == {word: near[word] for word in ("monday", "company")}


def test_the_figure_places_every_word_once(rows):
    (figure,) = word_vectors.figures([row for _, _, row in rows.values()]).values()
    assert len(figure.axes) == len(MODELS)
    for panel, name in zip(figure.axes, ("cbow", "counted", "skip-gram"), strict=True):
        picture = rows[name][2]["metrics"]["picture"]
        written = {text.get_text(): list(text.xy) for text in panel.texts}  # pyright: ignore
        assert written == dict(zip(picture["words"], picture["places"], strict=True))


# Speed


def test_the_lines_of_a_text_are_those_that_gensim_reads():
    text = invented()
    lines = word_vectors_speed.lines(text).splitlines()
    assert len(lines) == 200
    written = [word for line in lines for word in line.split()]
    assert written == [text.symbols[n] for n in text.train.ids]


def test_the_table_of_speeds():
    timed = {"ratio_median": 2.5, "ratio_p10_p90": [2.0, 3.0], "null_ratio": 1.1, "null_ok": False}
    timed |= {"words_per_second": 5e5, "gensim_words_per_second": 2e5, "threads": 2}
    timed |= {f"{who}_{k}": 0.5 for who in ("ours", "gensim") for k in ("wordsim353", "men")}
    rows = [
        {"config": as_dict(t), "status": "DONE", "metrics": timed | {"platform": "cpu"}}
        for t in word_vectors_speed.trials("default")
    ]
    rows[1] |= {"status": "FAILED", "metrics": {}}
    table = word_vectors_speed.table(rows)
    assert [line["objective"] for line in table.rows] == ["cbow", "skip-gram"]
    assert table.rows[0]["shown"] == "2.50 [2.00-3.00] !"
    assert table.rows[0]["device"] == "2 cores"
    assert table.rows[1]["shown"] == "FAILED"
    assert "WikiText-2, window 5, 6 epochs" in table.rows[0]["section"]
