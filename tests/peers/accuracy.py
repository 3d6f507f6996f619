"""How accurate batch statistics are: bnorm and its peers against exact arithmetic, on the same values.

    python accuracy.py [--write]

Prints two tables, the largest error over the channels of the variance and of the mean; --write puts them into
docs/numerics.md as well. ./dev accuracy runs this in the environment that has the peers.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
from exact import MANTISSA_BITS, exact_moments
from peer_statistics import ROOT, SYSTEMS

PAGE = ROOT / "docs" / "numerics.md"
BEGIN, END = "<!-- accuracy table: ./dev accuracy --write -->", "<!-- end of the accuracy table -->"
SIZES = (50, 8, 112, 112)  # N, C, H, W: a layer of an image network; 627,200 values a channel
CHANNELS, COUNT = SIZES[1], SIZES[0] * SIZES[2] * SIZES[3]
MEANS = (0, 1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7)
CONSTANT = 2**MANTISSA_BITS - 1  # needs every bit that f32 has
OUTLIERS = (1e15, 1e30)  # the variance of the second exceeds f32
THREADS = 2
WIDTH = 120  # of a line of text


class AccuracyError(RuntimeError):
    """The tables cannot be made."""


@dataclass(frozen=True)
class Exact:
    """Statistics of one channel without rounding."""

    mean: Fraction
    var: Fraction

    def mean_error(self, value: float) -> float:
        """In units of the larger of |mean| and standard deviation."""
        return _ratio(value, self.mean, max(abs(self.mean), Fraction(math.sqrt(self.var))))

    def var_error(self, value: float) -> float:
        """Relative; of a constant channel, whose variance is 0, the value itself."""
        return _ratio(value, self.var, self.var or Fraction(1))

    def var_ulps(self, value: float) -> float:
        """In units in the last place of f32: correct rounding is 0.5 at most."""
        return _ratio(value, self.var, _ulp(self.var))


def _ratio(value: float, exact: Fraction, unit: Fraction) -> float:
    return float(abs(Fraction(value) - exact) / unit) if math.isfinite(value) else abs(value)


def _ulp(value: Fraction) -> Fraction:
    """The spacing of f32 (of unlimited range) at a value >= 0; 1 at 0, where only 0 has no error."""
    if value == 0:
        return Fraction(1)
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    exponent -= Fraction(2) ** exponent > value
    return Fraction(2) ** (exponent + 1 - MANTISSA_BITS)


@dataclass(frozen=True)
class Data:
    """One column of the tables: the values, and their exact statistics by channel."""

    title: str
    file: Path
    exact: list[Exact]


@dataclass
class Measured:
    """What the systems answered: (row, file) -> mean and variance by channel."""

    versions: dict[str, str] = field(default_factory=dict)
    values: dict[tuple[str, str], dict[str, list[float]]] = field(default_factory=dict)

    def rows(self) -> list[str]:
        return list(dict.fromkeys(row for row, _ in self.values))


def distributions() -> Iterator[tuple[str, np.ndarray]]:
    """Title and f32 values of each column; every channel has values of its own."""
    random = np.random.default_rng(2015)
    for mean in MEANS:
        yield f"µ={mean:.0f}" if mean < 1e3 else f"µ=1e{math.log10(mean):.0f}", _normal(random, mean)
    yield "constant", np.full(SIZES, CONSTANT, np.float32)
    for outlier in OUTLIERS:
        x = np.ones(SIZES, np.float32)
        for channel in range(CHANNELS):
            x[tuple(random.integers(SIZES[axis]) if axis != 1 else channel for axis in range(4))] = outlier
        yield f"1e{math.log10(outlier):.0f}", x


def _normal(random: np.random.Generator, mean: float) -> np.ndarray:
    x = random.standard_normal(SIZES)
    x += mean
    return x.astype(np.float32)


def make_data(folder: Path) -> list[Data]:
    columns = []
    for title, x in distributions():
        progress("exact statistics", title)
        file = folder / f"{len(columns)}.f32"
        x.tofile(file)
        columns.append(Data(title, file, [Exact(*exact_moments(x[:, c].ravel())) for c in range(CHANNELS)]))
    return columns


def measure(columns: list[Data]) -> Measured:
    measured = Measured()
    for system in SYSTEMS:
        measure_system(system, columns, measured)
    return measured


def measure_system(system: str, columns: list[Data], measured: Measured) -> None:
    """Runs one system in a process of its own and adds its answers."""
    titles = {str(data.file): data.title for data in columns}
    program = Path(__file__).with_name("peer_statistics.py")
    command = [sys.executable, str(program), system, *map(str, SIZES), *titles]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3"} | os.environ
    progress(f"starting {system}")
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process:
            measured.versions |= json.loads(process.stdout.readline() or "{}")
            for line in process.stdout:
                answer = json.loads(line)
                progress(answer["row"], titles[answer["file"]])
                measured.values[answer["row"], answer["file"]] = answer
        if process.returncode != 0:
            errors.seek(0)
            raise AccuracyError(f"{system} failed:\n{errors.read().strip()}")


def table(columns: list[Data], measured: Measured, quantity: str, error: Callable[[Exact, float], float]) -> list[str]:
    """Markdown: a line for each system and layout, a column for each distribution, the worst channel in each cell."""
    titles = [data.title for data in columns]
    lines = [_line([quantity, *titles]), _line(["---", *["---:"] * len(titles)])]
    for row in measured.rows():
        lines.append(_line([row, *_cells(columns, measured, row, quantity, error)]))
        if row.startswith("bnorm") and "f64" not in row and quantity == "var":
            lines.append(_line([f"{row}, ulps", *_cells(columns, measured, row, quantity, Exact.var_ulps)]))
    return lines


def _cells(
    columns: list[Data], measured: Measured, row: str, quantity: str, error: Callable[[Exact, float], float]
) -> Iterator[str]:
    for data in columns:
        values = measured.values[row, str(data.file)][quantity]
        yield _number(max((error(exact, value) for exact, value in zip(data.exact, values)), key=_worst))


def _worst(error: float) -> float:
    return math.inf if math.isnan(error) else error


def _number(value: float) -> str:
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    if 0.01 <= value < 100:
        return f"{value:.2g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def report(columns: list[Data], measured: Measured) -> str:
    """The text between the markers."""
    versions = ", ".join(f"{name} {version}" for name, version in measured.versions.items())
    sizes = "".join(f"[{size}]" for size in SIZES)
    facts = (
        f"{versions}; {COUNT:,} values a channel ([N][C][H][W] = {sizes}), {thread_count()} threads, "
        f"{datetime.date.today()}. Columns µ: N(µ, 1) rounded to f32. Column constant: all {CONSTANT} = "
        f"2^{MANTISSA_BITS} − 1. Columns 1e15 and 1e30: one such value among ones (the variance of the second exceeds "
        "f32, so inf is right there). A figure is the worst channel, against the exact statistics of the same f32 "
        "values, found in integers."
    )
    var = "Variance, relative error; of the constant the variance itself (exact: 0). ulps: of f32."
    mean = "Mean, error in units of max(|mean|, std)."
    var_table = table(columns, measured, "var", Exact.var_error)
    mean_table = table(columns, measured, "mean", Exact.mean_error)
    lines = [*textwrap.wrap(facts, WIDTH), "", var, "", *var_table, "", mean, "", *mean_table]
    return "\n".join([BEGIN, "", *lines, "", END])


def limit_threads() -> None:
    """Keeps this process and its children to THREADS CPUs: the one setting that every system heeds."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])


def thread_count() -> int:
    return len(os.sched_getaffinity(0))


def progress(subject: str, detail: str = "") -> None:
    """A line on the terminal that renews itself; in a log only a line for each subject."""
    if sys.stderr.isatty():
        print(f"\033[K{subject} {detail}", end="\r", file=sys.stderr, flush=True)
    elif subject != progress.last:
        print(subject, file=sys.stderr, flush=True)
    progress.last = subject


progress.last = ""


def write(text: str) -> None:
    page = PAGE.read_text()
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise AccuracyError(f"{PAGE} lacks the marker {END if begin else BEGIN}")
    PAGE.write_text(before + text + after)


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev accuracy", description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the tables into docs/numerics.md")
    arguments = parser.parse_args()
    limit_threads()
    try:
        with tempfile.TemporaryDirectory(dir=ROOT / "build", prefix="accuracy-") as folder:
            columns = make_data(Path(folder))
            text = report(columns, measure(columns))
        progress("done")
        print(text)
        if arguments.write:
            write(text)
    except AccuracyError as error:
        print(f"accuracy: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
