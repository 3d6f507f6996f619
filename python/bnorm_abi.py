"""bnorm for NumPy: a thin face over the C ABI.

The declarations are those of include/bnorm/bnorm.h, read when the library is opened; said again here are only the
defaults of its INIT macros. Arrays are used where they lie: their strides become the strides of the plan, and nothing
is copied.

    library = open_library()
    plan = Plan(library, (60, 100), axes="NC", activation="relu")
    y, mean, inv_std = plan.train(x, scale, shift, running_mean=running_mean, running_var=running_var)
    gradients = plan.backward(x, dy, scale, shift, mean=mean, inv_std=inv_std)
"""

from __future__ import annotations

import os
import shlex
import subprocess
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cffi
import ml_dtypes
import numpy as np
from bnorm_exchange import Exchange, Messages
from bnorm_geometry import Geometry

ROOT = Path(__file__).resolve().parent.parent
HEADER = ROOT / "include" / "bnorm" / "bnorm.h"
DEFAULT_LIBRARY = ROOT / "build" / "release" / "libbnorm.so"

bfloat16 = np.dtype(ml_dtypes.bfloat16)
TENSORS = ("x", "y", "residual", "dx", "dy", "dresidual")
TENSOR_GRADIENTS = ("dx", "dresidual")
_ACTIVATION_NAMES = "identity relu clip leaky_relu elu sigmoid tanh silu hard_swish gelu gelu_tanh"
ACTIVATIONS = {name: f"BNORM_{name.upper()}" for name in _ACTIVATION_NAMES.split()}
RUNNING_MODES = {
    "unset": "BNORM_RUNNING_UNSET",
    "per_group": "BNORM_RUNNING_PER_GROUP",
    "sequential": "BNORM_RUNNING_SEQUENTIAL",
    "mean": "BNORM_RUNNING_MEAN",
}
WEIGHTINGS = {
    "unweighted": "BNORM_UNWEIGHTED",
    "frequency": "BNORM_FREQUENCY_WEIGHTS",
    "reliability": "BNORM_RELIABILITY_WEIGHTS",
}
FOLD_ORDERS = {"first": "BNORM_LAYER_FIRST", "last": "BNORM_LAYER_LAST"}
# A uint16 array holds the bit patterns of bf16, as the C ABI does.
TYPES = {
    np.dtype(np.float32): "BNORM_F32",
    np.dtype(np.float64): "BNORM_F64",
    np.dtype(np.float16): "BNORM_F16",
    bfloat16: "BNORM_BF16",
    np.dtype(np.uint16): "BNORM_BF16",
}


class LibraryError(RuntimeError):
    """The library or its header cannot be used."""


class BnormError(RuntimeError):
    """A call that bnorm refused or could not finish; the text is bnorm's own message."""

    def __init__(self, status: str, message: str):
        super().__init__(f"{status}: {message}")
        self.status = status


class NonfiniteWarning(RuntimeWarning):
    """The guard found NaN or Inf: outputs are written, the running statistics of those channels are kept."""


class Gradients(NamedTuple):
    dx: np.ndarray | None
    dscale: np.ndarray | None
    dshift: np.ndarray | None
    dresidual: np.ndarray | None


class Folded(NamedTuple):
    weight: np.ndarray
    bias: np.ndarray
    digits_lost: float


class Library:
    """libbnorm.so, opened with the declarations of its header."""

    def __init__(self, path: Path):
        self.path = path
        self.ffi = cffi.FFI()
        self.ffi.cdef(_declarations())
        try:
            self.c = self.ffi.dlopen(str(path))
        except OSError as error:
            raise LibraryError(f"cannot open the bnorm library {path}: {error}") from None
        for name in ("version", "numerics_version"):
            loaded = getattr(self.c, f"bnorm_{name}")()
            expected = getattr(self.c, f"header_{name}")
            if loaded != expected:
                raise LibraryError(f"{path} has {name} {loaded}, but {HEADER} has {expected}: build the library again")

    @property
    def isa(self) -> str:
        return self.ffi.string(self.c.bnorm_isa()).decode()

    def check(self, status: int) -> None:
        """Raises on any status but OK; bnorm's NONFINITE has written everything and becomes a warning."""
        if status == self.c.BNORM_OK:
            return
        message = self.ffi.string(self.c.bnorm_last_error()).decode()
        if status == self.c.BNORM_NONFINITE:
            warnings.warn(message, NonfiniteWarning, stacklevel=4)
            return
        raise BnormError(self.ffi.string(self.c.bnorm_status_name(status)).decode(), message)

    def pointer(self, array: np.ndarray | None) -> Any:
        if array is None:
            return self.ffi.NULL
        # from_buffer takes neither strided arrays nor bfloat16; where it can serve, it takes a fifth of the time.
        if array.flags.c_contiguous and array.dtype.kind == "f":
            return self.ffi.from_buffer(array)
        return self.ffi.cast("void *", array.__array_interface__["data"][0])


def open_library(path: str | os.PathLike | None = None) -> Library:
    """Opens `path`, else $BNORM_LIBRARY, else the release build of this checkout."""
    chosen = Path(path or os.environ.get("BNORM_LIBRARY") or DEFAULT_LIBRARY)
    if not chosen.is_file():
        raise LibraryError(f"no bnorm library at {chosen}: build it, or name it in BNORM_LIBRARY")
    return Library(chosen.resolve())


def _declarations() -> str:
    """The header after the C preprocessor, and its version numbers as constants."""
    source = [line for line in HEADER.read_text().splitlines() if not line.startswith("#include")]
    source += [
        "enum {",
        "  header_version = BNORM_VERSION_MAJOR * 1000000 + BNORM_VERSION_MINOR * 1000 + BNORM_VERSION_PATCH,",
        "  header_numerics_version = BNORM_NUMERICS_VERSION };",
    ]
    # cffi knows the types of stddef.h and stdint.h; BNORM_STATIC empties the export attribute.
    command = [*shlex.split(os.environ.get("CC") or "cc"), "-E", "-P", "-x", "c", "-DBNORM_STATIC", "-"]
    try:
        result = subprocess.run(command, input="\n".join(source), capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or ""
        raise LibraryError(f"cannot preprocess {HEADER} by '{shlex.join(command)}': {error}\n{said}".rstrip()) from None
    return result.stdout


class Plan:
    """A bnorm_plan for arrays of one shape; immutable, and free to be used by several threads at once.

    axes      "NC", "NCHW", "NHWC", "GNC", "TNC" with T renamed G, "NCHWc" in blocks, ...: see Geometry
    like      {"x": array, ...}: tensors whose strides differ from C-contiguous
    clip      clip_lower and clip_upper
    Other keywords carry the names of bnorm_desc. A call may have a smaller N than the shape.
    """

    def __init__(
        self,
        library: Library,
        shape: tuple[int, ...],
        *,
        axes: str,
        like: dict[str, np.ndarray] | None = None,
        data_type: Any = np.float32,
        output_type: Any = None,
        param_type: Any = None,
        stats_type: Any = np.float64,
        activation: str = "identity",
        clip: tuple[float, float] = (0.0, 6.0),
        leaky_slope: float = 0.01,
        elu_alpha: float = 1.0,
        residual_added: bool = False,
        running_mode: str = "unset",
        biased_running_var: bool = False,
        params_per_group: bool = False,
        frozen: bool = False,
        guard: bool = False,
        weighting: str = "unweighted",
        renorm: bool = False,
        from_output: bool = False,
        from_mask: bool = False,
        from_residual: bool = False,
        epsilon: float = 1e-5,
        average_factor: float = 0.1,
    ):
        self.library = library
        self.geometry = Geometry(axes, tuple(int(size) for size in shape))
        self.data_type = np.dtype(data_type)
        self.output_type = np.dtype(output_type or data_type)
        self._types = {name: self.data_type if name in ("x", "dx") else self.output_type for name in TENSORS}
        default_param = np.float64 if self.data_type == np.float64 else np.float32
        self.param_type = np.dtype(param_type or default_param)
        self.stats_type = np.dtype(stats_type)
        self.average_factor = average_factor
        channels, groups = self.geometry.size("C"), self.geometry.size("G")
        self.params_shape = (groups, channels) if params_per_group else (channels,)
        # Without groups no array has a G axis, so neither have its statistics.
        self.stats_shape = (groups, channels) if "G" in axes else (channels,)
        self.running_shape = (groups, channels) if running_mode == "per_group" else (channels,)
        self._packed = {name: self.geometry.packed_strides(self._types[name].itemsize) for name in TENSORS}
        self._strides = dict(self._packed)
        _check_names("like", like or {}, TENSORS)
        for name, array in (like or {}).items():
            if array.ndim != len(axes):
                raise ValueError(f"like has {name} of shape {array.shape}, must have an axis for each of '{axes}'")
            self._strides[name] = array.strides
        c = library.c
        fields = {
            "struct_size": library.ffi.sizeof("bnorm_desc"),
            "data_type": _constant(c, TYPES, self.data_type, "data_type"),
            "output_type": _constant(c, TYPES, self.output_type, "output_type"),
            "param_type": _constant(c, TYPES, self.param_type, "param_type"),
            "stats_type": _constant(c, TYPES, self.stats_type, "stats_type"),
            "channel_block": self.geometry.block,
            "groups": groups,
            "batch": self.geometry.size("N"),
            "channels": channels,
            "spatial": self.geometry.spatial,
            "activation": _constant(c, ACTIVATIONS, activation, "activation"),
            "clip_lower": clip[0],
            "clip_upper": clip[1],
            "leaky_slope": leaky_slope,
            "elu_alpha": elu_alpha,
            "residual_added": residual_added,
            "running_mode": _constant(c, RUNNING_MODES, running_mode, "running_mode"),
            "biased_running_var": biased_running_var,
            "params_per_group": params_per_group,
            "frozen": frozen,
            "guard": guard,
            "weighting": _constant(c, WEIGHTINGS, weighting, "weighting"),
            "renorm": renorm,
            "from_output": from_output,
            "from_mask": from_mask,
            "from_residual": from_residual,
            "epsilon": epsilon,
            "average_factor": average_factor,
        }
        for name, strides in self._strides.items():
            fields[name] = self.geometry.element_strides(strides, self._types[name].itemsize)
        handle = library.ffi.new("bnorm_plan **")
        library.check(c.bnorm_plan_create(handle, library.ffi.new("bnorm_desc *", fields), library.ffi.NULL))
        self._plan = library.ffi.gc(handle[0], c.bnorm_plan_destroy)
        self._coefficients_shape = (c.bnorm_plan_coefficients_size(self._plan) // 8,)
        self._partials_shape = (c.bnorm_plan_partials_count(self._plan),)
        self.mask_shape = (c.bnorm_plan_mask_size(self._plan),)  # of uint8, of a plan with from_mask

    def describe(self) -> str:
        size = self.library.c.bnorm_plan_describe(self._plan, self.library.ffi.NULL, 0) + 1
        text = self.library.ffi.new("char[]", size)
        self.library.c.bnorm_plan_describe(self._plan, text, size)
        return self.library.ffi.string(text).decode()

    def infer(
        self, x, scale=None, shift=None, *, running_mean, running_var, residual=None, y=None, mask=None, serial=False,
    ):  # fmt: skip
        """bnorm_infer; returns y. mask: of a plan with from_mask, written if given."""
        tensors, batch = self._tensors(["y"], x=x, y=y, residual=residual)
        params = self._params(scale=scale, shift=shift)
        running = self._running(running_mean, running_var)
        self._call("infer", batch, tensors | params | running | self._mask(mask, written=True), serial)
        return tensors["y"]

    def train(
        self, x, scale=None, shift=None, *, running_mean=None, running_var=None, residual=None, y=None, mean=None,
        inv_std=None, average_factor=None, weights=None, lengths=None, renorm_limits=(1.0, 0.0), renorm_r=None,
        renorm_d=None, mask=None, exchange: Exchange | None = None, serial=False,
    ):  # fmt: skip
        """bnorm_train; updates running_* in place; returns y, mean, inv_std.

        weights   of a plan with `weighting`: an array of x's shape without C; or
        lengths   int64, of the G and N axes: positions of each sample that count
        renorm_limits       of a plan with `renorm`: of r and d
        renorm_r, renorm_d  likewise, like mean and inv_std: written if given
        mask                of a plan with `from_mask`, uint8 of mask_shape: written if given
        exchange            with the callers whose batches are one with this
        """
        numbers = self._training_numbers(average_factor, renorm_limits)
        tensors, batch = self._tensors(["y"], x=x, y=y, residual=residual)
        statistics = self._statistics(mean, inv_std, running_mean, running_var, renorm_r, renorm_d)
        arrays = tensors | self._params(scale=scale, shift=shift) | statistics
        arrays |= self._counted(batch, weights, lengths) | self._mask(mask, written=True)
        self._call("train", batch, arrays, serial, exchange=exchange, **numbers)
        return tensors["y"], statistics["mean"], statistics["inv_std"]

    def moments(self, x, *, weights=None, lengths=None, serial=False):
        """bnorm_moments; returns partials: of one batch, to be merged with others' and finalized."""
        tensors, batch = self._tensors([], x=x)
        partials = np.empty(self._partials_shape)
        arrays, numbers = tensors | self._counted(batch, weights, lengths), self._training_numbers()
        self._call("moments", batch, arrays, serial, kind="train", partials=partials, **numbers)
        return partials

    def merge_moments(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """bnorm_moments_merge of partials in their order; returns those of the joined batch."""
        return self._merge("moments", parts)

    def finalize(
        self, moments, *, running_mean=None, running_var=None, mean=None, inv_std=None, average_factor=None,
        renorm_limits=(1.0, 0.0), renorm_r=None, renorm_d=None,
    ):  # fmt: skip
        """bnorm_moments_finalize; updates running_* in place; returns mean, inv_std. Arguments as those of train."""
        numbers = self._training_numbers(average_factor, renorm_limits)
        statistics = self._statistics(mean, inv_std, running_mean, running_var, renorm_r, renorm_d)
        args = self._arguments("train", statistics, batch=-1, **numbers)
        partials = self._partials({"moments": moments})["moments"]
        self.library.check(self.library.c.bnorm_moments_finalize(self._plan, self._doubles(partials), args))
        return statistics["mean"], statistics["inv_std"]

    def backward(
        self, x, dy, scale=None, shift=None, *, mean=None, inv_std=None, running_mean=None, running_var=None, y=None,
        residual=None, dx=None, dresidual=None, dscale=None, dshift=None, wanted=("dx", "dscale", "dshift"), weights=None,
        lengths=None, renorm_r=None, renorm_d=None, mask=None, sums=None, exchange: Exchange | None = None, serial=False,
    ):  # fmt: skip
        """bnorm_backward, of what train was given and made; outputs wanted and not given are made; returns Gradients.

        x         may be None where it is not needed (from_output)
        sums      of backward_sums, merged: bnorm_backward_apply
        exchange  as train's
        """
        _check_names("wanted", wanted, Gradients._fields)
        params = {"dscale": dscale, "dshift": dshift}
        for name in params:
            if name in wanted and params[name] is None:
                params[name] = np.empty(self.params_shape, self.param_type)
        tensors, batch = self._tensors(
            [name for name in TENSOR_GRADIENTS if name in wanted],
            x=x, dy=dy, y=y, residual=residual, dx=dx, dresidual=dresidual,
        )  # fmt: skip
        self._params(written=True, **params)
        arrays = tensors | params | self._given(scale, shift, mean, inv_std, running_mean, running_var, renorm_r, renorm_d)
        arrays |= self._counted(batch, weights, lengths) | self._mask(mask)
        function = "backward" if sums is None else "backward_apply"
        partials = self._partials({"sums": sums})["sums"]
        self._call(function, batch, arrays, serial, kind="backward", partials=partials, exchange=exchange)
        return Gradients(tensors["dx"], params["dscale"], params["dshift"], tensors["dresidual"])

    def backward_sums(
        self, x, dy, scale=None, shift=None, *, mean=None, inv_std=None, running_mean=None, running_var=None, y=None,
        residual=None, weights=None, lengths=None, renorm_r=None, renorm_d=None, mask=None, serial=False,
    ):  # fmt: skip
        """bnorm_backward_sums; returns partials: of one batch, to be merged with others'. Arguments as of backward."""
        tensors, batch = self._tensors([], x=x, dy=dy, y=y, residual=residual)
        arrays = tensors | self._given(scale, shift, mean, inv_std, running_mean, running_var, renorm_r, renorm_d)
        arrays |= self._counted(batch, weights, lengths) | self._mask(mask)
        partials = np.empty(self._partials_shape)
        self._call("backward_sums", batch, arrays, serial, kind="backward", partials=partials)
        return partials

    def merge_sums(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """bnorm_sums_merge of partials in their order; returns those of the joined batch."""
        return self._merge("sums", parts)

    def prepare(
        self, scale=None, shift=None, *, running_mean=None, running_var=None, mean=None, inv_std=None, renorm_r=None,
        renorm_d=None,
    ):  # fmt: skip
        """bnorm_prepare; returns the coefficients for normalize."""
        arrays = self._given(scale, shift, mean, inv_std, running_mean, running_var, renorm_r, renorm_d)
        coefficients = np.zeros(self._coefficients_shape, np.float64)
        args = self._arguments("prepare", arrays)
        self.library.check(self.library.c.bnorm_prepare(self._plan, args, self.library.pointer(coefficients)))
        return coefficients

    def normalize(self, x, coefficients, *, residual=None, y=None, mask=None, serial=False):
        """bnorm_normalize with coefficients that prepare of this plan made; returns y. mask: as of infer."""
        tensors, batch = self._tensors(["y"], x=x, y=y, residual=residual)
        prepared = self._vectors({"coefficients": coefficients}, np.dtype(np.float64), self._coefficients_shape, False)
        self._call("normalize", batch, tensors | prepared | self._mask(mask, written=True), serial)
        return tensors["y"]

    def fold(
        self, weight, bias=None, scale=None, shift=None, *, running_mean=None, running_var=None, mean=None,
        inv_std=None, layer="first", axes=(0, 1), layer_groups=1, most_digits_lost=2.0,
    ):  # fmt: skip
        """bnorm_fold; returns the folded weight, in the memory order of `weight`, its bias, and the digits lost.

        layer     "first": this plan normalizes the layer's outputs; "last": it makes its inputs
        axes      outputs and inputs (of one layer group) in `weight`; all others are taps, and merge into one axis
        """
        output, input_ = np.lib.array_utils.normalize_axis_tuple(axes, weight.ndim, "axes")
        letters = [chr(ord("P") + axis) for axis in range(weight.ndim)]
        letters[output], letters[input_] = "NC"
        taps = Geometry("".join(letters), weight.shape)
        strides = taps.element_strides(weight.strides, weight.itemsize)
        bias_type = weight.dtype if bias is None else bias.dtype
        folded = Folded(np.empty_like(weight), np.empty(weight.shape[output], bias_type), 0.0)
        made = folded.weight.strides
        if any(size > 1 and wanted != other for size, wanted, other in zip(weight.shape, weight.strides, made)):
            raise ValueError(f"weight has strides {weight.strides}: must be positive, and without gaps")
        arrays = self._given(scale, shift, mean, inv_std, running_mean, running_var)
        arrays |= self._vectors({"bias": bias}, bias_type, (weight.shape[output],), False)
        arrays |= {"weight": weight, "folded_weight": folded.weight, "folded_bias": folded.bias}
        digits_lost = self.library.ffi.new("double *")
        args = self._arguments(
            "fold", arrays, digits_lost=digits_lost,
            order=_constant(self.library.c, FOLD_ORDERS, layer, "layer"),
            weight_type=_constant(self.library.c, TYPES, weight.dtype, "weight"),
            bias_type=_constant(self.library.c, TYPES, bias_type, "bias"),
            outputs=weight.shape[output], inputs=weight.shape[input_], taps=taps.spatial, layer_groups=layer_groups,
            output_stride=strides["n"], input_stride=strides["c"], tap_stride=strides["s"],
            most_digits_lost=most_digits_lost,
        )  # fmt: skip
        self.library.check(self.library.c.bnorm_fold(self._plan, args))
        return folded._replace(digits_lost=digits_lost[0])

    def _call(
        self, function: str, batch: int, arrays: dict[str, np.ndarray | None], serial: bool, *, kind: str | None = None,
        partials: np.ndarray | None = None, exchange: Exchange | None = None, **numbers,
    ) -> None:  # fmt: skip
        """Calls a function with arguments of a kind, its own unless another is named, and partials where it takes any."""
        c = self.library.c
        messages = None
        if exchange is not None:
            count = c.bnorm_plan_exchange_count(self._plan, exchange.ranks)
            messages = Messages(self.library.ffi, exchange, count)
            numbers["exchange"] = messages.pointer
        executor = c.bnorm_serial_executor() if serial else self.library.ffi.NULL
        args = self._arguments(kind or function, arrays, batch=batch, executor=executor, **numbers)
        rest = () if partials is None else (self._doubles(partials),)
        status = getattr(c, f"bnorm_{function}")(self._plan, args, *rest)
        if messages and messages.error and status == c.BNORM_EXECUTION_FAILED:
            raise messages.error
        self.library.check(status)

    def _merge(self, kind: str, parts: Sequence[np.ndarray]) -> np.ndarray:
        ffi, merged = self.library.ffi, np.empty(self._partials_shape)
        named = self._partials({f"parts[{i}]": part for i, part in enumerate(parts)})
        pointers = ffi.new("double *[]", [self._doubles(part) for part in named.values()])
        merge = getattr(self.library.c, f"bnorm_{kind}_merge")
        self.library.check(merge(self._plan, len(parts), pointers, self._doubles(merged), ffi.NULL))
        return merged

    def _doubles(self, array: np.ndarray) -> Any:
        return self.library.ffi.cast("double *", self.library.pointer(array))

    def _training_numbers(self, average_factor: float | None = None, renorm_limits: tuple = (1.0, 0.0)) -> dict:
        if average_factor is not None and average_factor < 0:
            raise ValueError(f"average_factor = {average_factor}: must be from 0 to 1, or None for the plan's")
        factor = self.average_factor if average_factor is None else average_factor
        return {"average_factor": factor, "renorm_r_max": renorm_limits[0], "renorm_d_max": renorm_limits[1]}

    def _given(self, scale, shift, mean, inv_std, running_mean, running_var, renorm_r=None, renorm_d=None):
        """Parameters and statistics that a call reads."""
        statistics = self._saved(mean, inv_std) | self._running(running_mean, running_var)
        return self._params(scale=scale, shift=shift) | statistics | self._renorm(renorm_r, renorm_d)

    def _statistics(self, mean, inv_std, running_mean, running_var, renorm_r, renorm_d):
        """What training writes; mean and inv_std are made where they were not given."""
        saved = self._saved(
            np.empty(self.stats_shape, self.stats_type) if mean is None else mean,
            np.empty(self.stats_shape, self.stats_type) if inv_std is None else inv_std,
            written=True,
        )
        running = self._running(running_mean, running_var, written=True)
        return saved | running | self._renorm(renorm_r, renorm_d, written=True)

    def _arguments(self, operation: str, arrays: dict[str, np.ndarray | None], **numbers) -> Any:
        kind = f"bnorm_{operation}_args"
        pointers = {name: self.library.pointer(array) for name, array in arrays.items() if array is not None}
        return self.library.ffi.new(f"{kind} *", {"struct_size": self.library.ffi.sizeof(kind)} | pointers | numbers)

    def _tensors(
        self, wanted: Iterable[str], **arrays: np.ndarray | None
    ) -> tuple[dict[str, np.ndarray | None], int]:
        """Checks tensors against the plan and each other; returns them, with those wanted that are None made, and the
        batch of the call."""
        shapes = {}
        for name, array in arrays.items():
            if array is None:
                continue
            self._check_array(name, array, self._types[name])
            self._check_tensor(name, array)
            if (name in wanted or name in TENSOR_GRADIENTS) and not array.flags.writeable:
                raise ValueError(f"{name} must be writeable")
            shapes[name] = array.shape
        if len(set(shapes.values())) > 1:
            raise ValueError(f"tensors of one call differ in shape: {shapes}")
        axes, batch = self.geometry.axes, self.geometry.size("N")
        if shapes and "N" in axes:
            batch = next(iter(shapes.values()))[axes.index("N")]
        made = {name: self._empty(name, batch) for name in wanted if arrays[name] is None}
        return arrays | made, batch

    def _empty(self, name: str, batch: int) -> np.ndarray:
        """A new tensor of the plan's strides, which smaller batches have as well."""
        axes, strides = self.geometry.axes, self._strides[name]
        sizes = [batch if letter == "N" else size for letter, size in zip(axes, self.geometry.shape)]
        if strides == self._packed[name] and (axes[0] == "N" or batch == self.geometry.size("N")):
            return np.empty(sizes, self._types[name])
        order = sorted(range(len(axes)), key=lambda axis: -strides[axis])
        whole = np.empty([self.geometry.shape[axis] for axis in order], self._types[name]).transpose(np.argsort(order))
        array = whole[tuple(slice(size) for size in sizes)]
        if not _strides_fit(array, strides):
            raise ValueError(f"{name} has byte strides {strides} in the plan, with gaps or reversed: must be given")
        return array

    def _check_tensor(self, name: str, array: np.ndarray) -> None:
        geometry, strides = self.geometry, self._strides[name]
        fits = array.ndim == len(geometry.shape) and all(
            size == planned or (letter == "N" and size < planned)
            for letter, size, planned in zip(geometry.axes, array.shape, geometry.shape)
        )
        if not fits:
            raise ValueError(f"{name} has shape {array.shape}, the plan has {geometry.shape} ('{geometry.axes}')")
        if not _strides_fit(array, strides):
            raise ValueError(f"{name} has byte strides {array.strides}, the plan has {strides}")

    def _params(self, written: bool = False, **arrays: np.ndarray | None) -> dict[str, np.ndarray | None]:
        return self._vectors(arrays, self.param_type, self.params_shape, written)

    def _running(self, mean: np.ndarray | None, var: np.ndarray | None, written: bool = False):
        arrays = {"running_mean": mean, "running_var": var}
        return self._vectors(arrays, self.param_type, self.running_shape, written)

    def _saved(self, mean: np.ndarray | None, inv_std: np.ndarray | None, written: bool = False):
        return self._vectors({"mean": mean, "inv_std": inv_std}, self.stats_type, self.stats_shape, written)

    def _partials(self, arrays: dict[str, np.ndarray | None]):
        return self._vectors(arrays, np.dtype(np.float64), self._partials_shape, False)

    def _renorm(self, r: np.ndarray | None, d: np.ndarray | None, written: bool = False):
        return self._vectors({"renorm_r": r, "renorm_d": d}, self.stats_type, self.stats_shape, written)

    def _mask(self, mask: np.ndarray | None, written: bool = False):
        return self._vectors({"mask": mask}, np.dtype(np.uint8), self.mask_shape, written)

    def _counted(self, batch: int, weights: np.ndarray | None, lengths: np.ndarray | None):
        if weights is None and lengths is None:
            return {}
        letters, planned = self.geometry.positions, self.geometry.size("N")
        samples = "".join(letter for letter in "GN" if letter in letters)
        if not letters.startswith(samples):
            raise ValueError(f"weights and lengths need G and N before all other axes but C, not '{self.geometry.axes}'")
        if batch < planned and self.geometry.size("G") > 1:
            raise ValueError(f"weights and lengths of several groups need the plan's N = {planned}, not {batch}")
        shape = tuple(batch if letter == "N" else self.geometry.size(letter) for letter in letters)
        kind = np.dtype(np.float64 if self.data_type == np.float64 else np.float32)
        arrays = self._vectors({"weights": weights}, kind, shape, False)
        return arrays | self._vectors({"lengths": lengths}, np.dtype(np.int64), shape[: len(samples)], False)

    def _vectors(self, arrays: dict[str, np.ndarray | None], dtype: np.dtype, shape: tuple[int, ...], written: bool):
        for name, array in arrays.items():
            if array is None:
                continue
            self._check_array(name, array, dtype)
            if written and not array.flags.writeable:
                raise ValueError(f"{name} must be writeable")
            if array.shape != shape or not array.flags.c_contiguous:
                raise ValueError(f"{name} has shape {array.shape}, must be C-contiguous of shape {shape}")
        return arrays

    def _check_array(self, name: str, array: np.ndarray, dtype: np.dtype) -> None:
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{name} is a {type(array).__name__}, must be a NumPy array")
        if array.dtype != dtype:
            raise TypeError(f"{name} has dtype {array.dtype}, the plan has {dtype}")
        if not array.flags.aligned:
            raise ValueError(f"{name} must be aligned for its element type")


def _strides_fit(array: np.ndarray, strides: tuple[int, ...]) -> bool:
    """Whether the byte strides lead to the same elements as the array's own."""
    if array.size == 0 or array.strides == strides:
        return True
    return all(size == 1 or own == other for size, own, other in zip(array.shape, array.strides, strides))


def _check_names(field: str, names: Iterable[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{field} names {name!r}, must be of {list(known)}")


def _constant(c: Any, names: dict, key: Any, field: str) -> int:
    if key not in names:
        raise ValueError(f"{field} is {key!r}, must be one of {[str(name) for name in names]}")
    return getattr(c, names[key])
