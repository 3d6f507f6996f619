"""The reference of ./dev accuracy against Python's own fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from exact import exact_moments

SMALLEST, LARGEST = np.float32(2.0**-149), np.finfo(np.float32).max


@pytest.mark.parametrize(
    "values",
    [
        [1.0],
        [0.0, -0.0],
        [16777215.0] * 3,
        [SMALLEST, LARGEST, -LARGEST, 1.0, -3.0],
        [1.0, 1e30, 1.0, 1.0],
        np.random.default_rng(0).normal(1e7, 1, 999),
        np.random.default_rng(1).normal(0, 1, 999),
        -np.exp2(np.random.default_rng(2).uniform(-149, 127, 999)),
    ],
)
def test_exact_moments(values):
    x = np.asarray(values, np.float32)
    exact = [Fraction(float(value)) for value in x]
    mean = sum(exact) / len(exact)
    assert exact_moments(x) == (mean, sum((value - mean) ** 2 for value in exact) / len(exact))


def test_sums_that_f64_could_not_hold():
    """As many large mantissas as ./dev accuracy sums: 0 and the largest of 24 bits in turn."""
    x = np.tile(np.float32([0, 2**24 - 1]), 2**19)
    half = Fraction(2**24 - 1, 2)
    assert exact_moments(x) == (half, half**2)


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match="finite"):
        exact_moments(np.float32([np.inf]))
    with pytest.raises(TypeError, match="f32"):
        exact_moments(np.zeros(3))
