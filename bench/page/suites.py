"""What ./dev bench --peers times."""

from __future__ import annotations

from dataclasses import dataclass, replace

# (channels, side) of the inputs of ResNet-50's normalizations.
RESNET = (
    (64, 112),
    (64, 56),
    (128, 56),
    (256, 56),
    (128, 28),
    (256, 28),
    (512, 28),
    (256, 14),
    (512, 14),
    (1024, 14),
    (512, 7),
    (2048, 7),
)
SWEEP = [2**power for power in range(11)]
ODD = (1, 3, 19, 27, 80, 100, 200, 513)
BEST_ISA = "best"  # of the machine


@dataclass(frozen=True)
class Suite:
    """Shapes as the bench's --shape takes them: N,C,S or N,C,DxHxW."""

    title: str
    shapes: tuple[str, ...]
    operations: tuple[str, ...] = ("infer", "train", "backward")
    threads: tuple[int, ...] = (1, 2)
    lower_isas: bool = False  # also on the ISAs below the best
    judged: bool = True  # counts for lost cases and means
    feature: tuple[str, ...] = ()  # options of the bench that ask for it; without peers

    @property
    def rows(self) -> int:
        """That the bench measures, in two layouts unless one is asked for or the operation has one."""
        layouts = sum(1 if "--layout" in self.feature or operation == "simple" else 2 for operation in self.operations)
        return len(self.shapes) * layouts * len(self.threads)


def _resnet(*batches: int) -> tuple[str, ...]:
    return tuple(f"{batch},{channels},{side * side}" for batch in batches for channels, side in RESNET)


_ALL = ("infer", "train", "backward")
_TRAINED = ("train", "backward")  # of which inference knows nothing


def _feature(title: str, *options: str, operations: tuple[str, ...] = _ALL) -> Suite:
    """In cache and from memory."""
    return Suite(title, ("8,64,784", "50,64,3136"), operations, (1,), judged=False, feature=options)


def _subset(title: str, operation: str) -> Suite:
    return _feature(title, "--activation", "identity", operations=(operation,))


_ACTIVATIONS = "relu clip leaky_relu elu sigmoid tanh silu hard_swish gelu gelu_tanh".split()
FEATURES = {
    "plain": _feature("none", "--activation", "identity"),
    **{name: _feature(name, "--activation", name) for name in _ACTIVATIONS},
    "residual": _feature("residual, relu", "--residual", "--activation", "relu"),
    "mask": _feature(
        "residual, relu, 1-bit mask",
        *("--residual", "--activation", "relu", "--from-mask"),
        operations=_TRAINED,
    ),
    "from-residual": _feature(
        "residual, relu, backward from the residual",
        *("--residual", "--activation", "relu", "--from-residual"),
        operations=("backward",),
    ),
    "output": _feature(
        "leaky_relu from the output", "--activation", "leaky_relu", "--from-output", operations=("backward",)
    ),
    "renorm": _feature("batch renormalization", "--renorm", operations=_TRAINED),
    "weights": _feature("weights", "--weighted", operations=_TRAINED),
    "lengths": _feature("lengths of padded samples", "--lengths", operations=_TRAINED),
    "moments": _subset("moments alone", "moments"),
    "sums": _subset("gradient sums alone", "sums"),
    "ranks": _feature("statistics over 1,000 callers, without the network", "--ranks", "1000", operations=_TRAINED),
    "dx": _subset("dx alone", "backward_dx"),
    "params": _subset("dscale and dshift alone", "backward_params"),
    "frozen": _subset("frozen statistics", "frozen"),
    "frozen-dx": _subset("frozen statistics, dx alone", "frozen_dx"),
    "frozen-params": _subset("frozen statistics, dscale and dshift alone", "frozen_params"),
    "groups": replace(_feature("8 groups", "--groups", "8"), shapes=("1,64,784", "6,64,3136")),
    "blocked": _feature("nChw16c, in the columns of planar", "--layout", "blocked"),
    "blocked8": _feature("nChw8c, in the columns of planar", "--layout", "blocked8"),
    **{name: _feature(name, "--dtype", name) for name in ("bf16", "f16", "f64")},
    "slice": _feature("slice: half of the channels", "--slice"),
    "bf16-params": _feature("parameters in bf16", "--param-dtype", "bf16"),
    "fold": replace(
        _subset("folding into a layer of C outputs, in the columns of infer", "fold"),
        shapes=("1,512,4608", "1,64,576"),
    ),
    "mixed": _feature("bf16, output f32", "--dtype", "bf16", "--output-dtype", "f32"),
}

SUITES = {
    "latency": Suite("Serving one sample", ("1,256,1",), ("infer", "prepared", "simple"), (1,)),
    "overhead": Suite("Call overhead", ("1,1,1",), judged=False),
    "dense": Suite(
        "Dense layers", ("1,256,1", "1,2048,1", "60,100,1", "256,4096,1", "4096,1024,1"), lower_isas=True
    ),
    "odd": Suite("Odd channels", tuple(f"8,{channels},784" for channels in ODD), lower_isas=True),
    "tiny": Suite(
        "Tiny images",
        tuple(f"8,{channels},{side * side}" for side in (7, 4, 2) for channels in (512, 2048)),
        lower_isas=True,
    ),
    "huge": Suite("One huge channel", ("1,1,4194304",)),
    "volumes": Suite("3-D images", ("2,32,16x56x56", "4,64,8x28x28"), lower_isas=True),
    "sweep-image": Suite("Batch sweep, 64×28×28", tuple(f"{batch},64,784" for batch in SWEEP)),
    "sweep-dense": Suite("Batch sweep, dense 512", tuple(f"{batch},512,1" for batch in SWEEP)),
    "resnet-1": Suite("ResNet-50, batch 1", _resnet(1), lower_isas=True),
    "resnet-8": Suite("ResNet-50, batch 8", _resnet(8)),
    "resnet-32": Suite("ResNet-50, batch 32", _resnet(32)),
    "resnet-50": Suite("ResNet-50, batch 50", _resnet(50)),
    **{f"feature-{name}": suite for name, suite in FEATURES.items()},
}
