"""A batch normalization to be computed by bnorm and by a peer, the grid of them, and bnorm's answers."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from bnorm_abi import Library, Plan
from layouts import LAYOUTS, in_layout

# By the names of bnorm.h: y, mean, inv_std, running_mean, running_var, dx, dscale, dshift; frozen_*: with the given
# running statistics; var: the biased variance, where a peer saves that instead of inv_std.
Results = dict[str, np.ndarray]

SHAPES = (
    *((2, 3), (7, 5), (32, 8)),
    *((9, 4, 7), (5, 3, 33)),
    *((6, 5, 4, 7), (12, 16, 9, 9), (1, 3, 12, 5)),
    *((3, 2, 3, 4, 5), (4, 7, 2, 3, 3)),
)  # [N][C]...
EPSILONS_AND_FACTORS = ((1e-5, 0.1), (1e-3, 1.0), (0.25, 0.6))
AFFINES = ("both", "scale", "shift", "none")


@dataclass(frozen=True)
class Setup:
    """One point of the grid."""

    shape: tuple[int, ...]
    layout: str
    dtype: type
    affine: str
    epsilon: float
    average_factor: float

    def __str__(self) -> str:
        sizes = "x".join(map(str, self.shape))
        return f"{sizes}-{self.layout}-{self.dtype.__name__}-{self.affine}-{self.epsilon:g}-{self.average_factor:g}"


@dataclass(frozen=True)
class Problem:
    """Inputs; x and dy lie as `axes` says. Without running statistics there are no frozen results."""

    axes: str
    x: np.ndarray
    dy: np.ndarray
    scale: np.ndarray | None
    shift: np.ndarray | None
    running_mean: np.ndarray | None
    running_var: np.ndarray | None
    epsilon: float
    average_factor: float

    @property
    def channel_axis(self) -> int:
        return self.axes.index("C")

    @property
    def reduced_axes(self) -> tuple[int, ...]:
        return tuple(axis for axis in range(self.x.ndim) if axis != self.channel_axis)

    @property
    def count(self) -> int:
        """M: values of a channel."""
        return int(np.prod([self.x.shape[axis] for axis in self.reduced_axes]))

    @property
    def params(self) -> dict[str, np.ndarray | None]:
        return {"scale": self.scale, "shift": self.shift}

    @property
    def running(self) -> dict[str, np.ndarray | None]:
        """Copies: training updates them."""
        arrays = {"running_mean": self.running_mean, "running_var": self.running_var}
        return {name: None if array is None else array.copy() for name, array in arrays.items()}


def grid() -> list[Setup]:
    """Every combination, but for the layouts of two axes, which are one."""
    types = (np.float32, np.float64)
    combinations = itertools.product(SHAPES, LAYOUTS, types, AFFINES, EPSILONS_AND_FACTORS)
    return [
        Setup(shape, layout, dtype, affine, *numbers)
        for shape, layout, dtype, affine, numbers in combinations
        if len(shape) > 2 or layout == "planar"
    ]


def make_problem(setup: Setup) -> Problem:
    """Well-conditioned values: near N(0, 1), the same for every setup of a shape."""
    random = np.random.default_rng(setup.shape)
    channels = setup.shape[1]
    x, dy = (random.normal(0.25, 1.25, setup.shape).astype(setup.dtype) for _ in range(2))
    scale, running_var = random.uniform(0.5, 2, (2, channels)).astype(setup.dtype)
    shift, running_mean = random.normal(0, 0.5, (2, channels)).astype(setup.dtype)
    axes, x = in_layout(x, setup.layout)
    return Problem(
        axes=axes,
        x=x,
        dy=in_layout(dy, setup.layout)[1],
        scale=scale if setup.affine in ("both", "scale") else None,
        shift=shift if setup.affine in ("both", "shift") else None,
        running_mean=running_mean,
        running_var=running_var,
        epsilon=setup.epsilon,
        average_factor=setup.average_factor,
    )


def solve_training(library: Library, problem: Problem, biased_running_var: bool) -> Results:
    """bnorm's results from batch statistics; running_* where the problem has them."""
    plan = _plan(library, problem, biased_running_var=biased_running_var)
    running = problem.running
    y, mean, inv_std = plan.train(problem.x, **problem.params, **running)
    dx, dscale, dshift, _ = plan.backward(problem.x, problem.dy, **problem.params, mean=mean, inv_std=inv_std)
    gradients = {"dx": dx, "dscale": dscale, "dshift": dshift}
    # Back from inv_std, which errs by a rounding of f64, to the variance; of an empty batch inv_std is 0.
    var = np.divide(1, inv_std**2, out=np.zeros_like(inv_std), where=inv_std > 0) - problem.epsilon
    updated = {name: array for name, array in running.items() if array is not None}
    return {"y": y, "mean": mean, "inv_std": inv_std, "var": var} | gradients | updated


def solve_frozen(library: Library, problem: Problem) -> Results:
    """bnorm's results from the given running statistics."""
    plan = _plan(library, problem, frozen=True)
    y = plan.infer(problem.x, **problem.params, **problem.running)
    dx, dscale, dshift, _ = plan.backward(problem.x, problem.dy, **problem.params, **problem.running)
    return {"frozen_y": y, "frozen_dx": dx, "frozen_dscale": dscale, "frozen_dshift": dshift}


def _plan(library: Library, problem: Problem, **options: bool) -> Plan:
    return Plan(
        library,
        problem.x.shape,
        axes=problem.axes,
        data_type=problem.x.dtype,
        epsilon=problem.epsilon,
        average_factor=problem.average_factor,
        **options,
    )
