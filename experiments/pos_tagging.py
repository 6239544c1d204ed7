"""Part-of-speech tagging: many steps read, an answer at each.

Claim: a network that reads a sentence in both directions tags better than one that reads only what
stands before each word, most of all at the beginning.

    python launch.py run pos_tagging --budget smoke            one short run; two minutes
    python launch.py run pos_tagging                           half an hour on two cores
    python launch.py run pos_tagging --set model.cell=gru,mut1
    python launch.py sample pos_tagging --prompt "The old man the boats."
    python launch.py run pos_tagging --budget paper            wider, five seeds; an accelerator
    python launch.py plot pos_tagging                          accuracy by place in the sentence

Protocol: ours. UD English EWT 2.16, 17 universal tags, the published splits; forms of words as they
are, those that occur once in train unknown; no characters, no pretrained vectors. Adam, batches of
32 of similar length, dropout on embeddings and between layers; the epoch with the best validation
loss is tested. The unidirectional network has as many units as both directions together; its
embedding is as much wider, since layers and embedding are of one width.

Source: Silveira et al. 2014 for the treebank; Schuster and Paliwal 1997 for both directions;
`published/language.csv` says where each value beside ours is from.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from seqlab import sample, sequence_trial, systems, train_sequences
from seqlab.buckets import Batch
from seqlab.comparison import read_published
from seqlab.data import Ewt, ExampleDataset
from seqlab.data.examples import Ragged
from seqlab.errors import InputError, nearest
from seqlab.intervals import mean_ci
from seqlab.models.sequence import SymbolEmbedding, Tagger
from seqlab.optim import Schedule
from seqlab.sample import Asked, Sampler
from seqlab.sequence_trial import Model, check
from seqlab.tables import Table
from seqlab.train_sequences import ALIGNED, Program, SequenceTrainConfig
from seqlab.trial import BUDGETS, replace
from seqlab.trial_fields import Optim

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check", "figures", "run", "table", "trials"]

EWT = Ewt()
LSTM = Model("lstm", 128)
ADAM = Optim("adam", learning_rate=1e-3, clip_norm=5.0, dropout_rate=0.5)
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


def network(trial: Trial, dataset: ExampleDataset) -> Tagger:
    """Embedding, layers, a tag at each step."""
    embedding = SymbolEmbedding(len(dataset.symbols), trial.model.units)
    return Tagger(embedding, trial.model.layers(), len(dataset.classes))


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Train the trial's network; `baseline` is the accuracy of each word's most frequent tag."""
    metrics = sequence_trial.run(trial, network, ALIGNED, folder, by_place)
    dataset, _ = sequence_trial.load(trial.data)
    return metrics | {"baseline": most_frequent_tag(dataset)}


def most_frequent_tag(dataset: ExampleDataset) -> float:
    """The accuracy of giving each word its most frequent tag in train."""
    train, test = dataset.train, dataset.test
    assert isinstance(train.targets, Ragged)
    assert isinstance(test.targets, Ragged)
    counts = np.zeros((len(dataset.symbols), len(dataset.classes)), np.int64)
    np.add.at(counts, (train.inputs.values, train.targets.values), 1)
    # A word that train does not have is given the tag that is the most frequent of all.
    counts += np.where(counts.sum(axis=1, keepdims=True) == 0, counts.sum(axis=0), 0)
    return float(np.mean(counts.argmax(axis=1)[test.inputs.values] == test.targets.values))


# Accuracy by place in the sentence

# From this word to that one, counted from either end of a sentence.
PLACES = ((1, 1), (2, 2), (3, 3), (4, 5), (6, 10), (11, 20), (21, 10_000))
ENDS = ("beginning", "end")


def by_place(program: Program, params: Any, dataset: ExampleDataset) -> dict[str, Any]:
    """Words of the test split at each of PLACES, and how many of them have the right tag."""
    test = dataset.test
    assert isinstance(test.targets, Ragged)
    guess = train_sequences.outputs(best_tags, program, params, test)
    lengths, before = test.inputs.lengths[:, None], np.arange(guess.shape[1])
    real = before < lengths
    right = guess[real] == test.targets.values
    numbers = (np.broadcast_to(before + 1, real.shape), lengths - before)
    return {
        "by_place": {
            end: counted(number[real], right) for end, number in zip(ENDS, numbers, strict=True)
        }
    }


def best_tags(program: Program, params: Any, batch: Batch) -> jax.Array:
    """[B, T], the most probable one of each word."""
    return program.model.apply(params, batch.inputs, batch.lengths).argmax(-1)  # pyright: ignore


def counted(numbers: np.ndarray, right: np.ndarray) -> list[list[int]]:
    """[words, right ones] at each of PLACES, of words with these numbers."""
    inside = [(first <= numbers) & (numbers <= last) for first, last in PLACES]
    return [[int(there.sum()), int(right[there].sum())] for there in inside]


SAMPLED = ("data.kind=Ewt",)


def sampler(trial: Trial, folder: Path, asked: Asked) -> Sampler:
    """The words of a line and their tags."""
    dataset, _ = sequence_trial.load(trial.data)
    program = Program(network(trial, dataset), ALIGNED, trial.optim.optimizer)
    return sample.tags(program, folder, dataset, asked)


PUBLISHED = read_published(Path(__file__).parent / "published" / "language.csv")


def table(rows: list[dict[str, Any]]) -> Table:
    """Accuracy in percent: the most frequent tag, what others have reached, ours."""
    ways = {"both directions": True, "one": False}
    alike = ("units",)  # as many in one direction as in both
    return systems.table(
        "Parts of speech",
        rows,
        section=_section,
        system=_system,
        metric="test_accuracy",
        published=PUBLISHED,
        wiring="many to many, aligned",
        measure="accuracy, %",
        times=100.0,
        notes=systems.gaps(rows, _section, ways, "bidirectional", "test_accuracy", 100.0, alike),
    )


def _section(config: Mapping[str, Any]) -> tuple[str, str]:
    return "ud_ewt", "UD English EWT, universal tags"


def _system(config: Mapping[str, Any]) -> str:
    return systems.layers(config["model"])


def figures(rows: list[dict[str, Any]]) -> "dict[str, Figure]":
    """Accuracy by place in the sentence, mean over seeds and its 95% interval; one a budget."""
    from seqlab import plots

    budgets: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if "by_place" in row["metrics"]:
            alike = budgets[row["config"]["budget"]][_system(row["config"])]
            alike.append(row["metrics"]["by_place"])
    return {
        f"accuracy_by_place_{budget}": _accuracy_by_place(plots, by_system)
        for budget, by_system in budgets.items()
    }


def _accuracy_by_place(plots: Any, systems: Mapping[str, list[dict[str, Any]]]) -> "Figure":
    names = [str(a) if a == b else f"{a}–{b}" for a, b in PLACES[:-1]] + [f"{PLACES[-1][0]}+"]
    figure, axes = plots.panels(1, len(ENDS), height=2.8)
    for panel, end in zip(axes[0], ENDS, strict=True):
        for number, (system, runs) in enumerate(sorted(systems.items())):
            means, halves = [], []
            for place in range(len(PLACES)):
                counts = [run[end][place] for run in runs]
                mean, half = mean_ci([100 * right / words for words, right in counts])
                means.append(mean)
                halves.append(half or 0.0)
            style = {"color": plots.COLOURS[number % len(plots.COLOURS)]}
            marker = plots.MARKERS[number % len(plots.MARKERS)]
            name = f"{system}, n = {len(runs)}" if end == ENDS[0] else None
            panel.plot(names, means, marker=marker, label=name, **style)
            low, high = np.subtract(means, halves), np.add(means, halves)
            panel.fill_between(names, low, high, alpha=0.2, linewidth=0, **style)
        panel.set_xlabel(f"word, from the {end} of its sentence")
    axes[0, 0].set_ylabel("right tags, %")
    axes[0, 1].sharey(axes[0, 0])
    figure.legend(loc="outside lower center", ncols=2)
    figure.suptitle("Accuracy by place in the sentence, test split")
    return figure
