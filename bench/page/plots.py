"""The plots of the page, as SVG."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.ticker import FuncFormatter, NullFormatter  # noqa: E402
from results import LOST, Row  # noqa: E402
from suites import SUITES  # noqa: E402
from tables import LAYOUTS, OPERATIONS  # noqa: E402

# Text stays text, and the same figures make the same file.
matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "bnorm", "font.size": 9}
COLORS = {"bnorm": "black", "onednn_openmp": "tab:blue", "onednn_sycl": "tab:cyan", "pytorch": "tab:red"}
COLORS_OF_OPERATIONS = dict(zip(OPERATIONS, ("tab:blue", "tab:orange", "tab:green")))
LINES = {"planar": "-", "nchw": "-", "contiguous": "-", "channels_last": "--", "nhwc": "--"}
SWEEPS = ("sweep-image", "sweep-dense")


def draw(rows: list[Row], caches: tuple[int, int], folder: Path) -> dict[str, str]:
    """Title and file name of each plot that there are rows for."""
    plots = {
        "Speed over batch size": ("batch.svg", batch_sizes, [row for row in rows if row.suite_name in SWEEPS]),
        "Fraction of the floor over working set": ("floor.svg", fractions, [row for row in rows if row.judged]),
        "Ratio per shape": ("ratio.svg", ratios, [row for row in rows if row.judged]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for _, (name, plot, chosen) in plots.items():
        if not chosen:
            continue
        figure = plot(chosen, caches)
        figure.savefig(folder / name, metadata={"Date": None})
        plt.close(figure)
    return {title: name for title, (name, _, chosen) in plots.items() if chosen}


def batch_sizes(rows: list[Row], caches: tuple[int, int]) -> plt.Figure:
    """A row of axes for each sweep, a column for each operation; the most threads."""
    threads = max(row.threads for row in rows)
    figure, grid = plt.subplots(len(SWEEPS), len(OPERATIONS), figsize=(11, 7), layout="constrained", squeeze=False)
    for suite, line in zip(SWEEPS, grid):
        for operation, axes in zip(OPERATIONS, line):
            chosen = [
                row
                for row in rows
                if (row.suite_name, row.operation, row.threads) == (suite, operation, threads)
            ]
            _speeds(axes, chosen)
            axes.set_title(f"{SUITES[suite].title}, {operation}")
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda batch, _: f"{batch:.0f}"))
            axes.grid(alpha=0.3)
    for axes in grid[-1]:
        axes.set_xlabel("batch")
    for axes in grid[:, 0]:
        axes.set_ylabel(f"GB/s of unavoidable traffic, {threads} threads")
    curves = {curve.get_label(): curve for axes in grid.flat for curve in axes.get_lines()}
    figure.legend(curves.values(), curves.keys(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def _speeds(axes: plt.Axes, rows: list[Row]) -> None:
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in sorted(rows, key=lambda row: row.batch):
        curves.setdefault(f"bnorm {row.layout}", []).append((row.batch, row.bytes / row.ns))
        if row.layout != LAYOUTS[0]:
            continue  # the peers are the same in both
        for peer in row.peers:
            curves.setdefault(f"{peer.library} {peer.format}", []).append((row.batch, row.bytes / peer.ns))
    for label, points in curves.items():
        library, kind = label.split(" ")
        style = {"color": COLORS.get(library, "grey"), "linestyle": LINES.get(kind, ":")}
        axes.plot(*zip(*points), label=label, linewidth=2 if library == "bnorm" else 1, **style)


def fractions(rows: list[Row], caches: tuple[int, int]) -> plt.Figure:
    figure, line = plt.subplots(1, len(OPERATIONS), figsize=(11, 3.8), layout="constrained", sharey=True)
    for operation, axes in zip(OPERATIONS, line):
        for threads, marker in ((1, "o"), (2, "^")):
            chosen = [row for row in rows if row.operation == operation and row.threads == threads]
            places = [row.working_set for row in chosen], [row.fraction.median for row in chosen]
            axes.scatter(*places, s=8, marker=marker, alpha=0.6, label=f"{threads} thread{'s' * (threads > 1)}")
        for name, size in zip(("L2", "last level"), caches):
            axes.axvline(size, color="grey", linewidth=0.8, linestyle=":")
            axes.annotate(name, (size, 0.02), xycoords=("data", "axes fraction"), rotation=90, ha="right", color="grey")
        axes.set_title(operation)
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("working set, bytes")
        axes.grid(alpha=0.3)
    line[0].set_ylabel("floor / time")
    line[0].legend(frameon=False)
    return figure


def ratios(rows: list[Row], caches: tuple[int, int]) -> plt.Figure:
    """The fastest peer in the same layout, a column of points for each shape."""
    rows = [row for row in rows if row.fastest_same and row.operation in OPERATIONS]
    places = {shape: place for place, shape in enumerate(dict.fromkeys(_place(row) for row in rows))}
    figure, grid = plt.subplots(len(LAYOUTS), 1, figsize=(13, 8), layout="constrained", sharex=True, sharey=True)
    for layout, axes in zip(LAYOUTS, grid):
        for operation, color in COLORS_OF_OPERATIONS.items():
            chosen = [row for row in rows if (row.layout, row.operation) == (layout, operation)]
            points = [places[_place(row)] for row in chosen], [row.fastest_same.ratio.median for row in chosen]
            axes.scatter(*points, s=10, color=color, alpha=0.7, label=operation)
        axes.axhline(LOST, color="red", linewidth=0.8)
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylabel(f"fastest peer / bnorm, {layout}")
        axes.grid(alpha=0.3, axis="y")
        axes.legend(frameon=False, ncols=3)
        for start in _starts(places):
            axes.axvline(start - 0.5, color="grey", linewidth=0.5)
    grid[-1].set_xticks(list(places.values()), [shape for _, shape in places], rotation=90, fontsize=6)
    return figure


def _place(row: Row) -> tuple[str, str]:
    return row.suite_name, row.shape


def _starts(places: dict[tuple[str, str], int]) -> Iterable[int]:
    """Where a suite begins."""
    return {suite: place for (suite, _), place in reversed(places.items())}.values()
