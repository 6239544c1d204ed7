"""What a sentence thinks of a film: many steps read, one answer given.

Claim: a recurrent network with random embeddings, its last state or an attention over all of them
read by a linear layer, is well above the majority on both sets, and near what such networks have
been reported to reach without pretrained vectors.

    python launch.py run sentiment --budget smoke            SST-2, one short run; a minute
    python launch.py run sentiment                           an hour on two cores
    python launch.py run sentiment --set model.cell=gru,mut1
    python launch.py run sentiment --budget paper            wider, five seeds; an accelerator

On SST-2 three ways to pool, one and two layers, three seeds each; on MR ten folds of one of them.

Protocol: ours. SST-2: whole sentences, published splits. MR: ten folds, as usual. Words that occur
once in train are unknown. Adam, batches of 32 of similar length, dropout on embeddings and between
layers; the epoch with the best validation loss is tested.

Source: Socher et al. 2013; Pang and Lee 2005; `published/language.csv` says where each value beside
ours is from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from seqlab import sequence_trial, systems
from seqlab.comparison import read_published
from seqlab.data import ExampleDataset, MovieReviews, Sst
from seqlab.errors import InputError, nearest
from seqlab.models.sequence import Classifier, Pooling, SymbolEmbedding
from seqlab.optim import Schedule
from seqlab.sequence_trial import Model
from seqlab.tables import Table
from seqlab.train_sequences import MANY_TO_ONE, SequenceTrainConfig
from seqlab.trial import BUDGETS, replace
from seqlab.trial_fields import Optim

ALONE = False

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


def follow_up(trials: list[Trial], finished: dict[str, dict[str, Any]]) -> list[Trial]:
    """None: the seeds are known from the beginning."""
    return []


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
    metrics = sequence_trial.run(trial, network, MANY_TO_ONE, folder)
    dataset, _ = sequence_trial.load(trial.data)
    most_frequent = np.bincount(np.asarray(dataset.train.targets)).argmax()
    return metrics | {"baseline": float(np.mean(dataset.test.targets == most_frequent))}


PUBLISHED = read_published(Path(__file__).parent / "published" / "language.csv")


def table(rows: list[dict[str, Any]]) -> Table:
    """Accuracy in percent: the majority, what others have reached, ours."""
    return systems.table(
        "Sentiment of a sentence, accuracy in percent",
        rows,
        section=_section,
        system=_system,
        metric="test_accuracy",
        published=PUBLISHED,
        times=100.0,
    )


def _section(config: Mapping[str, Any]) -> tuple[str, str]:
    if config["data"]["kind"] == "Sst":
        return "sst2", f"SST-{config['data']['classes']}"
    return "mr", "Movie reviews, ten folds"


def _system(config: Mapping[str, Any]) -> str:
    model = config["model"]
    ways = "bidirectional " if model["bidirectional"] else ""
    return f"{ways}{model['cell']}, {model['num_layers']} × {model['units']}, {config['pooling']}"
