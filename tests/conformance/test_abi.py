"""The NumPy face itself: memory orders, types, groups, messages."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from bnorm_abi import BnormError, NonfiniteWarning, Plan


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(6, 5, 4, 3)).astype(np.float32)


def test_strides_are_used_where_the_array_lies(library, x):
    """A reversed, transposed slice of a larger array gives the bits of its packed copy."""
    big = np.zeros((4, 3, 12, 5), np.float32)
    view = big[:, :, ::-2].transpose(2, 3, 0, 1)
    view[...] = x
    expected, mean, inv_std = Plan(library, x.shape, axes="NCHW").train(x)
    y, other_mean, other_inv_std = Plan(library, x.shape, axes="NCHW", like={"x": view, "y": view}).train(view, y=view)
    assert y is view
    assert np.array_equal(y, expected)
    assert np.array_equal(mean, other_mean) and np.array_equal(inv_std, other_inv_std)
    assert not big[:, :, ::2].any()  # between the slices nothing was written


@pytest.mark.parametrize("data_type", [np.float32, np.float64])
def test_backward_against_the_formula(library, x, data_type):
    x = x.astype(data_type)
    dy = np.random.default_rng(1).normal(size=x.shape).astype(data_type)
    scale = np.linspace(0.5, 2, 5, dtype=data_type)
    plan = Plan(library, x.shape, axes="NCHW", data_type=data_type)
    _, mean, inv_std = plan.train(x, scale)
    gradients = plan.backward(x, dy, scale, mean=mean, inv_std=inv_std)
    wide, axes, channel = x.astype(np.longdouble), (0, 2, 3), (1, 5, 1, 1)
    centered = wide - wide.mean(axis=axes, keepdims=True)
    normalized = centered / np.sqrt((centered**2).mean(axis=axes, keepdims=True) + np.longdouble(1e-5))
    dscale, dshift = (dy * normalized).sum(axis=axes), dy.astype(np.longdouble).sum(axis=axes)
    gain = scale.reshape(channel) * normalized / np.where(centered == 0, 1, centered)
    dx = gain * (dy - (dshift.reshape(channel) + normalized * dscale.reshape(channel)) / (x.size // 5))
    # The terms of dx are of order 10 and of the sums of order 100: both bounds are some 40 roundings.
    unit = float(np.finfo(data_type).eps) / 2
    assert np.max(np.abs(gradients.dx - dx)) < 400 * unit
    assert np.max(np.abs(gradients.dscale - dscale)) < 4000 * unit
    assert np.max(np.abs(gradients.dshift - dshift)) < 4000 * unit


@pytest.mark.parametrize("data_type", [ml_dtypes.bfloat16, np.uint16], ids=["bfloat16", "uint16"])
def test_bfloat16_data(library, x, data_type):
    """bf16 data is normalized in f32 and rounded once: as the f32 call on the same values, rounded by ml_dtypes."""
    short = x.astype(ml_dtypes.bfloat16)
    y, mean, _ = Plan(library, x.shape, axes="NCHW", data_type=data_type).train(short.view(data_type))
    expected, expected_mean, _ = Plan(library, x.shape, axes="NCHW").train(short.astype(np.float32))
    assert y.dtype == data_type
    assert np.array_equal(y.view(np.uint16), expected.astype(ml_dtypes.bfloat16).view(np.uint16))
    assert np.array_equal(mean, expected_mean)


def test_residual_and_relu(library, x):
    residual = np.random.default_rng(2).normal(size=x.shape).astype(np.float32)
    plain, _, _ = Plan(library, x.shape, axes="NCHW").train(x)
    fused = Plan(library, x.shape, axes="NCHW", activation="relu", residual_added=True)
    y, mean, inv_std = fused.train(x, residual=residual)
    assert np.array_equal(y, np.maximum(plain + residual, 0))
    wanted = ("dx", "dscale", "dshift", "dresidual")
    gradients = fused.backward(x, np.ones_like(x), mean=mean, inv_std=inv_std, y=y, wanted=wanted)
    assert np.array_equal(gradients.dresidual, (y > 0).astype(np.float32))


@pytest.mark.parametrize("axes", ["NCHW", "CNHW", "GCNW", "HWNC"])
def test_smaller_batch_than_the_plan(library, x, axes):
    """Where N is not the outermost axis, y of fewer samples is a slice of what the plan's strides ask for."""
    running_mode = "per_group" if "G" in axes else "unset"
    part = x[tuple(slice(2) if letter == "N" else slice(None) for letter in axes)]
    large = Plan(library, x.shape, axes=axes, running_mode=running_mode)
    small = Plan(library, part.shape, axes=axes, running_mode=running_mode)
    y, mean, inv_std = large.train(part)
    expected = small.train(part.copy())
    assert np.array_equal(y, expected[0]) and np.array_equal(mean, expected[1])
    gradients = large.backward(part, part, mean=mean, inv_std=inv_std)
    assert np.array_equal(gradients.dx, small.backward(part.copy(), part.copy(), mean=mean, inv_std=inv_std).dx)


def test_outputs_with_gaps_must_be_given(library, x):
    for like in (np.zeros((6, 5, 4, 6), np.float32)[..., ::2], np.zeros_like(x)[::-1]):
        plan = Plan(library, x.shape, axes="NCHW", like={"y": like})
        with pytest.raises(ValueError, match="must be given"):
            plan.train(x)
        assert np.array_equal(plan.train(x, y=like)[0], Plan(library, x.shape, axes="NCHW").train(x)[0])


def test_any_other_letter_is_spatial(library, x):
    y, expected = (Plan(library, x.shape, axes=axes).train(x)[0] for axes in ("NCng", "NCHW"))
    assert np.array_equal(y, expected)


def test_refusal_carries_the_message_of_bnorm(library, x):
    with pytest.raises(BnormError, match="epsilon") as raised:
        Plan(library, x.shape, axes="NCHW", epsilon=-1)
    assert raised.value.status == "INVALID_ARGUMENT"


def test_guard_warns(library, x):
    x[0, 2] = np.nan
    plan = Plan(library, x.shape, axes="NCHW", guard=True)
    running = {"running_mean": np.zeros(5, np.float32), "running_var": np.ones(5, np.float32)}
    with pytest.warns(NonfiniteWarning):
        plan.train(x, **running)
    assert running["running_mean"][2] == 0 and running["running_var"][2] == 1
    assert np.all(np.delete(running["running_mean"], 2) != 0)


def test_wrong_arrays_are_refused(library, x):
    plan = Plan(library, x.shape, axes="NCHW")
    with pytest.raises(TypeError, match="x has dtype float64, the plan has float32"):
        plan.train(x.astype(np.float64))
    with pytest.raises(ValueError, match="y has byte strides"):
        plan.train(x, y=np.asfortranarray(x))
    with pytest.raises(ValueError, match="x has shape"):
        plan.train(x[:, :4])
    with pytest.raises(ValueError, match="differ in shape"):
        plan.train(x, y=np.empty_like(x[:2]))
    with pytest.raises(ValueError, match="scale has shape"):
        plan.train(x, np.ones(4, np.float32))
    constant = np.zeros(5, np.float32)
    constant.flags.writeable = False
    with pytest.raises(ValueError, match="running_mean must be writeable"):
        plan.train(x, running_mean=constant)
    with pytest.raises(TypeError, match="x is a list"):
        plan.train(x.tolist())
    with pytest.raises(BnormError, match="dy = NULL: must be given"):
        plan.backward(x, None, mean=np.zeros(5), inv_std=np.ones(5))
    with pytest.raises(BnormError, match="x = NULL: must be given"):
        plan.train(None)
    with pytest.raises(ValueError, match="x has shape"):
        plan.train(x[0])
    with pytest.raises(ValueError, match="wanted names 'dgamma'"):
        plan.backward(x, x, wanted=("dx", "dgamma"))
    with pytest.raises(ValueError, match="average_factor = -1"):
        plan.train(x, average_factor=-1.0)
    with pytest.raises(ValueError, match="like names 'X'"):
        Plan(library, x.shape, axes="NCHW", like={"X": x})
    with pytest.raises(ValueError, match="an axis for each"):
        Plan(library, x.shape, axes="NCHW", like={"x": x[0]})
    with pytest.raises(ValueError, match="do not merge"):
        Plan(library, x.shape, axes="NCHW", like={"x": np.zeros((6, 5, 4, 4), np.float32)[..., :3]})
    with pytest.raises(ValueError, match="strides of 0 alone"):
        Plan(library, x.shape, axes="NCHW", like={"x": np.broadcast_to(np.float32(3), x.shape)})


def test_coefficients_are_checked(library, x):
    plan = Plan(library, x.shape, axes="NCHW")
    coefficients = plan.prepare(running_mean=np.zeros(5, np.float32), running_var=np.ones(5, np.float32))
    with pytest.raises(ValueError, match="coefficients has shape"):
        plan.normalize(x, coefficients[::-1])
    with pytest.raises(ValueError, match="coefficients has shape"):
        plan.normalize(x, coefficients[1:])
    with pytest.raises(TypeError, match="coefficients has dtype"):
        plan.normalize(x, coefficients.view(np.int64))


def test_prepared_training_is_training(library, x):
    plan = Plan(library, x.shape, axes="NCHW", activation="relu", from_mask=True, renorm=True)
    running = {"running_mean": np.full(5, 0.5, np.float32), "running_var": np.full(5, 2.0, np.float32)}
    renorm = {"renorm_r": np.empty(5), "renorm_d": np.empty(5)}
    masks = [np.zeros(plan.mask_shape, np.uint8) for _ in range(2)]
    y, mean, inv_std = plan.train(x, **running, renorm_limits=(3.0, 5.0), **renorm, mask=masks[0])
    assert np.all(renorm["renorm_r"] != 1) and np.any(masks[0])
    coefficients = plan.prepare(mean=mean, inv_std=inv_std, **renorm)
    assert np.array_equal(plan.normalize(x, coefficients, mask=masks[1]), y)
    assert np.array_equal(*masks)


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
def test_micro_batches_give_the_statistics_and_gradients_of_their_batch(library, weighted):
    """One part has the bits of the whole call; of several, the roundings of merges come on top."""
    random = np.random.default_rng(3)
    x, dy = random.normal(3, 2, (40, 5, 3)), random.normal(size=(40, 5, 3))
    scale, weights = random.normal(size=5), random.integers(0, 3, (40, 3)).astype(np.float64)
    plan = Plan(library, x.shape, axes="NCH", data_type=np.float64, weighting="frequency" if weighted else "unweighted")

    def counted(part):
        return {"weights": weights[part]} if weighted else {}

    running = {"running_mean": np.zeros(5), "running_var": np.ones(5)}
    whole = slice(None)
    y, mean, inv_std = plan.train(x, scale, **running, **counted(whole))
    expected = plan.backward(x, dy, scale, mean=mean, inv_std=inv_std, **counted(whole))
    for parts, off in (([whole], 0), ([slice(0, 7), slice(7, 7), slice(7, 40)], 1e-13)):
        own = {"running_mean": np.zeros(5), "running_var": np.ones(5)}
        moments = plan.merge_moments([plan.moments(x[part], **counted(part)) for part in parts])
        saved = dict(zip(("mean", "inv_std"), plan.finalize(moments, **own)))
        coefficients = plan.prepare(scale, **saved)
        sums = plan.merge_sums([plan.backward_sums(x[part], dy[part], scale, **saved, **counted(part)) for part in parts])
        for name in running:
            assert np.allclose(own[name], running[name], rtol=off, atol=off)
        for part in parts:
            assert np.allclose(plan.normalize(x[part], coefficients), y[part], rtol=off, atol=off)
            actual = plan.backward(x[part], dy[part], scale, **saved, **counted(part), sums=sums)
            assert np.allclose(actual.dx, expected.dx[part], rtol=off, atol=off)
            assert np.allclose(actual.dscale, expected.dscale, rtol=10 * off, atol=10 * off)
    with pytest.raises(ValueError, match=r"parts\[1\] has shape"):
        plan.merge_sums([sums, sums[1:]])
    with pytest.raises(TypeError, match="moments has dtype float32"):
        plan.finalize(moments.astype(np.float32))


def test_outputs_not_wanted_but_given_are_checked_too(library, x):
    plan = Plan(library, x.shape, axes="NCHW", residual_added=True)
    _, mean, inv_std = plan.train(x, residual=x)
    constant = np.zeros_like(x)
    constant.flags.writeable = False
    for name in ("dx", "dresidual"):
        with pytest.raises(ValueError, match=f"{name} must be writeable"):
            plan.backward(x, x, mean=mean, inv_std=inv_std, wanted=("dscale",), **{name: constant})


def test_a_bias_of_another_length_is_not_folded(library):
    plan = Plan(library, (1, 4), axes="NC")
    running = {"running_mean": np.zeros(4, np.float32), "running_var": np.ones(4, np.float32)}
    weight, bias = np.ones((4, 3), np.float32), np.ones(8, np.float32)
    for wrong in (bias[:3], bias[::2]):
        with pytest.raises(ValueError, match="bias has shape"):
            plan.fold(weight, wrong, **running)


def test_axes_of_a_fold(library):
    plan = Plan(library, (1, 3), axes="NC")
    running = {"running_mean": np.zeros(3, np.float32), "running_var": np.arange(1, 4, dtype=np.float32)}
    weight = np.ones((3, 3), np.float32)
    by_row = plan.fold(weight, axes=(0, 1), **running).weight
    assert np.array_equal(plan.fold(weight, axes=(-1, 0), **running).weight, by_row.T)
    assert not np.array_equal(by_row, by_row.T)
    for wrong in ((1, 2), (-3, 0), (0, 0), (0, -2)):
        with pytest.raises(ValueError, match="axes"):
            plan.fold(weight, axes=wrong, **running)
    with pytest.raises(ValueError, match="must be positive, and without gaps"):
        plan.fold(weight[::-1], **running)


@pytest.mark.parametrize("block", [8, 16])
def test_blocks_of_channels(library, block):
    """nChw8c and nChw16c: the bits of the planar layout, of a slice of a larger array too."""
    random = np.random.default_rng(3)
    planar, dy = random.normal(size=(2, 3, 32, 4, 5)).astype(np.float32)

    def blocked(array):
        return np.ascontiguousarray(array.reshape(3, 32 // block, block, 4, 5).transpose(0, 1, 3, 4, 2))

    scale, shift = random.normal(size=(2, 32)).astype(np.float32)
    plain = Plan(library, planar.shape, axes="NCHW", activation="relu")
    expected, mean, inv_std = plain.train(planar, scale, shift)
    gradients = plain.backward(planar, dy, scale, shift, mean=mean, inv_std=inv_std)

    big = np.zeros((3, 32 // block, 4, 10, block), np.float32)
    x = big[:, :, :, ::2]
    x[...] = blocked(planar)
    plan = Plan(library, x.shape, axes="NCHWc", like={"x": x}, activation="relu")
    y, other_mean, other_inv_std = plan.train(x, scale, shift)
    assert np.array_equal(y, blocked(expected))
    assert np.array_equal(mean, other_mean) and np.array_equal(inv_std, other_inv_std)
    actual = plan.backward(x, blocked(dy), scale, shift, mean=mean, inv_std=inv_std)
    assert np.array_equal(actual.dx, blocked(gradients.dx))
    assert np.array_equal(actual.dscale, gradients.dscale) and np.array_equal(actual.dshift, gradients.dshift)


def test_blocks_that_are_none(library):
    for shape, axes, message in [
        ((2, 2, 5, 0), "NCWc", "blocks of 0 channels"),
        ((2, 5, 8, 2), "NWcC", "c, the channels of a block, must be the last"),
        ((2, 5, 8), "NWc", "C among them"),
    ]:
        with pytest.raises(ValueError, match=message):
            Plan(library, shape, axes=axes)
    with pytest.raises(BnormError, match="channel_block = 4"):
        Plan(library, (2, 2, 5, 4), axes="NCWc")
    wide = np.zeros((2, 2, 5, 16), np.float32)[..., ::2]
    with pytest.raises(ValueError, match="must be neighbours"):
        Plan(library, wide.shape, axes="NCWc", like={"x": wide})
