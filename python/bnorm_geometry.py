"""The axes of an array as bnorm's G, N, C, S."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Geometry:
    """How the axes of an array become G, N, C, S: one letter an axis, G, N, C, any other letter is a spatial axis."""

    axes: str
    shape: tuple[int, ...]

    def __post_init__(self):
        if len(self.axes) != len(self.shape):
            raise ValueError(f"axes '{self.axes}' must name as many axes as the shape {self.shape} has")
        if len(set(self.axes)) != len(self.axes) or "C" not in self.axes:
            raise ValueError(f"axes '{self.axes}': every letter once, and C among them")

    def size(self, letter: str) -> int:
        return self.shape[self.axes.index(letter)] if letter in self.axes else 1

    @property
    def spatial(self) -> int:
        return math.prod(size for letter, size in zip(self.axes, self.shape) if letter not in "GNC")

    def packed_strides(self, itemsize: int) -> tuple[int, ...]:
        """Byte strides of a C-contiguous array."""
        return tuple(itemsize * math.prod(self.shape[i + 1 :]) for i in range(len(self.shape)))

    def element_strides(self, byte_strides: tuple[int, ...], itemsize: int) -> dict[str, int]:
        """The g, n, c, s strides of a bnorm_strides; spatial axes must merge into one."""
        if any(stride % itemsize for stride in byte_strides):
            raise ValueError(f"byte strides {byte_strides} are no multiples of the element size {itemsize}")
        strides = {letter: stride // itemsize for letter, stride in zip(self.axes, byte_strides)}
        spatial = [
            (size, stride // itemsize)
            for letter, size, stride in zip(self.axes, self.shape, byte_strides)
            if letter not in "GNC" and size != 1
        ]
        for (_, outer), (size, inner) in pairwise(spatial):
            if outer != size * inner:
                raise ValueError(f"spatial axes of strides {byte_strides} in '{self.axes}' do not merge into one axis")
        innermost = spatial[-1][1] if spatial else 1
        found = {"g": strides.get("G", 0), "n": strides.get("N", 0), "c": strides["C"], "s": innermost}
        if not any(found.values()):
            raise ValueError(f"byte strides {byte_strides}: strides of 0 alone would mean a packed array")
        return found
