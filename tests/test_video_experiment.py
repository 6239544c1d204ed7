"""Films: what is seen when, and the table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import video
from seqlab import buckets, sequence_trial
from seqlab.data import ExampleDataset, Examples, MovingDigits, Ragged
from seqlab.data.moving_digits import CLASSES
from seqlab.errors import InputError
from seqlab.sequence_trial import Model
from seqlab.train_sequences import ALIGNED, MANY_TO_ONE, Program
from seqlab.trial import as_dict, replace, trial_id

FRAMES = 4
RNG = np.random.default_rng(0)


def films(size: int, says: str) -> Examples:
    frames = RNG.integers(256, size=(size * FRAMES, 8, 8), dtype=np.uint8)
    lengths = np.full(size, FRAMES, np.int32)
    classes = RNG.integers(4, size=size * (FRAMES if says == "direction" else 1), dtype=np.int32)
    targets = Ragged(classes, lengths) if says == "direction" else classes
    return Examples(Ragged(frames, lengths), targets)


def dataset(says: str) -> ExampleDataset:
    return ExampleDataset(
        *(films(n, says) for n in (70, 10, 30)), symbols=(), classes=CLASSES[says]
    )


def trial(says: str, reads: str) -> video.Trial:
    return video.Trial("smoke", MovingDigits(says), reads, Model("gru", 8))


@pytest.mark.parametrize("reads", ["clip", "frame"])
@pytest.mark.parametrize("says", ["motion", "direction"])
def test_what_is_said_depends_on_what_has_been_seen(says, reads):
    """Of a frame alone on it alone; of a clip, or of a frame in it, on all up to there."""
    of = trial(says, reads)
    model = video.network(of, dataset(says))
    (batch,) = buckets.padded(films(3, says), 1)
    params = jax.jit(model.init)(jax.random.key(0), batch.inputs, batch.lengths)
    apply = jax.jit(model.apply)
    ends = (2, 3, FRAMES) if says == "motion" else (FRAMES,)
    for end in ends:
        lengths = jnp.full(3, end, jnp.int32)
        before = np.asarray(apply(params, batch.inputs, lengths))
        for place in range(FRAMES):
            changed = batch.inputs.at[:, place].set(255 - batch.inputs[:, place])
            differs = (np.asarray(apply(params, changed, lengths)) != before).any(axis=(0, -1))
            if says == "motion":
                assert differs == (place < end)
            elif reads == "frame":
                assert differs.tolist() == [t == place for t in range(FRAMES)]
            else:
                assert differs.tolist() == [t >= place for t in range(FRAMES)]


@pytest.mark.parametrize("says", ["motion", "direction"])
def test_a_result_says_what_is_seen_when(says, monkeypatch):
    whole = dataset(says)
    wired = {"motion": MANY_TO_ONE, "direction": ALIGNED}[says]
    model = video.network(trial(says, "clip"), whole)
    batch = buckets.rectangle(whole.test)
    params = jax.jit(model.init)(jax.random.key(0), batch.inputs, batch.lengths)

    def untrained(of, network, wiring, folder, look):
        assert wiring is wired
        return look(Program(network(of, whole), wiring, "adam"), params, whole)

    monkeypatch.setattr(sequence_trial, "run", untrained)
    found = video.run(trial(says, "clip"))
    targets = [e.targets.values if isinstance(e.targets, Ragged) else e.targets for e in whole[:3]]
    train, _, test = (list(map(int, values)) for values in targets)
    truth = np.array(test).reshape(30, -1) if says == "direction" else np.array([test] * FRAMES).T
    apply = jax.jit(model.apply)
    if says == "direction":
        said = np.asarray(apply(params, batch.inputs, batch.lengths)).argmax(axis=-1)  # pyright: ignore
    else:
        ends = [jnp.full(30, t, jnp.int32) for t in range(1, FRAMES + 1)]
        after = [np.asarray(apply(params, batch.inputs, end)).argmax(axis=-1) for end in ends]
        said = np.stack(after, axis=1)
    np.testing.assert_allclose(found["by_frame"], (said == truth).mean(axis=0), atol=1e-3)
    assert found["said"] == [CLASSES[says][k] for k in said[0]]
    assert found["truth"] == [CLASSES[says][k] for k in truth[0]]
    common = max(sorted(set(train)), key=train.count)
    assert found["baseline"] == pytest.approx(test.count(common) / len(test))
    assert found["film"] == whole.test.inputs.values[:FRAMES].tolist()


# Trials and the table


def test_everything_that_is_said_is_said_by_both_from_every_seed():
    for budget, seeds in (("default", 3), ("paper", 5)):
        planned = video.trials(budget)
        found = {(t.data.says, t.reads, t.seed) for t in planned}
        expected = {(s, r, n) for s in CLASSES for r in ("clip", "frame") for n in range(seeds)}
        assert found == expected
        assert len(planned) == len(expected) == len({trial_id(t) for t in planned})
    assert len(video.trials("smoke")) == 1
    with pytest.raises(InputError, match="Did you mean 'smoke'"):
        video.trials("smok")


def test_what_cannot_be_run_is_one_line(monkeypatch):
    monkeypatch.setattr(sequence_trial, "check_data", lambda config: None)
    trial = video.trials("smoke")[0]
    video.check(trial)
    with pytest.raises(InputError, match=r"reads is clip or frame, not 'clips'\. Did .*'clip'"):
        video.check(replace(trial, {"reads": "clips"}))


def row(trial, accuracy):
    metrics = {"test_accuracy": accuracy, "params": 5, "epochs": 2, "device_seconds": 60.0}
    metrics |= {"baseline": 0.25, "by_frame": [0.25, accuracy]}
    if trial.seed == 0:
        metrics |= {"said": ["up", "down"], "truth": ["up", "up"], "film": [[[0, 255]] * 2] * 2}
    identity, config = trial_id(trial), as_dict(trial)
    return {"trial_id": identity, "config": config, "status": "DONE", "metrics": metrics}


def test_a_line_for_who_sees_clips_and_one_for_who_sees_frames():
    planned = video.trials("default")
    rows = [row(t, 0.9 + 0.01 * t.seed if t.reads == "clip" else 0.4) for t in planned]
    lines = [line for line in video.table(rows).rows if line.get("source") == "ours"]
    found = {(line["task"], line["system"]): (line["n"], line["value"]) for line in lines}
    assert found == {
        (says, system): (3, pytest.approx(value))
        for says in CLASSES
        for system, value in (("gru, 1 × 64", 91), ("frames alone, 64", 40))
    }
    wirings = {line["task"]: line["wiring"] for line in lines}
    assert wirings == {
        "motion": "many to one",
        "direction": "many to many, aligned",
        "digit": "many to many, aligned",
    }
    drawn = video.figures(rows)
    assert set(drawn) == {f"{kind}{says}_default" for kind in ("", "film_") for says in CLASSES}
    curves = {line.get_label(): line.get_ydata() for line in drawn["motion_default"].axes[0].lines}
    np.testing.assert_allclose(curves["gru, 1 × 64"], [25, 91])
    film = drawn["film_motion_default"].axes
    words = [[text.get_text() for text in panel.texts] for panel in film]
    assert words == [["up"] * 3, ["up", "down", "down"]]
