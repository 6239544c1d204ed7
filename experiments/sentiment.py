"""Sentiment of sentences about films: many steps read, one answer given.

Claim: a recurrent network with random embeddings, its last state or an attention over all of them
read by a linear layer, is well above the majority on both sets, and near what such networks have
been reported to reach without pretrained vectors.

    python launch.py run sentiment --budget smoke            SST-2, one short run; a minute
    python launch.py run sentiment                           an hour on two cores
    python launch.py run sentiment --set model.cell=gru,mut1
    python launch.py sample sentiment --prompt "a film one does not forget"
    python launch.py run sentiment --budget paper            wider, five seeds; an accelerator
    python launch.py plot sentiment                          which words attention looks at

On SST-2 three ways to pool, one and two layers, three seeds each; on MR ten folds of one of them.

Protocol: ours. SST-2: whole sentences, published splits. MR: ten folds, as usual. Words that occur
once in train are unknown. Adam, batches of 32 of similar length, dropout on embeddings and between
layers; the epoch with the best validation loss is tested.

Source: Socher et al. 2013; Pang and Lee 2005; `published/language.csv` says where each value beside
ours is from.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import jax
import numpy as np

from seqlab import sample, sequence_trial, systems, train_sequences
from seqlab.buckets import Batch
from seqlab.comparison import read_published
from seqlab.data import ExampleDataset, Examples, MovieReviews, Sst
from seqlab.data.examples import decode, encode
from seqlab.errors import InputError, nearest
from seqlab.models.sequence import Classifier, Pooling, SymbolEmbedding
from seqlab.optim import Schedule
from seqlab.sample import Asked, Sampler
from seqlab.sequence_trial import Model
from seqlab.tables import Table
from seqlab.train_sequences import MANY_TO_ONE, Program, SequenceTrainConfig
from seqlab.trial import BUDGETS, replace
from seqlab.trial_fields import Optim

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ADAM = Optim("adam", learning_rate=2e-3, clip_norm=5.0, dropout_rate=0.5)
LSTM = Model("lstm", 128)
TRAIN = SequenceTrainConfig(32, 6, Schedule(max_epochs=6, patience=1, halvings=2))


@dataclass(frozen=True)
class Trial:
    """A classifier of sentences."""

    budget: str
    data: Sst | MovieReviews
    model: Model = LSTM
    pooling: str = "last"
    optim: Optim = ADAM
    train: SequenceTrainConfig = TRAIN
    seed: int = 0


def trials(budget: str) -> list[Trial]:
    """Ways to pool and depths on SST-2, each from several seeds; one of them on ten folds of MR."""
    if budget == "smoke":
        short = SequenceTrainConfig(32, 6, Schedule(max_epochs=2, patience=1, halvings=0))
        return [Trial(budget, Sst(), Model("lstm", 64), "mean", train=short)]
    if budget not in BUDGETS:
        raise InputError(f"no budget {budget!r}.{nearest(budget, BUDGETS)}")
    units, num_seeds = (128, 3) if budget == "default" else (256, 5)
    one, two = Model("lstm", units), Model("lstm", units, num_layers=2)
    both_ways = Model("lstm", units, bidirectional=True)
    planned = [
        *(Trial(budget, Sst(), both_ways, pooling) for pooling in get_args(Pooling)),
        Trial(budget, Sst(), one),
        Trial(budget, Sst(), two),
    ]
    folds = [Trial(budget, MovieReviews(fold), both_ways, "attention") for fold in range(10)]
    return [replace(t, {"seed": seed}) for t in planned for seed in range(num_seeds)] + folds


def check(trial: Trial) -> None:
    """Raise InputError for what cannot be run."""
    sequence_trial.check(trial)
    if trial.pooling not in get_args(Pooling):
        names = get_args(Pooling)
        raise InputError(f"no pooling {trial.pooling!r}.{nearest(trial.pooling, names)}")


def network(trial: Trial, dataset: ExampleDataset) -> Classifier:
    """Embedding, layers, and what pools them."""
    embedding = SymbolEmbedding(len(dataset.symbols), trial.model.units)
    layers, pooling = trial.model.layers(), trial.pooling
    return Classifier(embedding, layers, len(dataset.classes), pooling)  # pyright: ignore


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Train the trial's network; `baseline` is the accuracy of the most frequent class of train."""
    look = read_attentively if trial.pooling == "attention" else None
    metrics = sequence_trial.run(trial, network, MANY_TO_ONE, folder, look)
    dataset, _ = sequence_trial.load(trial.data)
    most_frequent = np.bincount(np.asarray(dataset.train.targets)).argmax()
    return metrics | {"baseline": float(np.mean(dataset.test.targets == most_frequent))}


# What attention looks at

SHOWN = (  # sentences and their sentiment, our own, from no data set
    ("a moving story , beautifully told , with two great performances .", "positive"),
    ("the plot is thin and the jokes fall flat .", "negative"),
    ("i laughed from the first scene to the last .", "positive"),
    ("two hours that feel like four .", "negative"),
    ("not a great film , but never a dull one .", "positive"),
    ("a clever idea that goes nowhere .", "negative"),
    ("it is hard to imagine a better ending .", "positive"),
    ("the actors try hard , and nothing saves them .", "negative"),
)


def read_attentively(program: Program, params: Any, dataset: ExampleDataset) -> dict[str, Any]:
    """Of the sentences that are shown: weights, truth and guess."""
    sentences = encode([text.split() for text, _ in SHOWN], dataset.symbols)
    unanswered = Examples(sentences, np.zeros(len(SHOWN), np.int32))
    said, weights = train_sequences.outputs(said_and_weights, program, params, unanswered)
    kept = []
    for n, (words, (_, truth)) in enumerate(
        zip(decode(sentences, dataset.symbols), SHOWN, strict=True)
    ):
        guess = int(said[n].argmax())
        kept.append(
            {
                "words": words,
                "weights": [round(float(w), 4) for w in weights[n, : len(words)]],
                "truth": truth,
                "guess": dataset.classes[guess],
                "probability": round(float(said[n, guess]), 4),
            }
        )
    return {"read": kept}


def said_and_weights(program: Program, params: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """p(class) [B, K], and how much of each word is in what is read, [B, T]."""
    given = program.wiring.arguments(batch)
    logits, seen = program.model.apply(params, *given, mutable="intermediates")
    return jax.nn.softmax(logits), seen["intermediates"]["attention"][0]  # pyright: ignore


SAMPLED = ("data.kind=Sst",)


def sampler(trial: Trial, folder: Path, asked: Asked) -> Sampler:
    """What it thinks of a film."""
    dataset, _ = sequence_trial.load(trial.data)
    program = Program(network(trial, dataset), MANY_TO_ONE, trial.optim.optimizer)
    return sample.classifies(program, folder, dataset, asked)


PUBLISHED = read_published(Path(__file__).parent / "published" / "language.csv")


def table(rows: list[dict[str, Any]]) -> Table:
    """Accuracy in percent: the majority, what others have reached, ours."""
    return systems.table(
        "Sentiment of a sentence",
        rows,
        section=_section,
        system=_system,
        metric="test_accuracy",
        published=PUBLISHED,
        wiring="many to one",
        measure="accuracy, %",
        times=100.0,
        notes=("Ten folds: n counts folds, one seed each.",),
    )


def _section(config: Mapping[str, Any]) -> tuple[str, str]:
    if config["data"]["kind"] == "Sst":
        return "sst2", f"SST-{config['data']['classes']}"
    return "mr", "Movie reviews, ten folds"


def _system(config: Mapping[str, Any]) -> str:
    return f"{systems.layers(config['model'])}, {config['pooling']}"


def figures(rows: list[dict[str, Any]]) -> "dict[str, Figure]":
    """Test sentences, each word on a ground as dark as its weight; of the first seed or fold."""
    from seqlab import plots

    drawn = {}
    for row in sorted(rows, key=lambda row: (row["config"]["seed"], json.dumps(row["config"]))):
        task, heading = _section(row["config"])
        name = f"attention_{task}_{row['config']['budget']}"
        if "read" not in row["metrics"] or name in drawn:
            continue
        read = row["metrics"]["read"]
        figure, axes = plots.panels(height=0.3 * len(read) + 0.5)
        panel = axes[0, 0]
        shown = plots.shaded_text(
            panel,
            [" ".join(some["words"]) for some in read],
            [_spread(some["words"], some["weights"]) for some in read],
            most=max(max(some["weights"]) for some in read),
        )
        panel.set_yticks(range(len(read)), [_verdict(some) for some in read])
        panel.tick_params(length=0)
        figure.colorbar(shown, ax=panel, label="attention", fraction=0.03)
        figure.suptitle(f"{heading}: {_system(row['config'])}")
        drawn[name] = figure
    return drawn


def _spread(words: Sequence[str], weights: Sequence[float]) -> list[float]:
    """The weight of a word on each of its letters, none on the spaces between."""
    shades = []
    for word, weight in zip(words, weights, strict=True):
        shades += [weight] * len(word) + [0.0]
    return shades[:-1]


def _verdict(some: Mapping[str, Any]) -> str:
    right = "right" if some["guess"] == some["truth"] else f"it is {some['truth']}"
    return f"{some['guess']}, {some['probability']:.0%}: {right}"
