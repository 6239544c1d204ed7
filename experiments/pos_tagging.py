"""The part of speech of every word: many steps read, an answer at each.

Claim: who reads a sentence in both directions knows more of a word than who has read what stands
before it, most of all at the beginning.

    python launch.py run pos_tagging --budget smoke            one short run; two minutes
    python launch.py run pos_tagging                           half an hour on two cores
    python launch.py run pos_tagging --set model.cell=gru,mut1
    python launch.py run pos_tagging --budget paper            wider, five seeds; an accelerator

Protocol: ours. UD English EWT 2.16, 17 universal tags, the published splits; forms of words as they
are, those that occur once in train unknown; no characters, no pretrained vectors. Adam, batches of
32 of similar length, dropout on embeddings and between layers; the epoch with the best validation
loss is tested. One direction has as many units as both together.

Source: Silveira et al. 2014 for the treebank; Schuster and Paliwal 1997 for both directions;
`published/language.csv` says where each value beside ours is from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqlab import sequence_trial, systems
from seqlab.comparison import read_published
from seqlab.data import Ewt, ExampleDataset
from seqlab.data.examples import Ragged
from seqlab.errors import InputError, nearest
from seqlab.models.sequence import SymbolEmbedding, Tagger
from seqlab.optim import Schedule
from seqlab.sequence_trial import Model, check
from seqlab.tables import Table
from seqlab.train_sequences import ALIGNED, SequenceTrainConfig
from seqlab.trial import BUDGETS, replace
from seqlab.trial_fields import Optim

__all__ = ["ALONE", "check", "follow_up", "run", "table", "trials"]

ALONE = False

EWT = Ewt()
LSTM = Model("lstm", 128)
ADAM = Optim("adam", learning_rate=2e-3, clip_norm=5.0, dropout_rate=0.5)
TRAIN = SequenceTrainConfig(32, 6, Schedule(max_epochs=8, patience=2, halvings=3))


@dataclass(frozen=True)
class Trial:
    """A tagger of sentences."""

    budget: str
    data: Ewt = EWT
    model: Model = LSTM
    optim: Optim = ADAM
    train: SequenceTrainConfig = TRAIN
    seed: int = 0


def trials(budget: str) -> list[Trial]:
    """One direction and both, each from several seeds."""
    if budget == "smoke":
        short = SequenceTrainConfig(32, 6, Schedule(max_epochs=1, patience=1, halvings=0))
        return [Trial(budget, model=Model("lstm", 64, bidirectional=True), train=short)]
    if budget not in BUDGETS:
        raise InputError(f"no budget {budget!r}.{nearest(budget, BUDGETS)}")
    units, num_seeds = (128, 3) if budget == "default" else (256, 5)
    models = (Model("lstm", units, bidirectional=True), Model("lstm", 2 * units))
    return [
        replace(Trial(budget, model=model), {"seed": seed})
        for model in models
        for seed in range(num_seeds)
    ]


def follow_up(trials: list[Trial], finished: dict[str, dict[str, Any]]) -> list[Trial]:
    """None: the seeds are known from the beginning."""
    return []


def network(trial: Trial, dataset: ExampleDataset) -> Tagger:
    """Embedding, layers, a tag at each step."""
    embedding = SymbolEmbedding(len(dataset.symbols), trial.model.units)
    return Tagger(embedding, trial.model.layers(), len(dataset.classes))


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Train the trial's network; `baseline` is the accuracy of each word's most frequent tag."""
    metrics = sequence_trial.run(trial, network, ALIGNED, folder)
    dataset, _ = sequence_trial.load(trial.data)
    return metrics | {"baseline": most_frequent_tag(dataset)}


def most_frequent_tag(dataset: ExampleDataset) -> float:
    """The accuracy of who gives each word the tag that it has most often in train."""
    train, test = dataset.train, dataset.test
    assert isinstance(train.targets, Ragged)
    assert isinstance(test.targets, Ragged)
    counts = np.zeros((len(dataset.symbols), len(dataset.classes)), np.int64)
    np.add.at(counts, (train.inputs.values, train.targets.values), 1)
    # A word that train does not have is given the tag that is the most frequent of all.
    counts += np.where(counts.sum(axis=1, keepdims=True) == 0, counts.sum(axis=0), 0)
    return float(np.mean(counts.argmax(axis=1)[test.inputs.values] == test.targets.values))


PUBLISHED = read_published(Path(__file__).parent / "published" / "language.csv")


def table(rows: list[dict[str, Any]]) -> Table:
    """Accuracy in percent: the most frequent tag, what others have reached, ours."""
    return systems.table(
        "Parts of speech, accuracy in percent",
        rows,
        section=lambda config: ("ud_ewt", "UD English EWT, universal tags"),
        system=_system,
        metric="test_accuracy",
        published=PUBLISHED,
        times=100.0,
    )


def _system(config: Mapping[str, Any]) -> str:
    model = config["model"]
    ways = "both directions of " if model["bidirectional"] else ""
    return f"{ways}{model['cell']}, {model['num_layers']} × {model['units']}"
