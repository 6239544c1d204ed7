"""Classification of DNA sequences: many bases read, one answer given.

Claim: a forward and a backward reader that meet where a junction would be classify it better than
naive Bayes, which counts each base by itself; attention, not told where to look, is worse. From 106
promoters, not aligned to a junction, they learn less than naive Bayes does.

    python launch.py run dna --budget smoke               a fold of splice, one short run; a minute
    python launch.py run dna                              ten minutes on two cores
    python launch.py run dna --only data.kind=Splice
    python launch.py run dna --set model.cell=lstm,mut1
    python launch.py run dna --budget paper               wider, five seeds
    python launch.py plot dna                             which bases an answer depends on

Protocol: ours. Splice: ten folds, with the 185 duplicate sequences left in. Promoters:
leave-one-out, as published. A tenth of the rest is held out for validation; the epoch with the best
validation loss is tested. Adam, dropout on embeddings and outputs; the ambiguous bases D, N, R and
S are symbols like any other. The readers meet at the junction, or at the start of transcription;
attention, last and mean pool the whole sequence.

Source: Noordewier, Towell and Shavlik 1991; Towell, Shavlik and Noordewier 1990;
`published/language.csv` says where each value beside ours is from.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from seqlab import results, sequence_trial, systems
from seqlab.buckets import Batch
from seqlab.comparison import read_published
from seqlab.data import ExampleDataset, Examples, Promoters, Splice
from seqlab.data.dna import PROMOTERS, SPLICE_FOLDS
from seqlab.errors import InputError, nearest
from seqlab.models.rnn import Bidirectional, Stack
from seqlab.models.sequence import Classifier, Pooling, SymbolEmbedding
from seqlab.optim import Schedule
from seqlab.sequence_trial import Model
from seqlab.tables import Table
from seqlab.train_sequences import MANY_TO_ONE, Program, SequenceTrainConfig, outputs
from seqlab.trial import BUDGETS, replace
from seqlab.trial_fields import Optim

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POOLINGS = ("meeting", *get_args(Pooling))
BASES = 4  # come first among the symbols of both sets


class Landmark(NamedTuple):
    """What stands between bases `place` and `place` + 1, counted from 1, of every sequence."""

    name: str
    place: int


LANDMARKS = {
    "Splice": Landmark("the junction", 30),
    "Promoters": Landmark("the start of transcription", 50),
}

GRU = Model("gru", 32, bidirectional=True)
ADAM = Optim("adam", learning_rate=3e-3, clip_norm=5.0, dropout_rate=0.3)
OF_SPLICE = SequenceTrainConfig(32, 1, Schedule(max_epochs=12, patience=3, halvings=4))
SLOWER = SequenceTrainConfig(32, 1, Schedule(max_epochs=20, patience=4, halvings=4))
OF_PROMOTERS = SequenceTrainConfig(8, 1, Schedule(max_epochs=30, patience=15, halvings=4))


@dataclass(frozen=True)
class Trial:
    """A classifier of sequences of bases."""

    budget: str
    data: Splice | Promoters
    model: Model = GRU
    pooling: str = "meeting"
    optim: Optim = ADAM
    train: SequenceTrainConfig = OF_SPLICE
    seed: int = 0


def trials(budget: str) -> list[Trial]:
    """Every fold of both sets; of splice also who is not told where to meet."""
    if budget == "smoke":
        short = SequenceTrainConfig(32, 1, Schedule(max_epochs=3, patience=3, halvings=1))
        return [Trial(budget, Splice(), train=short)]
    if budget not in BUDGETS:
        raise InputError(f"no budget {budget!r}.{nearest(budget, BUDGETS)}")
    units, num_seeds = (32, 1) if budget == "default" else (128, 5)
    met = Trial(budget, Splice())
    looked = replace(met, {"pooling": "attention", "optim.learning_rate": 5e-3, "train": SLOWER})
    few = {"optim.learning_rate": 5e-3, "optim.dropout_rate": 0.5, "train": OF_PROMOTERS}
    planned = [
        *(replace(t, {"data.fold": fold}) for t in (met, looked) for fold in range(SPLICE_FOLDS)),
        *(replace(Trial(budget, Promoters(fold)), few) for fold in range(PROMOTERS)),
    ]
    return [
        replace(t, {"seed": seed, "model.units": units})
        for seed in range(num_seeds)
        for t in planned
    ]


def check(trial: Trial) -> None:
    """Raise InputError for what cannot be run."""
    sequence_trial.check(trial)
    if trial.pooling not in POOLINGS:
        raise InputError(f"no pooling {trial.pooling!r}.{nearest(trial.pooling, POOLINGS)}")
    if trial.pooling == "meeting" and not trial.model.bidirectional:
        raise InputError("pooling meeting needs model.bidirectional: it takes two to meet")


class Meeting(nn.Module):
    """p(class | all bases) = softmax([forward y_m, backward y_m+1] W + b).

    With one layer, the forward reader has read bases 1 … m, the backward reader those after m.

    Attributes:
        embedding: of the bases.
        stack: recurrent layers, the last of them bidirectional.
        num_classes: K.
        place: m.
    """

    embedding: SymbolEmbedding
    stack: Stack
    num_classes: int
    place: int

    @nn.compact
    def __call__(
        self,
        bases: Int[Array, "B T"],
        lengths: Int[Array, " B"] | None = None,
        dropout_rate: Array | float | None = None,
    ) -> Float[Array, "B K"]:
        xs = self.embedding(bases, lengths, dropout_rate)
        _, ys = self.stack(xs, lengths=lengths, dropout_rate=dropout_rate)
        last = self.stack.layers[-1]
        assert isinstance(last, Bidirectional)
        forward, backward = jnp.split(ys, [last.forward.units], axis=-1)
        met = [forward[:, self.place - 1], backward[:, self.place]]
        return nn.Dense(self.num_classes, name="head")(jnp.concatenate(met, axis=-1))


def network(trial: Trial, dataset: ExampleDataset) -> Classifier | Meeting:
    """Embedding, layers, and what makes one summary of their outputs."""
    embedding = SymbolEmbedding(len(dataset.symbols), trial.model.units)
    layers, num_classes = trial.model.layers(), len(dataset.classes)
    if trial.pooling == "meeting":
        place = LANDMARKS[type(trial.data).__name__].place
        return Meeting(embedding, layers, num_classes, place)
    return Classifier(embedding, layers, num_classes, trial.pooling)


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Train the trial's network; what simple rules reach, and which bases it depends on."""
    return sequence_trial.run(trial, network, MANY_TO_ONE, folder, inspect)


def inspect(program: Program, params: Any, dataset: ExampleDataset) -> dict[str, Any]:
    """The accuracy of the baselines; by class of the test split, the `effects` of each base."""
    found = outputs(effects, program, params, dataset.test)
    classes = np.asarray(dataset.test.targets)
    by_class = {
        name: found[classes == number].mean(axis=0).round(4).tolist()
        for number, name in enumerate(dataset.classes)
        if (classes == number).any()
    }
    return {"baselines": baselines(dataset), "effects": by_class}


def effects(program: Program, params: Any, batch: Batch) -> Float[Array, "B T"]:
    """How much each base supports the truth: log p(class) - mean of log p(class | another base).

    The mean is over the three other bases at this place. In nats.
    """

    def log_p(bases: Int[Array, "B T"]) -> Float[Array, " B"]:
        said = program.model.apply(params, bases, batch.lengths)
        log_probs = jax.nn.log_softmax(said)  # pyright: ignore
        return jnp.take_along_axis(log_probs, batch.targets, axis=1)[:, 0]

    def mean_of_others(place: Array) -> Float[Array, " B"]:
        here = jnp.arange(batch.inputs.shape[1]) == place
        others = [
            log_p(jnp.where(here[None], (batch.inputs + n) % BASES, batch.inputs))
            for n in range(1, BASES)
        ]
        return jnp.stack(others).mean(axis=0)

    places = jnp.arange(batch.inputs.shape[1])
    return log_p(batch.inputs)[:, None] - jax.lax.map(mean_of_others, places).T


# What the network has to beat


def baselines(dataset: ExampleDataset) -> dict[str, float]:
    """The accuracy of two rules on the test split."""
    truth = np.asarray(dataset.test.targets)
    most_frequent = np.bincount(np.asarray(dataset.train.targets)).argmax()
    rules = {"the most frequent class": most_frequent, "each base by itself": naive_bayes(dataset)}
    return {rule: float(np.mean(said == truth)) for rule, said in rules.items()}


def naive_bayes(dataset: ExampleDataset) -> np.ndarray:
    """argmax_k log p(k) + Σ_t log p(base_t | k, t) for each of test, of counts in train + 1."""
    train, test = _rows(dataset.train), _rows(dataset.test)
    classes, symbols = np.asarray(dataset.train.targets), np.arange(len(dataset.symbols))
    scores = []
    for k in range(len(dataset.classes)):
        counts = (train[classes == k, :, None] == symbols).sum(axis=0) + 1
        log_p = np.log(counts / counts.sum(axis=1, keepdims=True))
        prior = np.log((classes == k).sum() + 1)
        scores.append(prior + log_p[np.arange(test.shape[1]), test].sum(axis=1))
    return np.argmax(scores, axis=0)


def _rows(examples: Examples) -> np.ndarray:
    """[M, T]: the sequences are all of one length."""
    return examples.inputs.values.reshape(len(examples.inputs.lengths), -1)


# The table and the figure

PUBLISHED = read_published(Path(__file__).parent / "published" / "language.csv")


def table(rows: list[dict[str, Any]]) -> Table:
    """Accuracy in percent: two simple rules, what others have reached, ours."""
    return systems.table(
        "Kinds of DNA",
        rows,
        section=_section,
        system=_system,
        metric="test_accuracy",
        published=PUBLISHED,
        wiring="many to one",
        measure="accuracy, %",
        times=100.0,
        notes=(
            "each base by itself: naive Bayes, log p(class) + Σ log p(base | class, place). In "
            "leave-one-out with two classes of equal size the most frequent class is never right: "
            "leaving a sequence out makes the other class the larger.",
            "Published values on splice: folds of 1,000 of the sequences; reported by class, "
            "combined here by the sizes of the classes.",
            "Ten folds, leave-one-out: n counts folds, and seeds of each.",
        ),
        baseline="baselines",
    )


def _section(config: Mapping[str, Any]) -> tuple[str, str]:
    data = config["data"]
    if data["kind"] == "Splice":
        return "splice", "Splice junctions, ten folds"
    if data["folds"] == PROMOTERS:
        return "promoters", "Promoters, leave-one-out"
    return f"promoters, {data['folds']} folds", f"Promoters, {data['folds']} folds"


def _system(config: Mapping[str, Any]) -> str:
    return f"{systems.layers(config['model'])}, {config['pooling']}"


def figures(rows: list[dict[str, Any]]) -> "dict[str, Figure]":
    """Which bases the answer depends on, by class; means over folds and seeds."""
    from seqlab import plots

    drawn = {}
    for (budget, task), networks in _drawable(rows).items():
        figure, axes = plots.panels(len(networks), 1, height=2.3 * len(networks))
        for panel, (name, alike) in zip(axes[:, 0], sorted(networks.items()), strict=True):
            landmark = LANDMARKS[alike[0]["config"]["data"]["kind"]]
            for label, curves in _by_class(alike).items():
                effect = np.mean(curves, axis=0)
                # Between bases, at 0, is the landmark.
                panel.plot(np.arange(len(effect)) - landmark.place + 0.5, effect, label=label)
            panel.axvline(0, color="#999999", linewidth=0.6)
            plots.label(panel, name, f"bases from {landmark.name}", "nats")
        drawn[f"effects_{task}_{budget}"] = figure
    return drawn


def _drawable(
    rows: list[dict[str, Any]],
) -> dict[tuple[str, str], dict[str, list[dict[str, Any]]]]:
    """By budget and set, and by network, the results that have what is drawn."""
    groups: dict[Any, Any] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["status"] == results.DONE and "effects" in row["metrics"]:
            config = row["config"]
            task = config["data"]["kind"].lower()
            groups[config["budget"], task][_system(config)].append(row)
    return groups


def _by_class(rows: list[dict[str, Any]]) -> dict[str, list[list[float]]]:
    curves: dict[str, list[list[float]]] = defaultdict(list)
    for row in rows:
        for name, curve in row["metrics"]["effects"].items():
            curves[name].append(curve)
    return curves
