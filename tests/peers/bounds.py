"""How far two correct computations of one problem may lie apart.

Derivation, to first order in u, one rounding (2^-24 for f32, 2^-53 for f64). With m, v, r = 1/sqrt(v + epsilon) the
exact statistics of a channel, A = mean|x|, Q = mean(x^2), s = scale, b = shift, z = (x - m) r:

A sum of M summands in any order errs by at most (M - 1) u sum|summand| (Higham, Accuracy and Stability of Numerical
Algorithms, 2002, section 4.2); with at most ROUNDINGS of its own in each summand that is n u sum|summand|,
n = M + ROUNDINGS. So naive summation in the type of the data, the worst a peer may do, gives

    mean       dm   = n u A
    variance   dv   = n u (Q + 2 |m| A) + dm^2        for E[x^2] - E[x]^2, which bounds the two-pass formula too
    1/sqrt     rho  = dv / (v + epsilon) + ROOT u      relative; as (1 - t)^(-1/2) - 1 <= t for 0 <= t <= 1/2
    y               |s| r (dm + |x - m| rho) + k u (|s| r (|x| + |m|) + |b|)
    dshift     ddb  = n u sum|dy|
    dscale     dds  = r (n u sum(|dy| (|x| + 2 |m|)) + dm sum|dy|) + rho |dscale|
               also for sum(dy x) - m sum(dy), as automatic differentiation has it
    dx              |s| r ((3 rho + k u) g + (ddb + |z| dds + |dscale| r (dm + k u (|x| + |m|))) / M)
               with g = |dy| + (|dshift| + |z dscale|) / M; 3 rho: automatic differentiation has r^3
    running_*       f d(batch) + k u (|old| + |batch|)  with f = average_factor, d(batch) = dm, or dv (times M/(M - 1))

Frozen results are the same with dm = dv = 0. k = 2 ROUNDINGS: those of an element in the peer, and bnorm's own
(docs/numerics.md: 8 at most); bnorm's sums are in f64 and add nothing that counts beside a peer's, or with f64 data at
most as much, within the n of a peer that sums no worse than naively.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from problem import Problem, Results

ROUNDINGS = 8
ROOT = 4  # half a rounding for epsilon and for the sum, one or two for the root and the division


def unit(problem: Problem) -> float:
    """u of the derivation."""
    return float(np.finfo(problem.x.dtype).eps) / 2


def summation(problem: Problem) -> float:
    """n u of the derivation."""
    return (problem.count + ROUNDINGS) * unit(problem)


def rounding(problem: Problem) -> float:
    """k u of the derivation."""
    return 2 * ROUNDINGS * unit(problem)


@dataclass(frozen=True)
class Magnitudes:
    """The quantities of the derivation; arrays broadcast against x."""

    problem: Problem
    mean: np.ndarray
    var: np.ndarray
    dm: np.ndarray
    dv: np.ndarray

    def __post_init__(self) -> None:
        assert np.all(self.dv <= (self.var + self.problem.epsilon) / 2), "too ill-conditioned for the bounds"

    @property
    def summation(self) -> float:
        return summation(self.problem)

    @property
    def rounding(self) -> float:
        return rounding(self.problem)

    @property
    def rho(self) -> np.ndarray:
        return self.dv / (self.var + self.problem.epsilon) + ROOT * unit(self.problem)

    @property
    def inv_std(self) -> np.ndarray:
        return 1 / np.sqrt(self.var + self.problem.epsilon)

    @property
    def gain(self) -> np.ndarray:
        """|s| r"""
        scale = self.problem.scale
        return self.inv_std if scale is None else abs(per_channel(self.problem, scale)) * self.inv_std

    def y(self) -> np.ndarray:
        x, shift = wide(self.problem.x), self.problem.shift
        offset = 0 if shift is None else abs(per_channel(self.problem, shift))
        statistics = self.gain * (self.dm + abs(x - self.mean) * self.rho)
        return statistics + self.rounding * (self.gain * (abs(x) + abs(self.mean)) + offset)

    def gradients(self) -> Results:
        x, dy, count = wide(self.problem.x), wide(self.problem.dy), max(self.problem.count, 1)
        z, size = (x - self.mean) * self.inv_std, abs(x) + abs(self.mean)
        dscale, dshift, total = (self.total(summand) for summand in (dy * z, dy, abs(dy)))
        ddb = self.summation * total
        dds = self.inv_std * (self.summation * self.total(abs(dy) * (size + abs(self.mean))) + self.dm * total)
        dds += self.rho * abs(dscale)
        g = abs(dy) + (abs(dshift) + abs(z * dscale)) / count
        slope = abs(dscale) * self.inv_std * (self.dm + self.rounding * size)
        dx = self.gain * ((3 * self.rho + self.rounding) * g + (ddb + abs(z) * dds + slope) / count)
        return {"dx": dx, "dscale": dds.ravel(), "dshift": ddb.ravel()}

    def total(self, summands: np.ndarray) -> np.ndarray:
        return summands.sum(axis=self.problem.reduced_axes, keepdims=True)


def training_bounds(problem: Problem, biased_running_var: bool) -> Results:
    """By the names of Results."""
    mean, var, dm, dv = _batch_statistics(problem)
    sizes = Magnitudes(problem, mean, var, dm, dv)
    saved = {"mean": dm, "var": dv, "inv_std": sizes.inv_std * sizes.rho}
    bounds = {name: bound.ravel() for name, bound in saved.items()} | {"y": sizes.y()} | sizes.gradients()
    enters = 1 if biased_running_var or problem.count < 2 else problem.count / (problem.count - 1)
    for name, batch, error in (("mean", mean, dm), ("var", enters * var, enters * dv)):
        old = problem.running[f"running_{name}"]
        if old is not None:
            bounds[f"running_{name}"] = _running_bound(problem, wide(old), batch.ravel(), error.ravel())
    return bounds


def _batch_statistics(problem: Problem) -> tuple[np.ndarray, ...]:
    """m, v, dm and dv of the derivation; 0 for an empty batch."""

    def average(values: np.ndarray) -> np.ndarray:
        return values.sum(axis=problem.reduced_axes, keepdims=True) / max(problem.count, 1)

    x = wide(problem.x)
    mean, size = average(x), average(abs(x))
    dm = summation(problem) * size
    dv = summation(problem) * (average(x**2) + 2 * abs(mean) * size) + dm**2
    return mean, average((x - mean) ** 2), dm, dv


def _running_bound(problem: Problem, old: np.ndarray, batch: np.ndarray, error: np.ndarray) -> np.ndarray:
    return problem.average_factor * error + rounding(problem) * (abs(old) + abs(batch))


def frozen_bounds(problem: Problem) -> Results:
    """By the names of Results. No statistics are estimated, so dx has no terms of theirs."""
    mean, var = (per_channel(problem, array) for array in (problem.running_mean, problem.running_var))
    sizes = Magnitudes(problem, mean, var, np.zeros_like(mean), np.zeros_like(var))
    gradients = sizes.gradients() | {"dx": sizes.gain * abs(wide(problem.dy)) * (sizes.rho + sizes.rounding)}
    return {f"frozen_{name}": bound for name, bound in ({"y": sizes.y()} | gradients).items()}


def check(ours: Results, theirs: Results, bounds: Results) -> None:
    """Everything the peer has must be within its bound of what bnorm has."""
    assert theirs
    excess = {name: _excess(name, ours[name], array, bounds[name]) for name, array in theirs.items()}
    failures = {name: f"{value:.3g} times its bound" for name, value in excess.items() if not value <= 1}
    assert not failures, failures


def _excess(name: str, ours: np.ndarray, theirs: np.ndarray, bound: np.ndarray) -> float:
    assert ours.shape == theirs.shape == bound.shape, name
    tiny = float(np.finfo(theirs.dtype).tiny)  # underflow
    return float(np.max(abs(wide(ours) - wide(theirs)) / (bound + tiny), initial=0))


def per_channel(problem: Problem, values: np.ndarray) -> np.ndarray:
    """Shaped to broadcast against x."""
    shape = [1] * problem.x.ndim
    shape[problem.channel_axis] = -1
    return wide(values).reshape(shape)


def wide(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, np.float64)
