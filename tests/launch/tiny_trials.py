"""Trials of the comparison of cells that take a moment, and how they are asked for."""

from pathlib import Path

from experiments import mut_vs_lstm_gru as mut
from seqlab import commands
from seqlab.launch.plan import Plan
from seqlab.trial import replace

NAME = "mut_vs_lstm_gru"
SMOKE = {trial.model.cell: trial for trial in mut.trials("smoke")}
TINY = {
    "model.parameter_budget": 3000,
    "optim.optimizer": "sgd",
    "optim.learning_rate": 0.5,
    "data.train_size": 7000,
    "data.valid_size": 700,
    "data.test_size": 700,
    "train.batch_size": 10,
    "train.unroll": 7,
    "train.steps_per_epoch": 100,
    "train.schedule.max_epochs": 4,
    "train.schedule.patience": 1,
    "train.schedule.halvings": 1,
}
ASKED = [
    *("--budget", "smoke", "--only", "model.cell=rnn", "--set", "seed=0,1,2"),
    *(f"--set={path}={value}" for path, value in TINY.items()),
]


def tiny(cell: str = "rnn", **changes) -> mut.Trial:
    values = TINY | {path.replace("__", "."): value for path, value in changes.items()}
    return replace(SMOKE[cell], values)


def plan_of(trials, root: Path) -> Plan:
    return Plan(NAME, mut, trials, root, commands.EXPERIMENTS / f"{NAME}.py")
