"""Serving one image at a time: with the population statistics, and, as a warning, with those of the image alone."""

from __future__ import annotations

import json
import subprocess
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path

import numpy as np
from data import Split
from network import BatchNorm, Network, accuracy

Normalization = Callable[[np.ndarray], np.ndarray]


class BenchError(RuntimeError):
    """The bench program did not give its figure."""


def prepared(norm: BatchNorm) -> Normalization:
    """Population statistics, made into coefficients once."""
    plan = norm.plan(1)
    coefficients = plan.prepare(**norm.parameters, **norm.running)
    return lambda x: plan.normalize(x, coefficients)


def single_image(norm: BatchNorm) -> Normalization:
    """Statistics of the one image: its variance is 0, so the output is the shift whatever the image shows."""
    plan = norm.plan(1)
    return lambda x: plan.train(x, **norm.parameters)[0]


def serve(network: Network, images: Split, normalization: Callable[[BatchNorm], Normalization]) -> float:
    """Accuracy when every image goes through the network on its own."""
    calls = [
        normalization(layer) if isinstance(layer, BatchNorm) else lambda x, layer=layer: layer.forward(x, False)
        for layer in network.layers.values()
    ]
    logits = []
    for image in images.images:
        x = image[np.newaxis]
        for call in calls:
            x = call(x)
        logits.append(x[0])
    return accuracy(np.stack(logits), images.labels)


def call_microseconds(norm: BatchNorm) -> float:
    """Time of one prepared batch-1 call from Python, binding included: the best of five runs."""
    plan = norm.plan(1)
    coefficients = plan.prepare(**norm.parameters, **norm.running)
    x = np.ones((1, len(norm.parameters["scale"])), np.float32)
    y = np.empty_like(x)
    calls = 5000
    return min(timeit.repeat(lambda: plan.normalize(x, coefficients, y=y), number=calls, repeat=5)) / calls * 1e6


def native_nanoseconds(bench: Path, channels: int, activation: str) -> float:
    """Time of the same call from C++, by the bench program."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        command = [str(bench), "--operation", "prepared", "--shape", f"1,{channels},1", "--threads", "1", "--no-peers"]
        command += ["--layout", "planar", "--activation", activation]
        try:
            subprocess.run(command + ["--json", str(rows)], check=True, capture_output=True, text=True)
            return float(json.loads(rows.read_text())[0]["ns"])
        except subprocess.CalledProcessError as error:
            raise BenchError(f"{bench} failed: {error.stderr.strip()}") from None
        except (OSError, ValueError, LookupError) as error:
            raise BenchError(f"{bench} gave no figure: {error!r}") from None
