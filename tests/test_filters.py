"""The filters are the printed ones, the answers those of scipy, and the verdicts can fail."""

import json
import math

import numpy as np
import pytest
from scipy.signal import correlate2d

from experiments import filters
from experiments.filters import DIRECTIONS, FILTERS, Trial
from seqlab import tables
from seqlab.errors import InputError
from seqlab.trial import BUDGETS, as_dict, trial_id

SUMS = {
    "box": 1.0,
    "gaussian": 0.9995,
    "sharpen": 1.0,
    "horizontal_edge": 0.0,
    "vertical_edge": 0.0,
    "motion": 1.0001,
}
NO_FILTER = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], np.float32)


def weights_of(name: str) -> np.ndarray:
    return np.array(FILTERS[name].weights, np.float32)


def described(weights: np.ndarray) -> dict[str, float]:
    picture = filters.picture()
    return filters.describe(picture, weights, np.asarray(filters.answer(picture, weights)))


@pytest.fixture(scope="module")
def metrics() -> dict[str, dict]:
    return {name: filters.run(Trial(name)) for name in FILTERS}


# The weights, from where they come


def gaussian(size: int, sigma: float) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - size // 2
    weights = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    return weights / weights.sum()


def motion(length: int) -> np.ndarray:
    """A line of this length at 45°, one pixel wide: what each pixel of it is worth."""
    half, side = (length - 1) / 2, math.sqrt(0.5)
    reach = int(half * side + 1)
    weights = np.zeros((2 * reach + 1, 2 * reach + 1))
    for y in range(reach + 1):
        for x in range(-reach, reach + 1):
            off_line = (y - x) * side
            if math.hypot(x, y) >= half and abs(off_line) <= 1 and x >= 0:  # past its end
                beyond = half - abs((x + off_line * side) / side)
                off_line = math.hypot(off_line, beyond)
            weights[reach + y, reach + x] = max(0.0, 1 - abs(off_line))
    weights = np.maximum(weights, weights[::-1, ::-1])
    return weights / weights.sum()


@pytest.mark.parametrize(
    ("name", "expected"), [("gaussian", gaussian(5, 0.5)), ("motion", motion(5))]
)
def test_printed_weights_are_the_formula_to_four_decimals(name, expected):
    np.testing.assert_allclose(weights_of(name), expected, rtol=0, atol=0.5001e-4)


def test_small_filters():
    smooth, slope = np.ones(3), np.array([1, 0, -1])
    laplace = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    np.testing.assert_array_equal(weights_of("sharpen"), NO_FILTER - laplace)
    np.testing.assert_array_equal(weights_of("horizontal_edge"), np.outer(slope, smooth))
    np.testing.assert_array_equal(weights_of("vertical_edge"), np.outer(smooth, slope))
    np.testing.assert_allclose(weights_of("box"), np.outer(smooth, smooth) / 9, rtol=1e-7)


@pytest.mark.parametrize("name", FILTERS)
def test_the_sum_of_the_weights(name, metrics):
    assert math.isclose(metrics[name]["weight_sum"], SUMS[name], abs_tol=1e-12)


# The answers


@pytest.mark.parametrize("name", FILTERS)
def test_answers_are_those_of_scipy(name):
    noise = np.random.default_rng(0).normal(size=(17, 23)).astype(np.float32)
    for image in (filters.picture(), noise):
        expected = correlate2d(image.astype(np.float64), weights_of(name), mode="valid")
        answer = np.asarray(filters.answer(image, weights_of(name)))
        np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "axis"), [("horizontal_edge", 0), ("vertical_edge", 1)])
def test_an_edge_filter_sees_one_slope_and_is_not_turned_over(name, axis):
    ramp = np.broadcast_to(np.expand_dims(np.arange(8.0, dtype=np.float32), 1 - axis), (8, 8))
    np.testing.assert_array_equal(filters.answer(ramp, weights_of(name)), np.full((6, 6), -6.0))
    np.testing.assert_array_equal(filters.answer(ramp.T, weights_of(name)), np.zeros((6, 6)))


def test_the_picture_is_one_picture_with_edges_on_all_sides():
    picture = filters.picture()
    assert (picture.shape, picture.dtype) == ((256, 256), np.float32)
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert len(np.unique(picture)) > 1000  # slow gradients
    for down, across in DIRECTIONS.values():
        moved = np.roll(picture, (down, across), (0, 1))
        assert np.mean(np.abs(moved - picture)[2:-2, 2:-2] > 0.3) > 0.01


def test_metrics_by_loops(metrics):
    rng = np.random.default_rng(1)
    image, weights = rng.normal(size=(9, 11)), rng.normal(size=(3, 3))
    response = correlate2d(image, weights, mode="valid")
    found = filters.describe(image, weights, response)
    below = image[1:-1, 1:-1]
    height, width = below.shape
    for name, (down, across) in DIRECTIONS.items():
        squares = {id(a): [] for a in (response, below)}
        for array in (response, below):
            for y in range(height - down):
                for x in range(width):
                    if 0 <= x + across < width:
                        step = array[y + down, x + across] - array[y, x]
                        squares[id(array)].append(step**2)
        expected = np.mean(squares[id(response)]) / np.mean(squares[id(below)])
        assert math.isclose(found[name], expected, rel_tol=1e-12)
    assert math.isclose(found["mean"], response.sum() / response.size)
    deviations = (response - response.mean()) ** 2
    assert math.isclose(found["variance"], deviations.sum() / response.size)
    # inside, the slope is half the difference of the two neighbours
    down, across = np.gradient(below)
    np.testing.assert_allclose(down[1:-1], (below[2:] - below[:-2]) / 2)
    for name, slope in (("slope_down", down), ("slope_across", across)):
        centred = (response - response.mean()).ravel(), (slope - slope.mean()).ravel()
        cosine = (
            centred[0] @ centred[1] / np.sqrt(centred[0] @ centred[0] * (centred[1] @ centred[1]))
        )
        assert math.isclose(found[name], cosine, abs_tol=1e-12)


# Verdicts


def test_each_filter_does_what_is_said_of_it(metrics):
    for name, filter in FILTERS.items():
        assert filter.holds(metrics[name]), name


BLURS = {"box", "gaussian", "motion"}


@pytest.mark.parametrize("name", FILTERS)
def test_no_verdict_is_given_to_a_filter_that_does_something_else(name, metrics):
    same = {other for other in FILTERS if FILTERS[name].holds(metrics[other])}
    assert same == (BLURS if name in ("box", "gaussian") else {name})
    turned = described(np.ascontiguousarray(weights_of(name)[:, ::-1]))
    assert FILTERS[name].holds(turned) == (name not in ("vertical_edge", "motion"))
    assert not FILTERS[name].holds(described(NO_FILTER))


def rows(metrics: dict[str, dict]) -> list[dict]:
    return [
        {
            "trial_id": trial_id(Trial(name)),
            "config": as_dict(Trial(name)),
            "status": "DONE",
            "metrics": metrics[name],
        }
        for name in sorted(metrics)
    ]


def test_the_table(metrics):
    found = rows(metrics)
    shown = json.loads(tables.render(filters.table(found), "json"))
    assert [row["filter"] for row in shown["rows"]] == [f.title for f in FILTERS.values()]
    assert {row["verdict"] for row in shown["rows"]} == {"agrees"}
    for row, (name, filter) in zip(shown["rows"], FILTERS.items(), strict=True):
        assert row["weights"] == [list(weights) for weights in filter.weights]
        assert row["variance"] == metrics[name]["variance"]
    text = tables.render(filters.table(found), "text")
    assert "Motion: .0304 .0501 0 0 0 | .0501 .1771 .0519 0 0 |" in text
    assert "Box: 1/9 1/9 1/9 |" in text
    (broken,) = (row for row in found if row["config"]["filter"] == "box")
    (other,) = (row for row in found if row["config"]["filter"] == "sharpen")
    failed = [broken | {"metrics": metrics["sharpen"]}, other | {"status": "FAILED", "metrics": {}}]
    assert [row["verdict"] for row in filters.table(failed).rows] == ["differs", "FAILED"]


def test_every_budget_is_the_same_and_a_wrong_name_is_told():
    assert all(filters.trials(budget) == filters.trials("smoke") for budget in BUDGETS)
    for trial in filters.trials("smoke"):
        filters.check(trial)
    with pytest.raises(InputError, match="Did you mean 'sharpen'"):
        filters.check(Trial("sharpn"))


def test_the_figure_shows_the_picture_and_every_answer(metrics):
    found = rows(metrics)
    found[0]["status"] = "FAILED"
    drawn = {f.title: name for name, f in FILTERS.items() if name != "box"} | {"Picture": ""}
    assert found[0]["config"]["filter"] == "box"
    (figure,) = filters.figures(found).values()
    assert {axes.get_title() or axes.get_title("left") for axes in figure.axes} == set(drawn)
    for axes in figure.axes:
        name = drawn[axes.get_title() or axes.get_title("left")]
        shown = axes.images[0].get_array()
        expected = (
            filters.picture() if not name else filters.answer(filters.picture(), weights_of(name))
        )
        np.testing.assert_array_equal(shown, expected)
        if name in ("horizontal_edge", "vertical_edge"):
            low, high = axes.images[0].get_clim()
            assert low == -high
            assert high == np.abs(expected).max()
