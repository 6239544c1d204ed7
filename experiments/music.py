"""The next frame of music, from all frames so far: Bach's chorales and folk tunes of Nottingham.

Claim: one layer with dropout predicts the notes of chorales and tunes about as well as those
published networks in which the notes of a frame are independent, and far better than the frequency
with which each note goes on. Samples are written as MIDI.

    python launch.py run music --budget smoke         chorales, a third of the network; a minute
    python launch.py run music                        a quarter of an hour on two cores
    python launch.py run music --set model.cell=gru,mut1
    python launch.py run music --budget paper         wider, two layers, five seeds; a GPU
    python launch.py plot music                       a piece of the test split and one of ours
    python launch.py sample music --prompt chorale.mid --length 64
    python launch.py sample music --prompt chorale.png --length 64      its piano roll
    python launch.py sample music --only data.name=nottingham --prompt tune.mid

Protocol: ours, on the published splits. A frame is a quarter note of a chorale, an eighth of a
tune. Each of 88 notes is a Bernoulli given all frames before; every frame of a piece is scored, the
first one from silence, and the silent frame that ends a piece is not. The pieces of a split are one
stream, and the carry is kept along it. Adam, dropout on the embedding and on the outputs of each
layer; rates, and MUT1 for the tunes, were chosen by validation. The end of a piece is not modelled:
a sample has as many frames as are asked for.

Source: Boulanger-Lewandowski, Bengio and Vincent 2012, Modeling Temporal Dependencies in
High-Dimensional Sequences; `published/music.csv` says where each value beside ours is from.
"""

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from seqlab import decoding, epochs, midi, stream_trial, systems
from seqlab.comparison import read_published
from seqlab.data import Dataset, Music
from seqlab.data.stream import Stream
from seqlab.errors import InputError, nearest
from seqlab.models.sequence import FramePredictor
from seqlab.optim import Schedule
from seqlab.sample import Asked, Sampler
from seqlab.sample_files import writes
from seqlab.stream_trial import Model
from seqlab.tables import Table
from seqlab.train import Program, TrainConfig
from seqlab.trial import BUDGETS, replace
from seqlab.trial_fields import Optim

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LSTM = Model("lstm", 1, 300_000)
MUT1 = Model("mut1", 1, 300_000)
ADAM = Optim("adam", learning_rate=2e-3, clip_norm=1.0, dropout_rate=0.5)
FRAMES_PER_QUARTER = {"jsb_chorales": 1, "nottingham": 2, "piano_midi": 2, "muse_data": 2}
BPM = {"jsb_chorales": 80.0, "nottingham": 120.0, "piano_midi": 100.0, "muse_data": 100.0}
HEADINGS = {
    "jsb_chorales": "JSB chorales",
    "nottingham": "Nottingham",
    "piano_midi": "Piano-midi.de",
    "muse_data": "MuseData",
}
SHOWN = 64  # frames of a figure


@dataclass(frozen=True)
class Trial:
    """A predictor of frames."""

    budget: str
    data: Music
    model: Model
    optim: Optim
    train: TrainConfig
    seed: int = 0


def cut(batch_size: int, unroll: int, max_epochs: int, patience: int) -> TrainConfig:
    """Rows, steps of backpropagation, epochs."""
    return TrainConfig(batch_size, unroll, None, Schedule(max_epochs, patience, halvings=4))


def trials(budget: str) -> list[Trial]:
    """Both sets from several seeds."""
    chorales = Trial(budget, Music("jsb_chorales"), LSTM, ADAM, cut(20, 35, 90, 5))
    if budget == "smoke":
        small = {"model.parameter_budget": 100_000, "optim.learning_rate": 4e-3}
        return [replace(chorales, small | {"train": cut(20, 35, 25, 5)})]
    if budget not in BUDGETS:
        raise InputError(f"no budget {budget!r}.{nearest(budget, BUDGETS)}")
    tunes = Trial(budget, Music("nottingham"), MUT1, ADAM, cut(10, 100, 40, 5))
    if budget == "default":
        planned, num_seeds = (chorales, tunes), 3
    else:
        large, long = Model("lstm", 2, 3_000_000), cut(20, 100, 100, 5)
        slow = replace(ADAM, {"learning_rate": 1e-3})
        wide = Trial(budget, Music("nottingham"), large, slow, long)
        planned, num_seeds = (replace(wide, {"data.name": "jsb_chorales"}), wide), 5
    return [replace(trial, {"seed": seed}) for trial in planned for seed in range(num_seeds)]


def check(trial: Trial) -> None:
    """Raise InputError for what cannot be run."""
    stream_trial.check(trial)


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Train; what is reached without a network, and a piece of the test split and one of ours."""
    metrics = stream_trial.run(trial, folder, keep_best=True, inspect=pieces)
    dataset, _ = stream_trial.load(trial.data)
    return metrics | {"baselines": baselines(dataset.train, dataset.test)}


# What the network has to beat


def baselines(train: Stream, test: Stream) -> dict[str, float]:
    """Nats per frame of test, predicting each note by how often it sounds, or how often it goes on.

    p(note) = (count + 1) / (N + 2); for the second, given whether it sounds in the frame before.
    """
    return {
        "how often a note sounds": _counted(train, test, (_nothing(train), _nothing(test))),
        "how often a note goes on": _counted(train, test, (_before(train), _before(test))),
    }


def _nothing(stream: Stream) -> np.ndarray:
    return np.zeros_like(stream.values)


def _before(stream: Stream) -> np.ndarray:
    return np.concatenate([np.zeros_like(stream.values[:1]), stream.values[:-1]])


def _counted(train: Stream, test: Stream, known: tuple[np.ndarray, np.ndarray]) -> float:
    of_train, of_test = known[0][train.scored], known[1][test.scored]
    seen, asked = train.values[train.scored], test.values[test.scored]
    total = 0.0
    for value in (0, 1):
        here = of_train == value
        p = ((seen * here).sum(axis=0) + 1) / (here.sum(axis=0) + 2)
        sounds = -np.log(np.where(asked == 1, p, 1 - p))
        total += float((sounds * (of_test == value)).sum())
    return total / len(asked)


# What it draws


def pieces(program: Program, params: Any, dataset: Dataset) -> dict[str, Any]:
    """The beginning of the test split's first piece, and a piece of ours: keys, frame by frame."""
    first = dataset.test.values[: int(np.argmin(dataset.test.scored)) or None][:SHOWN]
    ours = drawn(program.model, params, jax.random.key(0), 0.8, SHOWN)
    return {"test_piece": keys(first), "our_piece": keys(np.asarray(ours))}


def keys(roll: np.ndarray) -> list[list[int]]:
    """The notes of each frame, as MIDI counts them."""
    return [(np.flatnonzero(frame) + midi.LOWEST).tolist() for frame in roll]


@functools.partial(jax.jit, static_argnames=("model", "length"))
def drawn(
    model: FramePredictor, params: Any, key: jax.Array, temperature: float, length: int
) -> jax.Array:
    """A piece of so many frames, [length, 88], from silence."""
    step: Any = functools.partial(model.apply, params, method="step")
    silence = jnp.zeros((1, model.num_channels), jnp.uint8)
    carry = model.initial_carry(1)
    return decoding.sample_frames(
        key, step, carry, silence, length=length, temperature=temperature
    )[0]


SAMPLED = ("data.name=jsb_chorales",)


def sampler(trial: Trial, folder: Path, asked: Asked) -> Sampler:
    """A piece, written to the MIDI file that is named, or drawn, as NAME.png, with a piano roll."""
    program, _ = stream_trial.compiled(trial)
    model, name = program.model, trial.data.name
    assert isinstance(model, FramePredictor)
    one = jnp.zeros((1, 1, model.num_channels), jnp.uint8)
    params = epochs.restore_best(folder, jax.jit(model.init)(jax.random.key(0), one))
    temperature = 0.8 if asked.temperature is None else asked.temperature
    length = 200 if asked.length is None else asked.length
    key, numbers = jax.random.key(asked.seed or 0), itertools.count()

    def piece() -> np.ndarray:
        now = jax.random.fold_in(key, next(numbers))
        return np.asarray(drawn(model, params, now, temperature, length))

    def play(path: Path) -> str:
        held = midi.notes(piece())
        midi.write(path, held, FRAMES_PER_QUARTER[name], BPM[name])
        seconds = length / FRAMES_PER_QUARTER[name] * 60 / BPM[name]
        return f"{len(held)} notes, {length} frames, {seconds:.0f} seconds"

    def draw(path: Path) -> str:
        try:
            from seqlab import plots
        except ModuleNotFoundError as error:
            raise InputError("figures need matplotlib: pip install -e '.[plots]'") from error
        found = piece()
        plots.save(lambda: _piano_roll(f"{HEADINGS[name]}: drawn", keys(found)), path)
        return f"{len(midi.notes(found))} notes, {length} frames"

    return writes({".mid": play, ".png": draw, ".svg": draw})


# The table and the figure

PUBLISHED = read_published(Path(__file__).parent / "published" / "music.csv")


def table(rows: list[dict[str, Any]]) -> Table:
    """Nats a frame: of two rules, what others have reached, ours."""
    return systems.table(
        "The next frame of music",
        rows,
        section=_section,
        system=_system,
        metric="test_nll",
        published=PUBLISHED,
        wiring="many to many, aligned",
        measure="nats per frame",
        notes=("RNN-NADE: the notes of a frame depend on each other; in the others they do not.",),
        baseline="baselines",
    )


def _section(config: Mapping[str, Any]) -> tuple[str, str]:
    name = config["data"]["name"]
    return name, HEADINGS[name]


def _system(config: Mapping[str, Any]) -> str:
    return systems.layers(config["model"])


def figures(rows: list[dict[str, Any]]) -> "dict[str, Figure]":
    """Piano rolls: what the first seed of each network has drawn, and a piece of the test split."""
    drawings = {}
    for row in sorted(rows, key=lambda row: row["config"]["seed"]):
        config, metrics = row["config"], row["metrics"]
        data = config["data"]["name"]
        name = f"{data}_{config['model']['cell']}_{config['budget']}"
        if "our_piece" not in metrics or name in drawings:
            continue
        drawings[name] = _piano_roll(f"{HEADINGS[data]}: {_system(config)}", metrics["our_piece"])
        drawings[f"{data}_test"] = _piano_roll(f"{HEADINGS[data]}: test", metrics["test_piece"])
    return drawings


def _piano_roll(title: str, piece: list[list[int]]) -> "Figure":
    from seqlab import plots

    keys_there = [key for frame in piece for key in frame]
    figure, axes = plots.panels(height=2.4)
    for note in midi.notes(roll(piece)):
        axes[0, 0].barh(note.key, note.end - note.start, 0.8, left=note.start, color="#0072B2")
    axes[0, 0].set(
        xlim=(0, len(piece)),
        ylim=(min(keys_there, default=60) - 1, max(keys_there, default=60) + 1),
    )
    plots.label(axes[0, 0], title, "frame", "key (60: middle C)")
    return figure


def roll(piece: list[list[int]]) -> np.ndarray:
    """[T, 88] of 0 and 1, of the keys of each frame."""
    found = np.zeros((len(piece), 88), np.uint8)
    for frame, held in enumerate(piece):
        found[frame, np.array(held, int) - midi.LOWEST] = 1
    return found
