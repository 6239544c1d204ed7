"""A trained network says of a line what its parameters say of it, padded or not."""

import importlib
import io
import itertools
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab import checkpoint, cli, results, sample, train, writing
from seqlab.cells import CELLS
from seqlab.data.examples import BEGIN, END, UNKNOWN, ExampleDataset, Examples, Ragged
from seqlab.data.stream import Dataset, Stream
from seqlab.data.tokens import words
from seqlab.errors import InputError
from seqlab.models.decoders import DECODERS
from seqlab.models.rnn import bidirectional_stack, stack
from seqlab.models.seq2seq import ConditionedDecoder, EncoderDecoder
from seqlab.models.sequence import Classifier, LanguageModel, SymbolEmbedding, Tagger
from seqlab.sample import Asked
from seqlab.train_sequences import ALIGNED, DELAYED, MANY_TO_ONE, Program
from seqlab.trial import BUDGETS, as_dict, from_dict, set_values, trial_id
from seqlab.writing import Search

REPOSITORY = Path(__file__).parent.parent
LETTERS = (*"abcd", "\n")
WORDS = (UNKNOWN, BEGIN, END, "ein", "hund", "der", "ist", "groß")
TAGS = ("DET", "NOUN", "VERB")
UNITS = 5
ONE = jnp.zeros((1, 1), jnp.int32)
EXPERIMENTS = sorted(
    path.stem
    for path in (REPOSITORY / "experiments").glob("*.py")
    if hasattr(importlib.import_module(f"experiments.{path.stem}"), "sampler")
)


def kept(folder, params):
    """The folder of an attempt that ended with these parameters."""
    checkpoint.save(folder / "best", 1, params, keep=1)
    return folder


def spread(params):
    """So that what is most probable is so by more than rounding."""
    return jax.tree.map(lambda p: 4 * p, params)


def words_of(symbols=WORDS, classes=TAGS):
    nothing = Examples(Ragged(np.zeros(0, np.int32), np.zeros(0, np.int32)), np.zeros(0, np.int32))
    return ExampleDataset(nothing, nothing, nothing, symbols=symbols, classes=classes)


def letters_of(symbols):
    nothing = Stream(np.zeros(0, np.int32), np.zeros(0, bool))
    return Dataset(nothing, nothing, nothing, symbols, len(symbols), start=len(symbols) - 1)


# Many to many, aligned: what may follow


def continuing(folder, symbols=LETTERS, **asked):
    model = LanguageModel(stack(CELLS["gru"], UNITS, 2), len(symbols), UNITS)
    params = spread(model.init(jax.random.key(1), ONE))
    program, dataset = train.Program(model, train.SYMBOLS, "sgd"), letters_of(symbols)
    say = sample.continues(program, kept(folder, params), dataset, Asked(**asked), list, "".join)
    return model, params, say


@pytest.mark.parametrize("prompt", ["", "abcd" * 5])
def test_at_temperature_0_the_most_probable_letter_follows(tmp_path, prompt):
    model, params, say = continuing(tmp_path, temperature=0.0, length=6)
    read = [LETTERS.index("\n"), *map(LETTERS.index, prompt)]
    for _ in range(6):
        _, logits = model.apply(params, jnp.asarray([read]))
        read.append(int(logits[0, -1].argmax()))
    assert say(prompt) == "".join(LETTERS[n] for n in read[1:])


def test_what_is_drawn_depends_on_the_seed_and_on_the_line_alone(tmp_path):
    drawn = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        _, _, say = continuing(tmp_path / name, length=40, seed=seed)
        drawn.append([say("ab"), say("ab")])
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    assert drawn[0][0] != drawn[0][1]


def test_the_unknown_word_is_read_and_never_written(tmp_path):
    symbols = ("a", UNKNOWN, "\n")
    model, params, say = continuing(tmp_path, symbols, temperature=5.0, length=60)
    assert UNKNOWN not in say("a?")
    _, logits = model.apply(params, jnp.asarray([[2, 0, 1]]))
    assert float(jax.nn.softmax(logits[0, -1])[1]) > 0.05  # else it would not have been drawn


def test_a_letter_that_is_none_is_named(tmp_path):
    _, _, say = continuing(tmp_path)
    with pytest.raises(InputError, match="'é' is none of the 5 symbols"):
        say("abé")


def test_a_line_that_is_too_long_is_refused(tmp_path):
    _, _, say = continuing(tmp_path, length=1)
    assert len(say("a" * sample.MOST)) == sample.MOST + 1
    with pytest.raises(InputError, match=f"{sample.MOST + 1} symbols are more than"):
        say("a" * (sample.MOST + 1))


# The other wirings


def assert_refuses_a_blank_line(say):
    for blank in ("", "  ", "\r"):
        with pytest.raises(InputError, match=r"^expected a word, found none$"):
            say(blank)


@pytest.mark.parametrize("line", ["der Hund", "der Hund ist eine Katze, " * 5])
def test_a_line_is_classified_as_it_is_unpadded(tmp_path, line):
    model = Classifier(SymbolEmbedding(len(WORDS), UNITS), stack(CELLS["gru"], UNITS, 1), 3, "mean")
    params = spread(model.init(jax.random.key(1), ONE, jnp.ones(1, jnp.int32)))
    program = Program(model, MANY_TO_ONE, "sgd")
    say = sample.classifies(program, kept(tmp_path, params), words_of(), Asked())
    numbers = {"der": 5, "Hund": 4, "ist": 6}
    read = [numbers.get(word, 0) for word in line.replace(",", " ,").split()]
    shares = jax.nn.softmax(model.apply(params, jnp.asarray([read]))[0])
    expected = sorted(zip(np.asarray(shares), TAGS, strict=True), reverse=True)
    assert say(line) == "  ".join(f"{tag} {share:.2f}" for share, tag in expected)
    assert_refuses_a_blank_line(say)


def test_every_word_is_tagged_as_it_is_unpadded(tmp_path):
    layers = bidirectional_stack(CELLS["gru"], UNITS, 1)
    model = Tagger(SymbolEmbedding(len(WORDS), UNITS), layers, len(TAGS))
    params = spread(model.init(jax.random.key(2), ONE, jnp.ones(1, jnp.int32)))
    program = Program(model, ALIGNED, "sgd")
    say = sample.tags(program, kept(tmp_path, params), words_of(), Asked())
    best = model.apply(params, jnp.asarray([[5, 4, 6, 0, 7, 0]]))[0].argmax(axis=-1)
    said = ["der", "hund", "ist", "Sehr", "groß", "."]
    expected = [f"{word}/{TAGS[k]}" for word, k in zip(said, best.tolist(), strict=True)]
    assert len(set(best.tolist())) > 1
    assert say("der hund ist Sehr groß.") == " ".join(expected)
    assert_refuses_a_blank_line(say)


@pytest.mark.parametrize("read", [words, lambda line: words(line)[::-1]])
def test_a_line_is_translated_as_its_words_are_read(tmp_path, read):
    writer = ConditionedDecoder(DECODERS["luong_dot"](CELLS["gru"], UNITS, 1), len(WORDS), UNITS)
    embedding, encoder = SymbolEmbedding(len(WORDS), UNITS), stack(CELLS["gru"], UNITS, 1)
    model = EncoderDecoder(embedding, encoder, writer)
    params = spread(model.init(jax.random.key(4), ONE, jnp.ones(1, jnp.int32), ONE))
    search, dataset = Search(2, 0.6, 7), words_of(classes=WORDS)
    program = Program(model, DELAYED, "sgd")
    say = sample.translates(program, kept(tmp_path, params), dataset, Asked(), search, read)
    number = {"der": 5, "hund": 4, "ist": 6, "kalt": 0}
    source = np.array([number[word] for word in read("der hund ist kalt")], np.int32)
    sources = Ragged(source, np.array([4], np.int32))
    (line,) = writing.lines(model, params, sources, writing.marks(WORDS), search)
    written = [WORDS[n] for n in line.symbols]
    cut = ["…"] * (len(written) == search.max_length)
    assert say("Der Hund ist kalt") == " ".join(written + cut)
    assert_refuses_a_blank_line(say)


def test_what_is_of_language_models_alone_is_refused_elsewhere(tmp_path):
    model = Tagger(SymbolEmbedding(len(WORDS), UNITS), stack(CELLS["gru"], UNITS, 1), len(TAGS))
    with pytest.raises(InputError, match=r"--(temperature|seed): there is no such choice"):
        sample.tags(Program(model, ALIGNED, "sgd"), tmp_path, words_of(), Asked(temperature=1.0))


@pytest.mark.parametrize("blank", ["", "  ", "\r"])
def test_nothing_is_no_file(blank):
    with pytest.raises(InputError, match=r"^expected the name of a file, found none$"):
        sample.bytes_of(blank)


# Which trial


def result(root, trial_id, valid_nll, kind="Sst", status=results.DONE, best=True, attempts=1):
    folder = root / "sentiment" / trial_id
    folder.mkdir(parents=True)
    for attempt in range(1, attempts + 1):
        (folder / f"attempt-{attempt}").mkdir()
        if best and attempt == attempts:
            (folder / f"attempt-{attempt}" / "best").mkdir()
    config = {"data": {"kind": kind}}
    metrics = {"valid_nll": valid_nll} if status == results.DONE else {}
    return {"trial_id": trial_id, "status": status, "config": config, "metrics": metrics}


def test_the_lowest_validation_loss_that_can_be_used_is_used(tmp_path):
    rows = [
        result(tmp_path, "a", 0.5),
        result(tmp_path, "b", 0.3, attempts=2),
        result(tmp_path, "c", 0.1, best=False),
        result(tmp_path, "d", 0.2, status=results.FAILED),
    ]
    row, folder = sample.trained(tmp_path, "sentiment", rows)
    assert row["trial_id"] == "b"
    assert folder == tmp_path / "sentiment" / "b" / "attempt-2"


def test_losses_of_several_data_sets_are_not_compared(tmp_path):
    rows = [result(tmp_path, "a", 0.5), result(tmp_path, "b", 0.3, kind="MovieReviews")]
    with pytest.raises(InputError, match=r"MovieReviews, Sst: choose one, --only data\.kind="):
        sample.trained(tmp_path, "sentiment", rows)


def test_nor_are_those_of_two_sets_of_one_kind_while_folds_are_of_one(tmp_path):
    rows = [result(tmp_path, "a", 0.5), result(tmp_path, "b", 0.3)]
    for fold, row in enumerate(rows):
        row["config"]["data"] |= {"fold": fold}
    assert sample.trained(tmp_path, "sentiment", rows)[0]["trial_id"] == "b"
    for name, row in zip(("jsb", "nottingham"), rows, strict=True):
        row["config"]["data"] |= {"name": name}
    with pytest.raises(InputError, match=r"jsb, nottingham: choose one, --only data\.name=jsb"):
        sample.trained(tmp_path, "sentiment", rows)


def test_without_a_trained_network_the_command_that_trains_is_named(tmp_path):
    with pytest.raises(InputError, match=r"python launch\.py run sentiment"):
        sample.trained(tmp_path, "sentiment", [result(tmp_path, "a", 0.5, best=False)])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_trial_is_told_by_its_configuration(name):
    experiment = importlib.import_module(f"experiments.{name}")
    for trial in itertools.chain.from_iterable(map(experiment.trials, BUDGETS)):
        config = json.loads(json.dumps(as_dict(trial)))
        assert from_dict(experiment.Trial, config) == trial


def test_a_configuration_with_other_fields_is_refused():
    from experiments import sentiment

    config = as_dict(sentiment.trials("smoke")[0])
    with pytest.raises(InputError, match="had other fields"):
        from_dict(sentiment.Trial, config | {"later": 1})


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_what_is_sampled_unless_told_otherwise_is_of_one_data_set(name):
    experiment = importlib.import_module(f"experiments.{name}")
    for budget in ("default", "paper"):  # smoke may be of another
        rows = [{"config": as_dict(trial)} for trial in experiment.trials(budget)]
        chosen = sample.meant(rows, experiment.SAMPLED)
        assert len({json.dumps(row["config"]["data"]) for row in chosen}) == 1


def test_the_command_knows_everything_that_can_be_sampled(capsys):
    with pytest.raises(SystemExit):
        cli.main(["sample", "--help"])
    assert ", ".join(EXPERIMENTS) in " ".join(capsys.readouterr().out.split())


def test_a_trial_has_to_meet_the_conditions_as_well(tmp_path, capsys, monkeypatch):
    """Of two trials each is found by its own cell, and by no other."""
    from experiments import sentiment

    first = sentiment.trials("smoke")[0]
    trials = [set_values([first], [f"model.cell={cell}"])[0] for cell in ("gru", "mut1")]
    for trial in trials:
        folder = results.trial_folder(tmp_path, "sentiment", trial_id(trial))
        (folder / "attempt-1" / "best").mkdir(parents=True)
        told = {"trial_id": trial_id(trial), "config": as_dict(trial), "status": results.DONE}
        results.commit(folder, told | {"metrics": {"valid_nll": 1.0, "params": 1}})
    monkeypatch.setattr(
        sentiment, "sampler", lambda trial, folder, asked: lambda line: trial.model.cell
    )

    def sampled(trial, *conditions):
        only = [f"--only={condition}" for condition in conditions]
        asked = ["sample", "sentiment", "--trial", trial_id(trial), "--prompt", "x", *only]
        return cli.main([*asked, "--results-dir", str(tmp_path)]), *capsys.readouterr()

    for trial, cell, other in zip(trials, ("gru", "mut1"), ("mut1", "gru"), strict=True):
        assert sampled(trial)[:2] == (0, f"{cell}\n")
        assert sampled(trial, f"model.cell={cell}", f"seed={trial.seed}")[:2] == (0, f"{cell}\n")
        code, out, err = sampled(trial, f"model.cell={other}", f"seed={trial.seed}")
        assert (code, out) == (2, "")
        said = f"no result of trial {trial_id(trial)} with model.cell={other} with seed="
        assert err.startswith(f"error: {said}")
        assert err.count("\n") == 1
    assert (
        "no result has model.cell=gur. Did you mean 'gru'"
        in sampled(trials[0], "model.cell=gur")[2]
    )


# Line by line


def test_each_line_has_an_answer_of_one_line(capsys):
    def say(line):
        if "!" in line:
            raise InputError("no shouting")
        return line.upper()

    assert sample.lines(io.StringIO("a\n\nb!\nc"), say) == 2
    out, err = capsys.readouterr()
    assert out == "A\n\n\nC\n"
    assert err == "error: line 3: no shouting\n"


def test_a_blank_line_has_a_blank_answer_and_the_end_of_a_line_is_not_read(capsys):
    read = []

    def say(line):
        read.append(line)
        return "said"

    assert sample.lines(io.StringIO(" a \r\n\r\n   \n\t\nb\r\n"), say) == 0
    assert read == [" a ", "b"]
    assert capsys.readouterr() == ("said\n\n\n\nsaid\n", "")


def test_the_words_are_learnt_and_spelt(tmp_path, capsys, monkeypatch):
    """By the commands, from training to the answer."""
    where = ["--results-dir", str(tmp_path)]
    hello = ["char_lm", "--only", "data.kind=Hello"]
    run = ["launch.py", "run", *hello, "--budget", "smoke", "--workers", "1", *where]
    subprocess.run([sys.executable, *run], cwd=REPOSITORY, capture_output=True, check=True)
    assert cli.main(["sample", *hello, "--prompt", "h", *where]) == 0
    assert capsys.readouterr().out == "hello\n"
    for blank in ("", "  "):
        assert cli.main(["sample", *hello, "--prompt", blank, *where]) == 2
        out, err = capsys.readouterr()
        assert (out, err.splitlines()[1:]) == ("", ["error: expected a letter, found none"])
    monkeypatch.setattr("sys.stdin", io.StringIO("h\ne\nx\nll\n"))
    assert cli.main(["sample", *hello, *where]) == 2
    out, err = capsys.readouterr()
    assert out == "hello\neolll\n\nlleel\n"
    assert "error: line 3: 'x' is not among h, e, l, o" in err
    (trial_id,) = [path.name for path in (tmp_path / "char_lm").iterdir() if path.name[0] != "."]
    wrong = trial_id[:-1] + ("0" if trial_id[-1] != "0" else "1")
    assert cli.main(["sample", "char_lm", "--trial", wrong, "--prompt", "h", *where]) == 2
    assert f"Did you mean '{trial_id}'?" in capsys.readouterr().err
    assert cli.main(["sample", "char_lm", "--prompt", "h", *where]) == 0, "there is nothing else"
    assert capsys.readouterr().out == "hello\n"
