"""The interval of a mean covers the truth as often as it says."""

import math

import numpy as np
import pytest
from scipy import stats

from seqlab.intervals import mean_ci


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("n", [2, 3, 10, 100])
def test_is_the_t_interval_of_scipy(n, confidence):
    values = np.random.default_rng(n).normal(3.0, 2.0, n)
    mean, half = mean_ci(values.tolist(), confidence)
    assert half is not None
    low, high = stats.t.interval(confidence, n - 1, np.mean(values), stats.sem(values))
    np.testing.assert_allclose([mean - half, mean + half], [low, high], rtol=1e-12)


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
