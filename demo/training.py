"""One training run, measured."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import data
import numpy as np
from bnorm_abi import Library
from network import Network, accuracy, cross_entropy
from setups import BATCH, WIDTHS, Setup
from tqdm import tqdm

EVALUATIONS = 50  # points of a curve


@dataclass
class Run:
    """What a run came to. `accuracies[i]` is on the test set, after `steps[i]` steps, in [0, 1]."""

    setup: Setup
    network: Network
    steps: list[int] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    steps_per_second: float = math.nan  # evaluations apart
    bnorm_share: float = 0.0  # of the time of training steps
    diverged_at: int | None = None  # the step whose loss was NaN or Inf

    @property
    def normalized(self) -> bool:
        return bool(self.network.norms)

    @property
    def final_accuracy(self) -> float:
        return self.accuracies[-1]

    @property
    def outcome(self) -> str:
        return f"{self.final_accuracy:.1%}" if self.diverged_at is None else f"diverged at step {self.diverged_at:,}"


def train(setup: Setup, images: data.FashionMnist, steps: int, seed: int, library: Library | None) -> Run:
    """Trains with batch normalization if `library` is given, else without; same weights and batches for one seed."""
    network = Network(WIDTHS, setup.activation, setup.weights_std, seed, library)
    run = Run(setup, network)
    batches = data.batches(images.train, BATCH, np.random.default_rng(seed + 1))
    marks = {round(steps * i / EVALUATIONS) for i in range(1, EVALUATIONS + 1)}
    label = "with bnorm" if library else "without   "
    seconds = 0.0
    done = 0
    # A diverging run overflows on its way: that is a result here, and is reported as one.
    bar = tqdm(total=steps, desc=label, unit="step", mininterval=0.5)
    with bar, np.errstate(over="ignore", invalid="ignore"):
        _evaluate(run, 0, images.test)
        while done < steps and run.diverged_at is None:
            start = time.perf_counter()
            loss = _step(network, *next(batches), setup.rate)
            seconds += time.perf_counter() - start
            done += 1
            if not math.isfinite(loss):
                run.diverged_at = done
            elif done in marks:
                _evaluate(run, done, images.test)
                bar.set_postfix(accuracy=f"{run.final_accuracy:.1%}", refresh=False)
            bar.update()
    run.steps_per_second = done / seconds
    run.bnorm_share = sum(norm.seconds for norm in network.norms.values()) / seconds
    return run


def _step(network: Network, x: np.ndarray, labels: np.ndarray, rate: float) -> float:
    loss, gradient = cross_entropy(network.forward(x, training=True), labels)
    network.backward(gradient)
    network.descend(rate)
    return loss


def _evaluate(run: Run, step: int, test: data.Split) -> None:
    run.steps.append(step)
    run.accuracies.append(accuracy(run.network.forward(test.images), test.labels))
