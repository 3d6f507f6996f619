"""Memory layouts of the arrays in Python tests."""

from __future__ import annotations

import numpy as np

LAYOUTS = ("planar", "channels_last")


def in_layout(x: np.ndarray, layout: str) -> tuple[str, np.ndarray]:
    """Axis letters and a contiguous array; the spatial axes are D, H, W as far as there are any."""
    spatial = "DHW"[3 - (x.ndim - 2) :]
    if layout == "planar":
        return f"NC{spatial}", x
    return f"N{spatial}C", np.ascontiguousarray(np.moveaxis(x, 1, -1))
