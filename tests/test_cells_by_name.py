"""Every experiment that has a cell to choose can be run with each of them."""

import importlib
from pathlib import Path

import pytest

from experiments import sketch_rnn
from seqlab import sequence_trial, stream_trial
from seqlab.cells import CELLS
from seqlab.errors import InputError
from seqlab.trial import as_dict, replace

FOLDER = Path(sketch_rnn.__file__).parent
EXPERIMENTS = [
    importlib.import_module(f"experiments.{path.stem}") for path in sorted(FOLDER.glob("*.py"))
]
FIRST = {experiment: experiment.trials("smoke")[0] for experiment in EXPERIMENTS}
CHOOSING = [
    experiment for experiment, first in FIRST.items() if "cell" in as_dict(first).get("model", {})
]


@pytest.fixture(autouse=True)
def without_files(monkeypatch):
    """What is checked is the network, not whether its data are there."""
    for owner in (sequence_trial, stream_trial, sketch_rnn):
        monkeypatch.setattr(owner, "check_data", lambda config: None)


def test_the_experiments_that_choose_are_found():
    names = "char_lm word_lm sentiment pos_tagging translation time_series dna speech_digits music"
    names += " sketch_rnn video captioning vqa"
    found = {experiment.__name__.removeprefix("experiments.") for experiment in CHOOSING}
    assert found >= set(names.split())


@pytest.mark.parametrize("experiment", CHOOSING, ids=lambda e: e.__name__.split(".")[-1])
def test_an_experiment_can_be_run_with_every_cell(experiment):
    for cell in CELLS:
        experiment.check(replace(FIRST[experiment], {"model.cell": cell}))
    if "num_layers" in as_dict(FIRST[experiment])["model"]:  # x has no matrix there
        for cell in ("mut1", "mut2"):
            two = {"model.cell": cell, "model.num_layers": 2}
            experiment.check(replace(FIRST[experiment], two))
    with pytest.raises(InputError, match=r"no cell 'grru'.*'gru'"):
        experiment.check(replace(FIRST[experiment], {"model.cell": "grru"}))
