"""The recipes, runs, drawings, table and figures of the experiment on drawings."""

import itertools
import json
import xml.etree.ElementTree as ET

import jax
import numpy as np
import pytest

from experiments import sketch_rnn
from seqlab import sketches
from seqlab.cells import CELLS
from seqlab.data.examples import Examples, Ragged
from seqlab.data.strokes import StrokeDataset, Strokes
from seqlab.errors import InputError
from seqlab.sample import Asked
from seqlab.trial import BUDGETS, as_dict, replace, trial_id

TINY = {"model.units": 12, "model.encoder_units": 6, "model.components": 3}
TINY |= {"optim.learning_rate": 0.02, "train.batch_size": 20, "optim.dropout_rate": None}
TINY |= {"train.schedule.max_epochs": 12, "train.schedule.patience": 12}


def squares(count: int, seed: int) -> Examples:
    """Squares and their diagonal, of any size, on a grid of 20."""
    rng, parts = np.random.default_rng(seed), []
    for size in rng.integers(5, 15, count):
        way = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 1], [1, 1, 1]])
        parts.append(way * [size / 10, size / 10, 1])
    strokes = np.concatenate(parts).astype(np.float32)
    ragged = Ragged(strokes, np.full(count, 6, np.int32))
    return Examples(ragged, ragged)


SQUARES = StrokeDataset(squares(120, 0), squares(20, 1), squares(20, 2), scale=10.0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Metrics, trial and folder, without latents and with them."""
    found = {}
    drawings = sketches.drawings(SQUARES)
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.setattr(sketch_rnn, "load", lambda config: (drawings, "of this test"))
        for trial in sketch_rnn.trials("smoke"):
            kind = "vae" if trial.model.latents else "unconditional"
            small = replace(trial, TINY | ({"model.latents": 3} if kind == "vae" else {}))
            folder = tmp_path_factory.mktemp(kind)
            found[kind] = sketch_rnn.run(small, folder), small, folder
    return found


@pytest.mark.slow
def test_both_know_drawings_better_than_one_gaussian(trained):
    for metrics, _, _ in trained.values():
        assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
        assert metrics["test_nll"] < metrics["baseline_drawing"] - 3
        assert metrics["test_points"] == 6
        assert metrics["test_nll_point"] == pytest.approx(metrics["test_nll"] / 6)
        assert metrics["baseline_point"] == pytest.approx(metrics["baseline_drawing"] / 6)
        parts = metrics["test_reconstruction"] + metrics["test_kl"]
        assert metrics["test_nll"] == pytest.approx(parts, rel=1e-5)
    assert trained["unconditional"][0]["test_kl"] == 0 < trained["vae"][0]["test_kl"]


@pytest.mark.slow
def test_drawings_of_every_temperature_are_kept(trained):
    for kind, (metrics, _, _) in trained.items():
        assert list(metrics["drawn"]) == ["0.1", "0.4", "0.7", "1.0"]
        for some in metrics["drawn"].values():
            assert len(some) == sketch_rnn.SHOWN
            assert all(len(drawing) <= 6 for drawing in some)
        assert ("test_drawings" in metrics) == (kind == "vae")
    strokes = SQUARES.test.inputs.values.reshape(20, 6, 3)[: sketch_rnn.SHOWN]
    np.testing.assert_allclose(trained["vae"][0]["test_drawings"], strokes, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unconditional", "vae"])
def test_drawings_are_written_to_the_file_that_is_named(trained, kind, tmp_path, monkeypatch):
    drawings = sketches.drawings(SQUARES)
    monkeypatch.setattr(sketch_rnn, "load", lambda config: (drawings, "of this test"))
    _, trial, folder = trained[kind]
    say = sketch_rnn.sampler(trial, folder, Asked(temperature=0.5, length=5, seed=1))
    path = tmp_path / "drawn.svg"
    assert say(str(path)).startswith(f"{path}: 8 drawings of ")
    assert 0 < len(ET.parse(path).getroot()) <= 8 * 5
    with pytest.raises(InputError, match="is there already"):
        say(str(path))
    say(str(tmp_path / "other.svg"))
    assert path.read_text() != (tmp_path / "other.svg").read_text()


# The recipes


def test_both_networks_have_every_seed():
    for budget in BUDGETS:
        planned = sketch_rnn.trials(budget)
        assert len({trial_id(trial) for trial in planned}) == len(planned)
        seeds = range({"smoke": 1, "default": 3, "paper": 5}[budget])
        names = ("aaron_sheep", "short_kanji") if budget == "paper" else ("short_kanji",)
        found = sorted((t.data.name, t.model.latents > 0, t.seed) for t in planned)
        assert found == list(itertools.product(names, (False, True), seeds))
    with pytest.raises(InputError, match="Did you mean 'paper'"):
        sketch_rnn.trials("papr")


def test_what_cannot_be_run_is_one_line(monkeypatch):
    monkeypatch.setattr(sketch_rnn, "check_data", lambda config: None)
    trial = sketch_rnn.trials("smoke")[1]
    for cell in CELLS:
        sketch_rnn.check(replace(trial, {"model.cell": cell}))
    for path, value in (
        ("model.latents", -1),
        ("model.components", 0),
        ("train.loss.scaling", 1.0),
        ("train.loss.kl_rate", 1.5),
        ("train.loss.kl_min", -0.1),
    ):
        with pytest.raises(InputError, match=rf"^{path} must be .* not {value}$"):
            sketch_rnn.check(replace(trial, {path: value}))
    with pytest.raises(InputError, match="Did you mean 'omniglot'"):
        Strokes("omniglott")


# The table and the figures


def row(trial, nll, **found):
    metrics = {"test_nll": 40 * nll, "test_nll_point": nll, "params": 5, "epochs": 2} | found
    metrics |= {"device_seconds": 60.0, "baseline_point": 3.5, "baseline_drawing": 147.0}
    identity, config = trial_id(trial), as_dict(trial)
    return {"trial_id": identity, "config": config, "status": "DONE", "metrics": metrics}


def test_the_table_has_points_and_drawings():
    table = sketch_rnn.table([row(t, 1.0 + t.seed) for t in sketch_rnn.trials("default")])
    for unit, times, trivial in (("point", 1, 3.5), ("drawing", 40, 147.0)):
        lines = [line for line in table.rows if line["measure"] == f"nats per {unit}"]
        assert [line["value"] for line in lines if line["kind"] == "trivial"] == [trivial]
        ours = {line["system"]: line for line in lines if line["kind"] == "ours"}
        assert sorted(ours) == ["lstm, 1 × 192, 32 latents", "lstm, 1 × 192, unconditional"]
        for line in ours.values():
            assert (line["value"], line["n"]) == (pytest.approx(2.0 * times), 3)


def test_a_figure_has_a_row_a_temperature_and_one_of_what_was_told():
    drawing = [[1, 1, 0], [2, 0, 1], [0, 3, 1]]
    some = {"drawn": {"0.1": [drawing, drawing], "1.0": [drawing]}}
    unconditional, vae = (
        next(t for t in sketch_rnn.trials("default") if bool(t.model.latents) == told)
        for told in (False, True)
    )
    rows = [row(unconditional, 1.0, **some), row(vae, 1.0, **some, test_drawings=[drawing])]
    figures = sketch_rnn.figures(rows)
    assert sorted(figures) == [
        "short_kanji_lstm_unconditional_default",
        "short_kanji_lstm_vae_default",
    ]
    for name, titles in (("unconditional", ["τ = 0.1", "τ = 1.0"]), ("vae", ["test"])):
        axes = figures[f"short_kanji_lstm_{name}_default"].axes
        assert [panel.get_ylabel() for panel in axes[::2]][: len(titles)] == titles
        drawn = [np.array(line.get_xydata()).tolist() for line in axes[0].lines]
        assert drawn == [[[1, 1], [3, 1]], [[3, 4]]]
        assert axes[0].yaxis_inverted()
