"""Words per second of word2vec: one program of matrix products, next to gensim's loop in C.

Claim: negatives shared by the words of a step, and windows as matrices, make skip-gram nearly as
fast as CBOW, and as fast as gensim's; at CBOW gensim, which computes each pair by itself, is nearly
twice as fast on two cores.

    pip install -e '.[bench]'
    python launch.py run word_vectors_speed --budget smoke     Penn Treebank; a minute
    python launch.py run word_vectors_speed                    WikiText-2; five minutes on two cores
    python launch.py run word_vectors_speed --budget paper     300 numbers a word, too

Protocol: both train on the words of one text, in lower case, those that stand in it five times or
more; the same window, negatives, subsampling and size of vectors. gensim reads a file, its fastest
way, with a thread a core; ours has the text in memory. An epoch of ours and one of gensim take
turns in one process, A, B, B, A; words per second count all words of the text, those left out by
subsampling too. Neither compilation nor gensim's count of its vocabulary is timed. Then each trains
from the beginning, at a rate that suits it, for equally many epochs, and is evaluated as in
`word_vectors`: speed means nothing if the vectors are worse.

Source: ours; Řehůřek and Sojka 2010 for gensim.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import word_vectors
from seqlab import data, results
from seqlab.benchmark import timing
from seqlab.benchmark.case import Program
from seqlab.benchmark.timing import Samples
from seqlab.data import Ptb, WikiText2, WordEval
from seqlab.embeddings import fitting, questions, word2vec
from seqlab.embeddings.corpus import Corpus
from seqlab.embeddings.fitting import Word2vec
from seqlab.embeddings.questions import Vocabulary
from seqlab.embeddings.word2vec import OBJECTIVES, Fixed, Sampling
from seqlab.errors import InputError, nearest
from seqlab.tables import Column, Table
from seqlab.trial import BUDGETS, replace

ALONE = True

RATES = {"cbow": 0.05, "skip_gram": 0.05}  # gensim's, at the beginning


@dataclass(frozen=True)
class Trial:
    """Epochs of one objective on one text; `model.epochs` are trained when the time is taken."""

    budget: str
    data: Ptb | WikiText2
    model: Word2vec
    min_count: int = 5
    pairs: int = 3


def trials(budget: str) -> list[Trial]:
    """Both objectives at a window of five."""
    if budget not in BUDGETS:
        raise InputError(f"no budget {budget!r}.{nearest(budget, BUDGETS)}")
    both = [
        replace(model, {"sampling": Sampling(), "epochs": 6})
        for model in (word_vectors.CBOW, word_vectors.SKIP_GRAM)
    ]
    if budget == "smoke":
        return [Trial(budget, Ptb(), replace(m, {"epochs": 2}), pairs=2) for m in both]
    dims = (100,) if budget == "default" else (100, 300)
    return [Trial(budget, WikiText2(), replace(m, {"dim": dim})) for dim in dims for m in both]


def check(trial: Trial) -> None:
    """Raise InputError for what cannot be run."""
    if trial.pairs < 1:
        raise InputError(f"pairs must be above 0, not {trial.pairs}")
    word_vectors.check(word_vectors.Trial(trial.budget, trial.data, trial.model, trial.min_count))
    try:
        import gensim  # noqa: F401 # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError("gensim is not installed: pip install -e '.[bench]'") from error


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Take the times in turns, then train both. Nothing is kept in the folder."""
    text, _ = word_vectors.load(trial.data, trial.min_count)
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "text.txt"
        file.write_text(lines(text))
        ours, theirs = epochs_of_ours(trial.model, text), epochs_of_gensim(trial.model, file)
        samples = in_turns(ours, theirs, trial.pairs)
        trained = gensim_model(trial.model, file, trial.model.epochs)
    vectors, _ = fitting.fit(trial.model, text, seed=0)
    places = [trained.wv.key_to_index[word] for word in text.symbols]
    others = (trained.wv.vectors + trained.syn1neg)[places]
    words = len(text.train.ids)
    times = timing.summary(samples)
    return {
        **times,
        "words": words,
        "words_per_second": 1000 * words / times["t_ms_median"],
        "gensim_words_per_second": 1000 * words / times["peer_t_ms_median"],
        **{f"ours_{k}": v for k, v in asked(text, word2vec.summed(vectors)).items()},
        **{f"gensim_{k}": v for k, v in asked(text, others).items()},
        "threads": timing.num_threads(),
        "platform": jax.default_backend(),
    }


def in_turns(ours: Program, theirs: Program, pairs: int) -> Samples:
    """As `timing.take_turns`, where a call is so long that one is a sample, and one warms up."""
    for program in (ours, theirs):
        timing.sample(program, 1)
    rows = [
        [timing.sample(program, 1) for program in (ours, theirs, theirs, ours)]
        for _ in range(pairs)
    ]
    seconds = np.array(rows)
    return Samples(ours=seconds[:, [0, 3]], theirs=seconds[:, [1, 2]])


def lines(text: Corpus) -> str:
    """The words of train, a line each of theirs, as gensim reads them."""
    ends = np.flatnonzero(np.diff(text.train.lines)) + 1
    words = np.array(text.symbols)[text.train.ids]
    return "".join(f"{' '.join(line)}\n" for line in np.split(words, ends))


def epochs_of_ours(config: Word2vec, text: Corpus) -> Program:
    """Each call is an epoch, from where the last one has come to."""
    sampling = config.sampling
    steps = word2vec.num_steps(text.train, text.counts, sampling)
    fixed = Fixed(OBJECTIVES[config.objective], sampling, steps)
    device_text = word2vec.text(text.train, text.counts, sampling.subsample)
    rate = jnp.asarray(fitting.rates(config, steps, epoch=0))
    key = jax.random.key(0)
    state = fitting.initial(key, len(text.symbols), config.dim)

    def call() -> jax.Array:
        nonlocal state
        epoch = jax.random.fold_in(key, state.step)
        state, loss = word2vec.train_epoch(fixed, state, device_text, epoch, rate)
        return loss

    return Program(call, jax.block_until_ready, dict, {})


def epochs_of_gensim(config: Word2vec, file: Path) -> Program:
    """The same of gensim."""
    model = gensim_model(config, file, epochs=1)

    def call() -> None:
        count = model.corpus_total_words
        model.train(corpus_file=str(file), total_words=count, epochs=1)

    return Program(call, lambda nothing: None, dict, {})


def gensim_model(config: Word2vec, file: Path, epochs: int) -> Any:
    """Trained; it divides no gradient by the number of neighbours, so that its rate is its own."""
    from gensim.models import Word2Vec  # pyright: ignore[reportMissingImports]

    return Word2Vec(
        corpus_file=str(file),
        vector_size=config.dim,
        window=config.sampling.window,
        negative=config.sampling.negatives,
        sample=config.sampling.subsample,
        sg=int(config.objective == "skip_gram"),
        alpha=RATES[config.objective],
        min_count=1,
        workers=timing.num_threads(),
        epochs=epochs,
        seed=1,
    )


def asked(text: Corpus, vectors: np.ndarray) -> dict[str, float]:
    """Spearman's ρ of two sets of pairs."""
    vocabulary = Vocabulary(text.symbols, vectors)
    pairs = data.load(WordEval()).similarity
    return {k: questions.similarity(vocabulary, pairs[k]).score for k in ("wordsim353", "men")}


COLUMNS = (
    Column("section", "section"),
    Column("objective", "objective"),
    Column("dim", "d", "d"),
    Column("words_per_second", "ours, words/s", ",.0f"),
    Column("gensim_words_per_second", "gensim, words/s", ",.0f"),
    Column("shown", "ratio"),
    Column("null_ratio", "null", ".3f"),
    Column("ours_wordsim353", "WordSim, ours", ".3f"),
    Column("gensim_wordsim353", "gensim", ".3f"),
    Column("ours_men", "MEN, ours", ".3f"),
    Column("gensim_men", "gensim", ".3f"),
    Column("device", "on"),
    *(Column(name, name, data_only=True) for name in ("budget", "ratio", "p10", "p90", "epochs")),
)
NOTES = (
    "ratio: the time of an epoch of gensim by ours, median over pairs [10-90 % of pairs]: above 1 "
    "ours is faster. null: our own samples in a pair. !: they differ by more than 3 %; something "
    "disturbed them.",
    "WordSim, MEN: Spearman's ρ after equal epochs from the beginning, one seed.",
    f"CBOW makes one prediction per word: gensim computes 1 + {Sampling().negatives} products of "
    f"vectors for it, ours 1 + {Sampling().shared}, those with all negatives of a step, so that "
    "on a CPU gensim is faster. Skip-gram makes one per neighbour; ours computes the products with "
    "the negatives once for all of a word.",
)


def table(rows: list[dict[str, Any]]) -> Table:
    """A line for each objective and size."""
    ordered = sorted(rows, key=_order)
    return Table(
        "Words a second of word2vec", COLUMNS, tuple(map(_line, ordered)), "section", NOTES
    )


def _order(row: dict[str, Any]) -> tuple[Any, ...]:
    config = row["config"]
    model = config["model"]
    return BUDGETS.index(config["budget"]), model["dim"], model["objective"]


def _line(row: dict[str, Any]) -> dict[str, Any]:
    config, metrics = row["config"], row["metrics"]
    model = config["model"]
    line = {
        "section": f"{word_vectors.TEXTS[config['data']['kind']]}, window "
        f"{model['sampling']['window']}, {model['epochs']} epochs · {config['budget']} budget",
        "objective": model["objective"].replace("_", "-"),
        "dim": model["dim"],
        "epochs": model["epochs"],
        "budget": config["budget"],
    }
    if row["status"] != results.DONE:
        return line | {"shown": row["status"]}
    low, high = metrics["ratio_p10_p90"]
    mark = "" if metrics["null_ok"] else " !"
    threads, platform = metrics["threads"], metrics["platform"]
    cores = f"{threads} core{'s' * (threads > 1)}"
    shared = ("words_per_second", "gensim_words_per_second", "null_ratio", "ours_wordsim353")
    shared += ("gensim_wordsim353", "ours_men", "gensim_men")
    return (
        line
        | {name: metrics[name] for name in shared}
        | {
            "shown": f"{metrics['ratio_median']:.2f} [{low:.2f}-{high:.2f}]{mark}",
            "ratio": metrics["ratio_median"],
            "p10": low,
            "p90": high,
            "device": cores if platform == "cpu" else f"{platform}; gensim on {cores}",
        }
    )
