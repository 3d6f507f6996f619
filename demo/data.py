"""Fashion-MNIST from its gzipped IDX files."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import idx2numpy
import numpy as np
from setups import BATCH, WIDTHS

CLASSES = WIDTHS[-1]
PIXELS = (28, 28)
DEFAULT_FOLDER = Path("/usr/share/datasets/fashion-mnist")


class DataError(RuntimeError):
    """The data set is missing or is not what its files should hold."""


@dataclass(frozen=True)
class Split:
    images: np.ndarray  # [count][784] f32 in [0, 1]
    labels: np.ndarray  # [count]


@dataclass(frozen=True)
class FashionMnist:
    train: Split
    test: Split


def load(folder: Path) -> FashionMnist:
    return FashionMnist(train=_split(folder, "train"), test=_split(folder, "t10k"))


def _split(folder: Path, prefix: str) -> Split:
    """Images and labels of one prefix, enough for a batch."""
    images = _read(folder / f"{prefix}-images-idx3-ubyte.gz")
    labels = _read(folder / f"{prefix}-labels-idx1-ubyte.gz")
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise DataError(f"{folder}: {prefix} has images {images.shape} and labels {labels.shape}, which don't match")
    if images.shape[1:] != PIXELS or len(images) < BATCH or labels.min() < 0 or labels.max() >= CLASSES:
        raise DataError(
            f"{folder}: {prefix} has images {images.shape} and labels {labels.min(initial=0)} to "
            f"{labels.max(initial=0)}: must be at least {BATCH} of {PIXELS} pixels, and from 0 below {CLASSES}"
        )
    pixels = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
    return Split(pixels, labels.astype(np.int64))


def _read(path: Path) -> np.ndarray:
    try:
        with gzip.open(path) as file:
            return idx2numpy.convert_from_file(file)
    except FileNotFoundError:
        raise DataError(f"no {path}: install dataset-fashion-mnist, or name a folder with --data") from None
    except (OSError, EOFError, OverflowError, MemoryError, zlib.error, idx2numpy.FormatError) as error:
        raise DataError(f"{path} is no gzipped IDX file: {error}") from None


def batches(split: Split, size: int, rng: np.random.Generator):
    """Endless batches; every epoch in a new order, an incomplete last batch dropped."""
    while True:
        order = rng.permutation(len(split.labels))
        for start in range(0, len(order) - size + 1, size):
            chosen = order[start : start + size]
            yield split.images[chosen], split.labels[chosen]
