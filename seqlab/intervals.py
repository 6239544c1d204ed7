"""How sure a mean over seeds is."""

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit  # the t quantile, without the second that scipy.stats takes


def mean_ci(
    values: Sequence[float] | np.ndarray, confidence: float = 0.95
) -> tuple[float, float | None]:
    """Return the mean and the half width of its Student-t confidence interval.

        half width = t_{(1 + confidence)/2, n-1} · s / √n,    s² = Σ (x_i - mean)² / (n - 1)

    The values are taken as independent draws from one normal distribution of unknown variance.

    Args:
        values: n ≥ 1 numbers.
        confidence: the probability, in (0, 1), that such an interval covers the true mean.

    Returns:
        (mean, half width). The half width is None for n = 1, where it is not defined, and nan where
        a value is not finite: a diverged seed stays visible.

    Raises:
        ValueError: no values, or a confidence outside (0, 1).

    Source: Student 1908, The probable error of a mean.
    """
    if not len(values):
        raise ValueError("the mean of no values is not defined")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: must be in (0, 1)")
    numbers = np.asarray(values, np.float64)
    n = len(numbers)
    with np.errstate(invalid="ignore"):
        mean, s = np.mean(numbers), np.std(numbers, ddof=1) if n > 1 else None
    if s is None:
        return float(mean), None
    return float(mean), float(stdtrit(n - 1, (1 + confidence) / 2) * s / np.sqrt(n))
