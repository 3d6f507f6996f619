"""Running statistics beyond a single update of well-filled channels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow_peer
import torch
from bounds import check, training_bounds
from conventions import PYTORCH
from problem import Setup, make_problem, solve_training

BATCHES = 4


@pytest.mark.parametrize("momentum", [None, 0.1, 1.0], ids=["cumulative", "0.1", "1"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(9, 4), (9, 4, 7), (6, 5, 4, 7), (3, 2, 3, 4, 5)])
def test_several_batches_of_pytorch(library, shape, dtype, momentum):
    """The module's, after each batch; the bound of one batch is carried into the next, times 1 - average_factor."""
    module = getattr(torch.nn, f"BatchNorm{max(len(shape) - 2, 1)}d")(shape[1], momentum=momentum)
    module.to(torch.float64 if dtype is np.float64 else torch.float32)
    problem = make_problem(Setup(shape, "planar", dtype, "none", PYTORCH.epsilon, 0))
    running = {"running_mean": np.zeros(shape[1], dtype), "running_var": np.ones(shape[1], dtype)}
    carried = {name: 0.0 for name in running}
    for batch in range(BATCHES):
        factor = 1 / (batch + 1) if momentum is None else momentum
        x = problem.x * dtype(1.25) + dtype(0.125)  # other statistics in every batch
        problem = replace(problem, x=x, average_factor=factor, **running)
        module(torch.tensor(x))
        bounds = training_bounds(problem, PYTORCH.biased_running_var)
        ours = solve_training(library, problem, PYTORCH.biased_running_var)
        carried = {name: (1 - factor) * carried[name] + bounds[name] for name in running}
        running = {name: ours[name] for name in running}
        check(running, {name: getattr(module, name).numpy() for name in running}, carried)


def test_one_value_a_channel(library):
    """TensorFlow and bnorm take the biased variance, 0, for want of an unbiased one; PyTorch refuses."""
    problem = make_problem(Setup((1, 5, 1, 1), "channels_last", np.float32, "both", 1e-3, 0.25))
    ours = solve_training(library, problem, biased_running_var=False)
    np.testing.assert_array_equal(ours["running_var"], 0.75 * problem.running_var)
    theirs = tensorflow_peer.train_fused(problem)
    theirs = {name: theirs[name] for name in ("running_mean", "running_var")}
    check(ours, theirs, training_bounds(problem, biased_running_var=False))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        torch.nn.functional.batch_norm(torch.ones(1, 5), None, None, training=True)
