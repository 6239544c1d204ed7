"""Character-level language models: three words over four letters, and Shakespeare.

Claim: two units, batched three words at a time, learn what the last letter alone does not tell; a
million parameters write lines that look like Shakespeare's.

    python launch.py run char_lm --budget smoke       both, a quarter of the parameters; two minutes
    python launch.py run char_lm                      half an hour on two cores
    python launch.py run char_lm --set model.cell=gru,mut1
    python launch.py run char_lm --budget paper       ten million parameters, five seeds
    python launch.py plot char_lm                     what was hard to tell in a page of Shakespeare
    python launch.py sample char_lm --prompt "ROMEO:" --temperature 0.8

Protocol: ours. The words: no embedding, a letter is a one-hot vector, and two units are all there
is; MUT1 and MUT2, which need an input as wide as they are, get a learnt embedding. Shakespeare: 90,
5 and 5 % of the text by position; two layers, Adam, batches of 50 rows and 50 steps, dropout on the
embedding and after each layer; the carry is kept along the text. Other cells have as many
parameters.

Source: Karpathy 2015, The Unreasonable Effectiveness of Recurrent Neural Networks;
`published/language.csv` says where each value beside ours is from.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from seqlab import sample, sequence_trial, stream_trial, systems, train_sequences
from seqlab.cells import CELLS
from seqlab.cells.base import takes
from seqlab.comparison import read_published
from seqlab.data import Dataset, ExampleDataset, Hello, Shakespeare
from seqlab.data.examples import encode
from seqlab.data.hello import LETTERS, WORDS
from seqlab.data.stream import frequencies_nll
from seqlab.errors import InputError, nearest
from seqlab.models.sequence import OneHot, SymbolEmbedding, Tagger
from seqlab.optim import Schedule
from seqlab.recurrence import Symbols, unroll
from seqlab.sample import Asked, Sampler
from seqlab.tables import Table
from seqlab.train import Program, TrainConfig
from seqlab.train_sequences import ALIGNED, SequenceTrainConfig
from seqlab.trial import BUDGETS, replace
from seqlab.trial_fields import Optim

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LSTM = stream_trial.Model("lstm", 2, 1_000_000)
ADAM = Optim("adam", learning_rate=2e-3, clip_norm=5.0, dropout_rate=0.2)
TWO_UNITS = sequence_trial.Model("lstm", 2)
FAST = Optim("adam", learning_rate=0.1, clip_norm=5.0)
WORDS_AT_ONCE = SequenceTrainConfig(3, 1, Schedule(max_epochs=15, patience=15, halvings=0))


@dataclass(frozen=True)
class Trial:
    """A language model of letters."""

    budget: str
    data: Hello | Shakespeare
    model: sequence_trial.Model | stream_trial.Model
    optim: Optim
    train: SequenceTrainConfig | TrainConfig
    seed: int = 0


def cut(schedule: Schedule, steps_per_epoch: int | None = None) -> TrainConfig:
    """50 rows and 50 steps."""
    return TrainConfig(50, 50, steps_per_epoch, schedule)


def trials(budget: str) -> list[Trial]:
    """The three words and Shakespeare, both from several seeds."""
    hello = Trial(budget, Hello(), TWO_UNITS, FAST, WORDS_AT_ONCE)
    if budget == "smoke":
        short = cut(Schedule(max_epochs=2, patience=2, halvings=1))
        small = replace(LSTM, {"parameter_budget": 250_000})
        return [hello, Trial(budget, Shakespeare(), small, ADAM, short)]
    if budget == "default":
        whole = cut(Schedule(max_epochs=12, patience=2, halvings=4))
        shakespeare, num_seeds = Trial(budget, Shakespeare(), LSTM, ADAM, whole), 3
    elif budget == "paper":
        large = replace(LSTM, {"parameter_budget": 10_000_000})
        slow = replace(ADAM, {"dropout_rate": 0.5})
        whole = cut(Schedule(max_epochs=50, patience=3, halvings=6))
        shakespeare, num_seeds = Trial(budget, Shakespeare(), large, slow, whole), 5
    else:
        raise InputError(f"no budget {budget!r}.{nearest(budget, BUDGETS)}")
    return [replace(t, {"seed": seed}) for t in (hello, shakespeare) for seed in range(num_seeds)]


def check(trial: Trial) -> None:
    """Raise InputError for what cannot be run."""
    kind: Any = sequence_trial if isinstance(trial.data, Hello) else stream_trial
    kind.check(trial)


def network(trial: Trial, dataset: ExampleDataset) -> Tagger:
    """Of the three words: letters as they are, layers, a letter at each step."""
    model = trial.model
    assert isinstance(model, sequence_trial.Model)
    one_hot = width(model.cell, model.units) == len(LETTERS)
    embedding = OneHot(len(LETTERS)) if one_hot else SymbolEmbedding(len(LETTERS), model.units)
    return Tagger(embedding, model.layers(), len(LETTERS))


def width(cell: str, units: int) -> int:
    """The input width of a letter: one-hot, or the cell's own where it uses x without a matrix."""
    return len(LETTERS) if takes(CELLS[cell], len(LETTERS), units) else units


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Train; `baseline` predicts from the last letter alone (words), or from letter frequencies."""
    if isinstance(trial.data, Hello):
        metrics = sequence_trial.run(trial, network, ALIGNED, folder)  # pyright: ignore
        dataset, _ = sequence_trial.load(trial.data)
        cell, units = trial.model.cell, trial.model.units  # pyright: ignore
        return metrics | {"baseline": last_letter(dataset), "shapes": shapes(cell, units)}
    metrics = stream_trial.run(trial, folder, True, surprises)  # pyright: ignore
    dataset, _ = stream_trial.load(trial.data)
    for name, split in (("valid", dataset.valid), ("test", dataset.test)):
        metrics[f"{name}_bits"] = metrics[f"{name}_nll"] / math.log(2)
        metrics[f"{name}_baseline"] = frequencies_nll(dataset, split) / math.log(2)
    return metrics


SAMPLED = ("data.kind=Shakespeare",)


def sampler(trial: Trial, folder: Path, asked: Asked) -> Sampler:
    """What may follow a line; of the three words, the most probable letters up to the fifth."""
    if isinstance(trial.data, Hello):
        dataset, _ = sequence_trial.load(trial.data)
        of_words = network(trial, dataset)
        program = train_sequences.Program(of_words, ALIGNED, trial.optim.optimizer)
        return sample.spells(program, folder, dataset, asked, length=len(WORDS[0]))
    dataset, _ = stream_trial.load(trial.data)
    program, _ = stream_trial.compiled(trial)  # pyright: ignore
    return sample.continues(program, folder, dataset, asked, list, "".join)


def last_letter(dataset: ExampleDataset) -> float:
    """The accuracy of the best prediction from the last letter alone."""
    letters = dataset.train.inputs.values.reshape(-1, len(WORDS[0]))
    counts = np.zeros((len(LETTERS), len(LETTERS)), np.int64)
    np.add.at(counts, (letters[:, :-1], letters[:, 1:]), 1)
    return float(counts.max(axis=1).sum() / counts.sum())


def shapes(cell: str, units: int) -> list[str]:
    """What goes into one layer and what comes out, of one word and of all three at once."""
    columns = width(cell, units)
    params = CELLS[cell].init(jax.random.key(0), columns, units)
    found = []
    for words in (WORDS[:1], WORDS):
        letters = encode(words, LETTERS).values.reshape(len(words), -1)
        xs = Symbols(jnp.asarray(letters), jnp.eye(len(LETTERS), columns))
        _, ys = unroll(CELLS[cell], params, None, xs)
        found.append(f"{tuple(xs.shape)} → {tuple(ys.shape)}")
    return found


PASSAGE = 600  # letters


def surprises(program: Program, params: Any, dataset: Dataset) -> dict[str, Any]:
    """The beginning of the test split, and the bits of each letter, given those before it."""
    assert dataset.symbols is not None
    letters = dataset.test.values[:PASSAGE]
    seen = np.concatenate([[dataset.start], letters[:-1]]).astype(letters.dtype)
    _, logits = jax.jit(program.model.apply)(params, seen[None])  # pyright: ignore
    log_probs = np.asarray(jax.nn.log_softmax(logits[0]))
    bits = -log_probs[np.arange(len(letters)), letters] / math.log(2)
    text = "".join(dataset.symbols[letter] for letter in letters)
    return {"passage": {"text": text, "bits": [round(float(b), 3) for b in bits]}}


PUBLISHED = read_published(Path(__file__).parent / "published" / "language.csv")


def table(rows: list[dict[str, Any]]) -> Table:
    """Accuracy, or bits per character."""
    words = [row for row in rows if row["config"]["data"]["kind"] == "Hello"]
    texts = [row for row in rows if row["config"]["data"]["kind"] != "Hello"]
    seen = {shape for row in words for shape in row["metrics"].get("shapes", ())}
    notes = (f"A layer of {TWO_UNITS.units} units: {', '.join(sorted(seen))}.",) * bool(seen)

    def section(name: str, heading: str) -> Callable[[Mapping[str, Any]], tuple[str, str]]:
        return lambda config: (name, heading)

    shared: dict[str, Any] = {"title": "The next letter", "system": _system, "published": PUBLISHED}
    shared["wiring"] = "many to many, aligned"
    of_words = systems.table(
        **shared,
        rows=words,
        section=section("hello", "hello, eolll, lleel"),
        metric="test_accuracy",
        measure="accuracy, %",
        times=100.0,
        notes=notes,
    )
    of_texts = [
        systems.table(
            **shared,
            rows=texts,
            section=section("shakespeare", f"tiny Shakespeare, {split} split"),
            metric=f"{split}_bits",
            measure="bits per character",
            baseline=f"{split}_baseline",
        )
        for split in ("valid", "test")
    ]
    return systems.one_below_the_other(of_words, *of_texts)


def _system(config: Mapping[str, Any]) -> str:
    return systems.layers(config["model"])


def figures(rows: list[dict[str, Any]]) -> "dict[str, Figure]":
    """A passage of the test split, each letter on a ground as dark as it was hard to tell."""
    from seqlab import plots

    drawn = {}
    for row in sorted(rows, key=lambda row: row["config"]["seed"]):
        name = f"surprise_{row['config']['model']['cell']}_{row['config']['budget']}"
        if "passage" not in row["metrics"] or name in drawn:
            continue
        lines, bits = in_lines(**row["metrics"]["passage"])
        figure, axes = plots.panels(height=0.17 * len(lines) + 0.5)
        shown = plots.shaded_text(axes[0, 0], lines, bits, most=8.0)
        figure.colorbar(shown, ax=axes[0, 0], label="bits of a letter", fraction=0.03, extend="max")
        figure.suptitle(f"Test split of tiny Shakespeare: {_system(row['config'])}")
        drawn[name] = figure
    return drawn


def in_lines(text: str, bits: Sequence[float]) -> tuple[list[str], list[list[float]]]:
    """A text and the bits of its letters, line by line; the end of a line is a letter, too."""
    lines = [line.replace("\n", "↵") for line in text.splitlines(keepends=True)]
    ends = list(itertools.accumulate(map(len, lines)))
    return lines, [list(bits[a:b]) for a, b in itertools.pairwise([0, *ends])]
