"""The BatchNormalization node tests of the ONNX standard, through the C ABI.

Conventions: bnorm's average_factor is 1 - momentum; the variance that enters ONNX's running variance is the biased one.
"""

from __future__ import annotations

import numpy as np
import onnx_cases
import pytest
from bnorm_abi import Plan
from layouts import LAYOUTS, in_layout
from onnx_cases import Case

CASES = onnx_cases.collect()
NODE_TESTS = {
    "test_batchnorm_epsilon",
    "test_batchnorm_epsilon_training_mode",
    "test_batchnorm_example",
    "test_batchnorm_example_training_mode",
}
# The tolerance of ONNX's own runner.
ONNX_RTOL, ONNX_ATOL = 1e-3, 1e-7
UNIT = 2.0**-24  # largest relative error of one f32 rounding

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
each_layout = pytest.mark.parametrize("layout", LAYOUTS)


def test_the_cases_are_there():
    """The suite must not pass by finding nothing: the standard's four node tests, two of them training."""
    found = {case.name.split("/")[1] for case in CASES if case.name.startswith("node/")}
    assert found >= NODE_TESTS
    assert sum(case.training for case in CASES) >= 2


@each_layout
@each_case
def test_full_call(library, case: Case, layout: str):
    inputs = {name: array.copy() for name, array in case.inputs.items()}
    axes, x = in_layout(inputs.pop("x"), layout)
    plan = Plan(
        library, x.shape, axes=axes, epsilon=case.epsilon, average_factor=case.average_factor, biased_running_var=True
    )
    y = plan.train(x, **inputs)[0] if case.training else plan.infer(x, **inputs)
    if layout == "channels_last":
        y = np.moveaxis(y, -1, 1)
    check(case, y, inputs["running_mean"], inputs["running_var"])


@each_layout
@pytest.mark.parametrize("case", [case for case in CASES if not case.training], ids=lambda case: case.name)
def test_prepared_inference(library, case: Case, layout: str):
    inputs = dict(case.inputs)
    axes, x = in_layout(inputs.pop("x"), layout)
    plan = Plan(library, x.shape, axes=axes, epsilon=case.epsilon)
    y = plan.normalize(x, plan.prepare(**inputs))
    check(case, np.moveaxis(y, -1, 1) if layout == "channels_last" else y)


@each_case
def test_simple_call(library, case: Case):
    """bnorm_infer_f32 and bnorm_train_f32; the latter's running variance is the unbiased one by contract."""
    inputs = {name: array.copy() for name, array in case.inputs.items()}
    x = inputs["x"]
    y = np.empty_like(x)
    batch, channels, *spatial = x.shape
    sizes = (batch, channels, int(np.prod(spatial)))
    pointers = {name: library.ffi.from_buffer("float[]", array) for name, array in inputs.items()}
    x_p, scale, shift, running_mean, running_var = (pointers[name] for name in onnx_cases.INPUTS)
    common = (*sizes, x_p, library.ffi.from_buffer("float[]", y), scale, shift)
    if not case.training:
        library.check(library.c.bnorm_infer_f32(*common, running_mean, running_var, case.epsilon))
        check(case, y)
        return
    null = library.ffi.NULL
    library.check(
        library.c.bnorm_train_f32(*common, null, null, running_mean, running_var, case.epsilon, case.average_factor)
    )
    count = x.size // channels
    biased = inputs["running_var"].astype(np.float64)
    old = (1 - case.average_factor) * case.inputs["running_var"].astype(np.float64)
    check(case, y, inputs["running_mean"], old + (biased - old) * (count - 1) / count)


def check(case: Case, y: np.ndarray, running_mean: np.ndarray | None = None, running_var: np.ndarray | None = None):
    """Against the standard's data with its tolerance, and against f64 arithmetic to a few roundings of f32."""
    actual = [y, running_mean, running_var][: len(case.outputs)]
    for name, ours, theirs in zip(("y", "running_mean", "running_var"), actual, case.outputs):
        assert ours.shape == theirs.shape, name
        np.testing.assert_allclose(ours, theirs, rtol=ONNX_RTOL, atol=ONNX_ATOL, err_msg=name)
    for name, ours, (exact, bound) in zip(("y", "running_mean", "running_var"), actual, reference(case)):
        excess = np.max(np.abs(ours - exact) / bound)
        assert excess <= 1, f"{name}: error of {excess:.2f} times its bound"


def reference(case: Case) -> list[tuple[np.ndarray, np.ndarray]]:
    """y, running_mean, running_var by the formulas in f64, each with the bound that its f32 roundings add up to."""
    exact = {name: array.astype(np.float64) for name, array in case.inputs.items()}
    axes = (0, *range(2, exact["x"].ndim))
    mean, var = exact["running_mean"], exact["running_var"]
    running = []
    if case.training:
        f = case.average_factor
        batch = {"running_mean": exact["x"].mean(axis=axes), "running_var": exact["x"].var(axis=axes)}
        for name, value in batch.items():
            # Three operations: batch - running, times f, plus running; a fourth rounds the batch's own value.
            bound = UNIT * (4 * f * (abs(value) + abs(exact[name])) + 2 * abs(exact[name]))
            running.append((exact[name] + f * (value - exact[name]), bound))
        mean, var = batch["running_mean"], batch["running_var"]

    def per_channel(values: np.ndarray) -> np.ndarray:
        return values.reshape(-1, *[1] * (exact["x"].ndim - 2))

    gain = per_channel(exact["scale"] / np.sqrt(var + case.epsilon))
    product = (exact["x"] - per_channel(mean)) * gain
    shift = per_channel(exact["shift"])
    # gain: epsilon, sum and root half a rounding each, root, division, product one each; then difference, product, sum.
    # The rounded mean (center) adds a term of |mean * gain|, which offset takes back to within its own rounding.
    bound = UNIT * (8 * abs(product) + 2 * abs(shift) + UNIT * 8 * abs(per_channel(mean) * gain)) + np.finfo("f4").tiny
    return [(product + shift, bound), *running]
