"""What the demo prints."""

from __future__ import annotations

import tempfile
from pathlib import Path

import examples
import numpy as np
import plots
import serving as server
import state
from bnorm_abi import Library
from data import FashionMnist, Split
from network import Network, accuracy
from safetensors.numpy import load_file
from setups import BATCH, WIDTHS
from tabulate import tabulate
from training import Run

SERVED_IMAGES = 200


def opening(library: Library, images: FashionMnist, steps: int) -> None:
    version = library.c.bnorm_version()
    name = f"bnorm {version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"
    print(f"{name}, instruction set {library.isa}, {library.path}")
    print(
        f"Fashion-MNIST: {len(images.train.labels):,} training and {len(images.test.labels):,} test images; "
        f"network {'-'.join(map(str, WIDTHS))}, {steps:,} steps of {BATCH} images a run"
    )


def table(runs: list[Run]) -> None:
    rows = [
        {
            "activation": run.setup.activation,
            "weights": f"N(0, {run.setup.weights_std:g})",
            "rate": f"{run.setup.rate:g}",
            "batch norm": "yes" if run.normalized else "no",
            "test accuracy": run.outcome,
            "steps/s": f"{run.steps_per_second:,.0f}",
            "time in bnorm": f"{run.bnorm_share:.1%}" if run.normalized else "-",
        }
        for run in runs
    ]
    print()
    right = ("left", "left", "right", "left", "right", "right", "right")
    print(tabulate(rows, headers="keys", colalign=right, disable_numparse=True))
    print("(time in bnorm: share of the training steps, its Python binding included)")


def plot(runs: list[Run], steps: int, folder: Path) -> None:
    path = folder / f"{runs[0].setup.file_name}.png"
    plots.comparison(runs, steps, path)
    print(f"Plot: {path}")


def serving(network: Network, test: Split, bench: Path | None) -> None:
    print(f"\nServing {SERVED_IMAGES} test images one at a time")
    images = Split(test.images[:SERVED_IMAGES], test.labels[:SERVED_IMAGES])
    print(f"  population statistics (prepared):  accuracy {server.serve(network, images, server.prepared):.1%}")
    print(
        f"  statistics of the single image:    accuracy {server.serve(network, images, server.single_image):.1%}"
        "   <- never do this: one value has no variance, so every image gives the same output"
    )
    norm = next(iter(network.norms.values()))
    channels = len(norm.parameters["scale"])
    binding = server.call_microseconds(norm)
    print(f"  one batch-1 call, {channels} channels:     {binding:.2f} us from Python, its binding included")
    if bench is None:
        print("  (give --bench PROGRAM for the time of the call itself)")
    else:
        native = server.native_nanoseconds(bench, channels, norm.activation)
        print(f"  the same call from C++:            {native:.0f} ns by the bench")


def saved_state(network: Network, test: Split, path: Path, library: Library) -> None:
    state.save(network, path)
    before = network.forward(test.images)
    after = state.load(path, library).forward(test.images)
    print(f"\nSaved state: {path} ({path.stat().st_size:,} bytes)")
    print(f"  test accuracy when saved: {accuracy(before, test.labels):.2%}")
    print(f"  test accuracy when loaded: {accuracy(after, test.labels):.2%}")
    if not np.array_equal(before, after, equal_nan=True):
        raise state.StateError(f"{path}: the loaded network gives other logits than the saved one")
    with tempfile.TemporaryDirectory() as folder:
        stripped = Path(folder) / "stripped.safetensors"
        tensors = {name: array for name, array in load_file(path).items() if ".running_" not in name}
        state.write(tensors, stripped, state.metadata_of(network))
        try:
            state.load(stripped, library)
        except state.StateError as error:
            print(f"  a copy without running statistics is refused: {error}")
        else:
            raise state.StateError("a copy without running statistics was loaded")


def worked_examples(library: Library) -> None:
    for title, example in (
        ("Statistics per feature map", examples.per_feature_map),
        ("Statistics per time step", examples.per_time_step),
    ):
        print(f"\n{title}")
        for line in example(library):
            print(f"  {line}")
