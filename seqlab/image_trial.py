"""One run of a network on a set of images, and the line and the curves of a table of such runs."""

import dataclasses
import functools
import itertools
import statistics
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from seqlab import results
from seqlab.comparison import Published
from seqlab.data import images, shapes
from seqlab.data.augment import pad_crop_flip
from seqlab.data.fingerprint import fingerprint
from seqlab.data.images import ImageDataset, Images, Labelled
from seqlab.data.shapes import Shapes
from seqlab.errors import InputError, nearest
from seqlab.history import same_data
from seqlab.intervals import mean_ci
from seqlab.models.convnets import NETWORKS
from seqlab.optim import DECAYED, SCHEDULES, DecaySettings
from seqlab.tables import Column
from seqlab.train_images import CLASSES, MASKS, Program, TrainConfig, TrainState, fit
from seqlab.trial import as_dict, flatten, get

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AUGMENTATIONS = {"none": None, "pad_crop_flip": pad_crop_flip}


@dataclasses.dataclass(frozen=True)
class Optim:
    """How weights follow gradients: names and values of `seqlab.optim`."""

    optimizer: str = "sgd_momentum"
    schedule: str = "staircase"
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4


@dataclasses.dataclass(frozen=True)
class Trial:
    """A network of `NETWORKS`, trained on a data set from one seed."""

    budget: str
    network: str
    data: Images | Shapes
    train: TrainConfig
    optim: Optim = dataclasses.field(default_factory=Optim)
    augmentation: str = "none"
    seed: int = 0


def check(trial: Trial) -> None:
    """Raise InputError for what cannot be run."""
    for path, valid in (
        ("network", NETWORKS),
        ("augmentation", AUGMENTATIONS),
        ("optim.optimizer", DECAYED),
        ("optim.schedule", SCHEDULES),
    ):
        if get(trial, path) not in valid:
            raise InputError(f"no {path} {get(trial, path)!r}.{nearest(get(trial, path), valid)}")
    for field in dataclasses.fields(trial.train):
        if getattr(trial.train, field.name) < 1:
            raise InputError(
                f"train.{field.name} must be above 0, not {getattr(trial.train, field.name)}"
            )
    if trial.train.steps * trial.train.batch_size >= 2**31:
        raise InputError("train: more than 2³¹ images are read, and they are counted in 32 bits")
    if not trial.optim.learning_rate > 0:
        raise InputError(f"optim.learning_rate must be above 0, not {trial.optim.learning_rate}")
    if not 0 <= trial.optim.momentum < 1:
        raise InputError(f"optim.momentum must be in [0, 1), not {trial.optim.momentum}")
    if not trial.optim.weight_decay >= 0:
        raise InputError(f"optim.weight_decay must be from 0, not {trial.optim.weight_decay}")
    if not 0 <= trial.seed < 2**31:
        raise InputError(f"seed must be from 0 to {2**31 - 1}, not {trial.seed}")
    if isinstance(trial.data, Images):
        _check_images(trial.data)
        known = images.SETS[trial.data.name]
        shape = _padded_shape(known.shape, NETWORKS[trial.network].input_shape)
        labels, num_classes = (), len(known.classes)
    else:
        shape = trial.data.size, trial.data.size, 3
        labels, num_classes = shape[:2], len(shapes.CLASSES)
    *positions, told_apart = logits_shape(trial.network, shape)
    if tuple(positions) != labels:
        raise InputError(
            f"{trial.network} classifies {_what(positions)}, and the labels are of {_what(labels)}"
        )
    if told_apart < num_classes:
        raise InputError(
            f"{trial.network} has {told_apart} classes, and the data has {num_classes}"
        )


_check_images = functools.cache(images.check)


@functools.cache
def logits_shape(network: str, shape: tuple[int, int, int]) -> tuple[int, ...]:
    """[K] or [H, W, K], of one image of this shape.

    Raises:
        ValueError: it is too small for the network.
    """
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    init = functools.partial(NETWORKS[network].module.init_with_output, train=False)
    logits, _ = jax.eval_shape(init, jax.random.key(0), image)
    return logits.shape[1:]


def _what(positions: Sequence[int]) -> str:
    return " × ".join(map(str, positions)) + " pixels" if positions else "whole images"


def _padded_shape(
    shape: tuple[int, int, int], smallest: tuple[int, int, int]
) -> tuple[int, int, int]:
    return max(shape[0], smallest[0]), max(shape[1], smallest[1]), shape[2]


def padded(split: Labelled, smallest: tuple[int, int, int]) -> Labelled:
    """Black on all sides of images that are smaller than the network was made for.

    As LeCun et al. 1998 did with the 28 × 28 digits for the 32 × 32 of LeNet-5. Images whose pixels
    have labels stay as they are.
    """
    shape = split.images.shape[1:]
    if split.labels.ndim > 1 or shape == _padded_shape(shape, smallest):
        return split
    rows, columns, _ = np.subtract(_padded_shape(shape, smallest), shape)
    border = [(0, 0), *((total // 2, total - total // 2) for total in (rows, columns)), (0, 0)]
    return split._replace(images=np.pad(split.images, border))


@functools.lru_cache(maxsize=1)
def load(config: Images | Shapes) -> tuple[ImageDataset, str]:
    dataset = (
        images.load_images(config) if isinstance(config, Images) else shapes.load_shapes(config)
    )
    return dataset, fingerprint(dataset)


def program(trial: Trial) -> Program:
    return Program(
        NETWORKS[trial.network].module,
        MASKS if isinstance(trial.data, Shapes) else CLASSES,
        trial.optim.optimizer,
        trial.optim.schedule,
        AUGMENTATIONS[trial.augmentation],
    )


def run(trial: Trial, folder: Path | None = None) -> tuple[TrainState, dict[str, Any]]:
    """Train the trial's network; its last state, and its metrics."""
    dataset, sha256 = load(trial.data)
    same_data(folder, sha256)
    smallest = NETWORKS[trial.network].input_shape
    dataset = dataset._replace(
        train=padded(dataset.train, smallest),
        valid=padded(dataset.valid, smallest),
        test=padded(dataset.test, smallest),
    )
    settings = DecaySettings(
        learning_rate=trial.optim.learning_rate,
        momentum=trial.optim.momentum,
        weight_decay=trial.optim.weight_decay,
        steps=trial.train.steps,
        seed=trial.seed,
    )
    state, metrics = fit(program(trial), settings, dataset, trial.train, folder)
    return state, metrics | {"dataset_sha256": sha256}


# The table

COLUMNS = (
    Column("params", "params", ",d"),
    Column("paper", "paper", ".2f"),
    Column("mark", "mark"),
    Column("train", "train", ".2f"),
    Column("test", "test", ".2f"),
    Column("ci95", "± 95%", ".2f"),
    Column("n", "n", "d"),
    Column("steps", "steps", ",d"),
    Column("per_second", "images/s", ",.0f"),
    Column("not_done", "not done"),
)
NOTES = (
    "train, test: mean over n seeds of the last network, in evaluation; ± 95% CI (Student t), none "
    "for one seed. Seeds change weights, order and augmentation, and not the split.",
    "images/s: trained on, median over epochs. not done: trials by status that are in no mean.",
)


def line(
    rows: list[dict[str, Any]],
    value: Callable[[dict[str, Any], str], float],
    paper: Published | None = None,
) -> dict[str, Any]:
    """The values under COLUMNS of runs that differ in their seeds alone.

    Args:
        rows: their results.
        value: what is shown of the metrics of one, on the split `train` or `test`.
        paper: what is published, if anything is.
    """
    done = [row["metrics"] for row in rows if row["status"] == results.DONE]
    others = Counter(row["status"] for row in rows if row["status"] != results.DONE)
    cells: dict[str, Any] = {
        "n": len(done),
        "not_done": ", ".join(f"{count} {status}" for status, count in sorted(others.items())),
    }
    if paper is not None:
        cells |= {"paper": 100 * paper.value, "mark": paper.mark}
    if done:
        seconds = statistics.median(metrics["seconds_per_step"] for metrics in done)
        cells |= {
            "params": done[0]["params"],
            "steps": done[0]["steps"],
            "per_second": rows[0]["config"]["train"]["batch_size"] / seconds,
            "train": mean_ci([value(metrics, "train") for metrics in done])[0],
        }
        cells["test"], cells["ci95"] = mean_ci([value(metrics, "test") for metrics in done])
    return cells


def error_percent(metrics: dict[str, Any], split: str) -> float:
    return 100 * metrics[f"{split}_error"]


def heading(config: dict[str, Any], recipe: Iterable[Trial]) -> str:
    """Budget and training of a result, and how it differs from what the recipe has for it."""
    train = config["train"]
    steps = train["epochs"] * train["steps_per_epoch"]
    told = f"{config['budget']} budget · {steps:,} steps of {train['batch_size']}"
    flat = {path: value for path, value in flatten(config).items() if path != "seed"}
    bases = [flatten(as_dict(trial)) for trial in recipe]
    if any(flat.items() <= base.items() for base in bases):
        return told
    alike = [base for base in bases if base["network"] == flat["network"]] or bases
    nearest_base = max(alike, key=lambda base: len(flat.items() & base.items()))
    changed = [f"{p}={v}" for p, v in flat.items() if nearest_base.get(p) != v]
    return " · ".join([told, "not in the recipe", *changed])


# The curves


def draw_curves(axes: "Axes", title: str, curves: dict[str, dict[str, Any]]) -> None:
    """Error against steps, as in Figure 6 of He et al. 2015: training thin, validation bold.

    Args:
        axes: to draw into.
        title: of them.
        curves: the metrics of a run by what it is called; each gets a colour.
    """
    from seqlab import plots

    for name, metrics in curves.items():
        steps, train, valid = zip(*metrics["curve"], strict=True)
        (bold,) = axes.plot(steps, [100 * error for error in valid], linewidth=2, label=name)
        axes.plot(steps, [100 * error for error in train], linewidth=0.8, color=bold.get_color())
    axes.set_ylim(bottom=0)
    plots.label(axes, title, "step", "error, %: thin training, bold validation")


def fresh_name(name: str, taken: Container[str]) -> str:
    """The name, or with the first number behind it that makes it new."""
    numbered = (f"{name}_{number}" for number in itertools.count(2))
    return next(n for n in itertools.chain([name], numbered) if n not in taken)
