"""bnorm against every peer over the grid: batch statistics with their gradients, and given statistics with theirs."""

from __future__ import annotations

import pytest
from bounds import check, frozen_bounds, training_bounds
from peers import PEERS, Answer, Peer
from problem import Setup, grid, make_problem, solve_frozen, solve_training

TRAINING = [
    pytest.param(peer, setup, id=f"{peer.name}-{setup}") for peer in PEERS for setup in grid() if peer.takes(setup)
]
FROZEN = [
    pytest.param(answer, setup, id=f"{peer.name}-{way}-{setup}")
    for peer in PEERS
    for way, answer in peer.frozen.items()
    for setup in grid()
    if peer.takes(setup)
]


@pytest.mark.parametrize(("peer", "setup"), TRAINING)
def test_training(library, peer: Peer, setup: Setup):
    problem = make_problem(setup)
    ours = solve_training(library, problem, peer.biased_running_var)
    check(ours, peer.train(problem), training_bounds(problem, peer.biased_running_var))


@pytest.mark.parametrize(("answer", "setup"), FROZEN)
def test_frozen(library, answer: Answer, setup: Setup):
    problem = make_problem(setup)
    check(solve_frozen(library, problem), answer(problem), frozen_bounds(problem))
