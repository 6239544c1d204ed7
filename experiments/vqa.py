"""Visual question answering: picture and question seen, an answer given.

Claim: an answer takes both, picture and question. Where a picture shows a single shape, the largest
of each feature over it tells nearly all; attention, which has to learn where to look, is slower.

    python launch.py run vqa --budget smoke                  one epoch, a first look; a minute
    python launch.py run vqa                                 half an hour on two cores
    python launch.py run vqa --set model.cell=gru,mut1
    python launch.py run vqa --set data.name=nlvr            true or false of three boxes
    python launch.py run vqa --budget paper                  wider, five seeds; a GPU
    python launch.py plot vqa                                where an answer was looked for
    python launch.py sample vqa --prompt "picture.png: what color is the shape?"

Protocol: ours. easy_vqa: a picture of one shape, ten questions about it, 13 answers; test as
published. Open: the most probable answer. Choice: the most probable of four, one of them right, the
others drawn once for all networks from the answers to that question in the training split, as far
as there are enough. Each network is evaluated both ways. The baseline is each question's most
frequent answer in the training split: what the question alone tells. An eye of four convolutions, a
reader of one layer, Adam; the epoch with the best validation loss is tested.

Source: Zhu et al. 2016, Visual7W, for readers that look (`model.attention=bahdanau` looks at each
word, as theirs does) and the choice of four; Antol et al. 2015, VQA; Zhou 2019, easy-VQA.
"""

import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from seqlab import data, epochs, results, sample, sequence_trial, systems, train_sequences
from seqlab.buckets import Batch
from seqlab.cells import CELLS
from seqlab.data import QuestionDataset, Questions
from seqlab.data.examples import Examples, Shown, decode, encode
from seqlab.data.fingerprint import fingerprint
from seqlab.data.scenes import Questioned, read_picture
from seqlab.data.tokens import words
from seqlab.errors import InputError, nearest
from seqlab.history import same_data
from seqlab.models.decoders import DECODERS
from seqlab.models.vision import Answerer, Eye, grid_of
from seqlab.optim import Schedule
from seqlab.pictures import looked_at, png
from seqlab.sample import Asked, Sampler
from seqlab.tables import Table
from seqlab.train_sequences import Program, SequenceTrainConfig, Splits, Wiring, outputs
from seqlab.trial import BUDGETS
from seqlab.trial_fields import Optim, settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EYE = Eye()
CHOICES = 4
KEPT = 4  # test questions that a result keeps, with what was looked at
LONGEST = 32  # words of a question that is asked by hand
ADAM = Optim("adam", learning_rate=2e-3, clip_norm=5.0, dropout_rate=0.1)
TRAIN = SequenceTrainConfig(64, 3, Schedule(max_epochs=16, patience=2, halvings=2))


@dataclass(frozen=True)
class Model:
    """Who answers.

    Attributes:
        attention: an entry of `seqlab.models.decoders.DECODERS`, which reads here.
    """

    cell: str = "lstm"
    units: int = 128
    num_layers: int = 1
    attention: str = "luong_general"


@dataclass(frozen=True)
class Trial:
    """Who answers questions about pictures."""

    budget: str
    data: Questions
    model: Model = Model()
    optim: Optim = ADAM
    train: SequenceTrainConfig = TRAIN
    seed: int = 0


def trials(budget: str) -> list[Trial]:
    """Who sees the picture once, who looks when the question has been read; and at each word."""
    if budget == "smoke":
        short = SequenceTrainConfig(64, 1, Schedule(max_epochs=1, patience=1, halvings=0))
        model = Model(units=64, attention="no_attention")
        return [Trial(budget, Questions(), model, train=short)]
    if budget not in BUDGETS:
        raise InputError(f"no budget {budget!r}.{nearest(budget, BUDGETS)}")
    units, num_seeds, ways = 128, 3, ["no_attention", "luong_general"]
    if budget == "paper":
        units, num_seeds, ways = 512, 5, [*ways, "bahdanau"]
    return [
        Trial(budget, Questions(), Model(units=units, attention=attention), seed=seed)
        for attention in ways
        for seed in range(num_seeds)
    ]


def check(trial: Trial) -> None:
    """Raise InputError for what cannot be run, ValueError for widths that do not fit."""
    sequence_trial.check(trial)
    name = trial.model.attention
    if name not in DECODERS:
        raise InputError(f"no attention {name!r}.{nearest(name, DECODERS)}")
    nothing = jnp.zeros((1, 8, 8, 3), jnp.uint8), jnp.zeros((1, 1), jnp.int32)
    jax.eval_shape(network(trial, 1, 1).init, jax.random.key(0), *nothing, jnp.ones(1, jnp.int32))


@functools.lru_cache(maxsize=1)
def load(config: Questions) -> tuple[QuestionDataset, str]:
    """The data set and its digest."""
    dataset = data.load(config)
    return dataset, fingerprint(dataset)


def network(trial: Trial, num_symbols: int, num_classes: int) -> Answerer:
    """The eye, and what reads so many words and knows so many answers."""
    model = trial.model
    decoder = DECODERS[model.attention](CELLS[model.cell], model.units, model.num_layers)
    return Answerer(EYE, decoder, num_symbols, model.units, num_classes)


def what_is_read(batch: Batch) -> tuple[jax.Array, ...]:
    """The pictures and the questions."""
    assert batch.pictures is not None
    return batch.pictures.of_rows(), batch.inputs, batch.lengths


def logits(said: tuple[jax.Array, jax.Array | None]) -> jax.Array:
    """Of the one answer."""
    return said[0][:, None]


WIRING = Wiring(what_is_read, logits)


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Train; what the best epoch answers of the test split, asked openly and given a choice."""
    dataset, sha256 = load(trial.data)
    same_data(folder, sha256)
    model = network(trial, len(dataset.symbols), len(dataset.classes))
    program = Program(model, WIRING, trial.optim.optimizer)
    splits = Splits(*(examples(asked) for asked in (dataset.train, dataset.valid, dataset.test)))
    told = by_question(dataset)
    offered = choices(dataset, told)

    def answered(params: Any) -> dict[str, Any]:
        likely, weights = outputs(likelihoods, program, params, splits.test)
        return {
            "test_choice": chosen_right(likely, offered, dataset.test.answers),
            "looks": [] if trial.seed else looks(dataset, likely, weights),
        }

    metrics = train_sequences.fit(
        program, settings(trial), splits, trial.train, folder, keep_best=True, inspect=answered
    )
    return metrics | {
        "baseline_open": float(np.mean(told.argmax(axis=1) == dataset.test.answers)),
        "baseline_choice": chosen_right(told, offered, dataset.test.answers),
        "dataset_sha256": sha256,
    }


def examples(asked: Questioned) -> Examples:
    """Of each question its answer, and the picture it is about."""
    return Examples(asked.questions, asked.answers, Shown(asked.images, asked.shown))


def likelihoods(
    program: Program, params: Any, batch: Batch
) -> tuple[Float[Array, "B K"], Float[Array, "B T L"] | None]:
    """log p(answer | question, picture), and where each word looked."""
    said, weights = program.model.apply(params, *what_is_read(batch))
    return jax.nn.log_softmax(said), weights  # pyright: ignore


def by_question(dataset: QuestionDataset) -> Float[np.ndarray, "M K"]:
    """How often each answer has been given in train to the words of each question of test.

    A fraction below 1, by how often the answer has been given at all, is added: it decides where
    train does not have the question.
    """
    counts: dict[tuple[str, ...], np.ndarray] = defaultdict(
        lambda: np.zeros(len(dataset.classes), np.float64)
    )
    asked = decode(dataset.train.questions, dataset.symbols)
    for question, answer in zip(asked, dataset.train.answers, strict=True):
        counts[tuple(question)][answer] += 1
    of_all = np.bincount(dataset.train.answers, minlength=len(dataset.classes))
    wanted = decode(dataset.test.questions, dataset.symbols)
    return np.array([counts[tuple(one)] for one in wanted]) + of_all / (2 * of_all.sum())


def choices(dataset: QuestionDataset, told: Float[np.ndarray, "M K"]) -> np.ndarray:
    """[M, CHOICES] answers to each question of test in ascending order, the right one among them.

    The others are drawn from those that the question has had in train, then from all.
    """
    rng = np.random.default_rng(0)
    offered = np.empty((len(told), min(CHOICES, len(dataset.classes))), np.int64)
    for row, (counts, answer) in enumerate(zip(told, dataset.test.answers, strict=True)):
        rank = rng.permutation(len(counts)) + len(counts) * (counts < 1)
        rank[answer] = -1
        offered[row] = np.sort(np.argsort(rank)[: offered.shape[1]])
    return offered


def chosen_right(scores: np.ndarray, offered: np.ndarray, answers: np.ndarray) -> float:
    """The share of questions of which the answer with the highest score is right."""
    best = np.take_along_axis(scores, offered, axis=1).argmax(axis=1)
    return float(np.mean(offered[np.arange(len(best)), best] == answers))


def looks(
    dataset: QuestionDataset, likely: np.ndarray, weights: np.ndarray | None
) -> list[dict[str, Any]]:
    """Of some test questions evenly far apart: picture, question, answers, where it was looked."""
    kept, test = [], dataset.test
    grid = list(grid_of(EYE, *test.images.shape[1:3]))
    asked = decode(test.questions, dataset.symbols)
    for n in np.linspace(0, len(asked) - 1, KEPT, dtype=int).tolist():
        found = [] if weights is None else weights[n, : len(asked[n])].astype(float).round(3)
        kept.append(
            {
                "picture": png(test.images[test.shown[n]]),
                "asked": asked[n],
                "said": dataset.classes[int(likely[n].argmax())],
                "truth": dataset.classes[int(test.answers[n])],
                "weights": np.asarray(found).tolist(),
                "grid": grid,
            }
        )
    return kept


SAMPLED = ("data.name=easy_vqa",)


def sampler(trial: Trial, folder: Path, asked: Asked) -> Sampler:
    """From the path of a picture, a colon and a question to the answers, and how probable."""
    sample.refuse(asked)
    dataset, _ = load(trial.data)
    model = network(trial, len(dataset.symbols), len(dataset.classes))
    some = jnp.asarray(dataset.test.images[:1])
    word, one = jnp.zeros((1, 1), jnp.int32), jnp.ones(1, jnp.int32)
    params = epochs.restore_best(folder, jax.jit(model.init)(jax.random.key(0), some, word, one))
    answer_to = jax.jit(lambda *given: jax.nn.softmax(model.apply(params, *given)[0]))  # pyright: ignore

    def answer(line: str) -> str:
        path, colon, question = line.partition(": ")
        said = words(question)
        if not colon or not said:
            raise InputError(f"expected PICTURE: QUESTION, found {line!r}")
        if len(said) > LONGEST:
            raise InputError(f"{len(said)} words are more than the {LONGEST} that are read at once")
        picture = read_picture(sample.bytes_of(path), some.shape[1], some.shape[2], path)
        read = np.zeros((1, LONGEST), np.int32)
        read[0, : len(said)] = encode([said], dataset.symbols).values
        lengths = np.array([len(said)], np.int32)
        found = np.asarray(answer_to(*map(jnp.asarray, (picture[None], read, lengths))))[0]
        best = np.argsort(-found)[:CHOICES]
        return "  ".join(f"{dataset.classes[k]} {found[k]:.2f}" for k in best)

    return answer


# The table and the pictures


def table(rows: list[dict[str, Any]]) -> Table:
    """Accuracy in percent, asked openly and of four: the question alone, the networks."""
    many = [row for row in rows if row["config"]["data"]["name"] != "nlvr"]  # it has two answers
    return systems.one_below_the_other(
        _table(rows, "open", "test_accuracy"), _table(many, "choice", "test_choice")
    )


def _table(rows: list[dict[str, Any]], kind: str, metric: str) -> Table:
    asked = {"open": "open", "choice": f"choice of {CHOICES}"}[kind]
    return systems.table(
        "Questions about pictures",
        rows,
        section=functools.partial(_section, asked),
        system=_system,
        metric=metric,
        published={},
        wiring="many to one",
        measure="accuracy, %",
        times=100.0,
        baseline=f"baseline_{kind}",
        notes=(
            "baseline: the question alone, of each the most frequent answer in the training split. "
            "Where a question has had fewer than four answers there, the rest of its choice is of "
            "all answers, and easy.",
        ),
    )


def _section(asked: str, config: Mapping[str, Any]) -> tuple[str, str]:
    name = config["data"]["name"]
    return f"{name}_{asked}", f"{name}, {asked}"


def _system(config: Mapping[str, Any]) -> str:
    attention = config["model"]["attention"].replace("_", " ")
    return f"{systems.layers(config['model'])}, {attention}"


def figures(rows: list[dict[str, Any]]) -> "dict[str, Figure]":
    """Some test pictures of each system that attends, and where each word of a question looks."""
    drawn = {}
    for row in rows:
        if row["status"] == results.DONE and row["metrics"].get("looks"):
            kept: Sequence[Mapping[str, Any]] = row["metrics"]["looks"]
            config = row["config"]
            name = systems.file_name(config["data"]["name"], _system(config), config["budget"])
            if name not in drawn:
                told = [f"{one['said']}\ntruth: {one['truth']}" for one in kept]
                read = [one["asked"] for one in kept]
                drawn[name] = looked_at(_system(config), kept, told, read)
    return drawn
