"""The twelve set-ups of the experiment: weights x learning rates x activations."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

WIDTHS = (784, 100, 100, 100, 10)
BATCH = 60
WEIGHT_STDS = (0.05, 5.0)
RATES = (0.01, 1.0, 2.0)
ACTIVATIONS = ("relu", "sigmoid")


@dataclass(frozen=True)
class Setup:
    activation: str
    weights_std: float  # of the normal distribution that the initial weights come from
    rate: float

    def __str__(self) -> str:
        name = {"relu": "ReLU", "sigmoid": "sigmoid"}[self.activation]
        return f"{name}, weights N(0, {self.weights_std:g}), learning rate {self.rate:g}"

    @property
    def file_name(self) -> str:
        return f"{self.activation}-weights{self.weights_std:g}-rate{self.rate:g}"


def all_setups() -> list[Setup]:
    return [Setup(*choice) for choice in itertools.product(ACTIVATIONS, WEIGHT_STDS, RATES)]
