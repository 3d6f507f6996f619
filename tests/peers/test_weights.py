"""Masks and lengths against Keras, whose layer takes a mask, and both kinds of weights against NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from bnorm_abi import Plan

RELATIVE = 1e-4  # Keras computes in f32


def padded_batch() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x, dy, lengths and mask of sequences [N][T][C]."""
    random = np.random.default_rng(7)
    x, dy = random.normal(1, 2, (2, 9, 13, 20)).astype(np.float32)
    lengths = random.integers(0, 14, 9)
    mask = np.arange(13) < lengths[:, None]
    return x, dy * mask[..., None].astype(np.float32), lengths, mask


@pytest.mark.parametrize("by_lengths", [False, True])
def test_a_mask_does_what_keras_does(library, by_lengths):
    x, dy, lengths, mask = padded_batch()
    layer = keras.layers.BatchNormalization(momentum=0.75, epsilon=1e-3)
    layer.build(x.shape)
    source = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(source)
        y = layer(source, training=True, mask=tf.constant(mask))
    sources = {"dx": source, "dscale": layer.gamma.value, "dshift": layer.beta.value}
    theirs = tape.gradient(y, sources, output_gradients=tf.constant(dy)) | {
        "y": y, "running_mean": layer.moving_mean, "running_var": layer.moving_variance,
    }  # fmt: skip

    counted = {"lengths": lengths} if by_lengths else {"weights": mask.astype(np.float32)}
    plan = Plan(library, x.shape, axes="NTC", epsilon=1e-3, biased_running_var=True, weighting="frequency")
    running = {"running_mean": np.zeros(20, np.float32), "running_var": np.ones(20, np.float32)}
    ours_y, mean, inv_std = plan.train(x, average_factor=0.25, **running, **counted)
    gradients = plan.backward(x, dy, mean=mean, inv_std=inv_std, **counted)
    ours = {"y": ours_y, **running, "dx": gradients.dx, "dscale": gradients.dscale, "dshift": gradients.dshift}
    for name, array in ours.items():
        expected = theirs[name].numpy()
        np.testing.assert_allclose(array, expected, rtol=RELATIVE, atol=RELATIVE * np.abs(expected).max(), err_msg=name)


@pytest.mark.parametrize("weighting", ["frequency", "reliability"])
def test_variances_are_those_of_numpy(library, weighting):
    random = np.random.default_rng(8)
    x = random.normal(3, 2, (50, 4))
    weights = random.integers(0, 4, 50)
    plan = Plan(library, x.shape, axes="NC", data_type=np.float64, weighting=weighting)
    running = {"running_mean": np.zeros(4), "running_var": np.zeros(4)}
    plan.train(x, average_factor=1.0, weights=weights.astype(np.float64), **running)
    kind = {"fweights": weights} if weighting == "frequency" else {"aweights": weights}
    expected = np.diag(np.cov(x, rowvar=False, **kind))
    np.testing.assert_allclose(running["running_var"], expected, rtol=1e-13)
    np.testing.assert_allclose(running["running_mean"], np.average(x, axis=0, weights=weights), rtol=1e-13)
