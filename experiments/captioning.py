"""Image captioning: one picture seen, many words written.

Claim: a decoder that attends to the picture before each word describes it better than one that has
to remember it, and attends to what the word names.

    python launch.py run captioning --budget smoke                   easy_vqa, a short run; a minute
    python launch.py run captioning                                  an hour on two cores
    python launch.py run captioning --only data.name=nlvr
    python launch.py run captioning --set model.cell=gru,mut1
    python launch.py run captioning --budget paper                   photographs of COCO; a GPU
    python launch.py plot captioning                                 where each word looks
    python launch.py sample captioning --prompt picture.png

Protocol: ours. easy_vqa: pictures of one shape, each with three captions that seqlab makes from the
published answers; nlvr: pictures of three boxes, captioned by those human-written sentences that
are true of them; test splits as published. Photographs with human captions are the COCO captions of
tensorflow-datasets, the first 10,000 of Karpathy's train and 1,000 of his test, 64 pixels a side,
which is not the published protocol. An eye of four convolutions; a decoder of one layer with a
forget bias of 1, without which little of a picture seen only once is left by the word that needs
it; Adam. The epoch with the best validation loss captions the test split by beam search. BLEU-4 is
sacrebleu's, against all captions of a picture.

Source: Vinyals et al. 2015, Show and Tell; Xu et al. 2015, Show, Attend and Tell. The attention of
a word is gated by β and, with λ = 1, regularised to spread over the picture, equation 14.
"""

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqlab import (
    bleu,
    data,
    epochs,
    results,
    sample,
    sequence_trial,
    systems,
    train_sequences,
    writing,
)
from seqlab.buckets import Batch
from seqlab.cells import CELLS
from seqlab.data import CaptionDataset, Captions, coco
from seqlab.data.coco import CocoCaptions
from seqlab.data.examples import Examples, Ragged, Shown, decode
from seqlab.data.fingerprint import fingerprint
from seqlab.data.scenes import Captioned, read_picture
from seqlab.errors import InputError, nearest
from seqlab.history import same_data
from seqlab.models.attention import doubly_stochastic
from seqlab.models.decoders import DECODERS
from seqlab.models.seq2seq import ConditionedDecoder
from seqlab.models.vision import Captioner, Eye, grid_of
from seqlab.optim import Schedule
from seqlab.pictures import looked_at, png
from seqlab.sample import Asked, Sampler
from seqlab.tables import Table
from seqlab.train_sequences import Program, SequenceTrainConfig, Splits, Wiring
from seqlab.trial import BUDGETS, replace
from seqlab.trial_fields import Optim, settings
from seqlab.writing import Search

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EYE = Eye()
KEPT = 4  # test pictures that a result keeps, with what is said of them
ADAM = Optim("adam", learning_rate=2e-3, clip_norm=5.0, dropout_rate=0.1)
TRAIN = SequenceTrainConfig(32, 3, Schedule(max_epochs=14, patience=4, halvings=1))
SEARCH = Search(width=3, alpha=0.6, max_length=30)


@dataclass(frozen=True)
class Model:
    """Who writes.

    Attributes:
        attention: an entry of `seqlab.models.decoders.DECODERS`.
        spread: λ, the weight of the doubly stochastic regulariser.
    """

    cell: str = "lstm_jzs_bias"
    units: int = 128
    num_layers: int = 1
    attention: str = "show_attend_tell"
    spread: float = 1.0


@dataclass(frozen=True)
class Trial:
    """Who describes pictures."""

    budget: str
    data: Captions | CocoCaptions
    model: Model = Model()
    optim: Optim = ADAM
    train: SequenceTrainConfig = TRAIN
    search: Search = SEARCH
    seed: int = 0


def trials(budget: str) -> list[Trial]:
    """Without attention, with it, and with its regulariser, from several seeds."""
    if budget == "smoke":
        short = SequenceTrainConfig(64, 1, Schedule(max_epochs=2, patience=2, halvings=0))
        return [Trial(budget, Captions(), Model(units=64), train=short)]
    if budget not in BUDGETS:
        raise InputError(f"no budget {budget!r}.{nearest(budget, BUDGETS)}")
    looking = Model()
    models = [replace(looking, {"attention": "no_attention", "spread": 0.0})]
    models += [replace(looking, {"spread": 0.0}), looking]
    kinds, num_seeds = [Captions(), Captions("nlvr")], 3
    if budget == "paper":
        kinds, num_seeds = [CocoCaptions()], 5
        models = [replace(model, {"units": 512}) for model in models]
    return [
        Trial(budget, data, model, seed=seed)
        for data in kinds
        for model in models
        for seed in range(num_seeds)
    ]


def check(trial: Trial) -> None:
    """Raise InputError for what cannot be run, ValueError for widths that do not fit."""
    bleu.check()
    writing.check(trial.search)
    sequence_trial.check(trial)
    model = trial.model
    if model.attention not in DECODERS:
        raise InputError(f"no attention {model.attention!r}.{nearest(model.attention, DECODERS)}")
    if model.spread < 0:
        raise InputError(f"model.spread must be at least 0, got {model.spread}")
    if model.spread and model.attention == "no_attention":
        raise InputError("model.spread regularises attention: with no_attention it must be 0")
    picture, word = jnp.zeros((1, 8, 8, 3), jnp.uint8), jnp.zeros((1, 1), jnp.int32)
    jax.eval_shape(network(trial, 1).init, jax.random.key(0), picture, word)


@functools.lru_cache(maxsize=1)
def load(config: Captions | CocoCaptions) -> tuple[CaptionDataset, str]:
    """The data set and its digest."""
    dataset = data.load(config)
    return dataset, fingerprint(dataset)


def network(trial: Trial, num_symbols: int) -> Captioner:
    """The eye, and what writes so many words."""
    model = trial.model
    decoder = DECODERS[model.attention](CELLS[model.cell], model.units, model.num_layers)
    return Captioner(EYE, ConditionedDecoder(decoder, num_symbols, model.units))


class Spread(NamedTuple):
    """λ Σ_places (1 - Σ_words α)² of each caption."""

    weight: float

    def __call__(self, said: tuple[jax.Array, jax.Array], where: jax.Array) -> jax.Array:
        _, weights = said
        return self.weight * doubly_stochastic(weights, where)


def what_is_read(batch: Batch) -> tuple[jax.Array, ...]:
    """The pictures, and of each caption the words before."""
    assert batch.pictures is not None
    return batch.pictures.of_rows(), batch.previous


def logits(said: tuple[jax.Array, jax.Array | None]) -> jax.Array:
    """Of each word."""
    return said[0]


def compiled(trial: Trial, dataset: CaptionDataset) -> Program:
    """What is compiled for a trial."""
    spread = Spread(trial.model.spread) if trial.model.spread else None
    wiring = Wiring(what_is_read, logits, penalty=spread)
    return Program(network(trial, len(dataset.symbols)), wiring, trial.optim.optimizer)


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Train; what the best epoch says of the test pictures, and where it looks as it says it."""
    dataset, sha256 = load(trial.data)
    same_data(folder, sha256)
    marks = writing.marks(dataset.symbols)
    program = compiled(trial, dataset)
    splits = Splits(
        *(
            writing.ended(examples(split, marks.begin), marks.end)
            for split in (dataset.train, dataset.valid, dataset.test)
        )
    )

    def written(params: Any) -> dict[str, Any]:
        images = dataset.test.images
        lines = writing.captions(program.model, params, images, marks, trial.search)  # pyright: ignore
        said = [[dataset.symbols[n] for n in line.symbols] for line in lines]
        right = captions_of(dataset.test, dataset.symbols)
        exact = [words in some for words, some in zip(said, right, strict=True)]
        return {
            "test_bleu": bleu.corpus(said, right),
            "test_exact": float(np.mean(exact)),
            "looks": [] if trial.seed else looks(images, said, lines),
        }

    metrics = train_sequences.fit(
        program,
        settings(trial),
        splits,
        trial.train,
        folder,
        marks.begin,
        keep_best=True,
        inspect=written,
    )
    return metrics | {"baseline": most_frequent(dataset), "dataset_sha256": sha256}


def examples(split: Captioned, begin: int) -> Examples:
    """Of each caption its picture; all that is read besides is the mark that it begins with."""
    ones = np.ones(len(split.shown), np.int32)
    begun = Ragged(np.full(len(ones), begin, np.int32), ones)
    return Examples(begun, split.captions, Shown(split.images, split.shown))


def captions_of(split: Captioned, symbols: Sequence[str]) -> list[list[list[str]]]:
    """All that is said of each picture."""
    said: list[list[list[str]]] = [[] for _ in split.images]
    for picture, words in zip(split.shown, decode(split.captions, symbols), strict=True):
        said[picture].append(words)
    return said


def most_frequent(dataset: CaptionDataset) -> float:
    """BLEU on the test split of the most frequent caption of train, the first of equals."""
    said = map(tuple, decode(dataset.train.captions, dataset.symbols))
    (caption, _), *_ = Counter(said).most_common(1)
    right = captions_of(dataset.test, dataset.symbols)
    return bleu.corpus([caption] * len(right), right)


def looks(
    images: np.ndarray, said: Sequence[list[str]], lines: Sequence[writing.Line]
) -> list[dict[str, Any]]:
    """A few evenly spaced test pictures, each with the attention weights of every word over it.

    Weights are over the grid, row by row; there are none without attention.
    """
    kept, grid = [], list(grid_of(EYE, *images.shape[1:3]))
    for n in np.linspace(0, len(images) - 1, KEPT, dtype=int).tolist():
        weights = lines[n].weights
        found = [] if weights is None else np.round(weights.astype(float), 3).tolist()
        kept.append({"picture": png(images[n]), "said": said[n], "weights": found, "grid": grid})
    return kept


SAMPLED = ("data.name=easy_vqa",)


def sampler(trial: Trial, folder: Path, asked: Asked) -> Sampler:
    """From the path of a PNG or JPEG picture to what is in it."""
    sample.refuse(asked)
    dataset, _ = load(trial.data)
    model, marks = network(trial, len(dataset.symbols)), writing.marks(dataset.symbols)
    some = jnp.asarray(dataset.test.images[:1])
    like = jax.jit(model.init)(jax.random.key(0), some, jnp.zeros((1, 1), jnp.int32))
    params = epochs.restore_best(folder, like)

    read = coco.read_picture if isinstance(trial.data, CocoCaptions) else read_picture

    def describe(line: str) -> str:
        picture = read(sample.bytes_of(line), some.shape[1], some.shape[2], line)
        (written,) = writing.captions(model, params, picture[None], marks, trial.search)
        return " ".join(dataset.symbols[n] for n in written.symbols)

    return describe


# The table and the pictures


def table(rows: list[dict[str, Any]]) -> Table:
    """BLEU-4: the most frequent caption, without attention, with it."""
    return systems.table(
        "What is in a picture",
        rows,
        section=_section,
        system=_system,
        metric="test_bleu",
        published={},
        wiring="one to many",
        measure="BLEU-4",
        notes=(
            "baseline: the most frequent caption of the training split. BLEU: sacrebleu, against "
            "all that is said of a picture, tokenize=none. The captions of easy_vqa are seqlab's, "
            "made from its questions and answers: no photograph is described there.",
        ),
    )


def _section(config: Mapping[str, Any]) -> tuple[str, str]:
    data = config["data"]
    if data["kind"] == "CocoCaptions":
        count = f"{data['most'] or 'all'} pictures of train, {data['held_out'] or 'all'} of test"
        return "coco_captions", f"COCO captions, {count}"
    said = {"easy_vqa": "shapes, captions by seqlab", "nlvr": "boxes, true sentences of people"}
    return data["name"], f"{data['name']}, {said[data['name']]}"


def _system(config: Mapping[str, Any]) -> str:
    model = config["model"]
    attention = model["attention"].replace("_", " ")
    spread = f", λ {model['spread']:g}" if model["spread"] else ""
    return f"{systems.layers(model)}, {attention}{spread}"


def figures(rows: list[dict[str, Any]]) -> "dict[str, Figure]":
    """Some test pictures of each system, and over them where each word looks."""
    drawn = {}
    for row in rows:
        if row["status"] == results.DONE and row["metrics"].get("looks"):
            config = row["config"]
            name = systems.file_name(_section(config)[0], _system(config), config["budget"])
            if name not in drawn:
                kept: Sequence[Mapping[str, Any]] = row["metrics"]["looks"]
                said = [one["said"] for one in kept]
                whole = [
                    _broken(words) if not one["weights"] else ""
                    for words, one in zip(said, kept, strict=True)
                ]
                drawn[name] = looked_at(_system(config), kept, whole, said)
    return drawn


def _broken(words: Sequence[str]) -> str:
    """A sentence in lines of five words."""
    return "\n".join(" ".join(words[n : n + 5]) for n in range(0, len(words), 5))
