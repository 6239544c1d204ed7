"""A small U-Net on generated shapes: the class of each pixel of a noisy picture.

Claim: the class of a shape is in its outline, not in its colour; a network that combines fine and
coarse features recognises it at every pixel.

    python launch.py run segmentation --budget smoke    100 steps; two minutes
    python launch.py run segmentation                   500 steps; six minutes on one core
    python launch.py run segmentation --budget paper    6,000 steps, three seeds; ours, too
    python launch.py plot segmentation                  six test pictures: seen, true, predicted

Protocol: ours. Cross entropy of each pixel, batches of 32, AdamW, the rate falls by a cosine. The
IoU of a class: pixels in both masks over pixels in either one, of all test pictures together.
What it has to beat: calling everything background, and the rule that a pixel of exactly its
neighbour's colour lies on a shape, of the class that has most pixels.

Source: Ronneberger, Fischer and Brox, U-Net, 2015, for the form of the network; the task is ours.
"""

import dataclasses
import itertools
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from seqlab import image_trial, results
from seqlab.batches import on_device, take
from seqlab.data.images import ImageDataset, Labelled
from seqlab.data.shapes import CLASSES, Shapes, load_shapes
from seqlab.errors import InputError, nearest
from seqlab.image_trial import Optim, Trial, check, heading
from seqlab.intervals import mean_ci
from seqlab.tables import Column, Table
from seqlab.train_images import TrainConfig, logits_of
from seqlab.trial import BUDGETS, replace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check", "figures", "run", "table", "trials"]

EXAMPLES = 6  # test pictures whose predicted masks the result keeps
ADAM = Optim("adamw", "cosine", learning_rate=3e-3, weight_decay=1e-4)


def trials(budget: str) -> list[Trial]:
    """One network from every seed."""
    num_seeds = 1
    if budget == "smoke":
        train = TrainConfig(32, 2, 50, 500)
    elif budget == "default":
        train = TrainConfig(32, 10, 50, 500)
    elif budget == "paper":
        train, num_seeds = TrainConfig(32, 60, 100, 5_000), 3
    else:
        raise InputError(f"no budget {budget!r}.{nearest(budget, BUDGETS)}")
    base = Trial(budget, "unet_small", Shapes(), train, ADAM)
    return [replace(base, {"seed": seed}) for seed in range(num_seeds)]


def run(trial: Trial, folder: Path | None = None) -> dict[str, Any]:
    """Train the trial's network; its metrics, those of the baselines, and a few of its masks."""
    state, metrics = image_trial.run(trial, folder)
    dataset, _ = image_trial.load(trial.data)
    _, _, test = on_device(dataset)
    images, _ = take(test, jnp.arange(min(EXAMPLES, len(test.images))))
    masks = np.asarray(logits_of(image_trial.program(trial), state, images).argmax(axis=-1))
    return metrics | {
        "baselines": baselines(dataset),
        "examples": [run_lengths(mask) for mask in masks],
    }


# What the network has to beat


def baselines(dataset: ImageDataset) -> dict[str, list[float | None]]:
    """The IoU of every class on the test split, by the name of the rule."""
    pixels = np.bincount(dataset.train.labels.ravel(), minlength=len(dataset.classes))
    most = 1 + int(pixels[1:].argmax())
    flat = flat_pixels(dataset.test.images)
    return {
        "everything is background": iou(np.zeros_like(dataset.test.labels), dataset.test),
        f"what is flat is a {dataset.classes[most]}": iou(
            np.where(flat, np.uint8(most), np.uint8(0)), dataset.test
        ),
    }


def flat_pixels(images: np.ndarray) -> np.ndarray:
    """bool [N, H, W]: the pixel has the very colour of the one to its left or to its right."""
    alike = (images[:, :, 1:] == images[:, :, :-1]).all(axis=-1)
    edge = np.zeros_like(alike[:, :, :1])
    return np.concatenate([alike, edge], axis=2) | np.concatenate([edge, alike], axis=2)


def iou(guess: np.ndarray, truth: Labelled) -> list[float | None]:
    """Of every class; None where neither has it."""
    pairs = [(guess == k, truth.labels == k) for k in range(len(CLASSES))]
    return [float((a & b).sum() / (a | b).sum()) if (a | b).any() else None for a, b in pairs]


# Masks in a result


def run_lengths(mask: np.ndarray) -> list[list[int]]:
    """[class, how often] along the rows of a mask [H, W], one row after the other."""
    return [[int(k), len(list(group))] for k, group in itertools.groupby(mask.ravel().tolist())]


def from_run_lengths(runs: list[list[int]], size: int) -> np.ndarray:
    """The mask [size, size]."""
    classes, lengths = np.array(runs).T
    return np.repeat(classes, lengths).reshape(size, size)


# The table and the figure

COLUMNS = (
    Column("section", "section"),
    Column("name", "predictor"),
    Column("params", "params", ",d"),
    *(Column(f"iou_{name}", name, ".3f") for name in CLASSES),
    Column("mean_iou", "mean IoU", ".3f"),
    Column("ci95", "± 95%", ".3f"),
    Column("error", "pixel error, %", ".2f"),
    Column("n", "n", "d"),
    Column("steps", "steps", ",d"),
    Column("per_second", "images/s", ",.0f"),
    Column("not_done", "not done"),
    Column("budget", "budget", data_only=True),
)
NOTES = (
    "IoU of the test split: pixels in both masks over pixels in either, summed over all pictures "
    "before the division; means over n seeds; ± 95% CI (Student t) of the mean IoU.",
    "what is flat: pixels of exactly the colour of their left or right neighbour, all labelled as "
    "the shape that covers most of the training pictures.",
)


def table(rows: list[dict[str, Any]]) -> Table:
    """The baselines and the network, a section a budget."""
    lines = []
    for section, networks in _grouped(rows).items():
        some = next(iter(networks.values()))[0]
        place = {"section": section, "budget": some["config"]["budget"]}
        done = [r for alike in networks.values() for r in alike if r["status"] == results.DONE]
        for name, values in (done[0]["metrics"]["baselines"] if done else {}).items():
            lines.append(place | {"name": name} | _iou_cells([values]))
        for network, alike in networks.items():
            lines.append(place | {"name": network} | _line(alike))
    return Table("Segmentation of shapes", COLUMNS, tuple(lines), "section", NOTES)


def _grouped(rows: list[dict[str, Any]]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    groups: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in sorted(rows, key=lambda r: (BUDGETS.index(r["config"]["budget"]), r["trial_id"])):
        config = row["config"]
        section = heading(config, trials(config["budget"]))
        groups[section][config["network"]].append(row)
    return groups


def _line(rows: list[dict[str, Any]]) -> dict[str, Any]:
    shared = image_trial.line(rows, image_trial.error_percent)
    kept = {key: shared[key] for key in shared.keys() & {column.key for column in COLUMNS}}
    done = [row["metrics"] for row in rows if row["status"] == results.DONE]
    if not done:
        return kept
    mean, ci95 = mean_ci([metrics["test_mean_iou"] for metrics in done])
    cells = _iou_cells([metrics["test_iou"] for metrics in done])
    return kept | cells | {"mean_iou": mean, "ci95": ci95, "error": shared["test"]}


def _iou_cells(runs: list[list[float | None]]) -> dict[str, float | None]:
    """Means over runs of every class, and over classes; a class that is nowhere stays empty."""
    cells = {}
    for name, values in zip(CLASSES, zip(*runs, strict=True), strict=True):
        there = [value for value in values if value is not None]
        cells[f"iou_{name}"] = float(np.mean(there)) if there else None
    there = [value for value in cells.values() if value is not None]
    return cells | {"mean_iou": float(np.mean(there))}


def figures(rows: list[dict[str, Any]]) -> "dict[str, Figure]":
    """Six test pictures, their true masks and those of the first seed."""
    from matplotlib.patches import Patch

    from seqlab import plots

    drawn = {}
    for networks in _grouped([row for row in rows if row["status"] == results.DONE]).values():
        for network, alike in networks.items():
            row = min(alike, key=lambda row: row["config"]["seed"])
            data = {k: v for k, v in row["config"]["data"].items() if k != "kind"}
            test = load_shapes(dataclasses.replace(Shapes(**data), train_size=1, valid_size=1)).test
            masks = [from_run_lengths(runs, data["size"]) for runs in row["metrics"]["examples"]]
            figure, axes = plots.panels(3, len(masks), height=3.7)
            for number, mask in enumerate(masks):
                plots.picture(axes[0, number], test.images[number] / 255)
                plots.picture(axes[1, number], _coloured(test.labels[number]))
                plots.picture(axes[2, number], _coloured(mask))
            for panel, title in zip(axes[:, 0], ("picture", "truth", network), strict=True):
                panel.set_ylabel(title)
            shown = [
                Patch(color=colour, label=name)
                for name, colour in zip(CLASSES[1:], plots.COLOURS, strict=False)
            ]
            figure.legend(handles=shown, loc="outside lower center", ncols=len(shown))
            name = f"masks_{row['config']['budget']}"
            drawn[image_trial.fresh_name(name, drawn)] = figure
    return drawn


def _coloured(mask: np.ndarray) -> np.ndarray:
    """[H, W, 3]: background white, every shape its colour."""
    from matplotlib.colors import to_rgb

    from seqlab import plots

    return np.array([(1.0, 1.0, 1.0), *map(to_rgb, plots.COLOURS[: len(CLASSES) - 1])])[mask]
