"""bnorm against PyTorch over the grid, and its running statistics over several batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import pytorch_peer
import torch
from bounds import check, frozen_bounds, training_bounds
from conventions import PYTORCH
from problem import Setup, grid, make_problem, solve_frozen, solve_training

UNBIASED = {"biased_running_var": PYTORCH.biased_running_var}
BATCHES = 4

each_setup = pytest.mark.parametrize("setup", grid(), ids=str)


@each_setup
def test_training(library, setup: Setup):
    problem = make_problem(setup)
    ours = solve_training(library, problem, **UNBIASED)
    check(ours, pytorch_peer.train(problem), training_bounds(problem, **UNBIASED))


@each_setup
def test_frozen(library, setup: Setup):
    problem = make_problem(setup)
    check(solve_frozen(library, problem), pytorch_peer.frozen(problem), frozen_bounds(problem))


@pytest.mark.parametrize("momentum", [None, 0.1, 1.0], ids=["cumulative", "0.1", "1"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(9, 4), (9, 4, 7), (6, 5, 4, 7), (3, 2, 3, 4, 5)])
def test_running_statistics_of_several_batches(library, shape, dtype, momentum):
    """The module's, after each batch; the bound of one batch is carried into the next, times 1 - average_factor."""
    module = getattr(torch.nn, f"BatchNorm{max(len(shape) - 2, 1)}d")(shape[1], momentum=momentum)
    module.to(torch.float64 if dtype is np.float64 else torch.float32)
    problem = make_problem(Setup(shape, "planar", dtype, "none", PYTORCH.epsilon, 0))
    running = {"running_mean": np.zeros(shape[1], dtype), "running_var": np.ones(shape[1], dtype)}
    carried = {name: 0.0 for name in running}
    for batch in range(BATCHES):
        factor = 1 / (batch + 1) if momentum is None else momentum
        problem = replace(problem, x=problem.x[::-1] * dtype(1.25), average_factor=factor, **running)
        module(torch.tensor(problem.x.copy()))
        problem = replace(problem, x=np.ascontiguousarray(problem.x))
        bounds, ours = training_bounds(problem, **UNBIASED), solve_training(library, problem, **UNBIASED)
        carried = {name: (1 - factor) * carried[name] + bounds[name] for name in running}
        running = {name: ours[name] for name in running}
        check(running, {name: getattr(module, name).numpy() for name in running}, carried)
