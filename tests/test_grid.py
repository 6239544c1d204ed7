"""Products and random search."""

from collections import Counter
from dataclasses import dataclass

import pytest
from scipy import stats

from seqlab.errors import InputError
from seqlab.grid import product, random_search


@dataclass(frozen=True)
class Point:
    x: int = 0
    y: str = "-"
    z: float = 0.0


SPACE = {"x": (1, 2, 3), "y": ("a", "b", "c", "d", "e"), "z": (0.1, 0.2)}


def test_a_product_is_nested_loops_with_the_last_axis_innermost():
    points = product(Point(z=9.0), {"x": (1, 2), "y": ("a", "b", "c")})
    assert points == [Point(x, y, 9.0) for x in (1, 2) for y in ("a", "b", "c")]


def test_a_product_of_no_axes_is_the_base():
    assert product(Point(3), {}) == [Point(3)]


def test_a_product_over_an_unknown_field_is_refused():
    with pytest.raises(InputError, match="no field 'w'"):
        product(Point(), {"w": (1,)})


def test_a_larger_search_begins_with_the_smaller_one():
    settings = random_search(SPACE, 40, seed=1)
    assert len(settings) == 40
    for count in (0, 1, 7, 39):
        assert random_search(SPACE, count, seed=1) == settings[:count]
    assert random_search(SPACE, 40, seed=2) != settings


def test_draws_are_uniform_and_independent():
    settings = random_search(SPACE, 6000, seed=0)
    for path, values in SPACE.items():
        counts = Counter(setting[path] for setting in settings)
        assert set(counts) == set(values)
        assert stats.chisquare(list(counts.values())).pvalue > 1e-3
    cells = Counter(tuple(setting.values()) for setting in settings)
    assert len(cells) == 3 * 5 * 2
    assert stats.chisquare(list(cells.values())).pvalue > 1e-3
    following = Counter(
        (a["y"], b["y"]) for a, b in zip(settings[::2], settings[1::2], strict=True)
    )
    assert len(following) == 25
    assert stats.chisquare(list(following.values())).pvalue > 1e-3


def test_a_draw_is_one_of_the_values_itself():
    values = ((1, 2), (3,))
    drawn = [setting["a"] for setting in random_search({"a": values}, 20, seed=0)]
    assert all(any(value is v for v in values) for value in drawn)
    assert random_search({}, 2, seed=0) == [{}, {}]
