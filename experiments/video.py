"""Video classification: label every frame of a moving digit, or the motion of the whole clip.

Claim: no single frame shows where a digit is going or on what kind of path; a recurrent network
over the features of the frames sees both. A single frame does show which digit it is, as far as so
small an eye can tell, and memory adds little.

    python launch.py run video --budget smoke             kinds of motion, one short run; a minute
    python launch.py run video                            twenty minutes on two cores
    python launch.py run video --only data.says=direction
    python launch.py run video --only reads=clip --set model.cell=lstm,mut1
    python launch.py run video --budget paper             larger frames, wider, five seeds
    python launch.py plot video                           accuracy by frame; a clip, word by word

Protocol: ours. `seqlab.data.moving_digits` makes the clips; each split has digits of its own. A
convolutional network reads each frame by itself; `reads` names the reader of its features: `clip`,
a recurrent network, or `frame`, a linear map of each frame's features, or of their mean for a whole
clip. The answer at a frame depends on no later frame. The first frame shows no direction, so at
most 15 of 16 answers can be certain. Adam; the epoch with the best validation loss is tested.

Source: Karpathy et al. 2014 and Donahue et al. 2015 for the task; their values are not comparable,
since the clips are seqlab's.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from seqlab import results, sequence_trial, systems
from seqlab.buckets import Batch
from seqlab.data import ExampleDataset, MovingDigits, Ragged
from seqlab.errors import InputError, nearest
from seqlab.models.rnn import Stack
from seqlab.models.sequence import Classifier, FrameEmbedding, Tagger
from seqlab.models.vision import patches
from seqlab.optim import Schedule
from seqlab.sequence_trial import Model
from seqlab.tables import Table
from seqlab.train_sequences import ALIGNED, MANY_TO_ONE, Program, SequenceTrainConfig, outputs
from seqlab.trial import BUDGETS, replace
from seqlab.trial_fields import Optim

if TYPE_CHECKING:
    from matplotlib.figure import Figure

READS = ("clip", "frame")
CHANNELS = (8, 16, 32)  # of the convolutions, each of which halves a frame
OF_CLIPS = {"motion": "motion of a clip"}
OF_FRAMES = {"direction": "direction in a frame", "digit": "digit in a frame"}
SAYS = {**OF_CLIPS, **OF_FRAMES}

GRU = Model("gru", 64)
ADAM = Optim("adam", learning_rate=2e-3, clip_norm=5.0)
TRAIN = SequenceTrainConfig(32, 1, Schedule(max_epochs=15, patience=4, halvings=3))


@dataclass(frozen=True)
class Trial:
    """Who looks at clips."""

    budget: str
    data: MovingDigits
    reads: str = "clip"
    model: Model = GRU
    optim: Optim = ADAM
    train: SequenceTrainConfig = TRAIN
    seed: int = 0


def trials(budget: str) -> list[Trial]:
    """All that can be said of a clip, by who sees all of it and who sees frames."""
    if budget == "smoke":
        short = SequenceTrainConfig(32, 1, Schedule(max_epochs=4, patience=4, halvings=1))
        few = MovingDigits(train_size=1000, valid_size=200, test_size=300)
        return [Trial(budget, few, train=short)]
    if budget not in BUDGETS:
        raise InputError(f"no budget {budget!r}.{nearest(budget, BUDGETS)}")
    first, seeds = Trial(budget, MovingDigits()), 3
    if budget == "paper":
        wider = {"data.size": 64, "data.frames": 32, "data.train_size": 10_000, "model.units": 256}
        first, seeds = replace(first, wider), 5
    return [
        replace(first, {"data.says": says, "reads": reads, "seed": seed})
        for says in SAYS
        for reads in READS
        for seed in range(seeds)
    ]


def check(trial: Trial) -> None:
    """Raise InputError for what cannot be run."""
    sequence_trial.check(trial)
    if trial.reads not in READS:
        near = nearest(trial.reads, READS)
        raise InputError(f"reads is clip or frame, not {trial.reads!r}.{near}")


class Eye(nn.Module):
    """Features of a frame: convolutions of 3 x 3 with stride 2, each followed by ReLU, end to end.

    Nothing is normalised, as it is for pictures: where a frame is black there are no features.

    Attributes:
        channels: of each convolution.
    """

    channels: tuple[int, ...]

    @nn.compact
    def __call__(self, frames: UInt8[Array, "B T H W"]) -> Float[Array, "B T C"]:
        xs = frames.reshape(-1, *frames.shape[2:], 1).astype(jnp.float32) / 255
        for channels in self.channels:
            xs = nn.relu(nn.Dense(channels)(patches(xs, stride=2)))
        return xs.reshape(*frames.shape[:2], -1)


class Viewer(nn.Module):
    """What a reader says of the features of frames.

    Attributes:
        eye: of each frame by itself.
        reader: of the features.
    """

    eye: Eye
    reader: Tagger | Classifier

    @nn.compact
    def __call__(
        self,
        frames: UInt8[Array, "B T H W"],
        lengths: Int[Array, " B"] | None = None,
        dropout_rate: Array | float | None = None,
    ) -> Float[Array, "B T K"] | Float[Array, "B K"]:
        return self.reader(self.eye(frames), lengths, dropout_rate)


def network(trial: Trial, dataset: ExampleDataset) -> Viewer:
    """Convolutions, a linear map, layers or none, and what is said."""
    embedding, num_classes = FrameEmbedding(trial.model.units), len(dataset.classes)
    layers = trial.model.layers() if trial.reads == "clip" else Stack(())
    if trial.data.says in OF_FRAMES:
        reader = Tagger(embedding, layers, num_classes)
    else:
        pooling = "last" if trial.reads == "clip" else "mean"
        reader = Classifier(embedding, layers, num_classes, pooling)
    return Viewer(Eye(CHANNELS), reader)


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Train the trial's network; how its accuracy grows with the frames, and a clip."""
    wiring = ALIGNED if trial.data.says in OF_FRAMES else MANY_TO_ONE

    def look(program: Program, params: Any, dataset: ExampleDataset) -> dict[str, Any]:
        return inspect(program, params, dataset) | ({} if trial.seed else film(dataset))

    return sequence_trial.run(trial, network, wiring, folder, look)


def inspect(program: Program, params: Any, dataset: ExampleDataset) -> dict[str, Any]:
    """Of the test split the accuracy `by_frame`, and what is said of each frame of its first clip.

    Of a whole clip, after frame t is what is said of a clip that ends there.
    """
    aligned = isinstance(dataset.test.targets, Ragged)
    said = outputs(of_frames if aligned else of_beginnings, program, params, dataset.test)
    truth = targets(dataset)
    return {
        "baseline": majority(dataset),
        "by_frame": (said == truth).mean(axis=0).round(4).tolist(),
        "said": [dataset.classes[k] for k in said[0]],
        "truth": [dataset.classes[k] for k in truth[0]],
    }


def of_frames(program: Program, params: Any, batch: Batch) -> Int[Array, "B T"]:
    """The most probable class of each frame."""
    return program.model.apply(params, batch.inputs, batch.lengths).argmax(-1)  # pyright: ignore


def of_beginnings(program: Program, params: Any, batch: Batch) -> Int[Array, "B T"]:
    """The most probable class of each clip after 1, 2 … T frames."""

    def after(frames: Array) -> Int[Array, " B"]:
        lengths = jnp.minimum(batch.lengths, frames)
        return program.model.apply(params, batch.inputs, lengths).argmax(-1)  # pyright: ignore

    numbers = jnp.arange(1, batch.inputs.shape[1] + 1, dtype=batch.lengths.dtype)
    return jax.lax.map(after, numbers).T


def targets(dataset: ExampleDataset) -> np.ndarray:
    """[M, T] of the test split: the class of each frame, or of its clip."""
    found, lengths = dataset.test.targets, dataset.test.inputs.lengths
    values = found.values if isinstance(found, Ragged) else np.repeat(found, lengths)
    return values.reshape(len(lengths), -1)  # clips are of one length


def majority(dataset: ExampleDataset) -> float:
    """The accuracy of the most frequent class of train on the test split."""
    train = dataset.train.targets
    values = train.values if isinstance(train, Ragged) else train
    return float(np.mean(targets(dataset) == np.bincount(values).argmax()))


def film(dataset: ExampleDataset) -> dict[str, Any]:
    """The frames of the first clip of the test split."""
    frames = dataset.test.inputs.values[: dataset.test.inputs.lengths[0]]
    return {"film": frames.tolist()}


# The table and the figures


def table(rows: list[dict[str, Any]]) -> Table:
    """Accuracy in percent: the most frequent class, who sees frames, who sees clips."""
    frames = [row for row in rows if row["config"]["data"]["says"] in OF_FRAMES]
    clips = [row for row in rows if row["config"]["data"]["says"] in OF_CLIPS]
    return systems.one_below_the_other(
        _table(frames, "many to many, aligned"), _table(clips, "many to one")
    )


def _table(rows: list[dict[str, Any]], wiring: str) -> Table:
    return systems.table(
        "What a film shows",
        rows,
        section=_section,
        system=_system,
        metric="test_accuracy",
        published={},
        wiring=wiring,
        measure="accuracy, %",
        times=100.0,
        notes=("frames alone: the same without a recurrent layer, of a clip the mean of frames.",),
    )


def _section(config: Mapping[str, Any]) -> tuple[str, str]:
    data = config["data"]
    return data["says"], f"Moving digits, {SAYS[data['says']]}, {data['seen']} % seen"


def _system(config: Mapping[str, Any]) -> str:
    if config["reads"] == "frame":
        return f"frames alone, {config['model']['units']}"
    return systems.layers(config["model"])


def figures(rows: list[dict[str, Any]]) -> "dict[str, Figure]":
    """Accuracy by frame, mean over seeds; and a clip, with what is said of each of its frames."""
    from seqlab import plots

    drawn = {}
    for (budget, says), networks in _drawable(rows).items():
        figure, axes = plots.panels(1, 1, height=2.4)
        for name, alike in sorted(networks.items()):
            accuracy = 100 * np.mean([metrics["by_frame"] for metrics in alike], axis=0)
            axes[0, 0].plot(np.arange(1, len(accuracy) + 1), accuracy, "o-", label=name)
        title, x = SAYS[says].capitalize(), "frame" if says in OF_FRAMES else "frames seen"
        plots.label(axes[0, 0], title, x, "accuracy, %")
        drawn[f"{says}_{budget}"] = figure
        filmed = {k: m for k, alike in sorted(networks.items()) for m in alike if "film" in m}
        if filmed:
            drawn[f"film_{says}_{budget}"] = _filmstrip(filmed)
    return drawn


def _filmstrip(networks: dict[str, dict[str, Any]]) -> "Figure":
    """A row of frames; below it a line for the truth and for each network, wrong words in red."""
    from seqlab import plots

    some = next(iter(networks.values()))
    frames, said = some["film"], {"truth": some["truth"]}
    said |= {name: metrics["said"] for name, metrics in networks.items()}
    figure, axes = plots.panels(1, len(frames), height=1.1 + 0.25 * len(said))
    for number, frame in enumerate(frames):
        panel = axes[0, number]
        plots.picture(panel, np.array(frame) / 255, str(number + 1))
        for line, words in enumerate(said.values()):
            right = words[number] == some["truth"][number]
            place = (0.5, -0.6 - 0.6 * line)
            colour = "black" if right else plots.COLOURS[1]
            panel.text(
                *place, words[number], transform=panel.transAxes, ha="center", size=5, color=colour
            )
    names = ", then ".join(said)
    figure.suptitle(f"From above: {names}", fontsize=8)
    return figure


def _drawable(
    rows: list[dict[str, Any]],
) -> dict[tuple[str, str], dict[str, list[dict[str, Any]]]]:
    """By budget and what is said, and by network, the metrics that have what is drawn."""
    groups: dict[Any, Any] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["status"] == results.DONE and "by_frame" in row["metrics"]:
            config = row["config"]
            says = config["budget"], config["data"]["says"]
            groups[says][_system(config)].append(row["metrics"])
    return groups
