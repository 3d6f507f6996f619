"""TensorFlow's and Keras's answers to a Problem."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from conventions import KERAS, TENSORFLOW_FUSED
from problem import Problem, Results, Setup

FORMATS = {4: "NHWC", 5: "NDHWC"}  # of the fused operation


def fused_takes(setup: Setup) -> bool:
    return len(setup.shape) in FORMATS and setup.layout == "channels_last" and setup.dtype is np.float32


def train_fused(problem: Problem) -> Results:
    forward = _fused(problem, problem.average_factor, is_training=True)
    saved = {"mean": forward.reserve_space_1.numpy(), "var": forward.reserve_space_2.numpy()}
    running = {"running_mean": forward.batch_mean.numpy(), "running_var": forward.batch_variance.numpy()}
    reserved = (forward.reserve_space_1, forward.reserve_space_2, forward.reserve_space_3)
    return {"y": forward.y.numpy()} | saved | running | _fused_gradients(problem, reserved, is_training=True)


def frozen_fused(problem: Problem) -> Results:
    forward = _fused(problem, 1.0, is_training=False)
    reserved = (problem.running_mean, problem.running_var, forward.reserve_space_3)
    results = {"y": forward.y.numpy()} | _fused_gradients(problem, reserved, is_training=False)
    return {f"frozen_{name}": array for name, array in results.items()}


def _fused_params(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """The operation has no option to leave them out."""
    ones = np.ones(problem.x.shape[-1], problem.x.dtype)
    return ones if problem.scale is None else problem.scale, 0 * ones if problem.shift is None else problem.shift


def _fused(problem: Problem, average_factor: float, *, is_training: bool):
    scale, shift = _fused_params(problem)
    # With a weight of 1 the operation takes no old statistics in training.
    empty = np.empty(0, problem.x.dtype)
    replaced = is_training and average_factor == 1
    return tf.raw_ops.FusedBatchNormV3(
        x=problem.x,
        scale=scale,
        offset=shift,
        mean=empty if replaced else problem.running_mean,
        variance=empty if replaced else problem.running_var,
        epsilon=problem.epsilon,
        exponential_avg_factor=TENSORFLOW_FUSED.momentum(average_factor),
        data_format=FORMATS[problem.x.ndim],
        is_training=is_training,
    )


def _fused_gradients(problem: Problem, reserved: tuple, *, is_training: bool) -> Results:
    mean, var, workspace = reserved
    gradients = tf.raw_ops.FusedBatchNormGradV3(
        y_backprop=problem.dy,
        x=problem.x,
        scale=_fused_params(problem)[0],
        reserve_space_1=mean,
        reserve_space_2=var,
        reserve_space_3=workspace,
        epsilon=problem.epsilon,
        data_format=FORMATS[problem.x.ndim],
        is_training=is_training,
    )
    names = {"dx": gradients.x_backprop, "dscale": gradients.scale_backprop, "dshift": gradients.offset_backprop}
    return {name: tensor.numpy() for name, tensor in names.items()}


def train_moments(problem: Problem) -> Results:
    """tf.nn.moments and tf.nn.batch_normalization; gradients through both."""
    tensors = _tensors(problem)
    with tf.GradientTape() as tape:
        tape.watch(list(tensors.values()))
        mean, var = tf.nn.moments(tensors["x"], problem.reduced_axes, keepdims=True)
        y = _normalized(problem, tensors, mean, var)
    saved = {"mean": mean.numpy().ravel(), "var": var.numpy().ravel()}
    return {"y": y.numpy()} | saved | _gradients(problem, tape, y, tensors)


def frozen_moments(problem: Problem) -> Results:
    tensors = _tensors(problem)
    with tf.GradientTape() as tape:
        tape.watch(list(tensors.values()))
        y = _normalized(problem, tensors, *(_broadcast(problem, array) for array in problem.running.values()))
    results = {"y": y.numpy()} | _gradients(problem, tape, y, tensors)
    return {f"frozen_{name}": array for name, array in results.items()}


def _tensors(problem: Problem) -> dict[str, tf.Tensor]:
    """x, and scale and shift as far as the problem has them."""
    arrays = {"x": problem.x} | problem.params
    return {name: tf.constant(array) for name, array in arrays.items() if array is not None}


def _broadcast(problem: Problem, values: tf.Tensor | np.ndarray | None) -> tf.Tensor | None:
    shape = [1] * problem.x.ndim
    shape[problem.channel_axis] = -1
    return None if values is None else tf.reshape(values, shape)


def _normalized(problem: Problem, tensors: dict[str, tf.Tensor], mean: tf.Tensor, var: tf.Tensor) -> tf.Tensor:
    scale, shift = (_broadcast(problem, tensors.get(name)) for name in ("scale", "shift"))
    return tf.nn.batch_normalization(tensors["x"], mean, var, shift, scale, problem.epsilon)


def _gradients(problem: Problem, tape: tf.GradientTape, y: tf.Tensor, tensors: dict[str, tf.Tensor]) -> Results:
    gradients = tape.gradient(y, tensors, output_gradients=tf.constant(problem.dy))
    return {f"d{name}": tensor.numpy() for name, tensor in gradients.items()}


def train_keras(problem: Problem) -> Results:
    layer = _layer(problem)
    results = _through(layer, problem, training=True)
    return results | {"running_mean": layer.moving_mean.numpy(), "running_var": layer.moving_variance.numpy()}


def infer_keras(problem: Problem) -> Results:
    return _frozen(_layer(problem), problem, training=False)


def freeze_keras(problem: Problem) -> Results:
    """A layer that is not trainable ignores training=True."""
    layer = _layer(problem)
    layer.trainable = False
    return _frozen(layer, problem, training=True)


def _frozen(layer: keras.layers.BatchNormalization, problem: Problem, *, training: bool) -> Results:
    results = _through(layer, problem, training=training)
    np.testing.assert_array_equal(layer.moving_mean.numpy(), problem.running_mean)
    np.testing.assert_array_equal(layer.moving_variance.numpy(), problem.running_var)
    return {f"frozen_{name}": array for name, array in results.items()}


def _layer(problem: Problem) -> keras.layers.BatchNormalization:
    layer = keras.layers.BatchNormalization(
        axis=problem.channel_axis,
        momentum=KERAS.momentum(problem.average_factor),
        epsilon=problem.epsilon,
        center=problem.shift is not None,
        scale=problem.scale is not None,
        dtype=problem.x.dtype.name,
    )
    layer.build(problem.x.shape)
    weights = (problem.scale, problem.shift, problem.running_mean, problem.running_var)
    layer.set_weights([array for array in weights if array is not None])
    return layer


def _through(layer: keras.layers.BatchNormalization, problem: Problem, *, training: bool) -> Results:
    variables = {"scale": layer.gamma, "shift": layer.beta}
    sources = {"x": tf.constant(problem.x)}
    sources |= {name: variable.value for name, variable in variables.items() if variable is not None}
    with tf.GradientTape() as tape:
        tape.watch(list(sources.values()))
        y = layer(sources["x"], training=training)
    return {"y": y.numpy()} | _gradients(problem, tape, y, sources)
