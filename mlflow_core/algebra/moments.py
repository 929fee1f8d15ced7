"""The arithmetic inside the aggregates: scalar functions of numbers, nothing else.

They are plain Python that numba compiles as it stands, so the batch kernels, the stream and a test that folds
event by event run the same lines. They are not aggregates yet: ``mlflow_core.algebra.aggregates`` is.

Sources: T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a pairwise algorithm for computing
sample variances" (1979) for ``merge_moments``; R. J. Hyndman, Y. Fan, "Sample quantiles in statistical
packages" (1996), type 7, for ``quantile_place``.
"""

from __future__ import annotations

import math

__all__ = [
    "GROW",
    "HUGE",
    "SHRINK",
    "Moments",
    "limbs_fit",
    "limbs_of",
    "limbs_value",
    "merge_moments",
    "moments_of",
    "quantile_between",
    "quantile_place",
    "variance",
]

Moments = tuple[int, float, float, float]

SHRINK = 2.0**-600
"""Moments of huge numbers times this overflow nowhere on the way; a power of two, so no bit is lost."""
GROW = 2.0**600
"""Brings a sum, mean or standard deviation of shrunk numbers back; a variance takes it twice."""
HUGE = 2.0**450
"""Moments of numbers up to here do not overflow, however many they are."""


def moments_of(x: float) -> Moments:
    """Return (n, sum, mean, sum of squared deviations) of one number."""
    # x - x is 0 for a number and NaN for an infinity, whose spread is undefined.
    return 1, x, x, x - x


def merge_moments(
    n: int, total: float, mean: float, m2: float, n_b: int, total_b: float, mean_b: float, m2_b: float
) -> Moments:
    """Merge two disjoint sets' moments; an empty set changes no bit of the other.

    The mean is a weighted mean and not ``total / n``, so that it is right where the sum overflows.
    """
    if n_b == 0:
        return n, total, mean, m2
    if n == 0:
        return n_b, total_b, mean_b, m2_b
    both = n + n_b
    delta = mean_b - mean
    return (
        both,
        total + total_b,
        mean * (n / both) + mean_b * (n_b / both),
        m2 + m2_b + delta * delta * (n * (n_b / both)),
    )


def variance(n: int, m2: float) -> float:
    """Return the sample variance (ddof 1); NaN for fewer than two values."""
    if n < 2:
        return math.nan
    return m2 / (n - 1)


def limbs_of(x: int) -> tuple[int, int]:
    """Split an int64 into (high, low) with ``x == high * 2**32 + low`` and low from 0 to 2**32 - 1.

    Limbs of up to 2**31 numbers add and subtract in int64 without overflow, so integer sums are exact.
    """
    return x >> 32, x & 0xFFFFFFFF


def limbs_fit(high: int, low: int) -> bool:
    """Tell whether summed limbs stand for a number that int64 can hold."""
    top = high + (low >> 32)
    return -(1 << 31) <= top < (1 << 31)


def limbs_value(high: int, low: int) -> int:
    """Return the number that summed limbs stand for; only right where ``limbs_fit``."""
    return ((high + (low >> 32)) << 32) | (low & 0xFFFFFFFF)


def quantile_place(n: int, q: float) -> tuple[int, int, float]:
    """Return (index below, index above, fraction) of a quantile among n sorted values, n at least 1."""
    place = (n - 1) * q
    below = math.floor(place)
    if below >= n - 1:
        return n - 1, n - 1, 0.0
    return below, below + 1, place - below


def quantile_between(low: float, high: float, fraction: float) -> float:
    """Return ``low + (high - low) * fraction``, also where ``high - low`` overflows."""
    if fraction == 0.0 or low == high:
        return low
    distance = high - low
    if math.isinf(distance) and not math.isinf(low) and not math.isinf(high):
        return low * (1.0 - fraction) + high * fraction
    return low + distance * fraction
