"""Spoken digit recognition: frames of sound read, one of ten digits named.

Claim: a bidirectional recurrent network recognises nearly all digits of speakers it has heard in
training, and fewer of a new speaker; a linear classifier of eight parts of the recording is behind
on both.

    python launch.py run speech_digits --budget smoke     official split, one short run; a minute
    python launch.py run speech_digits                    fifteen minutes on two cores
    python launch.py run speech_digits --only data.test=official
    python launch.py run speech_digits --set model.cell=lstm,mut1
    python launch.py run speech_digits --budget paper     wider, two layers, five seeds
    python launch.py plot speech_digits                   what is taken for what; how soon it knows
    echo recording.wav | python launch.py sample speech_digits

Protocol: the official split tests recordings 0 to 4 of each speaker and digit; ours leaves one of
the six speakers out at a time. Recordings 5 to 9 of the rest are for validation; the epoch with the
best loss on them is tested. 40 log-mel energies every 10 ms, less their mean over the recording,
which helps most with a new voice; scaled by the deviation of train. Adam, dropout. Accuracy after
part of a recording still uses frames less the mean of the whole recording.

Source: Jackson et al. 2018, Free Spoken Digit Dataset. It has no table of its own.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from seqlab import epochs, results, sample, sequence_trial, systems
from seqlab.buckets import Batch
from seqlab.data import ExampleDataset, Examples, Ragged, SpokenDigits, speech
from seqlab.errors import InputError, nearest
from seqlab.models.sequence import Classifier, FrameEmbedding, Pooling
from seqlab.optim import Schedule
from seqlab.sample import Asked, Sampler
from seqlab.sequence_trial import Model
from seqlab.tables import Table
from seqlab.train_sequences import MANY_TO_ONE, Program, SequenceTrainConfig, outputs
from seqlab.trial import BUDGETS
from seqlab.trial_fields import Optim

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = 8  # of a recording, for the linear reader
RIDGE = 10.0
SHARES = 10  # of a recording: how much of it has been heard
STEP = 32  # a recording of one's own is padded to a multiple of it: a program is compiled for each

GRU = Model("gru", 64, bidirectional=True)
ADAM = Optim("adam", learning_rate=3e-3, clip_norm=5.0, dropout_rate=0.3)
TRAIN = SequenceTrainConfig(32, 4, Schedule(max_epochs=20, patience=4, halvings=3))


@dataclass(frozen=True)
class Trial:
    """A classifier of recordings."""

    budget: str
    data: SpokenDigits
    model: Model = GRU
    pooling: str = "mean"
    optim: Optim = ADAM
    train: SequenceTrainConfig = TRAIN
    seed: int = 0


def trials(budget: str) -> list[Trial]:
    """The official split from several seeds, and every speaker left out."""
    if budget == "smoke":
        short = SequenceTrainConfig(32, 4, Schedule(max_epochs=4, patience=4, halvings=1))
        return [Trial(budget, SpokenDigits(), train=short)]
    if budget not in BUDGETS:
        raise InputError(f"no budget {budget!r}.{nearest(budget, BUDGETS)}")
    if budget == "default":
        model, seeds, seeds_of_speaker = GRU, 3, 1
    else:
        model, seeds, seeds_of_speaker = Model("gru", 256, 2, bidirectional=True), 5, 5
    tests = [(speech.OFFICIAL, seed) for seed in range(seeds)]
    tests += [(name, seed) for seed in range(seeds_of_speaker) for name in speech.SPEAKERS]
    return [Trial(budget, SpokenDigits(test), model, seed=seed) for test, seed in tests]


def check(trial: Trial) -> None:
    """Raise InputError for what cannot be run."""
    sequence_trial.check(trial)
    poolings = get_args(Pooling)
    if trial.pooling not in poolings:
        raise InputError(f"no pooling {trial.pooling!r}.{nearest(trial.pooling, poolings)}")


def network(trial: Trial, dataset: ExampleDataset) -> Classifier:
    """A linear map of each frame, layers, and what makes one summary of their outputs."""
    embedding = FrameEmbedding(trial.model.units)
    return Classifier(embedding, trial.model.layers(), len(dataset.classes), trial.pooling)


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Train the trial's network; what it takes for what, and how soon it knows."""
    return sequence_trial.run(trial, network, MANY_TO_ONE, folder, inspect)


def inspect(program: Program, params: Any, dataset: ExampleDataset) -> dict[str, Any]:
    """Of the test split `confusions`, rows the truth, and the accuracy after each share `heard`."""
    said = outputs(as_heard, program, params, dataset.test)
    truth = np.asarray(dataset.test.targets)
    confusions = np.zeros((len(dataset.classes),) * 2, int)
    np.add.at(confusions, (truth, said[:, -1]), 1)
    return {
        "baselines": baselines(dataset),
        "confusions": confusions.tolist(),
        "heard": (said == truth[:, None]).mean(axis=0).round(4).tolist(),
    }


def as_heard(program: Program, params: Any, batch: Batch) -> Int[Array, "B SHARES"]:
    """What a network says after 1, 2 … SHARES tenths of each recording, rounded up to a frame."""

    def after(tenths: Array) -> Int[Array, " B"]:
        lengths = -(-batch.lengths * tenths // SHARES)
        return program.model.apply(params, batch.inputs, lengths).argmax(-1)  # pyright: ignore

    return jax.lax.map(after, jnp.arange(1, SHARES + 1, dtype=batch.lengths.dtype)).T


# What the network has to beat


def baselines(dataset: ExampleDataset) -> dict[str, float]:
    """The accuracy of chance, and of least squares, on the test split."""
    truth = np.asarray(dataset.test.targets)
    right = float(np.mean(least_squares(dataset) == truth))
    return {"chance": 1 / len(dataset.classes), f"linear in {PARTS} parts": right}


def least_squares(dataset: ExampleDataset) -> np.ndarray:
    """argmax_k (W x + b)_k for each of test, x the mean frames of its parts end to end.

    W, b minimise Σ ‖W x + b - y‖² + RIDGE ‖W‖² over train, y 1 at the class and 0 elsewhere.
    """
    train, test = parts(dataset.train), parts(dataset.test)
    wanted = np.eye(len(dataset.classes))[np.asarray(dataset.train.targets)]
    middle, mean = train.mean(axis=0), wanted.mean(axis=0)
    train, wanted = train - middle, wanted - mean
    penalty = RIDGE * np.eye(train.shape[1])
    weights = np.linalg.solve(train.T @ train + penalty, train.T @ wanted)
    return ((test - middle) @ weights + mean).argmax(axis=1)


def parts(examples: Examples) -> np.ndarray:
    """[M, PARTS * C] float64: the means of each part of each sequence, parts of like length."""
    values, lengths = examples.inputs
    assert lengths.min() >= PARTS
    ends = np.cumsum(lengths)[:, None]
    starts = ends - lengths[:, None]
    cuts = starts + lengths[:, None] * np.arange(PARTS + 1) // PARTS
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, 0, np.float64)])[cuts]
    means = np.diff(sums, axis=1) / np.diff(cuts, axis=1)[..., None]
    return means.reshape(len(lengths), -1)


SAMPLED = ("data.test=official",)


def sampler(trial: Trial, folder: Path, asked: Asked) -> Sampler:
    """From the path of a WAV file to each digit and how probable it is."""
    sample.refuse(asked)
    std = speech.deviation(trial.data)
    dataset, _ = sequence_trial.load(trial.data)
    model = network(trial, dataset)
    nothing = jnp.zeros((1, 1, len(std)))
    like = jax.jit(model.init)(jax.random.key(0), nothing, jnp.ones(1, jnp.int32))
    params = epochs.restore_best(folder, like)
    apply = jax.jit(lambda frames, length: jax.nn.softmax(model.apply(params, frames, length)))  # pyright: ignore

    def listen(line: str) -> str:
        frames = speech.log_mel(sample.bytes_of(line), line)
        frames = speech.levelled(Ragged(frames, np.array([len(frames)]))).values / std
        padded = np.pad(frames, ((0, -len(frames) % STEP), (0, 0)))
        found = np.asarray(apply(padded[None], np.array([len(frames)], np.int32)))[0]
        return "  ".join(f"{dataset.classes[k]} {found[k]:.2f}" for k in np.argsort(-found))

    return listen


# The table and the figures


def table(rows: list[dict[str, Any]]) -> Table:
    """Accuracy in percent: chance, a linear reader, ours."""
    return systems.table(
        "Spoken digits",
        [_by_fold(row) for row in rows],
        section=_section,
        system=_system,
        metric="test_accuracy",
        published={},
        wiring="many to one",
        measure="accuracy, %",
        times=100.0,
        notes=(
            f"linear: ridge regression on the mean frames of {PARTS} parts of a recording. A "
            "speaker left out: n counts speakers, and seeds of each.",
        ),
        baseline="baselines",
    )


def _by_fold(row: dict[str, Any]) -> dict[str, Any]:
    """Speakers are folds: those that are left out, one at a time, are one line."""
    config = row["config"]
    test = config["data"]["test"]
    if test == speech.OFFICIAL:
        return row
    of_fold = {**config["data"], "test": "a speaker", "fold": speech.SPEAKERS.index(test)}
    return {**row, "config": {**config, "data": of_fold}}


def _section(config: Mapping[str, Any]) -> tuple[str, str]:
    if config["data"]["test"] == speech.OFFICIAL:
        return "fsdd", "FSDD, official split"
    return "fsdd_speakers", "FSDD, a speaker left out"


def _system(config: Mapping[str, Any]) -> str:
    return f"{systems.layers(config['model'])}, {config['pooling']}"


def figures(rows: list[dict[str, Any]]) -> "dict[str, Figure]":
    """What is taken for what, and the accuracy by how much has been heard; by budget and split."""
    from seqlab import plots

    drawn = {}
    for (budget, task), networks in _drawable(rows).items():
        figure, axes = plots.panels(1, 1 + len(networks), height=2.6)
        for place, (name, alike) in enumerate(sorted(networks.items())):
            counts = np.sum([metrics["confusions"] for metrics in alike], axis=0)
            percent = 100 * counts / counts.sum(axis=1, keepdims=True)
            panel = axes[0, 1 + place]
            panel.imshow(percent, cmap="Greys", vmin=0, vmax=100)
            for truth, said in zip(*np.nonzero(counts), strict=True):
                ink = "white" if percent[truth, said] > 50 else "black"
                shown = f"{percent[truth, said]:.0f}"
                panel.text(said, truth, shown, color=ink, size=5, ha="center", va="center")
            panel.set(xticks=range(len(counts)), yticks=range(len(counts)))
            panel.grid(False)
            plots.label(panel, "% of a digit", f"said by {name}", "truth")
            heard = 100 * np.mean([metrics["heard"] for metrics in alike], axis=0)
            axes[0, 0].plot(100 * np.arange(1, SHARES + 1) / SHARES, heard, "o-", label=name)
        plots.label(axes[0, 0], "How soon it knows", "heard, %", "accuracy, %")
        drawn[f"{task}_{budget}"] = figure
    return drawn


def _drawable(
    rows: list[dict[str, Any]],
) -> dict[tuple[str, str], dict[str, list[dict[str, Any]]]]:
    """By budget and split, and by network, the metrics that have what is drawn."""
    groups: dict[Any, Any] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["status"] == results.DONE and "confusions" in row["metrics"]:
            config = row["config"]
            groups[config["budget"], _section(config)[0]][_system(config)].append(row["metrics"])
    return groups
