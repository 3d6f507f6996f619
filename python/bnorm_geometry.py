"""The axes of an array as bnorm's G, N, C, S."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Geometry:
    """How the axes of an array become G, N, C, S: one letter an axis, G, N, C; any other letter is a spatial axis, but
    for c, the channels of a block, which is the last axis if there is one: "NCHWc" of shape (N, C / 8, H, W, 8)."""

    axes: str
    shape: tuple[int, ...]

    def __post_init__(self):
        if len(self.axes) != len(self.shape):
            raise ValueError(f"axes '{self.axes}' must name as many axes as the shape {self.shape} has")
        if len(set(self.axes)) != len(self.axes) or "C" not in self.axes:
            raise ValueError(f"axes '{self.axes}': every letter once, and C among them")
        if "c" in self.axes[:-1]:
            raise ValueError(f"axes '{self.axes}': c, the channels of a block, must be the last")
        if self.axes[-1] == "c" and self.shape[-1] == 0:
            raise ValueError(f"shape {self.shape} in '{self.axes}': blocks of 0 channels")

    @property
    def block(self) -> int:
        """Channels of a block, 0 without blocks."""
        return self.shape[-1] if self.axes[-1] == "c" else 0

    def size(self, letter: str) -> int:
        """Of an axis, 1 where it is missing; of C all channels, in blocks too."""
        size = self.shape[self.axes.index(letter)] if letter in self.axes else 1
        return size * self.block if letter == "C" and self.block else size

    @property
    def positions(self) -> str:
        """The axes but those of channels."""
        return "".join(letter for letter in self.axes if letter not in "Cc")

    @property
    def spatial(self) -> int:
        return math.prod(self.size(letter) for letter in self.positions if letter not in "GN")

    def packed_strides(self, itemsize: int) -> tuple[int, ...]:
        """Byte strides of a C-contiguous array."""
        return tuple(itemsize * math.prod(self.shape[i + 1 :]) for i in range(len(self.shape)))

    def element_strides(self, byte_strides: tuple[int, ...], itemsize: int) -> dict[str, int]:
        """The g, n, c, s strides of a bnorm_strides; spatial axes must merge into one."""
        if any(stride % itemsize for stride in byte_strides):
            raise ValueError(f"byte strides {byte_strides} are no multiples of the element size {itemsize}")
        strides = {letter: stride // itemsize for letter, stride in zip(self.axes, byte_strides)}
        if self.block > 1 and strides["c"] != 1:
            raise ValueError(f"byte strides {byte_strides} in '{self.axes}': channels of a block must be neighbours")
        spatial = [
            (size, stride // itemsize)
            for letter, size, stride in zip(self.axes, self.shape, byte_strides)
            if letter in self.positions and letter not in "GN" and size != 1
        ]
        for (_, outer), (size, inner) in pairwise(spatial):
            if outer != size * inner:
                raise ValueError(f"spatial axes of strides {byte_strides} in '{self.axes}' do not merge into one axis")
        innermost = spatial[-1][1] if spatial else 1
        found = {"g": strides.get("G", 0), "n": strides.get("N", 0), "c": strides["C"], "s": innermost}
        if not any(found.values()):
            raise ValueError(f"byte strides {byte_strides}: strides of 0 alone would mean a packed array")
        return found
