"""The interval of a mean covers the truth as often as it says."""

import math

import numpy as np
import pytest
from scipy import stats

from seqlab.intervals import mean_ci, t_quantile


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("n", [2, 3, 10, 100])
def test_is_the_t_interval_of_scipy(n, confidence):
    values = np.random.default_rng(n).normal(3.0, 2.0, n)
    mean, half = mean_ci(values.tolist(), confidence)
    assert half is not None
    low, high = stats.t.interval(confidence, n - 1, np.mean(values), stats.sem(values))
    np.testing.assert_allclose([mean - half, mean + half], [low, high], rtol=1e-12)


@pytest.mark.parametrize("confidence", [0.01, 0.5, 0.95, 0.999])
def test_the_quantile_is_that_of_scipy(confidence):
    freedoms = [*range(1, 40), 99, 100, 299, 300, 1999, 2000]
    found = [t_quantile(confidence, freedom) for freedom in freedoms]
    expected = stats.t.ppf((1 + confidence) / 2, freedoms)
    np.testing.assert_allclose(found, expected, rtol=2e-12)


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_the_quantile_of_many_values_is_that_of_the_normal_distribution(confidence):
    # t ≈ z + (z³ + z) / 4ν: Abramowitz and Stegun 26.7.5
    freedom, z = 200_000, stats.norm.ppf((1 + confidence) / 2)
    expected = z + (z**3 + z) / (4 * freedom)
    assert t_quantile(confidence, freedom) == pytest.approx(expected, rel=1e-9)


def test_by_hand():
    # s² = (1 + 0 + 1) / 2 = 1; the printed table of t has 4.303 for 0.975 and 2 degrees of freedom
    mean, half = mean_ci([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(4.303 / math.sqrt(3), abs=3e-4)


def test_float32_values_are_summed_in_float64():
    values = np.asarray([1e8, 1.0, -1e8, 1.0], np.float32)
    assert mean_ci(values)[0] == 0.5


@pytest.mark.parametrize(("n", "confidence"), [(3, 0.95), (5, 0.8)])
def test_coverage(n, confidence):
    draws, truth = 4000, 0.7
    samples = np.random.default_rng(0).normal(truth, 3.0, (draws, n))
    covered = 0
    for sample in samples:
        mean, half = mean_ci(sample, confidence)
        assert half is not None
        covered += abs(mean - truth) <= half
    deviation = math.sqrt(confidence * (1 - confidence) / draws)
    assert abs(covered / draws - confidence) < 3 * deviation


def test_one_value_has_no_interval():
    assert mean_ci([0.25]) == (0.25, None)


@pytest.mark.parametrize("values", [[1.0, math.nan], [1.0, math.inf], [math.inf, -math.inf]])
def test_a_diverged_seed_stays_visible(values):
    mean, half = mean_ci(values)
    assert not math.isfinite(mean)
    assert half is not None
    assert math.isnan(half)


@pytest.mark.parametrize(("values", "confidence"), [([], 0.95), ([1.0], 0.0), ([1.0], 95)])
def test_what_has_no_answer_is_refused(values, confidence):
    with pytest.raises(ValueError, match=r"mean|confidence"):
        mean_ci(values, confidence)
