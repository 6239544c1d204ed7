"""The next word, from all words so far: Penn Treebank and WikiText-2.

Claim: two layers of 200 LSTM units are well below the perplexity of a smoothed 5-gram model.

    python launch.py run word_lm --budget smoke           a twentieth of an epoch; two minutes
    python launch.py run word_lm                          three hours on two cores
    python launch.py run word_lm --only data.kind=Ptb  Penn Treebank alone
    python launch.py run word_lm --set model.cell=gru,mut1
    python launch.py run word_lm --budget paper           both to the end, five seeds; a GPU

Protocol: the small network of Zaremba et al. 2014, without dropout as published: 2 x 200 units,
batches of 20 rows and 20 steps, SGD from 1.0, gradients clipped at a norm of 5, weights from
U[-0.1, 0.1]; four epochs, and nine more, each at half the rate of the one before. The published
text is one stream, and the carry is kept along it. Other cells have as many parameters. In the
default budget WikiText-2 is left after two of the thirteen epochs.

Source: Zaremba, Sutskever and Vinyals, Recurrent Neural Network Regularization, 2014;
`published/language.csv` says where each value beside ours is from.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqlab import sample, stream_trial, systems
from seqlab.comparison import read_published
from seqlab.data import Ptb, WikiText2
from seqlab.data.stream import frequencies_nll
from seqlab.data.tokens import words
from seqlab.errors import InputError, nearest
from seqlab.optim import Schedule
from seqlab.sample import Asked, Sampler
from seqlab.stream_trial import Model, check
from seqlab.tables import Table
from seqlab.train import TrainConfig
from seqlab.trial import BUDGETS, replace
from seqlab.trial_fields import Optim

__all__ = ["check", "run", "table", "trials"]

# 2 x 200 units of an LSTM, with the embedding and the head of so many words.
PTB_SMALL = Model("lstm", 2, 4_651_600)
WIKITEXT_SMALL = Model("lstm", 2, 13_986_078)
# Their loss is summed over the 20 steps of a row, ours is a mean over steps: our rate of 20 is
# their 1, our norm of 0.25 their 5. Modules draw from U[-1/√units, 1/√units]; at 200 units,
# U[-0.1, 0.1] is √2 times as wide.
SGD = Optim("sgd", learning_rate=20.0, clip_norm=0.25, init_scale=math.sqrt(2))


@dataclass(frozen=True)
class Trial:
    """A language model of words."""

    budget: str
    data: Ptb | WikiText2
    model: Model
    train: TrainConfig
    optim: Optim = SGD
    seed: int = 0


def cut(schedule: Schedule, steps_per_epoch: int | None = None) -> TrainConfig:
    """20 rows and 20 steps."""
    return TrainConfig(20, 20, steps_per_epoch, schedule)


WHOLE = cut(Schedule(max_epochs=13, patience=13, halvings=9))
BEGUN = cut(Schedule(max_epochs=2, patience=2, halvings=1))  # as far as two cores get


def trials(budget: str) -> list[Trial]:
    """Both texts from several seeds."""
    if budget == "smoke":
        return [Trial(budget, Ptb(), PTB_SMALL, cut(Schedule(1, 1, 0), steps_per_epoch=120))]
    if budget not in BUDGETS:
        raise InputError(f"no budget {budget!r}.{nearest(budget, BUDGETS)}")
    ptb = Trial(budget, Ptb(), PTB_SMALL, WHOLE)
    whole = budget == "paper"
    wikitext = Trial(budget, WikiText2(), WIKITEXT_SMALL, WHOLE if whole else BEGUN)
    seeds = range(5 if whole else 3)
    return [replace(trial, {"seed": seed}) for trial in (ptb, wikitext) for seed in seeds]


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Train; `baseline` is the perplexity of the word frequencies of train."""
    metrics = stream_trial.run(trial, folder, keep_best=True)
    dataset, _ = stream_trial.load(trial.data)
    return metrics | {
        "test_perplexity": math.exp(metrics["test_nll"]),
        "baseline": math.exp(frequencies_nll(dataset, dataset.test)),
    }


SAMPLED = ("data.kind=Ptb",)


def sampler(trial: Trial, folder: Path, asked: Asked) -> Sampler:
    """What may follow a line; words that are not in the vocabulary are unknown."""
    dataset, _ = stream_trial.load(trial.data)
    program, _ = stream_trial.compiled(trial)
    read = functools.partial(words, lower=isinstance(trial.data, Ptb))
    return sample.continues(program, folder, dataset, asked, read, as_text)


def as_text(words: list[str]) -> str:
    """With spaces before them; <eos> is the end of a line."""
    return " " + " ".join(words).replace(" <eos>", "\n").replace("\n ", "\n")


PUBLISHED = read_published(Path(__file__).parent / "published" / "language.csv")


def table(rows: list[dict[str, Any]]) -> Table:
    """Perplexity: the frequencies of words, what others have reached, ours."""
    return systems.table(
        "The next word",
        rows,
        section=_section,
        system=_system,
        metric="test_perplexity",
        published=PUBLISHED,
        wiring="many to many, aligned",
        measure="perplexity",
        notes=("Networks stopped before the end of their schedule are marked with their epochs.",),
    )


def _section(config: Mapping[str, Any]) -> tuple[str, str]:
    if config["data"]["kind"] == "Ptb":
        return "ptb", "Penn Treebank"
    return "wikitext2", "WikiText-2"


def _system(config: Mapping[str, Any]) -> str:
    epochs, planned = config["train"]["schedule"]["max_epochs"], WHOLE.schedule.max_epochs
    cut_short = f", {epochs} of {planned} epochs" if epochs < planned else ""
    return systems.layers(config["model"]) + cut_short
