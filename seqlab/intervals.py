"""How sure a mean over seeds is."""

import functools
import math
from collections.abc import Sequence

import numpy as np


def mean_ci(
    values: Sequence[float] | np.ndarray, confidence: float = 0.95
) -> tuple[float, float | None]:
    """Return the mean and the half width of its Student-t confidence interval.

        half width = t · s / √n,    s² = Σ (x_i - mean)² / (n - 1),    P(|T_{n-1}| ≤ t) = confidence

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
    return float(mean), float(t_quantile(confidence, n - 1) * s / np.sqrt(n))


@functools.cache
def t_quantile(confidence: float, freedom: int) -> float:
    """The t of P(|T| ≤ t) = confidence, for Student's distribution with ν degrees of freedom.

        t = √ν tan θ
        ν even:  P = sin θ Σ a_k cos^2k θ,                     k < ν/2,      a_k = Π_{j≤k} (2j-1)/2j
        ν odd:   P = 2/π (θ + sin θ cos θ Σ b_k cos^2k θ),  k < (ν-1)/2,  b_k = Π_{j≤k} 2j/(2j+1)

    Newton's method in θ from 0: P is concave, so that no step goes too far. scipy has it, too, but
    takes longer to import than a table takes to be made.

    Source: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4.
    """
    odd = freedom % 2
    j = np.arange(1, freedom // 2)
    factors = np.append(1.0, 2 * j / (2 * j + 1) if odd else (2 * j - 1) / (2 * j))
    terms = np.cumprod(factors)[: freedom // 2]
    powers = np.arange(len(terms))
    gammas = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    slope = 2 * math.exp(gammas) / math.sqrt(math.pi)  # dP/dθ = slope cos^(ν-1) θ

    def probability(angle: float) -> float:
        summed = math.sin(angle) * float(np.sum(terms * math.cos(angle) ** (2 * powers)))
        return 2 / math.pi * (angle + math.cos(angle) * summed) if odd else summed

    angle, further = -1.0, 0.0
    while further > angle:  # until rounding alone is left
        angle = further
        lacking = confidence - probability(angle)
        further = angle + lacking / (slope * math.cos(angle) ** (freedom - 1))
    return math.sqrt(freedom) * math.tan(angle)
