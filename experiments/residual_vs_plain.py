"""Residual against plain networks of 20 and 56 layers: He et al. 2015, section 4.2, with ours.

Claim: a plain network of 56 layers has a higher *training* error than one of 20, so that depth and
not overfitting is what hurts it; with skips, which cost no parameter, the deeper one is the better.

    python launch.py run residual_vs_plain --budget smoke    20 layers, 200 steps; three minutes
    python launch.py run residual_vs_plain                   800 steps; half an hour on two cores
    python launch.py run residual_vs_plain --budget paper    the published protocol; an accelerator
    python launch.py plot residual_vs_plain                  Figure 6

Protocol: batch 128, 64,000 steps, rate 0.1, a tenth of it from 32,000 and a hundredth from 48,000
on, momentum 0.9, weight decay 1e-4, random shifts by up to 4 pixels and flips. The other budgets
keep the schedule in its proportions and take batches of 64. Where we differ: our images have been
through JPEG, the paper's are lossless; 5,000 training images (fewer in the smaller budgets) are
held out for validation; images are normalised by the mean and standard deviation of each channel,
where the paper subtracts the mean of each pixel; weight decay is on kernels alone.

Source: He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition, 2015 (CVPR 2016).
"""

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab import image_trial, results
from seqlab.comparison import read_published
from seqlab.data.images import Images
from seqlab.errors import InputError, nearest
from seqlab.image_trial import Trial, check, error_percent, heading
from seqlab.tables import Column, Table
from seqlab.train_images import TrainConfig
from seqlab.trial import BUDGETS, replace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check", "figures", "run", "table", "trials"]

# The two halves of the list cost the same: two workers begin a half apart.
NETWORKS = {
    "plain56_cifar": "plain, 56 layers",
    "plain20_cifar": "plain, 20 layers",
    "resnet56_cifar": "residual, 56 layers",
    "resnet20_cifar": "residual, 20 layers",
}
FAMILIES = {"plain": "plain networks", "resnet": "residual networks"}  # by how their names begin


def trials(budget: str) -> list[Trial]:
    """Every network of a budget from every seed."""
    names, num_seeds = tuple(NETWORKS), 1
    if budget == "smoke":
        names = ("plain20_cifar", "resnet20_cifar")
        data, train = Images("cifar10_jpeg", 1_000), TrainConfig(64, 4, 50, 1_000)
    elif budget == "default":
        data, train = Images("cifar10_jpeg", 2_500), TrainConfig(64, 8, 100, 5_000)
    elif budget == "paper":
        data, train, num_seeds = Images("cifar10_jpeg"), TrainConfig(128, 160, 400, 45_000), 5
    else:
        raise InputError(f"no budget {budget!r}.{nearest(budget, BUDGETS)}")
    base = Trial(budget, "", data, train, augmentation="pad_crop_flip")
    return [
        replace(base, {"network": name, "seed": seed})
        for seed in range(num_seeds)
        for name in names
    ]


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Train the trial's network."""
    _, metrics = image_trial.run(trial, folder)
    return metrics


# The table and the figure

PUBLISHED = read_published(Path(__file__).parent / "published" / "he2015.csv")

COLUMNS = (
    Column("section", "section"),
    Column("name", "network"),
    *image_trial.COLUMNS,
    Column("network", "name", data_only=True),
    Column("budget", "budget", data_only=True),
)
NOTES = (
    "Errors in percent. paper: on lossless CIFAR-10, all 50,000 images trained on; mark v: checked "
    "against the paper's text; f: about, the end of a curve of Figure 6, nowhere printed.",
    *image_trial.NOTES,
)
SHORT_NOTE = (
    "smoke, default: a share of the published steps. They show how training begins, not where it "
    "ends; the paper column is no target for them."
)


def table(rows: list[dict[str, Any]]) -> Table:
    """Paper | ours, a section a budget."""
    groups = _grouped(rows)
    lines = [
        {
            "section": section,
            "name": NETWORKS.get(network, network),
            "network": network,
            "budget": alike[0]["config"]["budget"],
            **image_trial.line(
                alike, error_percent, PUBLISHED.get(("cifar10", "test_error", network))
            ),
        }
        for section, networks in groups.items()
        for network, alike in networks.items()
    ]
    short = any(line["budget"] != "paper" for line in lines)
    title = "Residual and plain networks on CIFAR-10 (He et al. 2015, Table 6 and Figure 6)"
    return Table(title, COLUMNS, tuple(lines), "section", NOTES + (SHORT_NOTE,) * short)


def _grouped(rows: list[dict[str, Any]]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Results by section and network, those of the paper in its order: what differs is the seed."""
    groups: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    order = sorted(NETWORKS)  # plain before residual, 20 before 56
    for row in sorted(rows, key=lambda row: _order(row["config"], order)):
        config = row["config"]
        section = f"{config['data']['name']} · {heading(config, trials(config['budget']))}"
        groups[section][config["network"]].append(row)
    return groups


def _order(config: dict[str, Any], networks: list[str]) -> tuple[Any, ...]:
    name = config["network"]
    place = networks.index(name) if name in networks else len(networks)
    return BUDGETS.index(config["budget"]), place, name, config["seed"]


def figures(rows: list[dict[str, Any]]) -> "dict[str, Figure]":
    """Figure 6: the errors of plain networks and of residual ones against the steps."""
    from seqlab import plots

    drawn = {}
    done = [row for row in rows if row["status"] == results.DONE]
    for section, networks in _grouped(done).items():
        figure, axes = plots.panels(1, 2)
        figure.suptitle(section)
        for panel, (family, title) in zip(axes[0], FAMILIES.items(), strict=True):
            curves = {
                NETWORKS.get(network, network): alike[0]["metrics"]
                for network, alike in networks.items()
                if network.startswith(family)
            }
            image_trial.draw_curves(panel, f"{title}, first seed", curves)
        budget = next(iter(networks.values()))[0]["config"]["budget"]
        drawn[image_trial.fresh_name(f"errors_{budget}", drawn)] = figure
    return drawn
