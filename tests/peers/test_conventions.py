"""The defaults in conventions.py are the peers' own, and the bounds are narrow enough to tell conventions apart."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace

import bnorm_abi
import keras
import pytest
import tensorflow as tf
import torch
from bounds import check, frozen_bounds, training_bounds
from conventions import KERAS, PYTORCH, TENSORFLOW_FUSED
from peers import PEERS, Peer
from problem import Problem, Results, Setup, grid, make_problem, solve_frozen, solve_training

Wrong = Callable[[bnorm_abi.Library, Problem, bool], Results]

DEFAULTS = [
    (PYTORCH, torch.nn.BatchNorm2d, "eps", "momentum"),
    (PYTORCH, torch.nn.functional.batch_norm, "eps", "momentum"),
    (TENSORFLOW_FUSED, tf.raw_ops.FusedBatchNormV3, "epsilon", "exponential_avg_factor"),
    (KERAS, keras.layers.BatchNormalization, "epsilon", "momentum"),
    (PYTORCH, bnorm_abi.Plan, "epsilon", "average_factor"),  # bnorm's own are PyTorch's
]


@pytest.mark.parametrize(("convention", "called", "epsilon", "momentum"), DEFAULTS)
def test_defaults(convention, called, epsilon, momentum):
    parameters = inspect.signature(called).parameters
    assert parameters[epsilon].default == convention.epsilon
    assert parameters[momentum].default == pytest.approx(convention.momentum(convention.average_factor), rel=1e-15)


def wrong_side_of_momentum(library, problem: Problem, biased: bool) -> Results:
    swapped = replace(problem, average_factor=1 - problem.average_factor)
    return _only(solve_training(library, swapped, biased), "running_mean", "running_var")


def wrong_running_variance(library, problem: Problem, biased: bool) -> Results:
    return _only(solve_training(library, problem, not biased), "running_var")


def other_epsilon(library, problem: Problem, biased: bool) -> Results:
    """Keras's default for PyTorch's, and the reverse."""
    epsilon = PYTORCH.epsilon if problem.epsilon == KERAS.epsilon else KERAS.epsilon
    return _only(solve_training(library, replace(problem, epsilon=epsilon), biased), "y")


def frozen_gradient(library, problem: Problem, biased: bool) -> Results:
    """The gradient of inference, with the batch's own statistics, for that of training."""
    statistics = solve_training(library, replace(problem, average_factor=1), True)
    frozen = replace(problem, running_mean=statistics["running_mean"], running_var=statistics["running_var"])
    return {"dx": solve_frozen(library, frozen)["frozen_dx"]}


def _only(results: Results, *names: str) -> Results:
    return {name: results[name] for name in names}


CASES = [
    pytest.param(peer, setup, wrong, id=f"{peer.name}-{setup}-{wrong.__name__}")
    for peer in PEERS
    if peer.convention
    for setup in grid()
    if peer.takes(setup) and setup.affine == "both"
    for wrong in (wrong_side_of_momentum, wrong_running_variance, other_epsilon, frozen_gradient)
]


@pytest.mark.parametrize(("peer", "setup", "wrong"), CASES)
def test_a_wrong_convention_is_seen(library, peer: Peer, setup: Setup, wrong: Wrong):
    problem = make_problem(setup)
    ours = wrong(library, problem, peer.biased_running_var)
    theirs, bounds = peer.train(problem), training_bounds(problem, peer.biased_running_var)
    for name in ours:
        with pytest.raises(AssertionError, match="times its bound"):
            check(ours, {name: theirs[name]}, bounds)


def test_batch_statistics_for_running_ones_are_seen(library):
    for peer in PEERS:
        setup = next(setup for setup in grid() if peer.takes(setup))
        problem = make_problem(setup)
        ours = {"frozen_y": solve_training(library, problem, False)["y"]}
        for answer in peer.frozen.values():
            with pytest.raises(AssertionError, match="times its bound"):
                check(ours, {"frozen_y": answer(problem)["frozen_y"]}, frozen_bounds(problem))
