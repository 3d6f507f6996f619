"""Statistics over several callers, here threads: Exchange."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from bnorm_abi import BnormError, Plan
from bnorm_exchange import Exchange

SIZES = (64, 64, 30, 0)  # samples of each rank; 64 of 16 positions are a block of the reduction


class Ranks:
    """An allgather between threads."""

    def __init__(self, ranks: int):
        self.barrier = threading.Barrier(ranks, timeout=60)
        self.sent = [np.empty(0)] * ranks

    def exchange(self, rank: int) -> Exchange:
        def allgather(sent, received):
            self.sent[rank] = sent.copy()
            self.barrier.wait()
            received[...] = self.sent
            self.barrier.wait()

        return Exchange(len(self.sent), allgather)


def run(ranks: int, call):
    """The results of call(rank, exchange) on a thread for each rank, or what it raised."""
    all_ranks = Ranks(ranks)

    def one(rank):
        try:
            return call(rank, all_ranks.exchange(rank))
        except BnormError as error:
            return error

    with ThreadPoolExecutor(ranks) as pool:
        return list(pool.map(one, range(ranks)))


@pytest.fixture
def batch():
    x, dy = np.random.default_rng(4).normal(3, 1, size=(2, sum(SIZES), 5, 4, 4)).astype(np.float32)
    return x, dy, np.linspace(0.5, 2, 5, dtype=np.float32)


def test_ranks_get_the_bits_of_the_joined_batch(library, batch):
    x, dy, scale = batch
    plan = Plan(library, x.shape, axes="NCHW", activation="relu")

    def step(part, exchange=None):
        running = np.zeros(5, np.float32)
        y, mean, inv_std = plan.train(x[part], scale, running_mean=running, exchange=exchange)
        gradients = plan.backward(x[part], dy[part], scale, mean=mean, inv_std=inv_std, exchange=exchange)
        return y, mean, inv_std, running, *gradients[:3]

    border = np.cumsum((0, *SIZES))
    parts = [slice(*border[rank : rank + 2]) for rank in range(len(SIZES))]
    y, *others = step(slice(None))
    joined_dx = others.pop(3)
    results = run(len(SIZES), lambda rank, exchange: step(parts[rank], exchange))
    for part, (own_y, *own) in zip(parts, results):
        assert np.array_equal(own_y, y[part])
        assert np.array_equal(own.pop(3), joined_dx[part])
        assert all(np.array_equal(a, b) for a, b in zip(own, others, strict=True))


def test_one_rank_is_refused_and_all_learn_of_it(library, batch):
    x, _, scale = batch
    plan = Plan(library, x.shape, axes="NCHW")
    y = [np.zeros_like(x) for _ in range(3)]
    refused, *others = run(
        3, lambda rank, exchange: plan.train(x, scale, y=y[rank], average_factor=2 if rank == 0 else 0.5, exchange=exchange)
    )
    assert refused.status == "INVALID_ARGUMENT" and "average_factor" in str(refused)
    for error in others:
        assert error.status == "EXECUTION_FAILED" and "rank 0" in str(error)
    assert not any(array.any() for array in y)


def test_what_allgather_raises_is_raised(library, batch):
    x, dy, scale = batch

    def allgather(sent, received):
        raise KeyError("no such rank")

    plan = Plan(library, x.shape, axes="NCHW")
    with pytest.raises(KeyError, match="no such rank"):
        plan.train(x, scale, exchange=Exchange(1, allgather))
    _, mean, inv_std = plan.train(x, scale)
    with pytest.raises(KeyError, match="no such rank"):
        plan.backward(x, dy, scale, mean=mean, inv_std=inv_std, exchange=Exchange(1, allgather))
    with pytest.raises(BnormError, match="ranks"):
        plan.train(x, scale, exchange=Exchange(0, allgather))


def test_messages_outlive_their_call(library, batch):
    """Memory that allgather keeps stays valid, and what it sends is not for it to change."""
    x, _, scale = batch
    kept = []

    def allgather(sent, received):
        received[...] = sent
        kept.append((sent, sent.copy()))
        with pytest.raises(ValueError, match="read-only"):
            sent[0] = 1

    plan = Plan(library, x.shape, axes="NCHW")
    for _ in range(3):
        plan.train(x, scale, exchange=Exchange(1, allgather))
    for sent, copied in kept:
        assert np.array_equal(sent, copied)
