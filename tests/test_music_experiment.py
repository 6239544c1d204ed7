"""What is counted of music against loops, what is drawn of it, its table and its figures."""

import itertools
import math
import sys

import jax
import jax.numpy as jnp
import mido
import numpy as np
import PIL.Image
import pytest

from experiments import music
from seqlab import checkpoint, decoding, midi, stream_trial
from seqlab.cells import CELLS
from seqlab.data import Dataset, Music
from seqlab.data.stream import Stream
from seqlab.errors import InputError
from seqlab.models.rnn import stack
from seqlab.models.sequence import FramePredictor
from seqlab.sample import Asked
from seqlab.trial import BUDGETS, as_dict, replace, trial_id


def tunes(pieces: int, seed: int) -> Stream:
    """Pieces in which a chord is held for three frames, and a silent frame after each."""
    rng, values, scored = np.random.default_rng(seed), [], []
    for _ in range(pieces):
        for _ in range(4):
            chord = (np.arange(88) % 12 == rng.integers(4)) & (np.arange(88) < 48)
            values += [chord] * 3
            scored += [True] * 3
        values.append(np.zeros(88, bool))
        scored.append(False)
    return Stream(np.array(values, np.uint8), np.array(scored))


SMALL = Dataset(tunes(30, 0), tunes(5, 1), tunes(6, 2), None, 88, 0)


def test_the_baselines_are_those_of_a_loop():
    train, test = SMALL.train, SMALL.test

    def nats(known):
        counts: dict = {}
        for t in range(len(train.values)):
            if train.scored[t]:
                for c in range(88):
                    place = c, known(train, t, c)
                    on, of = counts.get(place, (0, 0))
                    counts[place] = on + int(train.values[t, c]), of + 1
        total = 0.0
        for t in range(len(test.values)):
            if test.scored[t]:
                for c in range(88):
                    on, of = counts.get((c, known(test, t, c)), (0, 0))
                    p = (on + 1) / (of + 2)
                    total -= math.log(p if test.values[t, c] else 1 - p)
        return total / test.scored.sum()

    assert music.baselines(train, test) == pytest.approx(
        {
            "how often a note sounds": nats(lambda stream, t, c: None),
            "how often a note goes on": nats(
                lambda stream, t, c: int(stream.values[t - 1, c]) if t else 0
            ),
        }
    )


# What is drawn


def predictor():
    model = FramePredictor(stack(CELLS["gru"], 6, 2), 88, 6)
    params = model.init(jax.random.key(1), jnp.zeros((1, 1, 88), jnp.uint8))
    rng = np.random.default_rng(0)  # biases, too: else nothing follows silence
    return model, jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), params)


def test_at_temperature_0_a_note_sounds_where_that_is_more_probable():
    model, params = predictor()
    found = np.asarray(music.drawn(model, params, jax.random.key(0), 0.0, 7))
    seen = [np.zeros(88, np.uint8)]
    for _ in range(7):
        _, logits = model.apply(params, jnp.asarray(np.array(seen))[None])  # pyright: ignore
        seen.append(np.asarray(logits[0, -1] > 0, np.uint8))
    np.testing.assert_array_equal(found, seen[1:])
    assert 0 < found.mean() < 1
    assert len({frame.tobytes() for frame in found}) > 1


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_notes_are_drawn_as_often_as_they_are_probable(temperature):
    logits = np.linspace(-3, 3, 7).astype(np.float32)
    count = 4000

    def step(carry, frames):
        return carry, jnp.broadcast_to(jnp.asarray(logits), frames.shape)

    frames = decoding.sample_frames(
        jax.random.key(0),
        step,
        None,
        jnp.zeros((4, 7), jnp.uint8),
        length=count // 4,
        temperature=temperature,
    )
    expected = 1 / (1 + np.exp(-logits / temperature))
    found = np.asarray(frames, float).reshape(count, 7).mean(axis=0)
    np.testing.assert_allclose(found, expected, atol=0.04)
    drawn = np.asarray(frames).reshape(4, -1)
    assert len({row.tobytes() for row in drawn}) == 4


def test_a_piece_is_written_to_the_file_that_is_named(tmp_path, monkeypatch):
    trial = replace(music.trials("smoke")[0], {"model.parameter_budget": 3000})
    program, _ = stream_trial.compiled(trial)
    one = jnp.zeros((1, 1, 88), jnp.uint8)
    params = jax.tree.map(lambda p: 6 * p, program.model.init(jax.random.key(1), one))
    checkpoint.save(tmp_path / "best", 1, params, keep=1)
    say = music.sampler(trial, tmp_path, Asked(length=12, temperature=0.5, seed=3))
    first, second = tmp_path / "one.mid", tmp_path / "two.mid"
    said = say(str(first))
    now = jax.random.fold_in(jax.random.key(3), 0)
    held = midi.notes(np.asarray(music.drawn(program.model, params, now, 0.5, 12)))  # pyright: ignore
    assert said == f"{first}: {len(held)} notes, 12 frames, 9 seconds"
    written = [m for m in mido.MidiFile(first) if m.type == "note_on"]
    assert sorted(m.note for m in written) == sorted(note.key for note in held)
    say(str(second))
    assert first.read_bytes() != second.read_bytes()
    with pytest.raises(InputError, match="is there already"):
        say(str(first))
    roll = tmp_path / "one.png"
    again = music.sampler(trial, tmp_path, Asked(length=12, temperature=0.5, seed=3))
    assert again(str(roll)) == f"{roll}: {len(held)} notes, 12 frames"
    with PIL.Image.open(roll) as picture:
        assert picture.format == "PNG"
    with pytest.raises(InputError, match="is there already"):
        again(str(roll))
    with pytest.raises(InputError, match=r"a name that ends in \.mid or \.png or \.svg"):
        again(str(tmp_path / "one.gif"))
    monkeypatch.setitem(sys.modules, "mido", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "seqlab.plots")
    monkeypatch.delattr("seqlab.plots")
    for ending, extra in (("mid", "music"), ("png", "plots"), ("svg", "plots")):
        with pytest.raises(InputError, match=rf"pip install -e '\.\[{extra}\]'$"):
            again(str(tmp_path / f"other.{ending}"))
        assert not (tmp_path / f"other.{ending}").exists()


# Training, table, figures


def test_what_is_learnt_is_better_than_what_is_counted(monkeypatch):
    monkeypatch.setattr(stream_trial, "load", lambda config: (SMALL, "of this test"))
    small = {"model.parameter_budget": 8000, "train.batch_size": 5, "train.unroll": 13}
    small |= {"optim.learning_rate": 0.03, "optim.dropout_rate": None}
    small |= {"train.schedule.max_epochs": 60, "train.schedule.patience": 60}
    trial = replace(music.trials("smoke")[0], small)
    with jax.numpy_dtype_promotion("standard"):  # Adam counts in int32
        metrics = music.run(trial)
    assert metrics["test_nll"] < min(metrics["baselines"].values())
    first = SMALL.test.values[:12]
    np.testing.assert_array_equal(music.roll(metrics["test_piece"]), first)
    assert len(metrics["our_piece"]) == music.SHOWN


@pytest.mark.parametrize("budget", BUDGETS)
def test_both_sets_have_every_seed(budget):
    planned = music.trials(budget)
    assert len({trial_id(trial) for trial in planned}) == len(planned)
    num_seeds = {"smoke": 1, "default": 3, "paper": 5}[budget]
    names = ["jsb_chorales"] if budget == "smoke" else ["jsb_chorales", "nottingham"]
    found = sorted((trial.data.name, trial.seed) for trial in planned)
    assert found == list(itertools.product(names, range(num_seeds)))
    with pytest.raises(InputError, match="Did you mean 'paper'"):
        music.trials("papr")


def test_any_cell_and_any_set_can_be_run(monkeypatch):
    monkeypatch.setattr(stream_trial, "check_data", lambda config: None)
    trial = music.trials("smoke")[0]
    for cell in CELLS:
        music.check(replace(trial, {"model.cell": cell}))
    with pytest.raises(InputError, match="Did you mean 'mut1'"):
        music.check(replace(trial, {"model.cell": "mutt1"}))
    for told in (music.FRAMES_PER_QUARTER, music.BPM, music.HEADINGS):
        assert set(told) == {"jsb_chorales", "nottingham", "piano_midi", "muse_data"}


def row(trial, nll, **found):
    metrics = {"test_nll": nll, "params": 5, "epochs": 2, "device_seconds": 60.0} | found
    metrics["baselines"] = {"how often a note sounds": 12.0, "how often a note goes on": 11.0}
    identity, config = trial_id(trial), as_dict(trial)
    return {"trial_id": identity, "config": config, "status": "DONE", "metrics": metrics}


def test_the_table_has_two_rules_others_and_ours():
    table = music.table([row(t, 8.0 + t.seed) for t in music.trials("default")])
    for _, sections in itertools.groupby(table.rows, key=lambda line: line["task"]):
        lines = list(sections)
        (ours,) = [line for line in lines if line["kind"] == "ours"]
        assert (ours["value"], ours["n"]) == (pytest.approx(9.0), 3)
        assert [line["value"] for line in lines if line["kind"] == "trivial"] == [12.0, 11.0]
        others = {line["system"]: line["value"] for line in lines if line["kind"] == "others"}
        assert others["RNN-NADE"] == {"jsb_chorales": 5.56, "nottingham": 2.31}[lines[0]["task"]]


def test_a_figure_has_the_notes_of_both_pieces():
    held, other = [[60, 64], [60], []], [[62], [62], [62, 67]]
    trials = [t for t in music.trials("default") if t.data == Music("jsb_chorales")]
    rows = [row(t, 8.0, test_piece=held, our_piece=other) for t in reversed(trials)]
    figures = music.figures(rows)
    assert sorted(figures) == ["jsb_chorales_lstm_default", "jsb_chorales_test"]
    drawn = [
        sorted(
            (bar.get_x(), bar.get_width(), bar.get_y() + bar.get_height() / 2)
            for bar in figures[name].axes[0].patches
        )
        for name in ("jsb_chorales_test", "jsb_chorales_lstm_default")
    ]
    assert drawn == [
        [(0, 1, pytest.approx(64)), (0, 2, pytest.approx(60))],
        [(0, 3, pytest.approx(62)), (2, 1, pytest.approx(67))],
    ]
