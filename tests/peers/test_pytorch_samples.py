"""bnorm on the inputs with which PyTorch tests its own batch normalization: functions and modules."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from bnorm_abi import BnormError
from bounds import check, frozen_bounds, training_bounds
from conventions import PYTORCH
from problem import Problem, Results, solve_frozen, solve_training
from pytorch_peer import Leaves
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_modules import module_db

FUNCTIONS = ("native_batch_norm", "nn.functional.batch_norm")
MODULES = ("nn.BatchNorm1d", "nn.BatchNorm2d", "nn.BatchNorm3d")
TYPES = (torch.float32, torch.float64)
PARAMETERS = {
    "nn.functional.batch_norm": list(inspect.signature(torch.nn.functional.batch_norm).parameters),
    "native_batch_norm": [argument.name for argument in torch.ops.aten.native_batch_norm.default._schema.arguments],
}


def samples() -> list[Any]:
    """Function, number of a sample, its arguments by PyTorch's names."""
    found = []
    for info in op_db:
        if info.name not in FUNCTIONS or info.variant_test_name:
            continue
        for dtype in TYPES:
            torch.manual_seed(0)
            for index, sample in enumerate(info.sample_inputs("cpu", dtype)):
                values = dict(zip(PARAMETERS[info.name], (sample.input, *sample.args))) | sample.kwargs
                found.append(pytest.param(info.name, values, id=f"{info.name}-{dtype}-{index}"))
    return found


def modules() -> list[Any]:
    """A module in training or not, and an input."""
    found = []
    for info in (info for info in module_db if info.name in MODULES):
        for dtype in TYPES:
            for training in (True, False):
                torch.manual_seed(0)
                options = {"device": "cpu", "dtype": dtype, "requires_grad": False, "training": training}
                for index, inputs in enumerate(info.module_inputs_func(info, **options)):
                    made = inputs.constructor_input
                    module = info.module_cls(*made.args, **made.kwargs, dtype=dtype).train(training)
                    name = f"{info.name}-{dtype}-{'train' if training else 'eval'}-{index}-{inputs.desc}"
                    found.append(pytest.param(module, inputs.forward_input.args[0], id=name))
    return found


def test_the_samples_are_there():
    """Must not pass by finding nothing."""
    assert {param.values[0] for param in samples()} == set(FUNCTIONS)
    assert {type(param.values[0]).__name__ for param in modules()} == {name.removeprefix("nn.") for name in MODULES}


@pytest.mark.parametrize(("name", "values"), samples())
def test_function(library, name: str, values: dict[str, Any]):
    problem = problem_of(values["input"], values)
    leaves = Leaves(problem)
    call = torch.nn.functional.batch_norm if name == "nn.functional.batch_norm" else torch.native_batch_norm
    tensors = {"running_mean": leaves.running_mean, "running_var": leaves.running_var}
    tensors |= {"input": leaves.x.reshape(values["input"].shape), "weight": leaves.scale, "bias": leaves.shift}
    result = call(**values | tensors)
    y = result if isinstance(result, torch.Tensor) else result[0]
    training = values.get("training", False)
    theirs = leaves.gradients(y.reshape(leaves.x.shape), "" if training else "frozen_")
    compare(library, problem, theirs | leaves.running() if training else theirs, training)


@pytest.mark.parametrize(("module", "x"), modules())
def test_module(library, module: torch.nn.Module, x: torch.Tensor):
    """With parameters and statistics that are not those a module starts with; a cumulative average's first weight is 1.

    A module that tracks no statistics normalizes by those of the batch in eval() too.
    """
    torch.manual_seed(1)
    with torch.no_grad():
        for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
            if tensor is not None:
                tensor.uniform_(0.5, 2)
    training = module.training or module.running_mean is None
    momentum = 1.0 if module.momentum is None else module.momentum
    values = {"weight": module.weight, "bias": module.bias, "eps": module.eps, "momentum": momentum}
    values |= {"running_mean": module.running_mean, "running_var": module.running_var}
    problem = problem_of(x, values)
    leaves = Leaves(problem)
    leaves.scale, leaves.shift = module.weight, module.bias
    theirs = leaves.gradients(module(leaves.x), "" if training else "frozen_")
    if module.running_mean is not None and training:
        theirs |= {name: getattr(module, name).numpy() for name in ("running_mean", "running_var")}
    compare(library, problem, theirs, training)


def problem_of(x: torch.Tensor, values: dict[str, Any]) -> Problem:
    """By PyTorch's names of arguments, with its defaults."""
    array = x.detach().numpy().copy()
    # A vector, of which PyTorch has an empty one: no channels.
    array = array.reshape(0, 0) if array.ndim == 1 else array
    names = {"scale": "weight", "shift": "bias", "running_mean": "running_mean", "running_var": "running_var"}
    tensors = {ours: values.get(theirs) for ours, theirs in names.items()}
    return Problem(
        axes="NC" + "DHW"[3 - (array.ndim - 2) :],
        x=array,
        dy=np.random.default_rng(2).normal(size=array.shape).astype(array.dtype),
        **{name: None if tensor is None else tensor.detach().numpy().copy() for name, tensor in tensors.items()},
        epsilon=values.get("eps", PYTORCH.epsilon),
        average_factor=values.get("momentum", PYTORCH.average_factor),
    )


def compare(library, problem: Problem, theirs: Results, training: bool) -> None:
    if not 0 <= problem.average_factor <= 1:
        problem, theirs = without_factor(library, problem, theirs)
    if training:
        ours = solve_training(library, problem, PYTORCH.biased_running_var)
        check(ours, theirs, training_bounds(problem, PYTORCH.biased_running_var))
    else:
        check(solve_frozen(library, problem), theirs, frozen_bounds(problem))


def without_factor(library, problem: Problem, theirs: Results) -> tuple[Problem, Results]:
    """bnorm must refuse a weight outside [0, 1]; all but the running update is compared still."""
    with pytest.raises(BnormError, match="average_factor"):
        solve_training(library, problem, PYTORCH.biased_running_var)
    rest = {name: array for name, array in theirs.items() if not name.startswith("running_")}
    return replace(problem, average_factor=0), rest
