"""The network: dense layers and activations in NumPy, batch normalization in bnorm."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
from bnorm_abi import Library, Plan

# Weight of a new batch in the running statistics: about the last hundred batches count.
AVERAGE_FACTOR = 0.01
EPSILON = 1e-5


class Dense:
    """y = x W (+ b)"""

    def __init__(self, rng: np.random.Generator, inputs: int, outputs: int, std: float, bias: bool):
        self.parameters = {"weights": rng.normal(0, std, (inputs, outputs)).astype(np.float32)}
        if bias:
            self.parameters["bias"] = np.zeros(outputs, np.float32)
        self.gradients: dict[str, np.ndarray] = {}

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self._x = x if training else None
        y = x @ self.parameters["weights"]
        if "bias" in self.parameters:
            y += self.parameters["bias"]
        return y

    def backward(self, dy: np.ndarray, dx_wanted: bool) -> np.ndarray | None:
        self.gradients["weights"] = self._x.T @ dy
        if "bias" in self.parameters:
            self.gradients["bias"] = dy.sum(axis=0)
        return dy @ self.parameters["weights"].T if dx_wanted else None


class BatchNorm:
    """Batch normalization with an activation that bnorm fuses ("relu") or none ("identity")."""

    def __init__(self, library: Library, channels: int, activation: str):
        self._library = library
        self.activation = activation
        self._plans: dict[int, Plan] = {}
        self._batches_seen = 0
        self.seconds = 0.0  # spent in bnorm, its binding included
        self.parameters = {"scale": np.ones(channels, np.float32), "shift": np.zeros(channels, np.float32)}
        self.running = {"running_mean": np.zeros(channels, np.float32), "running_var": np.ones(channels, np.float32)}
        self.gradients: dict[str, np.ndarray] = {}

    def plan(self, batch: int) -> Plan:
        if batch not in self._plans:
            shape = (batch, len(self.parameters["scale"]))
            self._plans[batch] = Plan(self._library, shape, axes="NC", activation=self.activation, epsilon=EPSILON)
        return self._plans[batch]

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        plan = self.plan(len(x))
        if not training:
            return plan.infer(x, **self.parameters, **self.running)
        # A plain average over the first batches, so that the initial 0 and 1 never count.
        factor = max(AVERAGE_FACTOR, 1 / (self._batches_seen + 1))
        start = time.perf_counter()
        y, mean, inv_std = plan.train(x, **self.parameters, **self.running, average_factor=factor)
        self.seconds += time.perf_counter() - start
        self._batches_seen += 1
        self._saved = {"x": x, "mean": mean, "inv_std": inv_std}
        return y

    def backward(self, dy: np.ndarray, dx_wanted: bool) -> np.ndarray:
        start = time.perf_counter()
        gradients = self.plan(len(dy)).backward(dy=dy, **self._saved, **self.parameters, dx=dy)
        self.seconds += time.perf_counter() - start
        self.gradients = {"scale": gradients.dscale, "shift": gradients.dshift}
        return gradients.dx


class Relu:
    parameters: dict[str, np.ndarray] = {}

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        self._y = np.maximum(x, 0)
        return self._y

    def backward(self, dy: np.ndarray, dx_wanted: bool) -> np.ndarray:
        return dy * (self._y > 0)


class Sigmoid:
    parameters: dict[str, np.ndarray] = {}

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        # As tanh, which cannot overflow.
        self._y = np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + np.float32(1))
        return self._y

    def backward(self, dy: np.ndarray, dx_wanted: bool) -> np.ndarray:
        return dy * self._y * (1 - self._y)


class Network:
    """Dense layers with an activation between them, each behind a batch normalization if `library` is given."""

    def __init__(self, widths: tuple[int, ...], activation: str, std: float, seed: int, library: Library | None):
        rng = np.random.default_rng(seed)
        self.widths = widths
        self.activation = activation
        self.layers: dict[str, Dense | BatchNorm | Relu | Sigmoid] = {}
        hidden = len(widths) - 2
        for index, (inputs, outputs) in enumerate(pairwise(widths), start=1):
            last = index > hidden
            # The shift of a normalization does what a bias would, and its mean would cancel the bias.
            self.layers[f"dense{index}"] = Dense(rng, inputs, outputs, std, bias=last or library is None)
            if last:
                break
            if library is not None:
                fused = "relu" if activation == "relu" else "identity"
                self.layers[f"norm{index}"] = BatchNorm(library, outputs, fused)
            if library is None or activation != "relu":
                self.layers[f"activation{index}"] = {"relu": Relu, "sigmoid": Sigmoid}[activation]()

    @property
    def norms(self) -> dict[str, BatchNorm]:
        return {name: layer for name, layer in self.layers.items() if isinstance(layer, BatchNorm)}

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Logits; with the running statistics unless training."""
        for layer in self.layers.values():
            x = layer.forward(x, training)
        return x

    def backward(self, dy: np.ndarray) -> None:
        layers = list(self.layers.values())
        for layer in reversed(layers):
            dy = layer.backward(dy, dx_wanted=layer is not layers[0])

    def descend(self, rate: float) -> None:
        """One step of gradient descent."""
        for layer in self.layers.values():
            for name, parameter in layer.parameters.items():
                parameter -= np.float32(rate) * layer.gradients[name]

    def tensors(self) -> dict[str, np.ndarray]:
        """All that inference needs, by name; the arrays themselves, not copies."""
        named = {}
        for name, layer in self.layers.items():
            arrays = layer.parameters | (layer.running if isinstance(layer, BatchNorm) else {})
            named.update({f"{name}.{key}": array for key, array in arrays.items()})
        return named


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean softmax cross-entropy and its gradient."""
    rows = np.arange(len(labels))
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=1, keepdims=True)
    loss = float(np.mean(np.log(sums[:, 0]) - shifted[rows, labels]))
    gradient = exponentials / sums
    gradient[rows, labels] -= 1
    gradient /= np.float32(len(labels))
    return loss, gradient


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(logits.argmax(axis=1) == labels))
