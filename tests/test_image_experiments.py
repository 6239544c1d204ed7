"""The recipes, tables and figures of the experiments on images, on results made up for it."""

import dataclasses
import json
from collections import Counter

import flax.linen as nn
import jax
import numpy as np
import pytest
from scipy import stats

from experiments import image_classifiers, residual_vs_plain, segmentation
from seqlab import image_trial, results
from seqlab.data.images import Images, Labelled
from seqlab.data.shapes import Shapes, load_shapes
from seqlab.errors import InputError
from seqlab.image_trial import Trial
from seqlab.models.convnets import NETWORKS, Network
from seqlab.train_images import TrainConfig
from seqlab.trial import as_dict, replace, set_values, trial_id

EXPERIMENTS = residual_vs_plain, image_classifiers, segmentation
BUDGETS = ("smoke", "default", "paper")
METRICS = {
    "train_error": 0.1,
    "test_error": 0.2,
    "params": 1000,
    "steps": 500,
    "seconds_per_step": 0.5,
    "curve": [[100, 0.5, 0.4], [200, 0.3, 0.25]],
}


@pytest.fixture(autouse=True)
def no_files(monkeypatch):
    """No test here needs a prepared data set."""
    monkeypatch.setattr(image_trial, "_check_images", lambda config: None)


def row(trial, status=results.DONE, **metrics):
    done = METRICS | metrics if status == results.DONE else metrics
    config = json.loads(json.dumps(as_dict(trial)))
    return {"trial_id": trial_id(trial), "config": config, "status": status, "metrics": done}


def first(experiment, budget="paper", **wanted):
    return next(
        t
        for t in experiment.trials(budget)
        if all(getattr(t, name) == value for name, value in wanted.items())
    )


# The recipes


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda e: e.__name__)
def test_every_trial_can_be_run_and_is_there_once(experiment, budget):
    trials = experiment.trials(budget)
    assert len({trial_id(trial) for trial in trials}) == len(trials) > 0
    for trial in trials:
        experiment.check(trial)
        assert trial.budget == budget
    seeds = Counter((trial.network, trial.data) for trial in trials)
    assert len(set(seeds.values())) == 1, "as many seeds for each"
    with pytest.raises(InputError, match=r"no budget 'papr'\. Did you mean 'paper'\?"):
        experiment.trials("papr")


def test_the_paper_budget_is_the_protocol_of_the_residual_networks():
    trials = residual_vs_plain.trials("paper")
    networks = {"plain20_cifar", "plain56_cifar", "resnet20_cifar", "resnet56_cifar"}
    assert {(trial.network, trial.seed) for trial in trials} == {
        (network, seed) for network in networks for seed in range(5)
    }
    for trial in trials:
        assert (trial.train.batch_size, trial.train.steps) == (128, 64_000)
        assert trial.data == Images("cifar10_jpeg", 5_000)
        optim = trial.optim
        assert (optim.optimizer, optim.schedule) == ("sgd_momentum", "staircase")
        assert (optim.learning_rate, optim.momentum, optim.weight_decay) == (0.1, 0.9, 1e-4)
        assert trial.augmentation == "pad_crop_flip"


def test_what_the_paper_says_is_transcribed():
    published = {k[2]: (v.value, v.mark) for k, v in residual_vs_plain.PUBLISHED.items()}
    assert published["resnet20_cifar"] == (0.0875, "v")
    assert published["resnet56_cifar"] == (0.0697, "v")
    assert {published[f"plain{n}_cifar"][1] for n in (20, 56)} == {"f"}, "nowhere printed"
    lenet = image_classifiers.PUBLISHED["mnist", "test_error", "LeNet-5"]
    assert lenet.value == 0.0095


# What cannot be run


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("network=resnet20_cifr", r"no network 'resnet20_cifr'\. Did you mean 'resnet20_cifar'\?"),
        (
            "network=unet_small",
            "unet_small classifies 64 × 64 pixels, and the labels are of whole images",
        ),
        ("augmentation=flip", "no augmentation 'flip'"),
        ("optim.optimizer=sgd", r"no optim\.optimizer 'sgd'"),
        ("optim.schedule=cosin", r"Did you mean 'cosine'"),
        ("optim.learning_rate=0", r"optim\.learning_rate must be above 0, not 0\.0"),
        ("optim.momentum=1", r"optim\.momentum must be in \[0, 1\), not 1\.0"),
        ("optim.weight_decay=-1", r"optim\.weight_decay must be from 0, not -1\.0"),
        ("train.batch_size=0", r"train\.batch_size must be above 0, not 0"),
        ("train.epochs=100000000", "they are counted in 32 bits"),
        ("seed=-1", "seed must be from 0 to 2147483647, not -1"),
    ],
)
def test_bad_values_are_told_in_one_line_before_any_work(assignment, message):
    trials = set_values(residual_vs_plain.trials("smoke")[:1], [assignment])
    with pytest.raises(InputError, match=message) as error:
        residual_vs_plain.check(trials[0])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("network=vgg_small", "vgg_small classifies whole images, and the labels are of 64 × 64"),
        ("network=unet", r"unet|window"),
        ("data.size=18", "18|window|9×9"),
    ],
)
def test_bad_values_of_segmentation(assignment, message):
    trials = set_values(segmentation.trials("smoke"), [assignment])
    with pytest.raises((InputError, ValueError), match=message) as error:
        segmentation.check(trials[0])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["train.batch_size", "data.name", "network", "optim.schedule"])
def test_what_is_set_on_the_command_line_is_what_is_run(name):
    values = {
        "train.batch_size": "32",
        "data.name": "mnist",
        "network": "vgg_small",
        "optim.schedule": "cosine",
    }
    trials = set_values(residual_vs_plain.trials("smoke"), [f"{name}={values[name]}"])
    for trial in trials:
        residual_vs_plain.check(trial)
    assert len({trial_id(trial) for trial in trials}) == (1 if name == "network" else 2)


# Images that are smaller than the network was made for


@pytest.mark.parametrize(("height", "width"), [(28, 28), (27, 30), (32, 32), (40, 20)])
def test_small_images_get_a_black_border_on_all_sides(height, width):
    rng = np.random.default_rng(0)
    images = rng.integers(1, 256, size=(2, height, width, 1)).astype(np.uint8)
    split = Labelled(images, np.zeros(2, np.int32))
    ours = image_trial.padded(split, (32, 32, 1)).images
    assert ours.shape == (2, max(height, 32), max(width, 32), 1)
    rows, columns = (np.flatnonzero(ours[0, :, :, 0].any(axis=axis)) for axis in (1, 0))
    np.testing.assert_array_equal(
        ours[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], images
    )
    for chosen, total in ((rows, ours.shape[1]), (columns, ours.shape[2])):
        before, after = chosen[0], total - 1 - chosen[-1]
        assert 0 <= after - before <= 1


# Tables


def seeds(trial, errors):
    return [
        row(replace(trial, {"seed": seed}), test_error=error, train_error=error / 2)
        for seed, error in enumerate(errors)
    ]


def lines(table, **wanted):
    return [r for r in table.rows if all(r.get(k) == v for k, v in wanted.items())]


def test_table_has_the_paper_beside_the_mean_of_the_seeds():
    errors = [0.08, 0.09, 0.11]
    rows = seeds(first(residual_vs_plain, network="resnet20_cifar"), errors)
    rows += seeds(first(residual_vs_plain, network="plain56_cifar"), [0.2])
    rows.append(
        row(replace(first(residual_vs_plain, network="resnet20_cifar"), {"seed": 4}), "OOM")
    )
    (line,) = lines(residual_vs_plain.table(rows), network="resnet20_cifar")
    half = stats.sem(errors) * stats.t.ppf(0.975, 2)
    assert (line["paper"], line["mark"]) == (pytest.approx(8.75), "v")
    assert line["test"] == pytest.approx(100 * np.mean(errors))
    assert line["train"] == pytest.approx(50 * np.mean(errors))
    assert line["ci95"] == pytest.approx(100 * half)
    assert (line["n"], line["steps"], line["params"]) == (3, 500, 1000)
    assert line["per_second"] == 128 / 0.5
    assert line["not_done"] == "1 OOM"
    (other,) = lines(residual_vs_plain.table(rows), network="plain56_cifar")
    assert (other["n"], other["ci95"]) == (1, None)
    assert line["section"] == other["section"]


def test_sections_are_budgets_and_what_is_not_in_the_recipe_stands_apart():
    smoke = first(residual_vs_plain, "smoke")
    paper = first(residual_vs_plain, "paper")
    rows = [row(t) for t in (paper, smoke, replace(smoke, {"train.batch_size": 32}))]
    table = residual_vs_plain.table(rows)
    assert [line["section"] for line in table.rows] == [
        "cifar10_jpeg · smoke budget · 200 steps of 64",
        "cifar10_jpeg · smoke budget · 200 steps of 32 · not in the recipe · train.batch_size=32",
        "cifar10_jpeg · paper budget · 64,000 steps of 128",
    ]
    assert residual_vs_plain.SHORT_NOTE in table.notes
    assert residual_vs_plain.SHORT_NOTE not in residual_vs_plain.table(rows[:1]).notes


def test_a_network_of_which_nothing_is_done_has_a_line():
    trial = first(residual_vs_plain, network="plain20_cifar")
    diverged = row(trial, "DIVERGED", diverged_at_step=3)
    (line,) = residual_vs_plain.table([diverged]).rows
    assert (line["n"], line["not_done"], line.get("test")) == (0, "1 DIVERGED", None)
    assert residual_vs_plain.figures([diverged]) == {}


def test_classifiers_stand_below_what_others_have_reached():
    rows = [row(t) for t in image_classifiers.trials("default")]
    table = image_classifiers.table(rows)
    ours = lines(table, source="ours")
    assert [(line["data"], line["network"], line["n"]) for line in ours] == [
        ("mnist", "lenet5", 3),
        ("fashion_mnist", "vgg_small", 3),
        ("cifar10_jpeg", "vgg_small", 3),
    ]
    assert [line["paper"] for line in lines(table, network="LeNet-5")] == [pytest.approx(0.95)]
    for line in ours:
        section = lines(table, section=line["section"])
        assert len(section) > 1
        assert section[-1] == line
        assert all("paper" in other and "source" in other for other in section[:-1])


# Segmentation


def test_a_flat_pixel_has_the_colour_of_its_left_or_right_neighbour():
    rng = np.random.default_rng(0)
    images = rng.integers(2, size=(3, 5, 6, 3)).astype(np.uint8)
    ours = segmentation.flat_pixels(images)
    for n, i, j in np.ndindex(ours.shape):
        sides = [k for k in (j - 1, j + 1) if 0 <= k < 6]
        expected = any((images[n, i, j] == images[n, i, k]).all() for k in sides)
        assert ours[n, i, j] == expected


def test_iou_of_a_rule_is_that_of_a_loop():
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(3, size=(2, 4, 4, 5)).astype(np.uint8)
    ours = segmentation.iou(guess, Labelled(np.zeros((4, 4, 5, 3), np.uint8), truth))
    both, either = Counter(), Counter()
    for a, b in zip(guess.ravel().tolist(), truth.ravel().tolist(), strict=True):
        both[a] += a == b
        either.update({a, b})
    assert ours == [both[k] / either[k] for k in range(3)] + [None]


@pytest.mark.parametrize("seed", range(3))
def test_run_lengths_give_the_mask_back(seed):
    mask = np.random.default_rng(seed).integers(2, size=(7, 7)) * seed
    assert json.loads(json.dumps(segmentation.run_lengths(mask))) == segmentation.run_lengths(mask)
    np.testing.assert_array_equal(
        segmentation.from_run_lengths(segmentation.run_lengths(mask), 7), mask
    )


class Tiny(nn.Module):
    """Classes of pixels, in no time."""

    @nn.compact
    def __call__(self, images, train=False):
        return nn.Conv(4, (3, 3))(images)


TINY = Trial(
    "smoke",
    "unet_small",
    Shapes(size=16, train_size=12, valid_size=3, test_size=6),
    TrainConfig(4, 2, 3, 10),
    segmentation.ADAM,
)


@pytest.fixture(scope="module")
def segmented():
    """A whole run, of a network in the place of the U-Net."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "unet_small", Network(Tiny(), (16, 16, 3)))
        patch.setattr(image_trial, "logits_shape", lambda network, shape: (*shape[:2], 4))
        with jax.numpy_dtype_promotion("standard"):  # Adam of optax
            return segmentation.run(TINY)


def test_the_masks_that_a_result_keeps_are_those_that_were_scored(segmented):
    """Six test pictures: the kept masks are all, and give the metrics again."""
    json.dumps(segmented, allow_nan=False)
    test = load_shapes(TINY.data).test
    masks = np.stack([segmentation.from_run_lengths(m, 16) for m in segmented["examples"]])
    assert (masks != test.labels).mean() == pytest.approx(segmented["test_error"])
    assert segmentation.iou(masks, test) == pytest.approx(segmented["test_iou"])
    assert len(segmented["curve"]) == 2
    nothing = segmented["baselines"]["everything is background"]
    assert nothing == pytest.approx([(test.labels == 0).mean(), 0, 0, 0])


def test_segmentation_table_has_baselines_and_network(segmented):
    rows = [row(TINY, **segmented), row(replace(TINY, {"seed": 1}), **segmented)]
    table = segmentation.table(rows)
    assert [line["name"] for line in table.rows] == [*segmented["baselines"], "unet_small"]
    ours = table.rows[-1]
    assert ours["iou_disc"] == pytest.approx(segmented["test_iou"][1])
    assert ours["mean_iou"] == pytest.approx(segmented["test_mean_iou"])
    assert ours["error"] == pytest.approx(100 * segmented["test_error"])
    assert (ours["n"], ours["ci95"]) == (2, pytest.approx(0, abs=1e-9))
    for line, values in zip(table.rows, segmented["baselines"].values(), strict=False):
        assert line["mean_iou"] == pytest.approx(np.mean(values))


# Figures


def test_curves_are_those_of_the_results():
    pytest.importorskip("matplotlib")
    curve = [[100, 0.9, 0.8], [200, 0.5, 0.6]]
    rows = [row(t, curve=curve) for t in residual_vs_plain.trials("default")]
    rows += [row(t) for t in residual_vs_plain.trials("smoke")]
    drawn = residual_vs_plain.figures(rows)
    assert list(drawn) == ["errors_smoke", "errors_default"]
    for panel, family in zip(drawn["errors_default"].axes, ("plain", "residual"), strict=True):
        names = [text.get_text() for text in panel.get_legend().get_texts()]
        assert names == [f"{family}, 20 layers", f"{family}, 56 layers"]
        bold = [line for line in panel.lines if line.get_linewidth() > 1]
        thin = [line for line in panel.lines if line.get_linewidth() < 1]
        assert len(bold) == len(thin) == 2
        for one, other in zip(bold, thin, strict=True):
            np.testing.assert_allclose(one.get_xydata(), [(100, 80), (200, 60)])
            np.testing.assert_allclose(other.get_xydata(), [(100, 90), (200, 50)])
            assert one.get_color() == other.get_color()
        assert bold[0].get_color() != bold[1].get_color()


def test_every_data_set_has_a_figure_with_all_its_seeds():
    pytest.importorskip("matplotlib")
    rows = [row(t) for t in image_classifiers.trials("default")]
    rows += [row(replace(t, {"train.epochs": 3})) for t in image_classifiers.trials("default")[:1]]
    drawn = image_classifiers.figures(rows)
    names = ["mnist_default", "fashion_mnist_default", "cifar10_jpeg_default"]
    assert sorted(drawn) == sorted([*names, "cifar10_jpeg_default_2"])
    for name in names:
        assert len(drawn[name].axes[0].lines) == 2 * 3


def test_masks_are_drawn_under_their_pictures(segmented):
    pytest.importorskip("matplotlib")
    (figure,) = segmentation.figures([row(TINY, **segmented)]).values()
    pictures = [panel.get_images()[0].get_array() for panel in figure.axes]
    assert len(pictures) == 3 * 6
    test = load_shapes(TINY.data).test
    for n in range(6):
        np.testing.assert_allclose(pictures[n], test.images[n] / 255)
        for drawn, mask in (
            (pictures[6 + n], test.labels[n]),
            (pictures[12 + n], segmentation.from_run_lengths(segmented["examples"][n], 16)),
        ):
            colours = {k: tuple(np.unique(drawn[mask == k], axis=0)[0]) for k in np.unique(mask)}
            assert len(set(colours.values())) == len(colours)
            for k, colour in colours.items():
                np.testing.assert_allclose(drawn[mask == k] - colour, 0)


def test_trials_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TINY.seed = 1
