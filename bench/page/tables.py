"""The tables of the page, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from results import CLASSES, Peer, Ratio, Results, Row, geometric_mean, lost
from suites import SUITES
from tabulate import tabulate

OPERATIONS = ("infer", "train", "backward")
LAYOUTS = ("planar", "channels_last")
LATENCY = (("latency", "prepared"), ("latency", "infer"), ("latency", "simple"), ("dense", "train"))
LATENCY_SHAPES = ("1×256", "60×100")

Line = dict[str, str]


def markdown(lines: Iterable[Line], none: str = "None.") -> str:
    lines = list(lines)
    return tabulate(lines, headers="keys", tablefmt="github", disable_numparse=True) if lines else none


def time(ns: float) -> str:
    for unit, size in (("ns", 1), ("µs", 1e3)):
        if ns < 1e3 * size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns / 1e6:.3g} ms"


def ratio(spread: Ratio) -> str:
    return f"{spread.median:.2f} ({spread.low:.2f}–{spread.high:.2f})"


def number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def case(row: Row) -> Line:
    return {
        "operation": row.operation,
        "N×C×image": row.shape,
        "layout": row.layout,
        "threads": str(row.threads),
        "ISA": row.isa,
        "bnorm": time(row.ns),
    }


def _against(row: Row, peer: Peer) -> Line:
    return case(row) | {"fastest peer": peer.name, "its time": time(peer.ns), "ratio": ratio(peer.ratio)}


def lost_cases(rows: list[Row]) -> str:
    """In the same layout."""
    found = [(row, row.fastest_same) for row in rows if lost(row.fastest_same)]
    found.sort(key=lambda pair: pair[1].ratio.median)
    return markdown(_against(row, peer) for row, peer in found)


def lost_elsewhere(rows: list[Row]) -> str:
    """Only against a peer in another layout."""
    found = [(row, row.fastest) for row in rows if lost(row.fastest) and not lost(row.fastest_same)]
    found.sort(key=lambda pair: pair[1].ratio.median)
    return markdown(_against(row, peer) for row, peer in found)


def counts(results: Results) -> str:
    """Cases and losses by ISA and operation."""
    lines = []
    for isa, operation, rows in _by(results.judged, lambda row: row.isa, lambda row: row.operation):
        lines.append(
            {
                "ISA": isa,
                "operation": operation,
                "cases": str(len(rows)),
                "lost in the same layout": str(sum(lost(row.fastest_same) for row in rows)),
                "lost in any layout": str(sum(lost(row.fastest) for row in rows)),
            }
        )
    return markdown(lines)


def means(rows: list[Row], peer_of: Callable[[Row], Peer | None]) -> str:
    """Geometric means of the ratio over the fastest peer, by size class and operation."""

    def mean(chosen: list[Row]) -> float:
        return geometric_mean(peer.ratio.median for row in chosen if (peer := peer_of(row)) is not None)

    lines = []
    for isa, size_class, chosen in _by(rows, lambda row: row.isa, lambda row: row.size_class):
        line = {"ISA": isa, "size": size_class, "cases": str(len(chosen))}
        for operation in OPERATIONS:
            line[operation] = number(mean([row for row in chosen if row.operation == operation]))
        lines.append(line | {"all": number(mean(chosen))})
    return markdown(lines)


def fractions(rows: list[Row]) -> str:
    """Of the floor: smallest and geometric mean."""
    lines = []
    for size_class, threads, chosen in _by(rows, lambda row: row.size_class, lambda row: row.threads):
        line = {"size": size_class, "threads": str(threads), "cases": str(len(chosen))}
        for operation in OPERATIONS:
            values = [row.fraction.median for row in chosen if row.operation == operation]
            line[f"{operation}: min"] = number(min(values, default=math.nan))
            line[f"{operation}: mean"] = number(geometric_mean(values))
        lines.append(line)
    return markdown(lines)


def features(rows: list[Row]) -> str:
    """Fractions of the floor of each feature, by shape, operation and layout."""
    lines: dict[tuple[str, str], Line] = {}
    for row in rows:
        if not row.suite.feature:
            continue
        line = lines.setdefault((row.suite_name, row.shape), {"feature": row.suite.title, "N×C×image": row.shape})
        operation = row.operation.partition("+")[0]
        if operation.startswith(("backward", "frozen")) or operation == "sums":  # any part of it
            operation = "backward"
        operation = {"moments": "train", "fold": "infer"}.get(operation, operation)
        layout = "planar" if row.layout.startswith("blocked") else row.layout
        line[f"{operation}, {layout}"] = number(row.fraction.median)
    return markdown(lines.values())


def latency(rows: list[Row]) -> str:
    lines = []
    for row in rows:
        if row.threads != 1 or (row.suite_name, row.operation) not in LATENCY or row.shape not in LATENCY_SHAPES:
            continue
        if row.suite_name == "dense" and row.shape != "60×100":
            continue
        line = case(row) | {"floor": time(row.floor_ns)}
        lines.append(line | _best_of_libraries(row))
    return markdown(lines)


def overhead(rows: list[Row]) -> str:
    """What a call costs that has nothing to do."""
    chosen = [row for row in rows if row.suite_name == "overhead" and row.layout == "planar"]
    return markdown(
        {"operation": row.operation, "threads": str(row.threads), "bnorm": time(row.ns)} | _best_of_libraries(row)
        for row in chosen
    )


def _best_of_libraries(row: Row) -> Line:
    """Each version's time in its fastest format."""
    best: dict[str, float] = {}
    for peer in row.peers:
        best[peer.version] = min(best.get(peer.version, math.inf), peer.ns)
    return {version: time(ns) for version, ns in sorted(best.items())}


def scaling(rows: list[Row]) -> str:
    """Speed of two threads over one, bnorm's and the twin's."""
    single = {_same_but_threads(row): row for row in rows if row.threads == 1}
    pairs = [(single[key], row) for row in rows if row.threads == 2 and (key := _same_but_threads(row)) in single]
    lines = []
    for size_class, operation, chosen in _by(
        pairs, lambda pair: pair[1].size_class, lambda pair: pair[1].operation
    ):
        ours = [one.ns / two.ns for one, two in chosen]
        twins = [one.floor_ns / two.floor_ns for one, two in chosen]
        lines.append(
            {
                "size": size_class,
                "operation": operation,
                "cases": str(len(chosen)),
                "bnorm: min": number(min(ours)),
                "bnorm: mean": number(geometric_mean(ours)),
                "twin: mean": number(geometric_mean(twins)),
                "bnorm / twin: min": number(min(our / twin for our, twin in zip(ours, twins))),
                "bnorm / twin: mean": number(geometric_mean(ours) / geometric_mean(twins)),
            }
        )
    return markdown(lines)


def _same_but_threads(row: Row) -> tuple:
    return row.suite_name, row.operation, row.layout, row.shape, row.isa


def every_case(rows: list[Row], isa: str) -> Iterator[tuple[str, str]]:
    """Title and table of each suite: time, and ratio over the fastest peer in the same layout."""
    for name, suite in SUITES.items():
        if suite.feature:
            continue
        chosen = [row for row in rows if row.suite_name == name and row.isa == isa]
        lines: dict[tuple[str, str], Line] = {}
        for row in chosen:
            line = lines.setdefault((row.shape, row.operation), {"N×C×image": row.shape, "operation": row.operation})
            peer = row.fastest_same
            cell = f"{time(row.ns)}, {ratio(peer.ratio)}" if peer else time(row.ns)
            line[f"{row.layout}, {row.threads}"] = cell
        if lines:
            yield suite.title, markdown(lines.values())


def _by(items: list, *keys: Callable) -> Iterator[tuple]:
    """Items by their keys; the keys in the order of CLASSES and OPERATIONS where they are such, else of the items."""
    order = {name: place for place, name in enumerate((*CLASSES, "prepared", "simple", *OPERATIONS))}
    groups: dict[tuple, list] = {}
    for item in items:
        groups.setdefault(tuple(key(item) for key in keys), []).append(item)
    places = {group: place for place, group in enumerate(dict.fromkeys(group[0] for group in groups))}
    for group in sorted(groups, key=lambda group: [order.get(key, places.get(key, key)) for key in group]):
        yield *group, groups[group]
