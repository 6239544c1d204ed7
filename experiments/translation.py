"""Machine translation: many steps read, then many written.

Claim: a decoder that attends to the source while it writes translates better than one that writes
from memory, the more so the longer the sentence.

    python launch.py run translation --budget smoke                  Tatoeba, a short run; 3 minutes
    python launch.py run translation                                 hours on two cores
    python launch.py run translation --only data.kind=Tatoeba
    python launch.py run translation --set model.cell=gru,mut1
    python launch.py run translation --set search.width=1            greedy
    python launch.py run translation --budget paper                  wider, five seeds; a GPU
    python launch.py plot translation                                BLEU by length, alignments
    python launch.py sample translation --prompt "ein mann schläft auf einer bank ."

Protocol: ours. Multi30k, German to English, lower case and split into words as published, test
2016; Tatoeba, French to English, the shortest 40,000 pairs, splits of our own. Words that occur
once in train are unknown. An encoder of one layer, half of its units in each direction, a decoder
of one layer, Adam, batches of 64 of similar length, dropout on embeddings and layers; the epoch
with the best validation loss writes the test split by beam search. BLEU is sacrebleu's, on words as
they are in the data (`tokenize=none`). Without attention the encoder also reads in one direction
alone, from the beginning of the source or, as in Sutskever et al. 2014, from its end.

Source: Sutskever et al. 2014; Bahdanau et al. 2015; Luong et al. 2015;
`published/language.csv` says where each value beside ours is from.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqlab import bleu, results, sample, sequence_trial, systems, train_sequences, writing
from seqlab.cells import CELLS
from seqlab.comparison import read_published
from seqlab.data import ExampleDataset, Multi30k, Tatoeba
from seqlab.data.examples import UNKNOWN, Examples, Ragged, decode, encode
from seqlab.data.tokens import words
from seqlab.data.translation import tokens
from seqlab.errors import InputError, nearest
from seqlab.history import same_data
from seqlab.intervals import mean_ci
from seqlab.models.decoders import DECODERS
from seqlab.models.rnn import bidirectional_stack, stack
from seqlab.models.seq2seq import ConditionedDecoder, EncoderDecoder
from seqlab.models.sequence import SymbolEmbedding
from seqlab.optim import Schedule
from seqlab.sample import Asked, Sampler
from seqlab.tables import Table
from seqlab.train_sequences import DELAYED, Program, SequenceTrainConfig, Splits
from seqlab.trial import BUDGETS, replace
from seqlab.trial_fields import Optim, settings
from seqlab.writing import Search

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EDGES = (5, 10, 15, 20, 100)  # upper ends of the ranges of source length by which BLEU is shown
SHOWN = {  # sources whose alignments a result keeps, our own, from no data set
    "de": (
        "ein mann mit einem roten hut sitzt auf einer bank .",
        "zwei kinder spielen im park mit einem ball .",
        "eine frau mit einem hund geht am strand entlang .",
        "ein junge springt von einem felsen ins wasser .",
    ),
    "en": (
        "a man in a red hat is sitting on a bench .",
        "two children are playing with a ball in the park .",
        "a woman walks along the beach with a dog .",
        "a boy jumps from a rock into the water .",
    ),
    "fr": (
        "un homme avec un chapeau rouge est assis sur un banc .",
        "je ne sais pas où elle habite .",
        "nous avons mangé dans un petit restaurant .",
        "elle est plus grande que son frère .",
    ),
}
ADAM = Optim("adam", learning_rate=1e-3, clip_norm=1.0, dropout_rate=0.3)
TRAIN = SequenceTrainConfig(64, 6, Schedule(max_epochs=8, patience=1, halvings=2))
SEARCH = Search(width=5, alpha=0.6, max_length=60)


@dataclass(frozen=True)
class Model:
    """Encoder and decoder of one cell and one width.

    Attributes:
        attention: an entry of `seqlab.models.decoders.DECODERS`.
        bidirectional: half of the encoder's units read in each direction; else all in one.
        reversed_source: the encoder of one direction reads from the end.
    """

    cell: str = "lstm"
    units: int = 256
    num_layers: int = 1
    attention: str = "luong_general"
    bidirectional: bool = True
    reversed_source: bool = False


@dataclass(frozen=True)
class Trial:
    """A translator."""

    budget: str
    data: Multi30k | Tatoeba
    model: Model = Model()
    optim: Optim = ADAM
    train: SequenceTrainConfig = TRAIN
    search: Search = SEARCH
    seed: int = 0


def trials(budget: str) -> list[Trial]:
    """With attention and without, and without it in one direction, each way; several seeds."""
    if budget == "smoke":
        short = SequenceTrainConfig(64, 4, Schedule(max_epochs=2, patience=1, halvings=0))
        return [Trial(budget, Tatoeba(most=10_000), Model(units=64), train=short)]
    if budget not in BUDGETS:
        raise InputError(f"no budget {budget!r}.{nearest(budget, BUDGETS)}")
    units, num_seeds, most = (256, 3, 40_000) if budget == "default" else (512, 5, None)
    attentive = Model(units=units)
    blind = replace(attentive, {"attention": "no_attention"})
    forward = replace(blind, {"bidirectional": False})
    models = [attentive, blind, forward, replace(forward, {"reversed_source": True})]
    if budget == "paper":
        models.append(replace(attentive, {"attention": "bahdanau"}))
    planned = [Trial(budget, Multi30k(), model) for model in models]
    planned += [Trial(budget, Tatoeba(most=most), model) for model in (attentive, blind)]
    return [replace(t, {"seed": seed}) for t in planned for seed in range(num_seeds)]


def check(trial: Trial) -> None:
    """Raise InputError for what cannot be run, ValueError for widths that do not fit."""
    bleu.check()
    sequence_trial.check(trial)
    name = trial.model.attention
    if name not in DECODERS:
        raise InputError(f"no attention {name!r}.{nearest(name, DECODERS)}")
    if trial.model.bidirectional and trial.model.units % 2:
        raise InputError("model.units must be even: half of them read in each direction")
    if trial.model.bidirectional and trial.model.reversed_source:
        raise InputError("model.reversed_source is for one direction: model.bidirectional=false")
    writing.check(trial.search)
    one = jnp.zeros((1, 1), jnp.int32)
    lengths = jnp.ones(1, jnp.int32)
    jax.eval_shape(network(trial, 1, 1).init, jax.random.key(0), one, lengths, one)


def network(trial: Trial, num_symbols: int, num_classes: int) -> EncoderDecoder:
    """Embedding and encoder of so many words, and what writes so many others."""
    model = trial.model
    cell = CELLS[model.cell]
    if model.bidirectional:
        encoder = bidirectional_stack(cell, model.units // 2, model.num_layers)
    else:
        encoder = stack(cell, model.units, model.num_layers)
    decoder = DECODERS[model.attention](cell, model.units, model.num_layers)
    return EncoderDecoder(
        SymbolEmbedding(num_symbols, model.units),
        encoder,
        ConditionedDecoder(decoder, num_classes, model.units),
    )


def compiled(trial: Trial, dataset: ExampleDataset) -> Program:
    """What is compiled for a trial."""
    model = network(trial, len(dataset.symbols), len(dataset.classes))
    return Program(model, DELAYED, trial.optim.optimizer)


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Train; BLEU of what the best epoch writes of the test split, and of its words one by one."""
    dataset, sha256 = sequence_trial.load(trial.data)
    same_data(folder, sha256)
    marks = writing.marks(dataset.classes)
    program = compiled(trial, dataset)
    as_read = [
        as_it_is_read(trial, split) for split in (dataset.train, dataset.valid, dataset.test)
    ]
    splits = Splits(*(writing.ended(split, marks.end) for split in as_read))

    def written(params: Any) -> dict[str, Any]:
        sources = as_read[2].inputs
        references = decode(sentences(as_read[2]), dataset.classes)
        lines = writing.lines(program.model, params, sources, marks, trial.search)  # pyright: ignore
        translations = [[dataset.classes[n] for n in line.symbols] for line in lines]
        return bleu_by_length(translations, references, sources.lengths) | {
            "alignments": alignments(program.model, params, trial, dataset)  # pyright: ignore
        }

    metrics = train_sequences.fit(
        *(program, settings(trial), splits, trial.train, folder, marks.begin),
        keep_best=True,
        inspect=written,
    )
    one_by_one = word_by_word(dataset)
    references = [[one] for one in decode(sentences(dataset.test), dataset.classes)]
    return metrics | {"baseline": bleu.corpus(one_by_one, references), "dataset_sha256": sha256}


def sentences(examples: Examples) -> Ragged:
    """The targets, which are sentences here."""
    assert isinstance(examples.targets, Ragged)
    return examples.targets


def as_it_is_read(trial: Trial, examples: Examples) -> Examples:
    """The sources from their ends, if that is asked for."""
    if not trial.model.reversed_source:
        return examples
    values, lengths = examples.inputs
    ends = np.cumsum(lengths)
    places = np.repeat(2 * ends - lengths - 1, lengths) - np.arange(len(values))
    return examples._replace(inputs=Ragged(values[places], lengths))


SAMPLED = ("data.kind=Multi30k", "data.source=de")


def sampler(trial: Trial, folder: Path, asked: Asked) -> Sampler:
    """A sentence in the other language."""
    dataset, _ = sequence_trial.load(trial.data)
    program = compiled(trial, dataset)
    split = tokens if isinstance(trial.data, Tatoeba) else words

    def read(line: str) -> list[str]:
        return split(line)[::-1] if trial.model.reversed_source else split(line)

    return sample.translates(program, folder, dataset, asked, trial.search, read)


# What is reported


def bleu_by_length(
    translations: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    lengths: np.ndarray,
) -> dict[str, Any]:
    """BLEU of all, and of those whose source is about as long: [up to, how many, BLEU]."""
    right = [[reference] for reference in references]
    found: dict[str, Any] = {
        "test_bleu": bleu.corpus(translations, right),
        "bleu_by_length": [],
    }
    shorter = 0
    for edge in EDGES:
        rows = np.flatnonzero((lengths > shorter) & (lengths <= edge)).tolist()
        shorter = edge
        if rows:
            score = bleu.corpus([translations[n] for n in rows], [right[n] for n in rows])
            found["bleu_by_length"].append([edge, len(rows), score])
    return found


def alignments(
    model: EncoderDecoder, params: Any, trial: Trial, dataset: ExampleDataset
) -> list[dict[str, Any]]:
    """Of the sentences that are shown: what each written word looked at; none without attention."""
    sources = [line.split() for line in SHOWN[trial.data.source[:2]]]
    targets = np.zeros(len(sources), np.int32)
    read = as_it_is_read(trial, Examples(encode(sources, dataset.symbols), targets)).inputs
    marks = writing.marks(dataset.classes)
    kept = []
    for source, line in zip(
        decode(read, dataset.symbols),
        writing.lines(model, params, read, marks, trial.search),
        strict=True,
    ):
        if line.weights is not None:
            written = [dataset.classes[n] for n in line.symbols]
            rounded = np.round(line.weights.astype(float), 3).tolist()
            kept.append({"source": source, "written": written, "weights": rounded})
    return kept


def word_by_word(dataset: ExampleDataset) -> list[list[str]]:
    """Of each test sentence, for each word the one that goes along with it most in train.

        2 · (pairs that have both) / (pairs that have the one + pairs that have the other)

    Source of the coefficient: Dice 1945.
    """
    from scipy.sparse import csr_matrix

    def presence(ragged: Ragged, num_symbols: int) -> csr_matrix:
        rows = np.repeat(np.arange(len(ragged.lengths)), ragged.lengths)
        shape = len(ragged.lengths), num_symbols
        counts = csr_matrix((np.ones(len(rows), np.float32), (rows, ragged.values)), shape)
        counts.data[:] = 1
        return counts

    source = presence(dataset.train.inputs, len(dataset.symbols)).tocsc()
    target = presence(sentences(dataset.train), len(dataset.classes))
    occur = np.asarray(target.sum(axis=0))[0]
    best = np.zeros(len(dataset.symbols), np.int64)
    for symbol in np.unique(dataset.test.inputs.values):
        having = source.indices[source.indptr[symbol] : source.indptr[symbol + 1]]
        both = np.asarray(target[having].sum(axis=0))[0]
        alike = 2 * both / np.maximum(len(having) + occur, 1)
        alike[dataset.classes.index(UNKNOWN)] = -1  # never written, as by the networks
        best[symbol] = alike.argmax()
    return decode(
        dataset.test.inputs._replace(values=best[dataset.test.inputs.values]), dataset.classes
    )


ATTENTION = {"attention": Model.attention, "none": "no_attention"}
ORDER = {"source reversed": True, "as it is": False}
PUBLISHED = read_published(Path(__file__).parent / "published" / "language.csv")


def table(rows: list[dict[str, Any]]) -> Table:
    """BLEU: word by word, what others have reached, ours."""
    return systems.table(
        "Translation",
        rows,
        section=_section,
        system=_system,
        metric="test_bleu",
        published=PUBLISHED,
        wiring="many to many, delayed",
        measure="BLEU",
        notes=(
            "baseline: each word replaced by the one most associated with it in the training split "
            "(Dice), in source order. BLEU: sacrebleu, one reference, tokenize=none. Of others: "
            "other tokens, another BLEU; nothing is published for these splits of Tatoeba.",
            *systems.gaps(rows, _section, ATTENTION, "attention", "test_bleu"),
            *systems.gaps(rows, _section, ORDER, "reversed_source", "test_bleu"),
        ),
    )


def _section(config: Mapping[str, Any]) -> tuple[str, str]:
    data = config["data"]
    pair = f"{data['source']}-{data['target']}"
    if data["kind"] == "Multi30k":
        return f"multi30k_{pair}", f"Multi30k {pair}, test {data['test']}"
    return f"tatoeba_{pair}", f"Tatoeba {pair}, the shortest {data['most'] or 'and the longest'}"


def _system(config: Mapping[str, Any]) -> str:
    model = config["model"]
    name = model["attention"].replace("_", " ")
    source = ", source reversed" if model["reversed_source"] else ""
    beam = config["search"]["width"]
    greedy = ", greedy" if beam == 1 else f", beam of {beam}" if beam != 5 else ""
    return f"{systems.layers(model)}, {name}{source}{greedy}"


def figures(rows: list[dict[str, Any]]) -> "dict[str, Figure]":
    """BLEU by length of each system, and what each word of some translations looked at."""
    alike: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["config"]["seed"]):
        if row["status"] == results.DONE:
            alike[f"{_section(row['config'])[0]}_{row['config']['budget']}"].append(row)
    drawn = {}
    for section, some in sorted(alike.items()):
        drawn[f"{section}_by_length"] = _by_length(_section(some[0]["config"])[1], some)
        for row in some:
            if kept := row["metrics"]["alignments"]:
                drawn[f"{section}_alignment"] = _aligned(kept)
                break
    return drawn


class Point(NamedTuple):
    """Up to which length, and BLEU of each seed there."""

    edge: int
    scores: list[float]


def _by_length(heading: str, rows: Sequence[Mapping[str, Any]]) -> "Figure":
    from matplotlib.figure import Figure

    lines: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for edge, _, score in row["metrics"]["bleu_by_length"]:
            lines[_system(row["config"])][edge].append(score)
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, points in sorted(lines.items()):
        edges = sorted(points)
        summary = [mean_ci(points[edge]) for edge in edges]
        means = [mean for mean, _ in summary]
        bars = [ci or 0.0 for _, ci in summary]
        axes.errorbar(range(len(edges)), means, yerr=bars, marker="o", capsize=3, label=name)
        shorter = [0, *edges]
        names = [f"{low + 1}-{high}" for low, high in zip(shorter, edges, strict=False)]
        axes.set_xticks(range(len(edges)), names)
    axes.set(title=heading, xlabel="words of the source", ylabel="BLEU")
    axes.legend()
    return figure


def _aligned(kept: Sequence[Mapping[str, Any]]) -> "Figure":
    from matplotlib.figure import Figure

    columns = min(2, len(kept))
    height = -(-len(kept) // columns)
    figure = Figure(figsize=(3.5 * columns, 3.2 * height), layout="constrained")
    for axes, one in zip(figure.subplots(height, columns, squeeze=False).flat, kept, strict=False):
        axes.imshow(np.array(one["weights"]), cmap="Greys", vmin=0, vmax=1, aspect="auto")
        axes.grid(False)
        axes.set_xticks(range(len(one["source"])), one["source"], rotation=60, ha="right")
        axes.set_yticks(range(len(one["written"])), one["written"])
    return figure
