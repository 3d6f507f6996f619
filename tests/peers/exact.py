"""Exact statistics of f32 values, in integers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

MANTISSA_BITS = 24  # of f32
HALF_BITS = MANTISSA_BITS // 2
# A bin holds at most 2^COUNT_BITS summands below 2^(24+1): their sum stays below 2^53, so f64 adds them exactly.
COUNT_BITS = 28


def exact_moments(values: np.ndarray) -> tuple[Fraction, Fraction]:
    """Mean and biased variance of finite f32 values, without any rounding.

    Every value is an integer mantissa times a power of two. Mantissas, and squares split into parts below 2^25, are
    summed for each exponent; from there on the arithmetic is Python's.
    """
    if values.dtype != np.float32 or values.ndim != 1:
        raise TypeError("exact_moments takes a vector of f32")
    if not 0 < values.size < 1 << COUNT_BITS or not np.all(np.isfinite(values)):
        raise ValueError("exact_moments takes finite values, at least one and fewer than 2^28")
    fraction, exponent = np.frexp(values)
    mantissa = np.ldexp(fraction, MANTISSA_BITS).astype(np.int64)
    lowest = int(exponent.min())
    bins = exponent - lowest
    high, low = mantissa >> HALF_BITS, mantissa & (1 << HALF_BITS) - 1
    unit = Fraction(2) ** (lowest - MANTISSA_BITS)
    total = unit * _sum(bins, mantissa, 1)
    parts = ((high * high, 2 * HALF_BITS), (high * low, HALF_BITS + 1), (low * low, 0))
    squares = unit**2 * sum(_sum(bins, part, 2) << shift for part, shift in parts)
    mean = total / values.size
    return mean, squares / values.size - mean**2


def _sum(bins: np.ndarray, integers: np.ndarray, power: int) -> int:
    """The sum of integers * 2^(power * bin)."""
    sums = np.bincount(bins, weights=integers)
    return sum(int(value) << power * index for index, value in enumerate(sums))
