"""Folding beside PyTorch's: the same layers, and what they compute."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bnorm_abi import Plan
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

# Both make each weight by a handful of f32 operations.
ROUNDINGS = 6 * 2.0**-24


def make_norm(channels: int) -> torch.nn.Module:
    norm = torch.nn.BatchNorm2d(channels).eval()
    generator = torch.Generator().manual_seed(3)
    for values, low in (
        (norm.running_mean, -1.0), (norm.running_var, 0.5), (norm.weight.data, 0.5), (norm.bias.data, -1.0),
    ):  # fmt: skip
        values.copy_(low + torch.rand(channels, generator=generator))
    return norm


def parameters(norm: torch.nn.Module) -> dict[str, np.ndarray]:
    values = {"scale": norm.weight, "shift": norm.bias}
    values |= {"running_mean": norm.running_mean, "running_var": norm.running_var}
    return {name: value.detach().numpy() for name, value in values.items()}


def fold(library, module: torch.nn.Module, norm: torch.nn.Module, **how):
    plan = Plan(library, (1, norm.num_features), axes="NC", epsilon=norm.eps)
    bias = None if module.bias is None else module.bias.detach().numpy()
    return plan.fold(module.weight.detach().numpy(), bias, **parameters(norm), **how)


def check(folded, theirs: torch.nn.Module) -> None:
    np.testing.assert_allclose(folded.weight, theirs.weight.detach().numpy(), rtol=ROUNDINGS)
    # A bias is a sum of terms up to 6.
    np.testing.assert_allclose(folded.bias, theirs.bias.detach().numpy(), rtol=ROUNDINGS, atol=6 * ROUNDINGS)
    assert 0 <= folded.digits_lost < 1.5


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_convolution(library, memory, groups, bias):
    layer = torch.nn.Conv2d(8, 8, 3, groups=groups, bias=bias).eval().to(memory_format=memory)
    norm = make_norm(8)
    check(fold(library, layer, norm, layer_groups=groups), fuse_conv_bn_eval(layer, norm))


def test_transposed_convolution(library):
    layer, norm = torch.nn.ConvTranspose2d(6, 8, 3).eval(), make_norm(8)
    check(fold(library, layer, norm, axes=(1, 0)), fuse_conv_bn_eval(layer, norm, transpose=True))


def test_dense(library):
    layer, norm = torch.nn.Linear(6, 8).eval(), make_norm(8)
    check(fold(library, layer, norm), fuse_linear_bn_eval(layer, norm))


def test_layer_behind(library):
    """PyTorch has no fold for it: by what it computes, without padding."""
    layer, norm = torch.nn.Conv2d(8, 5, 3).eval(), make_norm(8)
    folded = fold(library, layer, norm, layer="last")
    x = torch.rand(2, 8, 7, 7, dtype=torch.float64)
    expected = layer.double()(norm.double()(x)).detach().numpy()
    weight, bias = (torch.tensor(a, dtype=torch.float64) for a in (folded.weight, folded.bias))
    actual = torch.nn.functional.conv2d(x, weight, bias).numpy()
    # 72 products up to 1 and a bias, each rounded once.
    np.testing.assert_allclose(actual, expected, atol=80 * 2.0**-24)
