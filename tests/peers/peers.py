"""The peers of the grid: who computes a Problem, what it takes, and by which conventions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytorch_peer
import tensorflow_peer
from conventions import KERAS, PYTORCH, TENSORFLOW_FUSED, Convention
from problem import Problem, Results, Setup

Answer = Callable[[Problem], Results]


@dataclass(frozen=True)
class Peer:
    """One way through a framework. Without a convention it has no running statistics."""

    name: str
    convention: Convention | None
    train: Answer
    frozen: dict[str, Answer]
    takes: Callable[[Setup], bool] = lambda setup: True

    @property
    def biased_running_var(self) -> bool:
        return self.convention is not None and self.convention.biased_running_var


PEERS = (
    Peer("pytorch", PYTORCH, pytorch_peer.train, {"eval": pytorch_peer.frozen}),
    Peer(
        "tensorflow_fused",
        TENSORFLOW_FUSED,
        tensorflow_peer.train_fused,
        {"inference": tensorflow_peer.frozen_fused},
        tensorflow_peer.fused_takes,
    ),
    Peer("tensorflow_moments", None, tensorflow_peer.train_moments, {"given": tensorflow_peer.frozen_moments}),
    Peer(
        "keras",
        KERAS,
        tensorflow_peer.train_keras,
        {"inference": tensorflow_peer.infer_keras, "not_trainable": tensorflow_peer.freeze_keras},
    ),
)
