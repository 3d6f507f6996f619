"""What backward reads in place of x, y or the residual, against PyTorch; batch renormalization against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bnorm_abi import Plan

SHAPE = (5, 20, 7, 6)
RELATIVE = 1e-11  # f64


def normals(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    random = np.random.default_rng(3)
    return [random.normal(0.5, 1, shape) for shape in shapes]


def by_pytorch(x, residual, dy, scale, shift, activation) -> dict[str, np.ndarray]:
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, residual, scale, shift)]
    z = torch.nn.functional.batch_norm(leaves[0], None, None, leaves[2], leaves[3], training=True) + leaves[1]
    activation(z).backward(torch.tensor(dy))
    names = ("dx", "dresidual", "dscale", "dshift")
    return {name: leaf.grad.numpy() for name, leaf in zip(names, leaves)}


def check(gradients, expected: dict[str, np.ndarray]) -> None:
    for name, array in expected.items():
        np.testing.assert_allclose(getattr(gradients, name), array, rtol=RELATIVE, atol=RELATIVE, err_msg=name)


@pytest.mark.parametrize(
    ("activation", "theirs"),
    [
        ("relu", torch.nn.ReLU()),
        ("clip", torch.nn.Hardtanh(0, 1.5)),
        ("leaky_relu", torch.nn.LeakyReLU(0.125)),
    ],
)
@pytest.mark.parametrize("axes", ["NCHW", "NHWC"])
def test_backward_from_a_mask(library, axes, activation, theirs):
    x, residual, dy, scale, shift = normals(SHAPE, SHAPE, SHAPE, (20,), (20,))
    expected = by_pytorch(x, residual, dy, scale, shift, theirs)
    if axes == "NHWC":
        x, residual, dy = (np.ascontiguousarray(a.transpose(0, 2, 3, 1)) for a in (x, residual, dy))
        expected |= {name: expected[name].transpose(0, 2, 3, 1) for name in ("dx", "dresidual")}
    plan = Plan(
        library, x.shape, axes=axes, data_type=np.float64, activation=activation, clip=(0, 1.5), leaky_slope=0.125,
        residual_added=True, from_mask=True,
    )  # fmt: skip
    mask = np.empty(plan.mask_shape, np.uint8)
    _, mean, inv_std = plan.train(x, scale, shift, residual=residual, mask=mask)
    wanted = ("dx", "dresidual", "dscale", "dshift")
    check(plan.backward(x, dy, scale, shift, mean=mean, inv_std=inv_std, mask=mask, wanted=wanted), expected)


def test_backward_from_the_output(library):
    x, dy, scale, shift = normals(SHAPE, SHAPE, (20,), (20,))
    scale = np.abs(scale) + 0.5
    expected = by_pytorch(x, np.zeros(SHAPE), dy, scale, shift, torch.nn.LeakyReLU(0.125))
    del expected["dresidual"]
    plan = Plan(
        library, x.shape, axes="NCHW", data_type=np.float64, activation="leaky_relu", leaky_slope=0.125,
        from_output=True,
    )  # fmt: skip
    y, mean, inv_std = plan.train(x, scale, shift)
    check(plan.backward(None, dy, scale, shift, y=y, mean=mean, inv_std=inv_std), expected)


def test_batch_renormalization(library):
    x, dy, running_mean = normals((40, 6), (40, 6), (6,))
    running_var = running_mean**2 + 0.1
    plan = Plan(library, x.shape, axes="NC", data_type=np.float64, epsilon=1e-3, renorm=True)
    running = {"running_mean": running_mean.copy(), "running_var": running_var.copy()}
    saved = {"renorm_r": np.empty(6), "renorm_d": np.empty(6)}
    y, mean, inv_std = plan.train(x, renorm_limits=(1.5, 0.75), **running, **saved)
    gradients = plan.backward(x, dy, mean=mean, inv_std=inv_std, **saved)

    sigma = np.sqrt(running_var + 1e-3)
    deviation = np.sqrt(x.var(axis=0) + 1e-3)
    r = np.clip(deviation / sigma, 1 / 1.5, 1.5)
    d = np.clip((x.mean(axis=0) - running_mean) / sigma, -0.75, 0.75)
    x_hat = (x - x.mean(axis=0)) / deviation
    dx = r / deviation * (dy - dy.mean(axis=0) - x_hat * (dy * x_hat).mean(axis=0))
    np.testing.assert_allclose(y, x_hat * r + d, rtol=RELATIVE, atol=RELATIVE)
    check(gradients, {"dx": dx, "dscale": (dy * (x_hat * r + d)).sum(axis=0), "dshift": dy.sum(axis=0)})
