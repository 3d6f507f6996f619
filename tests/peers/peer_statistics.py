"""Batch statistics as bnorm and its peers compute them, for accuracy.py.

    python peer_statistics.py SYSTEM N C H W FILE...

SYSTEM is a key of SYSTEMS; each FILE holds f32 values [N][C][H][W]. Prints JSON lines: the versions, then for every
file and every row of the table (system and layout) the mean and the biased variance of each channel. One process runs
one system, so that no peer meets the threads of another.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
ONEDNN_PROGRAM = ROOT / "build" / "release" / "tests" / "onednn_statistics"

Statistics = tuple[np.ndarray, np.ndarray]  # mean and biased variance
Row = Callable[[np.ndarray], Statistics]  # of x [N][C][H][W]
System = tuple[dict[str, str], dict[str, Row]]  # versions and rows, by name


def biased(unbiased: np.ndarray, x: np.ndarray) -> np.ndarray:
    """In f64, so that the conversion costs nothing of the accuracy."""
    count = x.size // x.shape[1]
    return np.asarray(unbiased, np.float64) * ((count - 1) / count)


def nhwc(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def bnorm() -> System:
    """Running statistics that the batch replaces; they are the statistics themselves, rounded to their type."""
    sys.path.insert(0, str(ROOT / "python"))
    from bnorm_abi import Plan, open_library

    library = open_library()

    def statistics(axes: str, param_type: type, x: np.ndarray) -> Statistics:
        x = x if axes == "NCHW" else nhwc(x)
        options = {"axes": axes, "param_type": param_type, "biased_running_var": True, "average_factor": 1.0}
        plan = Plan(library, x.shape, **options)
        mean, var = np.zeros(plan.running_shape, param_type), np.zeros(plan.running_shape, param_type)
        plan.train(x, running_mean=mean, running_var=var)
        return mean, var

    rows = {f"bnorm {axes.lower()}": partial(statistics, axes, np.float32) for axes in ("NCHW", "NHWC")}
    rows["bnorm nchw, running_* in f64"] = partial(statistics, "NCHW", np.float64)
    number = library.c.bnorm_version()
    version = f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"
    return {"bnorm": f"{version} ({library.isa})"}, rows


def pytorch() -> System:
    """Running statistics with momentum 1; PyTorch's variance there is the unbiased one."""
    import torch

    def statistics(memory_format: torch.memory_format, x: np.ndarray) -> Statistics:
        tensor = torch.from_numpy(x).contiguous(memory_format=memory_format)
        mean, var = torch.zeros(x.shape[1]), torch.zeros(x.shape[1])
        torch.nn.functional.batch_norm(tensor, mean, var, training=True, momentum=1.0)
        return mean.numpy(), biased(var.numpy(), x)

    formats = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}
    rows = {f"PyTorch {layout}": partial(statistics, chosen) for layout, chosen in formats.items()}
    return {"PyTorch": torch.__version__}, rows


def _fused(x: np.ndarray) -> Statistics:
    """batch_variance of the fused operation is the unbiased one."""
    import tensorflow as tf

    ones = tf.ones(x.shape[1])
    empty = tf.constant([], tf.float32)
    result = tf.raw_ops.FusedBatchNormV3(x=tf.constant(nhwc(x)), scale=ones, offset=ones, mean=empty, variance=empty)
    return result.batch_mean.numpy(), biased(result.batch_variance.numpy(), x)


def tensorflow() -> System:
    """The fused operation, tf.nn.moments, and Keras over TensorFlow with momentum 0 (all of the new batch)."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras
    import tensorflow as tf

    def moments(axes: list[int], x: np.ndarray) -> Statistics:
        mean, var = tf.nn.moments(tf.constant(x if axes[-1] == 3 else nhwc(x)), axes)
        return mean.numpy(), var.numpy()

    def layer(axis: int, x: np.ndarray) -> Statistics:
        norm = keras.layers.BatchNormalization(axis=axis, momentum=0.0)
        norm(tf.constant(x if axis == 1 else nhwc(x)), training=True)
        return norm.moving_mean.numpy(), norm.moving_variance.numpy()

    rows = {
        "TensorFlow fused nhwc": _fused,
        "TensorFlow moments nchw": partial(moments, [0, 2, 3]),
        "TensorFlow moments nhwc": partial(moments, [0, 1, 2]),
        "Keras nchw": partial(layer, 1),
        "Keras nhwc": partial(layer, -1),
    }
    return {"TensorFlow": tf.__version__, "Keras": keras.__version__}, rows


def tensorflow_without_onednn() -> System:
    """The fused operation in TensorFlow's own kernels."""
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
    import tensorflow as tf

    return {"TensorFlow": tf.__version__}, {"TensorFlow fused nhwc, ONEDNN_OPTS=0": _fused}


def flax() -> System:
    """batch_stats with momentum 0 (all of the new batch); compiled, as programs use it."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    import flax.linen
    import jax

    def statistics(axis: int, fast: bool, x: np.ndarray) -> Statistics:
        options = {"axis": axis, "momentum": 0.0, "use_fast_variance": fast, "use_running_average": False}
        norm = flax.linen.BatchNorm(**options)
        values = x if axis == 1 else nhwc(x)
        apply = jax.jit(partial(norm.apply, mutable=["batch_stats"]))
        state = norm.init(jax.random.key(0), values[:1])
        stats: dict[str, Any] = apply(state, values)[1]["batch_stats"]
        return np.asarray(stats["mean"]), np.asarray(stats["var"])

    rows: dict[str, Row] = {}
    for fast, name in ((True, "Flax"), (False, "Flax use_fast_variance=False")):
        rows |= {f"{name} {layout}": partial(statistics, axis, fast) for layout, axis in (("nchw", 1), ("nhwc", -1))}
    return {"Flax": flax.__version__, "JAX": jax.__version__}, rows


def onednn() -> System:
    """By the program onednn_statistics, in three formats."""

    def run(*arguments: object, x: bytes = b"") -> bytes:
        command = [str(ONEDNN_PROGRAM), *map(str, arguments)]
        return subprocess.run(command, input=x, stdout=subprocess.PIPE, check=True).stdout

    def statistics(layout: str, x: np.ndarray) -> Statistics:
        mean, var = np.frombuffer(run(*x.shape, layout, x=x.tobytes()), np.float32).reshape(2, -1)
        return mean, var

    rows = {f"oneDNN {layout}": partial(statistics, layout) for layout in ("nchw", "nhwc", "nChw16c")}
    return {"oneDNN": run("--version").decode().strip()}, rows


SYSTEMS: dict[str, Callable[[], System]] = {
    "bnorm": bnorm,
    "PyTorch": pytorch,
    "TensorFlow and Keras": tensorflow,
    "TensorFlow without oneDNN": tensorflow_without_onednn,
    "Flax": flax,
    "oneDNN": onednn,
}


def main(system: str, sizes: list[int], files: list[str]) -> None:
    versions, rows = SYSTEMS[system]()
    print(json.dumps(versions), flush=True)
    for file in files:
        x = np.fromfile(file, np.float32).reshape(sizes)
        for row, statistics in rows.items():
            mean, var = (np.asarray(values, np.float64).tolist() for values in statistics(x))
            print(json.dumps({"file": file, "row": row, "mean": mean, "var": var}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], [int(size) for size in sys.argv[2:6]], sys.argv[6:])
