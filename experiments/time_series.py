"""The next value of a series: a window of real numbers read, one number given.

Claim: a small recurrent network that predicts the change of a series beats the last value on each
of four, and follows one that leaves the range of its training, which a network that predicts the
value does not. Least squares on the same window is as good, and far better on a clean season.

    python launch.py run time_series --budget smoke       airline, one short run; a minute
    python launch.py run time_series                      four series; four minutes on two cores
    python launch.py run time_series --set model.cell=gru,mut1
    python launch.py run time_series --budget paper       wider, five seeds
    python launch.py plot time_series                     the test split: truth, ours, last value

Protocol: ours. The first 70 % of a series are for training, 15 for validation, the last 15 are the
test; values are scaled by mean and deviation of train. Each value is predicted from those in the
window before it, which are the true ones. The squared error is minimised, by Adam; the epoch with
the best validation is tested. The error is the root of the mean square, in the unit of the series.
Windows were chosen by validation. A network that `predicts` the change reads the window less its
last value, and its output is added to that value; one that predicts the value reads the window as
it is, and its output is the prediction.

Source: `seqlab.data.series` names the sources of the series; the baselines are computed here.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array, Float, Int

from seqlab import results, sequence_trial, systems
from seqlab.buckets import Batch
from seqlab.data import Examples, SeriesDataset, TimeSeries
from seqlab.data.series import SERIES
from seqlab.errors import InputError, nearest
from seqlab.models.sequence import Classifier, FrameEmbedding
from seqlab.optim import Schedule
from seqlab.sequence_trial import Model
from seqlab.tables import Table
from seqlab.train import MEASUREMENTS
from seqlab.train_sequences import MANY_TO_ONE, Program, SequenceTrainConfig, outputs
from seqlab.trial import BUDGETS
from seqlab.trial_fields import Optim

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEASONS = {"airline": 12, "sunspots": 132, "temperatures": 365, "births": 7}  # in values
PREDICTS = ("change", "value")
SHOWN = 120  # values of a test split that a figure has room for

LSTM = Model("lstm", 32)
ADAM = Optim("adam", learning_rate=3e-3, clip_norm=1.0)
FEW = SequenceTrainConfig(8, 1, Schedule(max_epochs=150, patience=40, halvings=4))
SOME = SequenceTrainConfig(16, 1, Schedule(max_epochs=60, patience=20, halvings=4))
MANY = SequenceTrainConfig(32, 1, Schedule(max_epochs=30, patience=8, halvings=4))
RECIPES = {  # window, training
    "airline": (24, FEW),
    "sunspots": (24, MANY),
    "temperatures": (14, MANY),
    "births": (7, SOME),
}
MEASURED = MANY_TO_ONE._replace(objective=MEASUREMENTS)


@dataclass(frozen=True)
class Trial:
    """A predictor of one series."""

    budget: str
    data: TimeSeries
    predicts: str = "change"
    model: Model = LSTM
    optim: Optim = ADAM
    train: SequenceTrainConfig = MANY
    seed: int = 0


def trials(budget: str) -> list[Trial]:
    """Every series, its changes and its values, each from several seeds."""
    if budget == "smoke":
        short = SequenceTrainConfig(8, 1, Schedule(max_epochs=20, patience=20, halvings=2))
        return [Trial(budget, TimeSeries("airline", 24), train=short)]
    if budget not in BUDGETS:
        raise InputError(f"no budget {budget!r}.{nearest(budget, BUDGETS)}")
    units, num_seeds = (32, 3) if budget == "default" else (128, 5)
    return [
        Trial(budget, TimeSeries(name, window), predicts, Model("lstm", units), ADAM, train, seed)
        for name, (window, train) in RECIPES.items()
        for predicts in PREDICTS
        for seed in range(num_seeds)
    ]


def check(trial: Trial) -> None:
    """Raise InputError for what cannot be run."""
    sequence_trial.check(trial)  # pyright: ignore
    if trial.predicts not in PREDICTS:
        near = nearest(trial.predicts, PREDICTS)
        raise InputError(f"predicts is change or value, not {trial.predicts!r}.{near}")


class Change(nn.Module):
    """x̂ = x_n + network(x_1 - x_n … x_n - x_n), of windows that are all of one length.

    It is equivariant to the level of a series: x + c gives x̂ + c.

    Attributes:
        network: what says the change.
    """

    network: Classifier

    def __call__(
        self,
        inputs: Float[Array, "B T C"],
        lengths: Int[Array, " B"] | None = None,
        dropout_rate: Array | float | None = None,
    ) -> Float[Array, "B C"]:
        last = inputs[:, -1]
        return last + self.network(inputs - last[:, None], lengths, dropout_rate)


def network(trial: Trial, dataset: SeriesDataset) -> Classifier | Change:
    """Layers, and one number from the last output."""
    reader = Classifier(FrameEmbedding(trial.model.units), trial.model.layers(), num_classes=1)
    return Change(reader) if trial.predicts == "change" else reader


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Train the trial's network; errors in the unit of the series, and the test split."""

    def inspect(program: Program, params: Any, dataset: Any) -> dict[str, Any]:
        return {
            "test_predicted": in_unit(outputs(predicted, program, params, dataset.test), dataset),
            "test_truth": in_unit(dataset.test.targets, dataset),
            "baselines": baselines(trial.data, dataset),
            "std": dataset.std,
        }

    metrics = sequence_trial.run(trial, network, MEASURED, folder, inspect)  # pyright: ignore
    for split in ("valid", "test"):
        metrics[f"{split}_rmse"] = metrics["std"] * metrics[f"{split}_squared_error"] ** 0.5
    return metrics


def predicted(program: Program, params: Any, batch: Batch) -> jax.Array:
    """What a network says of each window of a batch, [B, 1]."""
    return program.model.apply(params, *program.wiring.arguments(batch))  # pyright: ignore


def in_unit(scaled: Any, dataset: SeriesDataset) -> list[float]:
    """[M, 1] as what was measured, to four decimals."""
    values = np.asarray(scaled, np.float64)[:, 0] * dataset.std + dataset.mean
    return values.round(4).tolist()


# What the network has to beat


def baselines(config: TimeSeries, dataset: SeriesDataset) -> dict[str, float]:
    """The root mean square error of each rule on the test split, in the unit of the series."""
    series, truth = whole(config, dataset), np.asarray(dataset.test.targets)[:, 0]
    tested = np.arange(len(series) - len(truth), len(series))
    season = SEASONS[config.name]
    rules = {
        "the last value": series[tested - config.horizon],
        "the value one season before": series[tested - season * -(-config.horizon // season)],
        "least squares on the window": least_squares(dataset.train, dataset.test),
    }
    errors = {rule: np.sqrt(np.mean((said - truth) ** 2)) for rule, said in rules.items()}
    return {rule: float(error) * dataset.std for rule, error in errors.items()}


def whole(config: TimeSeries, dataset: SeriesDataset) -> np.ndarray:
    """All values of the series in their order, scaled; each window is the one before, a step on."""
    windows = np.concatenate([_windows(split) for split in dataset[:3]])
    predicted = np.concatenate([np.asarray(split.targets)[:, 0] for split in dataset[:3]])
    return np.concatenate([windows[0], windows[1:, -1], predicted[-config.horizon :]])


def least_squares(train: Examples, test: Examples) -> np.ndarray:
    """w · window + b for each window of test, of the w and b that are the best on train."""
    seen, asked = (np.pad(_windows(s), ((0, 0), (0, 1)), constant_values=1) for s in (train, test))
    return asked @ np.linalg.lstsq(seen, np.asarray(train.targets)[:, 0])[0]


def _windows(examples: Examples) -> np.ndarray:
    """[M, window] in float64."""
    return examples.inputs.values.reshape(len(examples.inputs.lengths), -1).astype(np.float64)


# The table and the figure


def table(rows: list[dict[str, Any]]) -> Table:
    """Root mean square errors: of three rules, and ours."""
    return systems.table(
        "The next value of a series",
        rows,
        section=_section,
        system=_system,
        metric="test_rmse",
        published={},
        wiring="many to one",
        measure="root mean square error",
        notes=(
            "least squares: a linear function of the same window. change: the window is read less "
            "its last value, to which the network's number is added; value: neither. Nothing is "
            "published for these splits.",
        ),
        baseline="baselines",
    )


def _section(config: Mapping[str, Any]) -> tuple[str, str]:
    data = config["data"]
    ahead = "" if data["horizon"] == 1 else f", {data['horizon']} steps ahead"
    return data["name"], f"{data['name'].capitalize()}, {SERIES[data['name']].unit}{ahead}"


def _system(config: Mapping[str, Any]) -> str:
    window = config["data"]["window"]
    return f"{systems.layers(config['model'])}, {config['predicts']}, window {window}"


def figures(rows: list[dict[str, Any]]) -> "dict[str, Figure]":
    """The beginning of each test split: truth, last value, and the first seed of each network."""
    from seqlab import plots

    drawn = {}
    for budget, series in _drawable(rows).items():
        figure, axes = plots.panels(len(series), 1, height=1.9 * len(series))
        for panel, (heading, networks) in zip(axes[:, 0], sorted(series.items()), strict=True):
            some = next(iter(networks.values()))
            ahead = some["config"]["data"]["horizon"]
            truth = np.array(some["metrics"]["test_truth"])[:SHOWN]
            steps = np.arange(len(truth))
            panel.plot(steps[ahead:], truth[:-ahead], ":", color="#999999", label="last value")
            for name, row in sorted(networks.items()):
                said = row["metrics"]["test_predicted"][:SHOWN]
                panel.plot(steps, said, label=name)
            panel.plot(steps, truth, ".", color="black", markersize=3, label="truth")
            plots.label(panel, heading, "step of the test split")
            panel.legend(loc="upper left", bbox_to_anchor=(1, 1))
        drawn[f"predictions_{budget}"] = figure
    return drawn


def _drawable(rows: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    """By budget, series and network, the result of the first seed."""
    groups: dict[str, Any] = defaultdict(lambda: defaultdict(dict))
    done = [row for row in rows if row["status"] == results.DONE]
    for row in sorted(done, key=lambda row: row["config"]["seed"]):
        config = row["config"]
        networks = groups[config["budget"]][_section(config)[1]]
        networks.setdefault(_system(config), row)
    return groups
