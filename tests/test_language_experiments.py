"""The recipes, the trivial systems and the tables of the experiments on letters and words."""

import math
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from experiments import char_lm, pos_tagging, sentiment, word_lm
from seqlab import sequence_trial, stream_trial, systems
from seqlab.buckets import rectangle
from seqlab.cells import CELLS
from seqlab.data import Dataset, ExampleDataset, Examples, MovieReviews, Ptb, Ragged, WikiText2
from seqlab.data import hello as hello_data
from seqlab.data.characters import SHAKESPEARE_SYMBOLS
from seqlab.data.examples import UNKNOWN, decode, encode
from seqlab.data.ptb import VOCABULARY
from seqlab.data.stream import Stream, frequencies_nll
from seqlab.errors import InputError
from seqlab.models.sequence import OneHot
from seqlab.recurrence import unroll
from seqlab.sample import Asked
from seqlab.trial import BUDGETS, as_dict, only, replace, trial_id

EXPERIMENTS = {
    "char_lm": char_lm,
    "pos_tagging": pos_tagging,
    "sentiment": sentiment,
    "word_lm": word_lm,
}
EVERY = [(name, budget) for name in EXPERIMENTS for budget in BUDGETS]


def row(trial, status: str = "DONE", **metrics) -> dict:
    shared = {"params": 4321, "epochs": 3, "device_seconds": 120.0}
    return {
        "trial_id": trial_id(trial),
        "config": as_dict(trial),
        "status": status,
        "metrics": shared | metrics if status == "DONE" else {},
    }


# The recipes


@pytest.mark.parametrize(("name", "budget"), EVERY)
def test_every_setting_has_every_seed_or_every_fold(name, budget):
    planned = EXPERIMENTS[name].trials(budget)
    assert len({trial_id(trial) for trial in planned}) == len(planned) > 0
    expected = {"smoke": 1, "default": 3, "paper": 5}[budget]
    folds = [trial for trial in planned if isinstance(trial.data, MovieReviews)]
    seeds = Counter(replace(trial, {"seed": 0}) for trial in planned if trial not in folds)
    assert set(seeds.values()) == {expected}
    assert {t.seed for t in planned if t not in folds} == set(range(expected))
    if folds:
        assert [trial.data.fold for trial in folds] == list(range(10))
        assert len({replace(trial, {"data.fold": 0}) for trial in folds}) == 1


@pytest.mark.parametrize(("name", "budget"), EVERY)
def test_every_trial_can_be_run_with_any_cell(name, budget, original_files):
    for trial in {t.data: t for t in EXPERIMENTS[name].trials(budget)}.values():
        for cell in CELLS:
            EXPERIMENTS[name].check(replace(trial, {"model.cell": cell}))
        with pytest.raises(InputError, match="Did you mean 'mut1'"):
            EXPERIMENTS[name].check(replace(trial, {"model.cell": "mutt1"}))


@pytest.mark.parametrize("experiment", [char_lm, word_lm])
def test_a_budget_that_is_none_is_one_line(experiment):
    with pytest.raises(InputError, match=r"no budget 'papr'\. Did you mean 'paper'"):
        experiment.trials("papr")


def test_one_text_alone():
    planned = word_lm.trials("default")
    assert {type(t.data) for t in planned} == {Ptb, WikiText2}
    assert only(planned, ["data.kind=Ptb"]) == [t for t in planned if isinstance(t.data, Ptb)]
    assert only(planned, ["data.kind=Ptb,WikiText2"]) == planned
    with pytest.raises(InputError, match=r"no trial has data.kind=Pbt\. Did you mean 'Ptb'"):
        only(planned, ["data.kind=Pbt"])
    folded = only(sentiment.trials("default"), ["data.fold=3"])
    assert [trial.data for trial in folded] == [MovieReviews(3)]
    with pytest.raises(InputError, match=r"no field 'data\.flod'"):
        only(planned, ["data.flod=3"])


@pytest.mark.parametrize(
    ("model", "data", "words"),
    [(word_lm.PTB_SMALL, Ptb, 10_000), (word_lm.WIKITEXT_SMALL, WikiText2, 33_278)],
)
def test_the_small_network_is_two_layers_of_200(model, data, words):
    layer = 4 * (200 * 200 + 200 * 200 + 200)
    assert model.parameter_budget == words * 200 + 2 * layer + 200 * words + words
    (trial,) = {replace(t, {"seed": 0}) for t in word_lm.trials("paper") if type(t.data) is data}
    assert trial.model == model
    assert stream_trial.compiled(trial)[1] == 200


def test_the_rate_is_halved_after_the_fourth_epoch_and_each_after_that():
    schedule, found = word_lm.WHOLE.schedule, []
    losses = [10.0, 9.0, 8.0, 7.0, *(7.5 for _ in range(9))]  # whatever validation says
    for epoch in range(13):
        found.append(schedule.next_halving(losses[:epoch]))
    assert found == [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert schedule.next_halving(losses) is None


# hello


def test_five_letters_are_read_and_of_the_fifth_nothing_is_asked():
    dataset = hello_data.load(hello_data.Hello())
    for split in (dataset.valid, dataset.test):
        batch = rectangle(split)
        one_hot = OneHot(4).apply({}, batch.inputs).rows()  # pyright: ignore
        assert one_hot.shape == (3, 5, 4)
        read = [[hello_data.LETTERS[n] for n in row] for row in np.argmax(one_hot, axis=-1)]
        assert ["".join(letters) for letters in read] == ["hello", "eolll", "lleel"]
        assert batch.scored.sum() == 12
        asked = [[hello_data.LETTERS[n] for n in row] for row in batch.targets]
        assert ["".join(letters) for letters in asked] == ["ello", "olll", "leel"]
    assert len(dataset.train.inputs.lengths) == 3 * hello_data.TIMES


def test_the_last_letter_tells_eight_of_twelve():
    """After h: e. After e: l, o, l. After l: l, o, l, l, l, e, l. After o: l. The most: 1+2+4+1."""
    dataset = hello_data.load(hello_data.Hello())
    assert char_lm.last_letter(dataset) == pytest.approx(8 / 12)


@pytest.mark.parametrize("cell", CELLS)
def test_three_words_at_once_have_the_shapes_of_one(cell):
    raw = cell in ("mut1", "mut2")  # x stands without a matrix: as wide as the cell
    assert char_lm.shapes(cell, 2) == [
        f"({words}, 5, {2 if raw else 4}) → ({words}, 5, 2)" for words in (1, 3)
    ]
    hello = replace(char_lm.trials("smoke")[0], {"model.cell": cell})
    model = char_lm.network(hello, hello_data.load(hello.data))
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((3, 4), jnp.int32))
    assert ("embedding" in params["params"]) == raw


def test_two_units_learn_what_the_last_letter_does_not_tell():
    trial = char_lm.trials("smoke")[0]
    with jax.numpy_dtype_promotion("standard"):  # Adam counts in int32
        found, again = char_lm.run(trial), char_lm.run(trial)
    assert found["test_accuracy"] > found["baseline"] == pytest.approx(8 / 12)
    assert found["shapes"] == ["(1, 5, 4) → (1, 5, 2)", "(3, 5, 4) → (3, 5, 2)"]
    for seconds in ("seconds_per_step", "device_seconds"):
        del found[seconds], again[seconds]
    assert again == found


def test_letters_one_hot_are_rows_of_a_matrix():
    rng = np.random.default_rng(0)
    letters, lengths = rng.integers(4, size=(3, 5)), np.array([5, 1, 3])
    xs = OneHot(4).apply({}, jnp.asarray(letters), jnp.asarray(lengths))
    dense = np.zeros((3, 5, 4), np.float32)
    for b, t in np.ndindex(3, 5):
        dense[b, t, letters[b, t]] = t < lengths[b]
    real = np.arange(5) < lengths[:, None]
    np.testing.assert_array_equal(np.asarray(xs.rows())[real], dense[real])  # pyright: ignore
    cell = CELLS["lstm"]
    params = cell.init(jax.random.key(0), 4, 2)
    _, ours = unroll(cell, params, None, xs, lengths=jnp.asarray(lengths))
    _, theirs = unroll(cell, params, None, jnp.asarray(dense), lengths=jnp.asarray(lengths))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


# The trivial systems


def test_the_nll_of_who_knows_frequencies_is_that_of_a_loop():
    rng = np.random.default_rng(1)
    splits = [
        Stream(rng.integers(5, size=n).astype(np.int32), rng.random(n) < 0.7) for n in (40, 9)
    ]
    train, test = splits
    dataset = Dataset(train, test, test, symbols=None, channels=6, start=0)
    seen = [v for v, scored in zip(train.values, train.scored, strict=True) if scored]
    losses = []
    for value, scored in zip(test.values, test.scored, strict=True):
        if scored:
            losses.append(-math.log((seen.count(value) + 1) / (len(seen) + 6)))
    assert frequencies_nll(dataset, test) == pytest.approx(sum(losses) / len(losses), rel=1e-12)


def test_the_most_frequent_tags_are_those_of_a_loop():
    rng = np.random.default_rng(2)

    def tagged(lengths, most):
        values = rng.integers(most, size=sum(lengths)), rng.integers(4, size=sum(lengths))
        each = np.array(lengths, np.int32)
        return Examples(*(Ragged(v.astype(np.int32), each) for v in values))

    train, test = tagged([9, 30, 7], 6), tagged([4, 11, 5], 9)  # three words are not in train
    dataset = ExampleDataset(train, train, test, tuple("abcdefghi"), tuple("WXYZ"))
    known: dict[int, Counter] = {}
    for word, tag in zip(train.inputs.values, train.targets.values, strict=True):
        known.setdefault(word, Counter())[tag] += 1
    every = sum(known.values(), Counter())
    right = 0
    for word, tag in zip(test.inputs.values, test.targets.values, strict=True):
        counts = known.get(word, every)
        right += tag == min(t for t in counts if counts[t] == max(counts.values()))
    assert pos_tagging.most_frequent_tag(dataset) == pytest.approx(right / 20)


# What a trained network says

FEW = {"model": sequence_trial.Model("gru", 8), "train.num_buckets": 1, "train.batch_size": 10}
FEW |= {"train.schedule.max_epochs": 2, "optim.learning_rate": 2e-2, "optim.dropout_rate": None}
SAID = (UNKNOWN, "a", "film", "it", "is", "good", "bad")
MOODS = {"good": "positive", "bad": "negative"}
TAGS = {"a": "DET", "film": "NOUN", "it": "PRON", "is": "AUX", "good": "ADJ", "bad": "ADJ"}


def sentences(count, seed):
    """Each has one word that tells its mood, in any place."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        words = rng.choice(SAID[1:-2], rng.integers(1, 6)).tolist()
        words.insert(rng.integers(len(words) + 1), rng.choice(list(MOODS)).item())
        found.append(words)
    return found


def trained(monkeypatch, experiment, values, answers, classes, folder):
    """A trial of a few steps on such sentences, its metrics and what is tested."""
    splits = []
    for seed, count in enumerate((40, 10, 20)):
        words = sentences(count, seed)
        splits.append(Examples(encode(words, SAID), answers(words)))
    dataset = ExampleDataset(*splits, symbols=SAID, classes=classes)
    monkeypatch.setattr(sequence_trial, "load", lambda config: (dataset, "of this test"))
    trial = replace(experiment.trials("smoke")[0], FEW | values)
    with jax.numpy_dtype_promotion("standard"):  # Adam counts in int32
        metrics = experiment.run(trial, folder)
    return trial, metrics, decode(dataset.test.inputs, SAID)


def test_a_sentiment_is_told_as_it_was_tested(monkeypatch, tmp_path):
    classes = ("negative", "positive")

    def moods(said):
        told = [next(word for word in words if word in MOODS) for words in said]
        return np.array([classes.index(MOODS[word]) for word in told], np.int32)

    trial, metrics, tested = trained(monkeypatch, sentiment, {}, moods, classes, tmp_path)
    say, right = sentiment.sampler(trial, tmp_path, Asked()), []
    for words, mood in zip(tested, moods(tested), strict=True):
        first, second = (some.split(" ") for some in say(" ".join(words)).split("  "))
        assert sorted((first[0], second[0])) == sorted(classes)
        assert float(first[1]) >= float(second[1])
        assert float(first[1]) + float(second[1]) == pytest.approx(1, abs=0.011)
        right.append(first[0] == classes[mood])
    assert np.mean(right) == pytest.approx(metrics["test_accuracy"])
    assert metrics["test_accuracy"] > metrics["baseline"]
    assert say("A BAD thing!") == say("a bad story ?"), "small letters, and words that are unknown"
    with pytest.raises(InputError, match="--length: there is no such choice"):
        sentiment.sampler(trial, tmp_path, Asked(length=3))


def test_words_are_tagged_as_they_were_tested(monkeypatch, tmp_path):
    classes = tuple(sorted(set(TAGS.values())))

    def tags(said):
        return encode([[TAGS[word] for word in words] for words in said], classes)

    trial, metrics, tested = trained(monkeypatch, pos_tagging, {}, tags, classes, tmp_path)
    say, right = pos_tagging.sampler(trial, tmp_path, Asked()), []
    for words in tested:
        said = [pair.rpartition("/") for pair in say(" ".join(words)).split(" ")]
        assert [word for word, _, _ in said] == words
        right += [tag == TAGS[word] for word, _, tag in said]
    assert np.mean(right) == pytest.approx(metrics["test_accuracy"])
    assert metrics["test_accuracy"] > 0.5
    said = [pair.rpartition("/") for pair in say("It isn't film.").split(" ")]
    assert [word for word, _, _ in said] == ["It", "is", "n't", "film", "."]
    assert {tag for _, _, tag in said} <= set(classes)


ONE_LAYER = {"model.cell": "gru", "model.num_layers": 1, "train.batch_size": 4, "train.unroll": 10}
ONE_LAYER |= {"optim.optimizer": "adam", "optim.learning_rate": 3e-2, "optim.init_scale": 1.0}
ONE_LAYER |= {"optim.dropout_rate": None, "optim.clip_norm": 1.0}


def repeated(monkeypatch, symbols, line, end):
    """A text of one line again and again is what is loaded, whatever is asked for."""
    numbers = np.array([symbols.index(symbol) for symbol in line], np.int32)
    train, held_out = (
        Stream(np.tile(numbers, n), np.ones(n * len(numbers), bool)) for n in (60, 20)
    )
    channels, start = len(symbols), symbols.index(end)
    dataset = Dataset(train, held_out, held_out, tuple(symbols), channels, start)
    monkeypatch.setattr(stream_trial, "load", lambda config: (dataset, "of this test"))


def test_the_next_word_follows_as_it_does_in_the_text(monkeypatch, tmp_path):
    line = ["the", "dog", "did", "n't", "sleep", "<eos>"]
    others = [f"other{n}" for n in range(VOCABULARY - len(line) - 1)]
    repeated(monkeypatch, [UNKNOWN, *line, *others], line, "<eos>")
    shape = {"model.parameter_budget": 200_000, "train.schedule.max_epochs": 24}
    shape |= {"train.schedule.patience": 24, "train.steps_per_epoch": None}
    shape |= {"optim.learning_rate": 0.1}
    trial = replace(word_lm.trials("smoke")[0], ONE_LAYER | shape)
    with jax.numpy_dtype_promotion("standard"):  # Adam counts in int32
        metrics = word_lm.run(trial, tmp_path)
    assert 1 < metrics["test_perplexity"] < 1.5 < metrics["baseline"]
    say = word_lm.sampler(trial, tmp_path, Asked(temperature=0.0, length=8))
    assert say("The dog") == "The dog did n't sleep\nthe dog did n't"
    assert say("the dog didn't") == "the dog didn't sleep\nthe dog did n't sleep\n"
    assert say("") == " the dog did n't sleep\nthe dog"
    drawn = word_lm.sampler(trial, tmp_path, Asked(temperature=9.0, length=50))("the cat")
    written = drawn.removeprefix("the cat").replace("\n", " <eos> ").split()
    assert len(written) == 50
    assert set(written) <= {*line, *others}, "never the unknown word"
    assert set(written) & set(others)


def test_the_next_letter_follows_as_it_does_in_the_text(monkeypatch, tmp_path):
    repeated(monkeypatch, SHAKESPEARE_SYMBOLS, "To be\n", "\n")
    shape = {"model.parameter_budget": 4_000, "train.schedule.max_epochs": 8}
    shape |= {"train.schedule.patience": 8}
    trial = replace(char_lm.trials("smoke")[1], ONE_LAYER | shape)
    with jax.numpy_dtype_promotion("standard"):  # Adam counts in int32
        metrics = char_lm.run(trial, tmp_path)
    assert 0 < metrics["test_bits"] < 0.5 < metrics["test_baseline"]
    say = char_lm.sampler(trial, tmp_path, Asked(temperature=0.0, length=9))
    assert say("To") == "To be\nTo be"
    assert say("") == "To be\nTo "
    with pytest.raises(InputError, match=r"'é' is none of the 65 symbols"):
        say("é")


# The tables


def ours_and_others(table, task):
    mine = [line for line in table.rows if line["task"] == task and line.get("source") == "ours"]
    trivial = [line for line in table.rows if line["task"] == task and "source" not in line]
    others = {
        line["system"]: line for line in table.rows if line["task"] == task and "mark" in line
    }
    return mine, trivial, others


def interval(values):
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    return (high - low) / 2


@pytest.mark.parametrize(
    ("experiment", "data", "task", "metric", "times"),
    [
        (pos_tagging, "Ewt", "ud_ewt", "test_accuracy", 100.0),
        (sentiment, "Sst", "sst2", "test_accuracy", 100.0),
        (word_lm, "Ptb", "ptb", "test_perplexity", 1.0),
        (word_lm, "WikiText2", "wikitext2", "test_perplexity", 1.0),
    ],
)
def test_a_section_is_baseline_others_and_ours(experiment, data, task, metric, times):
    planned = only(experiment.trials("default"), [f"data.kind={data}"])[:3]
    values = [0.81, 0.84, 0.80]
    rows = [row(t, **{metric: v}, baseline=0.5) for t, v in zip(planned, values, strict=True)]
    (mine,), (trivial,), others = ours_and_others(experiment.table(rows), task)
    assert mine["value"] == pytest.approx(times * np.mean(values))
    assert mine["ci95"] == pytest.approx(interval(times * np.array(values)))
    assert (mine["n"], mine["epochs"], mine["minutes"]) == (3, 3, 2.0)
    assert (trivial["system"], trivial["value"]) == ("baseline", times * 0.5)
    papers = {key[2]: p for key, p in experiment.PUBLISHED.items() if key[:2] == (task, metric)}
    assert set(others) == set(papers)
    for name, paper in papers.items():
        assert others[name]["value"] == pytest.approx(times * paper.value)
    assert not experiment.table([row(planned[0], "FAILED")]).rows[-1]["n"]


def test_letters_have_a_section_for_words_and_one_for_each_split():
    hello, shakespeare = (char_lm.trials("default")[n : n + 3] for n in (0, 3))
    bits = [2.1, 2.2, 2.15]
    rows = [row(t, test_accuracy=1.0, baseline=2 / 3, shapes=["(1) → (2)"]) for t in hello]
    rows += [
        row(t, valid_bits=b, test_bits=b + 0.2, valid_baseline=4.7, test_baseline=4.8)
        for t, b in zip(shakespeare, bits, strict=True)
    ]
    table = char_lm.table(rows)
    (words,), (trivial,), others = ours_and_others(table, "hello")
    assert (words["value"], trivial["value"], others) == (100.0, pytest.approx(200 / 3), {})
    mine, trivial, others = ours_and_others(table, "shakespeare")
    assert [line["value"] for line in mine] == pytest.approx([2.15, 2.35])
    assert [line["ci95"] for line in mine] == pytest.approx([interval(bits)] * 2)
    assert [line["value"] for line in trivial] == [4.7, 4.8]
    assert list(others) == ["transformer, 10.65M parameters"]
    assert len({line["section"] for line in table.rows}) == 3
    assert sum("(1) → (2)" in note for note in table.notes) == 1


def test_tables_below_each_other_keep_their_order_and_say_a_note_once():
    planned = word_lm.trials("default")
    tables = [word_lm.table([row(t, test_perplexity=9.0)]) for t in (planned[0], planned[-1])]
    both = systems.one_below_the_other(*tables)
    assert both.title == tables[0].title
    assert both.rows == tables[0].rows + tables[1].rows
    assert both.notes == tables[0].notes == tables[1].notes
    assert systems.one_below_the_other(tables[0]) == tables[0]


def test_a_network_that_was_stopped_early_says_how_far_it_came():
    budgets = {budget: word_lm.trials(budget) for budget in ("default", "paper")}
    for budget, kind, expected in (
        ("default", "Ptb", "lstm, 2 layers"),
        ("default", "WikiText2", "lstm, 2 layers, 2 of 13 epochs"),
        ("paper", "WikiText2", "lstm, 2 layers"),
    ):
        trial = only(budgets[budget], [f"data.kind={kind}"])[0]
        assert word_lm.table([row(trial, test_perplexity=9.0)]).rows[-1]["system"] == expected
