"""PyTorch's answers to a Problem."""

from __future__ import annotations

import numpy as np
import torch
from conventions import PYTORCH
from problem import Problem, Results


def to_torch(array: np.ndarray | None, *, grad: bool = False) -> torch.Tensor | None:
    """A copy."""
    return None if array is None else torch.tensor(array, requires_grad=grad)


def channels_second(problem: Problem, array: np.ndarray) -> torch.Tensor:
    """Shaped [N][C]... whatever the memory order, as PyTorch wants it."""
    return torch.tensor(array).movedim(problem.channel_axis, 1)


def back(problem: Problem, tensor: torch.Tensor) -> np.ndarray:
    """The reverse of channels_second."""
    return tensor.detach().movedim(1, problem.channel_axis).numpy()


class Leaves:
    """The tensors of a problem; those that gradients are wanted of are leaves."""

    def __init__(self, problem: Problem):
        self.problem = problem
        self.x = channels_second(problem, problem.x).detach().requires_grad_()
        self.dy = channels_second(problem, problem.dy)
        self.scale, self.shift = (to_torch(array, grad=True) for array in (problem.scale, problem.shift))
        self.running_mean, self.running_var = (to_torch(array) for array in problem.running.values())

    def gradients(self, y: torch.Tensor, prefix: str = "") -> Results:
        """y itself and the gradients of its leaves by automatic differentiation."""
        leaves = {"dx": self.x, "dscale": self.scale, "dshift": self.shift}
        leaves = {name: leaf for name, leaf in leaves.items() if leaf is not None}
        tensors = dict(zip(leaves, torch.autograd.grad(y, list(leaves.values()), self.dy)))
        results = {f"{prefix}{name}": tensor.numpy() for name, tensor in tensors.items() if name != "dx"}
        return results | {f"{prefix}y": back(self.problem, y), f"{prefix}dx": back(self.problem, tensors["dx"])}

    def running(self) -> Results:
        """As they are now."""
        arrays = {"running_mean": self.running_mean, "running_var": self.running_var}
        return {name: tensor.numpy() for name, tensor in arrays.items() if tensor is not None}


def train(problem: Problem) -> Results:
    leaves = Leaves(problem)
    running = (leaves.running_mean, leaves.running_var)
    momentum = PYTORCH.momentum(problem.average_factor)
    y, mean, inv_std = torch.native_batch_norm(
        leaves.x, leaves.scale, leaves.shift, *running, True, momentum, problem.epsilon
    )
    saved = {"mean": mean.detach().numpy(), "inv_std": inv_std.detach().numpy()}
    return leaves.gradients(y) | saved | leaves.running()


def frozen(problem: Problem) -> Results:
    leaves = Leaves(problem)
    running = (leaves.running_mean, leaves.running_var)
    y = torch.nn.functional.batch_norm(
        leaves.x, *running, leaves.scale, leaves.shift, training=False, eps=problem.epsilon
    )
    return leaves.gradients(y, "frozen_")
