"""Accuracy curves as PNG."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.ticker import PercentFormatter, StrMethodFormatter  # noqa: E402
from setups import BATCH, WIDTHS  # noqa: E402
from training import Run  # noqa: E402

CHANCE = 1 / WIDTHS[-1]
STYLES = {True: {"color": "tab:blue"}, False: {"color": "tab:orange", "linestyle": "--"}}


def comparison(runs: list[Run], steps: int, path: Path) -> None:
    """Test accuracy over the steps, one curve a run of one set-up."""
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for run in runs:
        _curve(axes, run)
    axes.axhline(CHANCE, color="grey", linewidth=0.8, linestyle=":", label="guessing")
    axes.set_title(f"Fashion-MNIST, {'-'.join(map(str, WIDTHS))}, batches of {BATCH}\n{runs[0].setup}")
    axes.set_xlabel("training steps")
    axes.set_ylabel("accuracy on the test images")
    axes.set_xlim(0, steps)
    axes.set_ylim(0, 1)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _curve(axes: plt.Axes, run: Run) -> None:
    name = "with batch normalization" if run.normalized else "without"
    steps, accuracies, style = run.steps, run.accuracies, STYLES[run.normalized]
    if run.diverged_at is not None:
        # The curve ends in a cross, at the last accuracy that could be measured.
        steps, accuracies = [*steps, run.diverged_at], [*accuracies, run.final_accuracy]
        style = style | {"marker": "x", "markersize": 10, "markevery": [-1], "clip_on": False}
    axes.plot(steps, accuracies, label=f"{name}: {run.outcome}", **style)
