"""Two small worked examples: statistics per feature map, and per time step."""

from __future__ import annotations

import numpy as np
from bnorm_abi import Library, LibraryError, Plan


def per_feature_map(library: Library) -> list[str]:
    """Convolutions: one mean and variance a feature map (channel), over the batch and all pixels, in either layout."""
    rng = np.random.default_rng(7)
    x = rng.normal(loc=[[[[-3]], [[0]], [[40]]]], scale=2, size=(8, 3, 5, 5)).astype(np.float32)
    scale, shift = np.array([1, 2, 3], np.float32), np.array([0, 10, 20], np.float32)
    results = []
    for axes, images in (("NCHW", x), ("NHWC", np.ascontiguousarray(x.transpose(0, 2, 3, 1)))):
        running_mean, running_var = np.zeros(3, np.float32), np.ones(3, np.float32)
        y, mean, inv_std = Plan(library, images.shape, axes=axes).train(
            images, scale, shift, running_mean=running_mean, running_var=running_var
        )
        saved = {"mean": mean, "inv_std": inv_std}
        results.append({"y": y, "running_mean": running_mean, "running_var": running_var} | saved)
    planar, channels_last = results
    channels_last["y"] = channels_last["y"].transpose(0, 3, 1, 2)
    for name, array in planar.items():
        _expect(array.tobytes() == channels_last[name].tobytes(), f"{name} differs between NCHW and NHWC")
    exact = x.mean(axis=(0, 2, 3), dtype=np.float64)
    _expect(np.allclose(planar["mean"], exact, rtol=1e-12, atol=1e-12), "the mean is off")
    return [
        f"x [N=8][C=3][H=5][W=5]; mean of each feature map: {_row(planar['mean'])}",
        f"after scale {_row(scale)} and shift {_row(shift)}: "
        f"means {_row(planar['y'].mean(axis=(0, 2, 3)))}, standard deviations {_row(planar['y'].std(axis=(0, 2, 3)))}",
        "NCHW and NHWC: y, saved and running statistics are the same to the last bit",
    ]


def per_time_step(library: Library) -> list[str]:
    """Recurrent networks: one group a time step, each with statistics of its own; scale and shift are shared."""
    rng = np.random.default_rng(11)
    steps, batch, channels = 4, 32, 5
    growth = np.arange(1, steps + 1)[:, None, None]  # states grow from step to step
    x = (growth * rng.normal(size=(steps, batch, channels)) + growth).astype(np.float32)
    running_mean, running_var = np.zeros((steps, channels), np.float32), np.ones((steps, channels), np.float32)
    plan = Plan(library, x.shape, axes="GNC", running_mode="per_group", average_factor=1.0)
    y, mean, _ = plan.train(x, running_mean=running_mean, running_var=running_var)

    alone = Plan(library, x.shape[1:], axes="NC", average_factor=1.0)
    for step in range(steps):
        step_mean, step_var = np.zeros(channels, np.float32), np.ones(channels, np.float32)
        step_y, _, _ = alone.train(x[step], running_mean=step_mean, running_var=step_var)
        of_steps, of_step = (y, running_mean, running_var), (step_y, step_mean, step_var)
        same = all(all_steps[step].tobytes() == one.tobytes() for all_steps, one in zip(of_steps, of_step))
        _expect(same, f"time step {step} differs from a call of its own")
    pooled = Plan(library, (steps * batch, channels), axes="NC").train(x.reshape(-1, channels))[0].reshape(x.shape)
    return [
        f"x [G={steps} time steps][N=32][C=5]; running variance of channel 0, step by step: {_row(running_var[:, 0])}",
        f"variance of y, step by step: {_row(y.var(axis=(1, 2)))}; "
        f"with statistics pooled over the steps it would be {_row(pooled.var(axis=(1, 2)))}",
        "each time step has the bits of a call of its own",
    ]


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise LibraryError(f"worked example: {otherwise}")


def _row(values: np.ndarray) -> str:
    return "[" + " ".join(f"{value:.2f}" for value in values) + "]"
