"""docs/performance.md, made of the kept results."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import plots
import tables
from results import LOST, Results, Row
from suites import SUITES

WIDTH = 120  # of a line of text
PLOTS = "performance"  # the folder of the plots, beside the page
RESULTS = "performance/results"  # and of what they show

METHOD = (
    "Every peer runs in a process of its own, stopped by a signal while others are timed. bnorm and the twins of the "
    "floor share one, and the same tensors; bnorm's workers are asleep before a peer's sample. Every round samples all of "
    "them in an order drawn anew, each after six calls or 25 ms; a ratio is the peer's time / bnorm's in the same round, "
    "given as median (lower–upper quartile) over rounds, so above 1 bnorm is faster. Peers work on the same values, hot, "
    "and y or dx is compared before a row is timed. Whoever takes more than 3 times as long as the fastest peer, or twin, "
    "is sampled in 3 rounds only. The fastest peer is the one of the smallest median ratio. A case is lost if that ratio "
    f"is below {LOST}. Where one channel or one position makes both layouts one, the planar row alone is counted."
)
PEERS = (
    "Peers: oneDNN over OpenMP in the newest wheel made for it (onednn_openmp), the newest oneDNN (onednn_sycl), whose "
    "wheel runs on SYCL and pays its queue in every call, and PyTorch, called from C++ (pytorch), with outputs given "
    "where it takes them. In training oneDNN updates no running statistics; bnorm and PyTorch do. OpenMP's workers wait "
    "asleep or spinning, whichever had the smaller median of three samples before the row. The same "
    "layout as planar are nchw and contiguous, as channels_last nhwc and channels_last; blocks of channels (nChw16c, "
    "on lower ISAs nChw8c) are a layout of their own."
)
FLOOR = (
    "The floor is the best time, over numbers of threads up to the row's, both kinds of store, and beyond L2 with and "
    "without fetching ahead, of an arithmetic-free twin that reads the same tensors and parameters and writes the same "
    "outputs; a fraction is floor / time, by size class and over all shapes and both layouts. Above 1, bnorm was faster "
    "than the best twin: the floor is measured, too."
)
FEATURES = (
    "What is fused, or the type of data, beside plain f32: fractions of the floor of the same tensors, one thread, both "
    "layouts. Options of the bench ask for them: --activation, --residual, --from-mask, --from-residual, --from-output, "
    "--renorm, --weighted, --lengths, --operation (parts of training and backward, subsets of outputs, fold), --groups, "
    "--ranks, --layout, --dtype, --output-dtype, --param-dtype, --slice."
)
SCALING = "Speed of 2 threads over 1; the twin's likewise, each at its best number of threads up to the row's."
OVERHEAD = "A tensor of one element: what a call costs before it does anything. The peers in their fastest format."
LATENCY = "One thread. prepared: bnorm_normalize with prepared coefficients; simple: bnorm_infer_f32."


def write(results: Results, docs: Path) -> Path:
    """The page and its plots; returns the page."""
    best = [row for row in results.rows if row.isa == results.isas[0]]
    caches = results.runs[0]["l2_cache"], results.runs[0]["last_level_cache"]
    drawn = plots.draw(best, caches, docs / PLOTS)
    page = docs / "performance.md"
    page.write_text("\n\n".join(_sections(results, best, drawn)) + "\n")
    return page


def _sections(results: Results, best: list[Row], drawn: dict[str, str]) -> Iterator[str]:
    judged = [row for row in best if row.judged]
    yield "# Performance"
    yield _text(f"Written by `./dev bench --peers --write` from what {RESULTS} keeps; nothing here is typed by hand.")
    yield from _list(_facts(results))
    yield "## Lost cases"
    yield _text(f"The fastest peer in the same layout takes less than {LOST} of bnorm's time.")
    yield tables.lost_cases(results.judged)
    yield _text("Lost only against a peer in another layout:")
    yield tables.lost_elsewhere(results.judged)
    yield tables.counts(results)
    if results.notes:
        yield "Left out:"
        yield from _list(results.notes)
    yield "## How it is measured"
    yield _text(METHOD)
    yield _text(PEERS)
    yield "## Geometric means of the ratio"
    yield _text("Over the fastest peer in the same layout:")
    yield tables.means(results.judged, lambda row: row.fastest_same)
    yield _text("Over the fastest peer in any layout:")
    yield tables.means(results.judged, lambda row: row.fastest)
    yield "## Fraction of the floor"
    yield _text(FLOOR)
    yield tables.fractions(judged)
    yield "## Features"
    yield _text(FEATURES)
    yield tables.features(best)
    yield "## Latency"
    yield _text(LATENCY)
    yield tables.latency(best)
    yield "## Call overhead"
    yield _text(OVERHEAD)
    yield tables.overhead(best)
    yield "## Two threads"
    yield _text(SCALING)
    yield tables.scaling(judged)
    yield "## Plots"
    for title, name in drawn.items():
        yield f"![{title}]({PLOTS}/{name})"
    for isa in results.isas:
        yield f"## Every case, {isa}"
        yield _text("bnorm's time, and the ratio over the fastest peer in the same layout; by layout and threads.")
        for title, table in tables.every_case(results.rows, isa):
            yield f"### {title}"
            yield table


def _facts(results: Results) -> list[str]:
    runs = results.runs
    dates = sorted({run["date"] for run in runs})
    missing = [suite.title for name, suite in SUITES.items() if name not in {run["suite"] for run in runs}]
    megabytes = f"{runs[0]['l2_cache'] / 2**20:g} MiB of L2 a core, {runs[0]['last_level_cache'] / 2**20:g} MiB in all"
    facts = [
        f"Machine: {_all(run['machine'] for run in runs)}; caches: {megabytes}",
        f"ISAs: {', '.join(results.isas)}",
        f"bnorm {_all(run['version'] for run in runs)} ({_all(run['commit'] for run in runs)}); "
        f"{', '.join(results.versions)}",
        f"Date: {' to '.join(dict.fromkeys((dates[0], dates[-1])))}",
        f"Rounds: {_all(str(run['rounds']) for run in runs)}; a sample is one call, or as many as fill "
        f"{_all(format(run['sample_seconds'] * 1e3, 'g') for run in runs)} ms",
    ]
    return facts + ([f"Not measured: {', '.join(missing)}"] if missing else [])


def _all(values: Iterator[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _list(items: list[str]) -> Iterator[str]:
    yield "\n".join(textwrap.fill(f"- {item}", WIDTH, subsequent_indent="  ") for item in items)


def _text(text: str) -> str:
    return textwrap.fill(text, WIDTH)
