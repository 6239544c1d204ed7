"""Word vectors: counted from co-occurrences, or learnt by predicting words and their neighbours.

Claim: on two million words CBOW is a little better than counting at word similarity, and counting
answers more analogies; the two are close, since what word2vec learns is what the logarithms of the
counts say. king - man + woman needs more text than this.

    python launch.py run word_vectors --budget smoke            Penn Treebank, short; two minutes
    python launch.py run word_vectors                           five minutes on two cores
    python launch.py run word_vectors --only data.kind=Goodbye  the co-occurrences of a sentence
    python launch.py run word_vectors --set model.dim=50,300
    python launch.py run word_vectors --budget paper              300 numbers a word, five seeds
    python launch.py plot word_vectors                            some words in a plane
    python launch.py sample word_vectors --prompt "king - man + woman"
    python launch.py sample word_vectors --prompt tuesday --length 5

Protocol: ours. Lower-case words that occur in train five times or more; no window reaches over the
end of a line. Counted: co-occurrences within ten words, positive pointwise mutual information, its
100 largest singular values, their square roots on either side. Learnt: word2vec of dimension 100,
five negatives per prediction drawn by count^0.75, words of a frequency above 2e-5 subsampled,
windows of one to ten words (1e-4 and five for skip-gram), a rate that falls linearly to zero, a
fixed number of epochs; the two vectors of a word are added. Similarity is the rank correlation of
cosines with human judgements, over the pairs whose words are both known; analogies are answered by
3CosAdd over all words.

Source: Mikolov et al. 2013 for word2vec and the analogies; Levy and Goldberg 2014 for its relation
to counting; `seqlab.data.word_eval` names the sources of the judgements. No values are published
for texts as small as these.
"""

import functools
import math
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlab import data, results, systems
from seqlab.data import Ptb, WikiText2, WordEval, stream
from seqlab.data.fingerprint import fingerprint
from seqlab.embeddings import counting, questions
from seqlab.embeddings.corpus import Corpus, Words, corpus
from seqlab.embeddings.fitting import Word2vec, fit
from seqlab.embeddings.questions import Vocabulary
from seqlab.embeddings.word2vec import OBJECTIVES, Sampling
from seqlab.errors import InputError, nearest
from seqlab.sample import Asked, Sampler, refuse
from seqlab.tables import Column, Table
from seqlab.trial import BUDGETS, get, replace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SENTENCE = ("you", "say", "goodbye", "and", "I", "say", "hello", ".")


@dataclass(frozen=True)
class Goodbye:
    """You say goodbye and I say hello."""


@dataclass(frozen=True)
class Svd:
    """Co-occurrences within `window`, their PPMI, and its `dim` largest singular values."""

    dim: int = 100
    window: int = 10


@dataclass(frozen=True)
class Trial:
    """Vectors of the words of one text that stand in it `min_count` times or more."""

    budget: str
    data: Goodbye | Ptb | WikiText2
    model: Svd | Word2vec
    min_count: int = 5
    seed: int = 0


CBOW = Word2vec("cbow", learning_rate=0.5, epochs=12, sampling=Sampling(10, subsample=2e-5))
SKIP_GRAM = Word2vec("skip_gram", learning_rate=0.05, epochs=8, sampling=Sampling(5))


def trials(budget: str) -> list[Trial]:
    """The sentence; of each text the counted vectors once, the learnt ones from several seeds."""
    if budget not in BUDGETS:
        raise InputError(f"no budget {budget!r}.{nearest(budget, BUDGETS)}")
    sentence = Trial(budget, Goodbye(), Svd(dim=2, window=1), min_count=1)
    if budget == "smoke":
        short = [Svd(dim=50)] + [replace(m, {"dim": 50, "epochs": 5}) for m in (CBOW, SKIP_GRAM)]
        return [sentence, *(Trial(budget, Ptb(), model) for model in short)]
    dim, num_seeds = (100, 3) if budget == "default" else (300, 5)
    counted: list[Svd | Word2vec] = [Svd(dim)]
    learnt = [replace(model, {"dim": dim}) for model in (CBOW, SKIP_GRAM)]
    texts = (Ptb(), WikiText2())
    found = [Trial(budget, text, model) for text in texts for model in counted]
    found += [
        Trial(budget, text, model, seed=seed)
        for text in texts
        for model in learnt
        for seed in range(num_seeds)
    ]
    return [sentence, *found]


POSITIVE = {
    Svd: ("model.dim", "model.window", "min_count"),
    Word2vec: (
        *("model.dim", "model.epochs", "model.learning_rate", "min_count"),
        *("model.sampling.window", "model.sampling.negatives", "model.sampling.shared"),
        *("model.sampling.subsample", "model.sampling.runs", "model.sampling.length"),
    ),
}

check_data = functools.cache(data.check)


def check(trial: Trial) -> None:
    """Raise InputError for what cannot be run."""
    if not 0 <= trial.seed < 2**31:
        raise InputError(f"seed must be from 0 to {2**31 - 1}, not {trial.seed}")
    for path in POSITIVE[type(trial.model)]:
        if get(trial, path) <= 0:
            raise InputError(f"{path} must be above 0, not {get(trial, path)}")
    if isinstance(trial.model, Word2vec) and trial.model.objective not in OBJECTIVES:
        near = nearest(trial.model.objective, OBJECTIVES)
        raise InputError(f"no objective {trial.model.objective!r}.{near}")
    if not isinstance(trial.data, Goodbye):
        check_data(trial.data)
        check_data(WordEval())
    elif not isinstance(trial.model, Svd):
        raise InputError("the words of one sentence can be counted; nothing is learnt from it")


@functools.lru_cache(maxsize=1)
def load(config: Ptb | WikiText2, min_count: int) -> tuple[Corpus, str]:
    """The words of a text, and the digest of the text."""
    dataset = data.load(config)
    assert isinstance(dataset, stream.Dataset)
    return corpus(dataset, min_count), fingerprint(dataset)


def sentence_counts(window: int = 1) -> tuple[list[str], np.ndarray]:
    """The words of the sentence, in the order in which they come, and their co-occurrences.

    The lecture's matrix but for one cell: it has goodbye beside I, though not I beside goodbye.
    """
    words: list[str] = list(dict.fromkeys(SENTENCE))
    ids = np.array([words.index(word) for word in SENTENCE], np.int32)
    line = Words(ids, np.zeros(len(ids), np.int32))
    return words, counting.cooccurrences(line, len(words), window).toarray()


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Make the trial's vectors and ask them; `baselines` are the answers of random ones."""
    from seqlab.history import same_data

    if isinstance(trial.data, Goodbye):
        words, counts = sentence_counts(trial.model.window)  # pyright: ignore
        return {"words": words, "cooccurrences": counts.tolist()}
    text, sha256 = load(trial.data, trial.min_count)
    same_data(folder, sha256)
    make = counted if isinstance(trial.model, Svd) else fit
    vectors, metrics = make(trial.model, text, trial.seed, folder)  # pyright: ignore
    return {
        **metrics,
        **answers(text.symbols, of_words(trial.model, vectors), trial.seed),
        "params": sum(table.size for table in vectors),
        "vocabulary": len(text.symbols),
        "dataset_sha256": sha256,
    }


def counted(
    config: Svd, text: Corpus, seed: int, folder: Path | None = None
) -> tuple[Any, dict[str, Any]]:
    """The vectors of the truncated SVD, and metrics as `fit` has them; kept in `folder/best`.

    `valid_nll` is the loss of skip-gram with log k taken off each product: where it is least,
    products are the mutual information less log k (Levy and Goldberg 2014).
    """
    import jax
    import jax.numpy as jnp

    from seqlab import checkpoint
    from seqlab.embeddings import word2vec
    from seqlab.embeddings.word2vec import Fixed, Vectors
    from seqlab.epochs import BEST
    from seqlab.history import params_sha256

    if config.dim >= len(text.symbols):
        raise InputError(f"model.dim must be below the {len(text.symbols)} words of the text")
    began = time.perf_counter()
    counts = counting.cooccurrences(text.train, len(text.symbols), config.window)
    factors = counting.factors(counting.ppmi(counts), config.dim, seed)
    vectors = Vectors(*map(jnp.asarray, factors))
    seconds = time.perf_counter() - began

    sampling = SKIP_GRAM.sampling
    steps = word2vec.num_steps(text.valid, text.counts, sampling)
    fixed = Fixed(OBJECTIVES["skip_gram"], sampling, steps)
    ones = jnp.ones((len(text.symbols), 1))
    shifted = Vectors(
        jnp.hstack([vectors.words, ones]),
        jnp.hstack([vectors.contexts, -math.log(sampling.negatives) * ones]),
    )
    valid = word2vec.text(text.valid, text.counts, sampling.subsample)
    loss = float(word2vec.mean_loss(fixed, shifted, valid, jax.random.key(seed)))
    if folder is not None:
        checkpoint.save(folder / BEST, 1, vectors, keep=1)
    return vectors, {
        "valid_nll": loss,
        "epochs": 1,
        "device_seconds": seconds,
        "words_per_second": len(text.train.ids) / seconds,
        "params_sha256": params_sha256(vectors),
    }


def of_words(model: Svd | Word2vec, vectors: Any) -> np.ndarray:
    """One vector a word: of counting, whose two differ in signs alone, the first; else the sum."""
    from seqlab.embeddings import word2vec

    return np.asarray(vectors.words) if isinstance(model, Svd) else word2vec.summed(vectors)


# What they are asked

NEAR = ("monday", "company", "france", "river", "song", "bank")
SHOWN_NEAR = 2  # of these, under the table
ANALOGY, ANSWER = "king - man + woman", "queen"
GROUPS = {
    "months": "january february march april may june july august september october november",
    "family": "father mother son daughter brother sister wife husband king queen",
    "numbers": "two three four five six seven eight nine ten",
    "countries": "france germany italy japan china britain canada russia mexico spain",
    "business": "company bank stock market price profit shares sales investors trading",
    "sport": "game team season player coach football league baseball",
    "music": "song album music band guitar singer",
}


def answers(symbols: tuple[str, ...], vectors: np.ndarray, seed: int) -> dict[str, Any]:
    """Scores with how many questions they are over, those of random vectors, and some examples."""
    asked = data.load(WordEval())
    ours = Vocabulary(symbols, vectors)
    normal = np.random.default_rng(seed).normal(size=vectors.shape).astype(np.float32)
    chance = Vocabulary(symbols, normal)
    found: dict[str, Any] = {}
    for name, pairs in asked.similarity.items():
        found[name], *found[f"{name}_pairs"] = questions.similarity(ours, pairs)
        found[f"{name}_baseline"] = {"random vectors": questions.similarity(chance, pairs).score}
    sections = {name: questions.analogies(ours, rows) for name, rows in asked.analogies.items()}
    every = [row for rows in asked.analogies.values() for row in rows]
    found["analogies"], *found["analogies_pairs"] = questions.analogies(ours, every)
    found["analogies_baseline"] = {"random vectors": questions.analogies(chance, every).score}
    found["by_section"] = {name: list(answered) for name, answered in sections.items()}
    known = [word for word in NEAR if word in ours.number]
    found["near"] = {word: [w for w, _ in questions.near(ours, word, 5)] for word in known}
    if {"king", "man", "woman", ANSWER} <= ours.number.keys():
        order = [word for word, _ in questions.near(ours, ANALOGY, len(symbols))]
        found["king"] = {"rank": order.index(ANSWER) + 1, "found": order[:5]}
    shown = {name: [w for w in row.split() if w in ours.number] for name, row in GROUPS.items()}
    words = [word for row in shown.values() for word in row]
    places = questions.plane(ours.of(words)) if len(words) > 1 else np.zeros((len(words), 2))
    found["picture"] = {
        "groups": [name for name, row in shown.items() for _ in row],
        "words": words,
        "places": places.astype(float).round(4).tolist(),
    }
    return found


SAMPLED = ("data.kind=WikiText2", "model.objective=cbow")
MOST_NEAR = 10  # words


def sampler(trial: Trial, folder: Path, asked: Asked) -> Sampler:
    """The words nearest to a word, or to a sum of words; `length` of them."""
    import jax.numpy as jnp

    from seqlab.embeddings.word2vec import Vectors
    from seqlab.epochs import restore_best

    refuse(asked, but=("length",))
    assert not isinstance(trial.data, Goodbye)
    text, _ = load(trial.data, trial.min_count)
    empty = jnp.zeros((len(text.symbols), trial.model.dim))
    vectors: Vectors = restore_best(folder, Vectors(empty, empty))
    vocabulary = Vocabulary(text.symbols, of_words(trial.model, vectors))
    count = MOST_NEAR if asked.length is None else asked.length

    def say(line: str) -> str:
        found = questions.near(vocabulary, line, count)
        return "  ".join(f"{word} {cosine:.2f}" for word, cosine in found)

    return say


# The tables and the figure

SHOWN = {
    "wordsim353": "WordSim-353",
    "men": "MEN",
    "simlex999": "SimLex-999",
    "rg65": "RG-65",
    "analogies": "analogies",
}
TEXTS = {"Ptb": "Penn Treebank", "WikiText2": "WikiText-2"}


def table(rows: list[dict[str, Any]]) -> Table:
    """Of each set of questions a table; of the sentence alone, its co-occurrences."""
    texts = [row for row in rows if row["config"]["data"]["kind"] != "Goodbye"]
    if rows and not texts:
        return _matrix(rows)
    notes = (
        "Scores are over the pairs, or the analogies, whose words all have vectors. counted: PPMI "
        "and truncated SVD, which have no seed. cbow, skip-gram: of the last epoch, n seeds.",
        *_examples(texts),
    )
    tables = [
        systems.table(
            "Vectors of words",
            texts,
            section=functools.partial(_section, texts, name),
            system=_system,
            metric=name,
            published={},
            wiring="none",
            measure="found, %" if name == "analogies" else "Spearman's ρ × 100",
            times=100.0,
            notes=notes,
            baseline=f"{name}_baseline",
        )
        for name in SHOWN
    ]
    return systems.one_below_the_other(*tables)


def _matrix(rows: list[dict[str, Any]]) -> Table:
    row = next((row for row in rows if row["status"] == results.DONE), None)
    title = "Who stands beside whom"
    if row is None:
        return Table(title, (Column("word", ""),), ())
    words, counts = row["metrics"]["words"], row["metrics"]["cooccurrences"]
    columns = (Column("word", ""), *(Column(f"beside {w}", w, "d") for w in words))
    lines = [
        {"word": word} | {f"beside {w}": n for w, n in zip(words, line, strict=True)}
        for word, line in zip(words, counts, strict=True)
    ]
    window = row["config"]["model"]["window"]
    note = f"You say goodbye and I say hello. Within {window} word{'s' * (window > 1)}."
    slip = (
        "The lecture's matrix is this one but for goodbye, I: it prints 1 there, and 0 at I, "
        "goodbye; the two words are not side by side."
    )
    return Table(title, columns, tuple(lines), notes=(note, *(slip,) * (window == 1)))


def _section(rows: list[dict[str, Any]], name: str, config: Mapping[str, Any]) -> tuple[str, str]:
    kind = config["data"]["kind"]
    covered = {
        tuple(row["metrics"][f"{name}_pairs"])
        for row in rows
        if row["status"] == results.DONE and row["config"]["data"]["kind"] == kind
    }
    answered = ", ".join(f"{a:,} of {b:,}" for a, b in sorted(covered))
    return f"{kind}_{name}", f"{TEXTS[kind]}, {SHOWN[name]}{f' ({answered})' * bool(answered)}"


def _system(config: Mapping[str, Any]) -> str:
    model = config["model"]
    if model["kind"] == "Svd":
        return f"counted, {model['dim']}, window {model['window']}"
    objective = model["objective"].replace("_", "-")
    return f"{objective}, {model['dim']}, window {model['sampling']['window']}"


def _first_seeds(rows: list[dict[str, Any]]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """By budget, text and system the result of the first seed."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row["config"]["seed"]):
        config = row["config"]
        if row["status"] == results.DONE and "picture" in row["metrics"]:
            place = (config["budget"], TEXTS[config["data"]["kind"]], _system(config))
            found.setdefault(place, row)
    return found


def _examples(rows: list[dict[str, Any]]) -> list[str]:
    """Of each text and system the words nearest to the first of NEAR, and the analogy."""
    lines = []
    for (_, text, system), row in sorted(_first_seeds(rows).items()):
        near = list(row["metrics"]["near"].items())[:SHOWN_NEAR]
        if near:
            said = "; ".join(f"{word}: {', '.join(words)}" for word, words in near)
            lines.append(f"Nearest words, {system} on {text}. {said}.")
        king = row["metrics"].get("king")
        if king:
            words = ", ".join(king["found"])
            place = f"{ANSWER} is number {king['rank']:,}"
            lines.append(f"{ANALOGY}, {system} on {text}: {words}; {place}.")
    return lines


def figures(rows: list[dict[str, Any]]) -> "dict[str, Figure]":
    """Some words in the plane in which they differ most, for each budget, text and system."""
    from seqlab import plots

    panels: dict[tuple[str, str], dict[str, Any]] = defaultdict(dict)
    for (budget, text, system), row in sorted(_first_seeds(rows).items()):
        panels[budget, text][system] = row["metrics"]["picture"]
    drawn = {}
    for (budget, text), systems_shown in panels.items():
        figure, axes = plots.panels(len(systems_shown), 1, height=4.2 * len(systems_shown))
        for panel, (system, picture) in zip(axes[:, 0], systems_shown.items(), strict=True):
            _draw(plots, panel, picture)
            plots.label(panel, system)
        figure.suptitle(f"Words of {text}: the first two principal components of these")
        drawn[f"words_{text.replace(' ', '_')}_{budget}"] = figure
    return drawn


def _draw(plots: Any, panel: Any, picture: Mapping[str, Any]) -> None:
    places, groups = np.array(picture["places"]), np.array(picture["groups"])
    for number, name in enumerate(GROUPS):
        inside = groups == name
        if not inside.any():
            continue
        colour = plots.COLOURS[number % len(plots.COLOURS)]
        marker = plots.MARKERS[number % len(plots.MARKERS)]
        panel.plot(*places[inside].T, linestyle="", marker=marker, color=colour, label=name)
        for word, place in zip(np.array(picture["words"])[inside], places[inside], strict=True):
            panel.annotate(
                word, place, (2, 2), textcoords="offset points", fontsize=6, color=colour
            )
