"""Rows that the bench has measured, and what they mean beside their peers."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from suites import SUITES, Suite

LOST = 0.97  # a case is lost whose fastest peer takes less than this of bnorm's time
SMALL = 64 * 1024  # bytes of a tensor
# The formats of peers that are a layout of bnorm; nChw8c and nChw16c are neither.
SAME_LAYOUT = {"planar": ("nchw", "contiguous"), "channels_last": ("nhwc", "channels_last")}
ISAS = ("avx512", "avx2", "sse42", "neon64", "generic")  # best first
LIBRARIES = ("onednn_openmp", "onednn_sycl", "pytorch", "onednn")


@dataclass(frozen=True)
class Ratio:
    """Of paired rounds: the median and the quartiles around it."""

    low: float
    median: float
    high: float


@dataclass(frozen=True)
class Peer:
    name: str
    ns: float
    ratio: Ratio  # its time / bnorm's
    version: str

    @property
    def library(self) -> str:
        return next(library for library in LIBRARIES if self.name.startswith(f"{library}_"))

    @property
    def format(self) -> str:
        return self.name.removeprefix(f"{self.library}_")


@dataclass(frozen=True)
class Caches:
    """Bytes of one core's L2 and of the last-level cache."""

    l2: int
    last_level: int


class Row:
    """One measured row of a suite."""

    def __init__(self, suite: str, caches: Caches, row: dict[str, Any]):
        self.suite_name = suite
        self.operation, self.layout, self.isa = row["operation"], row["layout"], row["isa"]
        self.batch, self.channels, self.spatial, self.depth = (
            row[name] for name in ("batch", "channels", "spatial", "depth")
        )
        self.threads, self.ns, self.floor_ns, self.bytes = (
            row[name] for name in ("threads", "ns", "floor_ns", "bytes")
        )
        self.tensor_bytes, self.working_set = row["tensor_bytes"], row["working_set"]
        self.fraction = Ratio(*row["fraction"])
        self.peers = [
            Peer(name, ns, Ratio(*row["ratios"][name]), row["versions"][name]) for name, ns in row["peers"].items()
        ]
        self._caches = caches

    @property
    def suite(self) -> Suite:
        return SUITES[self.suite_name]

    @property
    def judged(self) -> bool:
        """Of rows whose layouts are one, the first alone."""
        return self.suite.judged and (self.layout == "planar" or not self.layouts_are_one)

    @property
    def layouts_are_one(self) -> bool:
        return 1 in (self.channels, self.spatial)

    @property
    def shape(self) -> str:
        """N × C × the image."""
        plane = self.spatial // self.depth
        side = math.isqrt(plane)
        sizes = [self.batch, self.channels]
        if self.depth > 1:
            sizes.append(self.depth)
        if self.spatial > 1:
            sizes += [side, side] if side * side == plane else [plane]
        return "×".join(map(str, sizes))

    @property
    def size_class(self) -> str:
        if self.tensor_bytes < SMALL:
            return CLASSES[0]
        if self.working_set <= self._caches.l2 * self.threads:
            return CLASSES[1]
        return CLASSES[2] if self.working_set <= self._caches.last_level else CLASSES[3]

    @cached_property
    def fastest(self) -> Peer | None:
        """In any layout."""
        return _fastest(self.peers)

    @cached_property
    def fastest_same(self) -> Peer | None:
        """In the row's layout."""
        layouts = SAME_LAYOUT if self.layouts_are_one else [self.layout]
        formats = [name for layout in layouts for name in SAME_LAYOUT[layout]]
        return _fastest(peer for peer in self.peers if peer.format in formats)


CLASSES = ("tensor below 64 KB", "in cache: L2", "in cache: last level", "beyond the cache")


def _fastest(peers: Iterable[Peer]) -> Peer | None:
    return min(peers, key=lambda peer: peer.ratio.median, default=None)


def lost(peer: Peer | None) -> bool:
    return peer is not None and peer.ratio.median < LOST


def geometric_mean(values: Iterable[float]) -> float:
    """NaN of none."""
    logarithms = [math.log(value) for value in values]
    return math.exp(math.fsum(logarithms) / len(logarithms)) if logarithms else math.nan


@dataclass(frozen=True)
class Results:
    """All runs kept in a folder, each a suite on an ISA."""

    runs: list[dict[str, Any]]
    rows: list[Row]

    @property
    def notes(self) -> list[str]:
        """What was left out, and why."""
        return list(dict.fromkeys(note for run in self.runs for note in run["notes"]))

    @property
    def isas(self) -> list[str]:
        """The machine's best first."""
        return sorted({row.isa for row in self.rows}, key=ISAS.index)

    @property
    def versions(self) -> list[str]:
        return sorted({peer.version for row in self.rows for peer in row.peers})

    @property
    def judged(self) -> list[Row]:
        return [row for row in self.rows if row.judged]


def load(folder: Path) -> Results:
    """ISAs and suites in their order, whenever they were measured."""
    files = sorted(folder.glob("*.json.gz"), key=_order)
    runs = [json.loads(gzip.decompress(file.read_bytes())) for file in files]
    rows = [
        Row(run["suite"], Caches(run["l2_cache"], run["last_level_cache"]), row) for run in runs for row in run["rows"]
    ]
    return Results(runs, rows)


def file_of(folder: Path, suite: str, isa: str) -> Path:
    return folder / f"{suite}.{isa}.json.gz"


def _order(file: Path) -> tuple[int, int]:
    suite, isa = file.name.split(".")[:2]
    return ISAS.index(isa), list(SUITES).index(suite)
