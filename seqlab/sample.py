"""Using a trained network: which trial, its parameters, and its answer to a line.

An experiment that can be used has

    SAMPLED                                  conditions such as "data.kind=Shakespeare": which of
                                             its results are meant where nothing else is said
    sampler(trial, folder, asked)            from a trial, the folder of its attempt and what is
        -> Callable[[str], str]              asked for, to a function from a line to the answer

The builders below are the samplers of the five wirings.
"""

import functools
import itertools
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqlab import decoding, epochs, results, train, writing
from seqlab.data.examples import UNKNOWN, ExampleDataset, encode
from seqlab.data.stream import Dataset
from seqlab.data.tokens import words
from seqlab.errors import InputError
from seqlab.models.seq2seq import EncoderDecoder
from seqlab.models.sequence import Classifier, LanguageModel, Tagger
from seqlab.train_sequences import Program
from seqlab.trial import from_dict, trial_id
from seqlab.writing import Search

MOST = 512  # words, or letters, of a line
STEP = 16  # lines are padded to a multiple of it: a program is compiled for each

Sampler = Callable[[str], str]


@dataclass(frozen=True)
class Asked:
    """How a language model is to go on; what is None is for the experiment to choose.

    Attributes:
        temperature: logits are divided by it; 0 for the most probable symbol.
        length: how many symbols.
        seed: of the draws.
    """

    temperature: float | None = None
    length: int | None = None
    seed: int | None = None


# Which trial


def trained(root: Path, experiment: str, rows: Sequence[dict[str, Any]]) -> tuple[dict, Path]:
    """The result with the lowest validation loss of those that can be used, and its attempt.

    Raises:
        InputError: there is none, or they are of several data sets, whose losses do not compare.
    """
    usable = []
    for row in rows:
        folder = results.trial_folder(root, experiment, row["trial_id"])
        attempts = [folder / f"attempt-{n}" for n in results.numbered(folder, "attempt-")]
        kept = [attempt for attempt in attempts if (attempt / epochs.BEST).is_dir()]
        if row["status"] == results.DONE and kept:
            usable.append((row, kept[-1]))
    if not usable:
        raise InputError(
            f"no trained network of {experiment} here: python launch.py run {experiment}"
        )
    configs = [row["config"]["data"] for row, _ in usable]
    for field in dict.fromkeys(itertools.chain(["kind"], *configs)):
        if field == "fold":  # of one data set
            continue
        values = sorted({str(config.get(field)) for config in configs})
        if len(values) > 1:
            near = f"choose one, --only data.{field}={values[0]}"
            raise InputError(f"networks of data.{field} {', '.join(values)}: {near}")
    return min(usable, key=lambda pair: pair[0]["metrics"]["valid_nll"])


def as_trial(kind: type, row: dict[str, Any]) -> Any:
    """The trial of a result.

    Raises:
        InputError: its fields are not those of the experiment any more.
    """
    trial = from_dict(kind, row["config"])
    if trial_id(trial) != row["trial_id"]:
        raise InputError(f"trial {row['trial_id']} has other fields than {kind.__name__} has now")
    return trial


def lines(given: Iterable[str], say: Sampler) -> int:
    """Print what is said of each line, an empty line for a blank one, as they come.

    Returns:
        The exit code: 2 where something could not be said; the line is named, and left empty.
    """
    code = 0
    for number, line in enumerate(given, 1):
        said = ""
        try:
            if line.strip():
                said = say(line.rstrip("\r\n"))
        except InputError as error:
            print(f"error: line {number}: {error}", file=sys.stderr)
            code = 2
        print(said, flush=True)
    return code


def meant(rows: list[dict[str, Any]], conditions: Sequence[str]) -> list[dict[str, Any]]:
    """The results that are meant where nothing else is said; all of them if none is of those."""
    try:
        return results.select(rows, list(conditions))
    except InputError:
        return rows


# What it says of a line


def continues(
    program: train.Program,
    folder: Path,
    dataset: Dataset,
    asked: Asked,
    split: Callable[[str], list[str]],
    joined: Callable[[list[str]], str],
) -> Sampler:
    """Many to many, aligned: the line, and what may follow it; nothing is a line, too.

    Args:
        program: what has been trained, a `LanguageModel`.
        folder: of the attempt.
        dataset: its symbols, and what is read before the first of them.
        asked: temperature (0.8 if not said), length (200), seed (0).
        split: a line into symbols.
        joined: symbols into a text.
    """
    model, symbols = program.model, dataset.symbols
    assert isinstance(model, LanguageModel)
    assert symbols is not None
    params = _params(model, folder, jnp.zeros((1, 1), jnp.int32))
    number = {symbol: n for n, symbol in enumerate(symbols)}
    temperature = 0.8 if asked.temperature is None else asked.temperature
    length = 200 if asked.length is None else asked.length
    key, numbers_of_lines = jax.random.key(asked.seed or 0), itertools.count()
    unknown = number.get(UNKNOWN)

    def go_on(line: str) -> str:
        said = split(line)
        numbers = [number.get(symbol, unknown) for symbol in said]
        if None in numbers:
            odd = said[numbers.index(None)]
            raise InputError(f"{odd!r} is none of the {len(symbols)} symbols of this network")
        given, last, count = _padded([dataset.start, *numbers])  # pyright: ignore[reportArgumentType]
        now = jax.random.fold_in(key, next(numbers_of_lines))
        written = _go_on(model, params, given, last, count, now, temperature, length, unknown)
        return line + joined([symbols[n] for n in written.tolist()])

    return go_on


@functools.partial(jax.jit, static_argnames=("model", "length", "unknown"))
def _go_on(model, params, given, last, count, key, temperature, length, unknown):
    """Read given[:count], write `length` symbols, none of them unknown."""
    step = functools.partial(model.apply, params, method="step")

    def read(carry: Any, place: jax.Array) -> tuple[Any, None]:
        after, _, _ = step(carry, given[place][None])
        return jax.tree.map(lambda new, old: jnp.where(place < count, new, old), after, carry), None

    def write(carry: Any, symbols: jax.Array) -> tuple[Any, jax.Array, None]:
        carry, logits, _ = step(carry, symbols)
        return carry, logits if unknown is None else logits.at[:, unknown].set(-jnp.inf), None

    places = jnp.arange(len(given), dtype=count.dtype)
    carry, _ = jax.lax.scan(read, model.initial_carry(1), places)
    first = last[None]
    written = decoding.sample(
        key, write, carry, first, end=None, max_length=length, temperature=temperature
    )
    return written.symbols[0]


def spells(
    program: Program, folder: Path, dataset: ExampleDataset, asked: Asked, length: int
) -> Sampler:
    """Many to many, aligned: letters and the most probable ones after them, `length` in all."""
    refuse(asked)
    model = program.model
    params = _params(model, folder, jnp.zeros((1, 1), jnp.int32), jnp.ones(1, jnp.int32))

    def spell(line: str) -> str:
        _refuse_blank(line, "a letter")
        letters = list(line)
        for letter in letters:
            if letter not in dataset.symbols:
                raise InputError(f"{letter!r} is not among {', '.join(dataset.symbols)}")
        while len(letters) < length:
            values, lengths = encode([letters], dataset.symbols)
            given, _, _ = _padded([*values.tolist(), 0])
            said = _probabilities(model, params, given[None], jnp.asarray(lengths))
            letters.append(dataset.classes[int(said[0, len(letters) - 1].argmax())])
        return "".join(letters)

    return spell


def classifies(program: Program, folder: Path, dataset: ExampleDataset, asked: Asked) -> Sampler:
    """Many to one: each class and how probable it is, the most probable first."""
    refuse(asked)
    assert isinstance(program.model, Classifier)
    probabilities = _read(program, folder, dataset)

    def classify(line: str) -> str:
        found = probabilities(line)
        return "  ".join(f"{dataset.classes[k]} {found[k]:.2f}" for k in np.argsort(-found))

    return classify


def tags(program: Program, folder: Path, dataset: ExampleDataset, asked: Asked) -> Sampler:
    """Many to many, aligned: each word and its class."""
    refuse(asked)
    assert isinstance(program.model, Tagger)
    probabilities = _read(program, folder, dataset, lower=False)

    def tag(line: str) -> str:
        best = probabilities(line).argmax(axis=-1)
        said = words(line, lower=False)
        return " ".join(f"{word}/{dataset.classes[k]}" for word, k in zip(said, best, strict=False))

    return tag


def translates(
    program: Program,
    folder: Path,
    dataset: ExampleDataset,
    asked: Asked,
    search: Search,
    read: Callable[[str], list[str]],
) -> Sampler:
    """Many to many, delayed: the line in the other language; … where it had no end.

    Args:
        program, folder, dataset: what has been trained, and where it is.
        asked: nothing, because beam search is deterministic.
        search: how it writes.
        read: a line as words, in the order in which the network reads them.
    """
    refuse(asked)
    model = program.model
    assert isinstance(model, EncoderDecoder)
    one = jnp.zeros((1, 1), jnp.int32)
    params = _params(model, folder, one, jnp.ones(1, jnp.int32), one)
    marks = writing.marks(dataset.classes)

    def translate(line: str) -> str:
        sources = encode([_not_too_many(read(line))], dataset.symbols)
        (written,) = writing.lines(model, params, sources, marks, search)
        said = [dataset.classes[n] for n in written.symbols]
        cut = len(said) == search.max_length
        return " ".join([*said, "…"] if cut else said)

    return translate


def refuse(asked: Asked, but: tuple[str, ...] = ()) -> None:
    """Raise InputError for options that do not apply to a network.

    Args:
        asked: the options.
        but: names of those that do apply.
    """
    given = [name for name, value in vars(asked).items() if value is not None and name not in but]
    if given:
        named = ", ".join(f"--{name}" for name in given)
        raise InputError(f"{named}: there is no such choice for this network")


def bytes_of(path: str) -> bytes:
    """What is in a file that somebody named.

    Raises:
        InputError: no file is named, or it cannot be read.
    """
    _refuse_blank(path, "the name of a file")
    try:
        return Path(path).expanduser().read_bytes()
    except (OSError, RuntimeError, ValueError) as error:  # no such user; a name with a zero in it
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: cannot be read ({why})") from error


def _read(
    program: Program, folder: Path, dataset: ExampleDataset, lower: bool = True
) -> Callable[[str], np.ndarray]:
    model = program.model
    one = jnp.zeros((1, 1), jnp.int32)
    params = _params(model, folder, one, jnp.ones(1, jnp.int32))

    def probabilities(line: str) -> np.ndarray:
        values, lengths = encode([_words(line, lower)], dataset.symbols)
        given, _, _ = _padded([*values.tolist(), 0])
        return np.asarray(_probabilities(model, params, given[None], jnp.asarray(lengths)))[0]

    return probabilities


@functools.partial(jax.jit, static_argnames="model")
def _probabilities(model, params, symbols, lengths):
    return jax.nn.softmax(model.apply(params, symbols, lengths))


def _refuse_blank(line: str, wanted: str) -> None:
    if not line.strip():
        raise InputError(f"expected {wanted}, found none")


def _words(line: str, lower: bool = True) -> list[str]:
    return _not_too_many(words(line, lower))


def _not_too_many(said: list[str]) -> list[str]:
    if not said:
        raise InputError("expected a word, found none")
    if len(said) > MOST:
        raise InputError(f"{len(said)} words are more than the {MOST} that are read at once")
    return said


def _padded(numbers: list[int]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """All but the last, padded; the last; how many there are before it."""
    if len(numbers) - 1 > MOST:
        raise InputError(
            f"{len(numbers) - 1} symbols are more than the {MOST} that are read at once"
        )
    count = len(numbers) - 1
    given = np.zeros(max(-(-count // STEP) * STEP, STEP), np.int32)
    given[:count] = numbers[:-1]
    return jnp.asarray(given), jnp.asarray(numbers[-1], jnp.int32), jnp.asarray(count, jnp.int32)


def _params(model: Any, folder: Path, *inputs: jax.Array) -> Any:
    like = jax.jit(model.init)(jax.random.key(0), *inputs)
    return epochs.restore_best(folder, like)
