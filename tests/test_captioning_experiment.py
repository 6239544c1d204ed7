"""Captions: what goes in, what is minimised, what is written and looked at, and the table."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from small_scenes import CAPTIONS, SIDES, SYMBOLS, captioned, captions

from experiments import captioning
from experiments.captioning import Model, Trial
from seqlab import bleu, buckets, pictures, plots, results, train_buckets, writing
from seqlab.cells import CELLS
from seqlab.data import Captions
from seqlab.data.examples import decode
from seqlab.errors import InputError
from seqlab.optim import Schedule, Settings
from seqlab.sample import Asked
from seqlab.train_sequences import SequenceTrainConfig, train_step
from seqlab.trial import as_dict, replace, trial_id
from seqlab.trial_fields import Optim

EVERY_SIDE = [[way.format(side=side).split() for way in CAPTIONS] for side in SIDES]
TINY = Trial(
    "smoke",
    Captions(),
    Model("gru", 16, attention="show_attend_tell"),
    Optim("adam", learning_rate=1e-2, clip_norm=5.0, dropout_rate=0.0),
    SequenceTrainConfig(16, 1, Schedule(max_epochs=12, patience=12, halvings=0)),
)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(captioning, "load", lambda config: (captions(), "0" * 64))
    return captions()


def test_every_caption_is_read_with_its_picture_and_ended():
    split, marks = captioned(9, 2), writing.marks(SYMBOLS)
    found = writing.ended(captioning.examples(split, marks.begin), marks.end)
    (bucket,) = buckets.padded(found, 1, marks.begin)
    seen, previous = captioning.what_is_read(bucket)
    assert len(seen) == 17  # two of each but one
    for picture, before, wanted, scored in zip(
        np.asarray(seen), previous, bucket.targets, np.asarray(bucket.scored), strict=True
    ):
        words = [SYMBOLS[n] for n in np.asarray(wanted)[scored]]
        assert words[-1] == "</s>"
        halves = picture[:, :12].mean(), picture[:, 12:].mean()
        assert SIDES[int(np.argmin(halves))] in words
        assert [SYMBOLS[n] for n in np.asarray(before)[scored]] == ["<s>", *words[:-1]]


def test_the_captions_of_a_picture_are_all_that_is_said_of_it():
    split = captioned(9, 2)
    said = captioning.captions_of(split, SYMBOLS)
    assert [len(some) for some in said] == [1] + [2] * 8
    assert [words for some in said for words in some] == decode(split.captions, SYMBOLS)


def test_the_baseline_is_the_most_frequent_caption():
    dataset = captions()
    train = [" ".join(words) for words in decode(dataset.train.captions, SYMBOLS)]
    (caption, count), (_, second), *_ = Counter(train).most_common()
    assert count > second
    right = captioning.captions_of(dataset.test, SYMBOLS)
    expected = bleu.corpus([caption.split()] * len(right), right)
    assert 0 < expected < 100
    assert captioning.most_frequent(dataset) == pytest.approx(expected)


@pytest.mark.parametrize("spread", [0.0, 0.7])
def test_the_loss_is_that_of_the_paper(spread):
    """Xu et al. 2015, equation 14, of a batch, a word; one row is not there."""
    dataset, marks = captions(), writing.marks(SYMBOLS)
    program = captioning.compiled(replace(TINY, {"model.spread": spread}), dataset)
    split = writing.ended(captioning.examples(dataset.test, marks.begin), marks.end)
    (bucket,) = buckets.padded(split, 1, marks.begin)
    batch = buckets.take(bucket, jnp.array([0, buckets.ABSENT, 5, 9], jnp.int32))
    params = jax.jit(program.model.init)(jax.random.key(0), *captioning.what_is_read(batch))
    settings = jax.tree.map(jnp.asarray, Settings(1e-3, 5.0, 1.0, 0.0, 0))
    state = train_buckets.begun(params, "sgd", settings)
    program = program._replace(optimizer="sgd")
    _, loss = jax.jit(train_step, static_argnums=0)(program, settings, state, batch)
    logits, weights = program.model.apply(params, *captioning.what_is_read(batch))
    total = count = 0.0
    for row in (0, 2, 3):
        size = int(batch.scored[row].sum())
        for place in range(size):
            log_p = jax.nn.log_softmax(logits[row, place])
            total -= float(log_p[int(batch.targets[row, place])])
        looks = np.asarray(weights[row, :size], np.float64).sum(axis=0)
        total += spread * float(np.square(1 - looks).sum())
        count += size
    assert float(loss) == pytest.approx(total / count, rel=1e-5)


def test_what_is_learnt_is_written_looked_at_and_asked_for(small, tmp_path):
    folder = tmp_path / "attempt-1"
    folder.mkdir()
    with jax.numpy_dtype_promotion("standard"):  # Adam counts in int32
        metrics = captioning.run(TINY, folder)
    assert metrics["test_exact"] == 1.0
    assert metrics["test_bleu"] == pytest.approx(100)
    assert metrics["baseline"] < 100
    assert len(metrics["looks"]) == captioning.KEPT
    say = captioning.sampler(TINY, folder, Asked())
    for look in metrics["looks"]:
        image = pictures.from_png(look["picture"])
        halves = image[:, :12].mean(), image[:, 12:].mean()
        assert look["said"] in EVERY_SIDE[int(np.argmin(halves))]
        assert np.shape(look["weights"]) == (len(look["said"]), 2 * 3)
        PIL.Image.fromarray(image).save(tmp_path / "one.png")
        assert say(str(tmp_path / "one.png")) == " ".join(look["said"])
        larger = PIL.Image.fromarray(image.repeat(3, axis=0).repeat(3, axis=1))
        larger.save(tmp_path / "larger.png")
        assert say(str(tmp_path / "larger.png")) == " ".join(look["said"])
    with pytest.raises(InputError, match=r"nothing\.png: cannot be read"):
        say(str(tmp_path / "nothing.png"))
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InputError, match="not a PNG or JPEG picture"):
        say(str(tmp_path / "text.png"))
    row = {"status": results.DONE, "config": as_dict(TINY), "metrics": metrics}
    plots.draw(captioning.figures, [row], tmp_path, formats=("png",))
    assert (tmp_path / "easy_vqa_gru_1_16_show_attend_tell_1_smoke.png").is_file()
    blind = replace(TINY, {"model.attention": "no_attention", "model.spread": 0.0})
    unlooked = [{**look, "weights": []} for look in metrics["looks"]]
    row = {"status": results.DONE, "config": as_dict(blind), "metrics": {"looks": unlooked}}
    plots.draw(captioning.figures, [row], tmp_path, formats=("png",))
    assert (tmp_path / "easy_vqa_gru_1_16_no_attention_smoke.png").is_file()


def test_each_way_to_look_is_planned_from_every_seed():
    for budget, seeds, kinds in (("default", 3, 2), ("paper", 5, 1)):
        planned = captioning.trials(budget)
        ways = {(t.model.attention, t.model.spread) for t in planned}
        assert ways == {
            ("no_attention", 0.0),
            ("show_attend_tell", 0.0),
            ("show_attend_tell", 1.0),
        }
        assert len(planned) == len({trial_id(t) for t in planned}) == 3 * seeds * kinds
    assert len(captioning.trials("smoke")) == 1
    with pytest.raises(InputError, match="Did you mean 'paper'"):
        captioning.trials("papr")


def test_any_cell_can_write(monkeypatch):
    monkeypatch.setattr(captioning.sequence_trial, "check_data", lambda config: None)
    for cell in CELLS:
        for trial in captioning.trials("default")[::3] + captioning.trials("smoke"):
            captioning.check(replace(trial, {"model.cell": cell}))


def test_figures_of_two_systems_are_two(tmp_path):
    look = {"picture": pictures.png(captions().test.images[0]), "said": ["dark"], "weights": []}
    rows = []
    for trial in (*captioning.trials("smoke"), captioning.trials("default")[-1]):
        for cell in ("gru", "lstm"):
            of = replace(trial, {"model.cell": cell})
            metrics = {"looks": [look]}
            rows.append({"status": results.DONE, "config": as_dict(of), "metrics": metrics})
    assert len(captioning.figures(rows)) == 4


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model.attention": "luong"}, "no attention 'luong'. Did you mean 'luong_"),
        ({"model.spread": -1.0}, "model.spread must be at least 0"),
        ({"model.attention": "no_attention"}, "model.spread regularises attention"),
    ],
)
def test_what_cannot_be_run_is_refused(changed, message, monkeypatch):
    monkeypatch.setattr(captioning.sequence_trial, "check_data", lambda config: None)
    with pytest.raises(InputError, match=message):
        captioning.check(replace(TINY, changed))


def test_the_table_has_a_section_a_set_and_says_what_is_ours():
    rows = []
    for trial in captioning.trials("default"):
        value = 90.0 + trial.seed + 2 * (trial.model.attention != "no_attention")
        metrics = {"test_bleu": value, "baseline": 40.0, "params": 9, "epochs": 3}
        metrics |= {"device_seconds": 60.0}
        rows.append({"status": results.DONE, "config": as_dict(trial), "metrics": metrics})
    table = captioning.table(rows)
    ours = [row for row in table.rows if row["kind"] == "ours"]
    assert [row["value"] for row in ours] == pytest.approx([91, 93, 93] * 2)
    assert [row["n"] for row in ours] == [3] * 6
    assert len({row["system"] for row in ours}) == 3
    assert len({row["section"] for row in table.rows}) == 2
    assert any("seqlab's" in note for note in table.notes)
