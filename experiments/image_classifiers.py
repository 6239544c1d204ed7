"""LeNet-5 on MNIST and a small VGG on Fashion-MNIST and CIFAR-10, beside published results.

Claim: LeNet-5 as it is written today reaches 99% on MNIST, as it did in 1998; a network of VGG's
form with a thousandth of its operations does well on small pictures.

    python launch.py run image_classifiers --budget smoke    LeNet-5, two epochs; a minute
    python launch.py run image_classifiers                   three seeds; 25 minutes on two cores
    python launch.py run image_classifiers --budget paper    longer, five seeds; an accelerator
    python launch.py plot image_classifiers                  validation error against steps

Protocol: ours in all budgets, as no paper trained these networks this way. The 28 × 28 pictures are
padded with black to 32 × 32, as in 1998. 5,000 training images are held out for validation; the
network after the last epoch is tested. LeNet-5: batch 64, SGD with momentum 0.9, cosine decay of
the rate. VGG: the same, weight decay 5e-4, random shifts by up to 4 pixels and flips.

Source: LeCun, Bottou, Bengio and Haffner, Gradient-Based Learning Applied to Document Recognition,
1998; Simonyan and Zisserman 2015 for the form of the VGG; `published/image_classifiers.csv` says
where each value beside ours is from.
"""

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab import image_trial, results
from seqlab.comparison import read_published
from seqlab.data.images import Images
from seqlab.errors import InputError, nearest
from seqlab.image_trial import Optim, Trial, check, error_percent, heading
from seqlab.tables import Column, Table
from seqlab.train_images import TrainConfig
from seqlab.trial import BUDGETS, replace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check", "figures", "run", "table", "trials"]

LENET = Optim(schedule="cosine", learning_rate=0.02, weight_decay=5e-4)
VGG = Optim(schedule="cosine", learning_rate=0.1, weight_decay=5e-4)


def trials(budget: str) -> list[Trial]:
    """Every network and data set of a budget from every seed."""

    def lenet(train: TrainConfig) -> Trial:
        return Trial(budget, "lenet5", Images("mnist"), train, LENET)

    def vgg(name: str, train: TrainConfig) -> Trial:
        return Trial(budget, "vgg_small", Images(name), train, VGG, "pad_crop_flip")

    if budget == "smoke":
        planned, num_seeds = [lenet(TrainConfig(64, 2, 860))], 1
    elif budget == "default":
        planned = [
            vgg("cifar10_jpeg", TrainConfig(64, 9, 300)),
            vgg("fashion_mnist", TrainConfig(64, 9, 300)),
            lenet(TrainConfig(64, 12, 860)),
        ]
        num_seeds = 3
    elif budget == "paper":
        planned = [
            vgg("cifar10_jpeg", TrainConfig(128, 100, 350)),
            vgg("fashion_mnist", TrainConfig(128, 100, 430)),
            lenet(TrainConfig(64, 20, 860)),
        ]
        num_seeds = 5
    else:
        raise InputError(f"no budget {budget!r}.{nearest(budget, BUDGETS)}")
    return [replace(trial, {"seed": seed}) for trial in planned for seed in range(num_seeds)]


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Train the trial's network."""
    _, metrics = image_trial.run(trial, folder)
    return metrics


# The table and the figure

PUBLISHED = read_published(Path(__file__).parent / "published" / "image_classifiers.csv")

TITLES = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10_jpeg": "CIFAR-10 after JPEG",
}
COLUMNS = (
    Column("section", "section"),
    Column("network", "network"),
    *image_trial.COLUMNS,
    Column("source", "source"),
    Column("data", "data", data_only=True),
    Column("budget", "budget", data_only=True),
)
NOTES = (
    "Errors in percent. Values of others, not of our protocol: mark v: checked against the source; "
    "m: from memory. Those for CIFAR-10 are on the lossless pictures.",
    *image_trial.NOTES,
)
SMOKE_NOTE = "smoke: a first sight, one short run."


def table(rows: list[dict[str, Any]]) -> Table:
    """A section a data set and budget: what others have reached, and ours."""
    lines = []
    for (data, section), networks in _grouped(rows).items():
        some = next(iter(networks.values()))[0]["config"]
        place = {"section": section, "data": data, "budget": some["budget"]}
        for (task, _, name), paper in PUBLISHED.items():
            if task == data.removesuffix("_jpeg"):
                value = {"paper": 100 * paper.value, "mark": paper.mark, "source": paper.table}
                lines.append(place | {"network": name} | value)
        for network, alike in networks.items():
            values = image_trial.line(alike, error_percent)
            lines.append(place | {"network": network, "source": "ours"} | values)
    notes = NOTES + (SMOKE_NOTE,) * any(row["config"]["budget"] == "smoke" for row in rows)
    return Table("Small networks on small pictures", COLUMNS, tuple(lines), "section", notes)


def _grouped(
    rows: list[dict[str, Any]],
) -> dict[tuple[str, str], dict[str, list[dict[str, Any]]]]:
    """Results by data set and section, then by network: what differs is the seed."""
    groups: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for row in sorted(rows, key=lambda row: _order(row["config"])):
        config = row["config"]
        data = config["data"]["name"]
        section = f"{TITLES.get(data, data)} · {heading(config, trials(config['budget']))}"
        groups[data, section][config["network"]].append(row)
    return groups


def _order(config: dict[str, Any]) -> tuple[Any, ...]:
    data = config["data"]["name"]
    place = [*TITLES, data].index(data)
    return BUDGETS.index(config["budget"]), place, config["network"], config["seed"]


def figures(rows: list[dict[str, Any]]) -> "dict[str, Figure]":
    """Training and validation error against the steps, all seeds of a data set in one picture."""
    from seqlab import plots

    drawn = {}
    done = [row for row in rows if row["status"] == results.DONE]
    for (data, section), networks in _grouped(done).items():
        figure, axes = plots.panels()
        curves = {
            f"{network}, seed {row['config']['seed']}": row["metrics"]
            for network, alike in networks.items()
            for row in alike
        }
        image_trial.draw_curves(axes[0, 0], section, curves)
        budget = next(iter(networks.values()))[0]["config"]["budget"]
        drawn[image_trial.fresh_name(f"{data}_{budget}", drawn)] = figure
    return drawn
