"""Questions about pictures: the choice that is offered, the baselines, an answer, the table."""

from collections import Counter

import jax
import numpy as np
import PIL.Image
import pytest
from small_scenes import ANSWERS, WORDS, asked, questions

from experiments import vqa
from experiments.vqa import Model, Trial
from seqlab import buckets, pictures, plots, results
from seqlab.cells import CELLS
from seqlab.data import Questions
from seqlab.data.examples import decode
from seqlab.errors import InputError
from seqlab.optim import Schedule
from seqlab.sample import Asked
from seqlab.train_sequences import SequenceTrainConfig
from seqlab.trial import as_dict, replace, trial_id
from seqlab.trial_fields import Optim

TINY = Trial(
    "smoke",
    Questions(),
    Model("gru", 16, attention="bahdanau"),
    Optim("adam", learning_rate=1e-2, clip_norm=5.0, dropout_rate=0.0),
    SequenceTrainConfig(16, 1, Schedule(max_epochs=12, patience=12, halvings=0)),
)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(vqa, "load", lambda config: (questions(), "0" * 64))
    return questions()


def test_a_question_is_read_with_its_picture():
    split = asked(9, 2)
    (bucket,) = buckets.padded(vqa.examples(split), 1)
    seen, words, lengths = map(np.asarray, vqa.what_is_read(bucket))
    found = set()
    for picture, numbers, length, answer in zip(
        seen, words, lengths, np.asarray(bucket.targets)[:, 0], strict=True
    ):
        dark = ("left", "right")[int(np.argmin([picture[:, :12].mean(), picture[:, 12:].mean()]))]
        said = [WORDS[n] for n in numbers[:length]]
        which = said[0] == "which"
        assert ANSWERS[answer] == (dark if which else "yes" if dark in said else "no")
        found.add(" ".join(said))
    assert len(found) == 3


def test_the_question_alone_tells_its_most_frequent_answer(small):
    train = Counter(
        (tuple(words), int(answer))
        for words, answer in zip(
            decode(small.train.questions, WORDS), small.train.answers, strict=True
        )
    )
    told = vqa.by_question(small)
    for row, words in zip(told, decode(small.test.questions, WORDS), strict=True):
        expected = [train[tuple(words), k] for k in range(len(ANSWERS))]
        np.testing.assert_array_equal(np.floor(row), expected)
    unheard = small._replace(
        test=small.test._replace(
            questions=small.test.questions._replace(
                values=np.zeros_like(small.test.questions.values)
            )
        )
    )
    most = np.bincount(small.train.answers, minlength=len(ANSWERS)).argmax()
    assert (vqa.by_question(unheard).argmax(axis=1) == most).all()


def test_a_choice_holds_the_answer_and_what_else_might_be_one():
    """Six answers, of which each question has had two, or five."""
    rng = np.random.default_rng(3)
    classes = tuple("abcdef")
    answers = rng.integers(6, size=40).astype(np.int32)
    told = np.full((40, 6), 0.1)
    for row, answer in enumerate(answers):
        others = rng.permutation([k for k in range(6) if k != answer])
        told[row, others[: 1 if row % 2 else 4]] += 5
        told[row, answer] += row % 3
    dataset = questions()._replace(classes=classes, test=questions().test._replace(answers=answers))
    offered = vqa.choices(dataset, told)
    assert offered.shape == (40, 4)
    for row, (some, answer) in enumerate(zip(offered, answers, strict=True)):
        assert answer in some
        assert (np.diff(some) > 0).all(), "each once, and nothing in their order tells which"
        seen = set(np.flatnonzero(told[row] >= 1)) - {answer}
        if row % 2:
            assert seen <= set(some)
        else:
            assert set(some) - {answer} <= seen
    np.testing.assert_array_equal(vqa.choices(dataset, told), offered)
    places = [list(some).index(answer) for some, answer in zip(offered, answers, strict=True)]
    assert set(places) == set(range(4))


def test_a_choice_is_right_where_the_likeliest_of_four_is():
    scores = np.array([[0.5, 0.1, 0.3, 0.2], [0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]])
    offered = np.array([[1, 2], [0, 2], [0, 1]])
    assert vqa.chosen_right(scores, offered, np.array([2, 2, 0])) == pytest.approx(2 / 3)


def test_what_is_learnt_is_answered_looked_at_and_asked_for(small, tmp_path):
    folder = tmp_path / "attempt-1"
    folder.mkdir()
    with jax.numpy_dtype_promotion("standard"):  # Adam counts in int32
        metrics = vqa.run(TINY, folder)
    assert metrics["test_accuracy"] == metrics["test_choice"] == 1.0
    assert metrics["baseline_open"] < 0.8
    assert metrics["baseline_choice"] < 0.8
    say = vqa.sampler(TINY, folder, Asked())
    for look in metrics["looks"]:
        assert look["said"] == look["truth"]
        assert np.shape(look["weights"]) == (len(look["asked"]), 2 * 3)
        PIL.Image.fromarray(pictures.from_png(look["picture"])).save(tmp_path / "one.png")
        said = say(f"{tmp_path / 'one.png'}: {' '.join(look['asked'])}")
        assert said.split()[0] == look["said"]
        values = [float(word) for word in said.split()[1::2]]
        assert sum(values) == pytest.approx(1, abs=0.03)
        assert values == sorted(values, reverse=True)
    one = tmp_path / "one.png"
    for line, message in (
        (str(one), "expected PICTURE: QUESTION"),
        (f"{one}: ", "expected PICTURE: QUESTION"),
        (f"{one}: {'is ' * 40}", "40 words are more than"),
        (f"{tmp_path}/nothing.png: is it", "cannot be read"),
        (f"~nobody-here{one}: is it", "cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            say(line)
    row = {"status": results.DONE, "config": as_dict(TINY), "metrics": metrics}
    plots.draw(vqa.figures, [row], tmp_path, formats=("png",))
    assert (tmp_path / "easy_vqa_gru_1_16_bahdanau_smoke.png").is_file()


def test_every_way_to_look_are_planned_from_every_seed():
    ways = {"no_attention", "luong_general"}
    for budget, seeds, more in (("default", 3, set()), ("paper", 5, {"bahdanau"})):
        planned = vqa.trials(budget)
        assert {t.model.attention for t in planned} == ways | more
        assert len(planned) == len({trial_id(t) for t in planned}) == len(ways | more) * seeds
    assert len(vqa.trials("smoke")) == 1
    with pytest.raises(InputError, match="Did you mean 'default'"):
        vqa.trials("defalt")


def test_any_cell_can_read_and_an_unknown_attention_is_refused(monkeypatch):
    monkeypatch.setattr(vqa.sequence_trial, "check_data", lambda config: None)
    for cell in CELLS:
        vqa.check(replace(TINY, {"model.cell": cell}))
    with pytest.raises(InputError, match=r"no attention 'bahdanu'\. Did you mean 'bahdanau'"):
        vqa.check(replace(TINY, {"model.attention": "bahdanu"}))


def test_the_table_asks_twice():
    rows = []
    for trial in vqa.trials("default"):
        metrics = {"test_accuracy": 0.9, "test_choice": 0.95, "baseline_open": 0.6}
        metrics |= {"baseline_choice": 0.7, "params": 9, "epochs": 3, "device_seconds": 60.0}
        rows.append({"status": results.DONE, "config": as_dict(trial), "metrics": metrics})
    table = vqa.table(rows)
    values = {
        kind: [r["value"] for r in table.rows if r["kind"] == kind] for kind in ("trivial", "ours")
    }
    assert values["trivial"] == pytest.approx([60, 70])
    assert values["ours"] == pytest.approx([90, 90, 95, 95])


def test_a_set_of_two_answers_is_asked_once():
    config = as_dict(replace(TINY, {"data.name": "nlvr"}))
    metrics = {"test_accuracy": 0.6, "baseline_open": 0.55, "params": 9, "epochs": 3}
    metrics |= {"test_choice": 0.6, "baseline_choice": 0.55, "device_seconds": 60.0}
    table = vqa.table([{"status": results.DONE, "config": config, "metrics": metrics}])
    assert len({row["section"] for row in table.rows}) == 1
