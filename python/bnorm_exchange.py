"""Statistics over several callers, in terms of NumPy arrays: bnorm_exchange."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Exchange:
    """How the ranks of a call learn of each other's batch.

    ranks      how many there are
    allgather  allgather(sent, received) gives this rank's float64 array to all, and fills received, of shape
               (ranks, len(sent)), with everybody's in the order of ranks. What it raises, the call raises.

    Of an mpi4py communicator: Exchange(comm.size, comm.Allgather).
    """

    ranks: int
    allgather: Callable[[np.ndarray, np.ndarray], object]


class Messages:
    """The bnorm_exchange of one call, with all that must live as long."""

    def __init__(self, ffi: Any, exchange: Exchange, count: int):
        self._ffi, self._exchange = ffi, exchange
        self._buffer = np.empty(count)
        self._callback = ffi.callback("int32_t(void *, const double *, double *, int64_t)", self._allgather, error=1)
        fields = {
            "struct_size": ffi.sizeof("bnorm_exchange"),
            "ranks": exchange.ranks,
            "allgather": self._callback,
            "buffer": ffi.cast("double *", ffi.from_buffer(self._buffer)),
            "buffer_count": count,
        }
        self.pointer = ffi.new("bnorm_exchange *", fields)
        self.error: BaseException | None = None

    def _allgather(self, _: Any, sent: Any, received: Any, count: int) -> int:
        ranks = self._exchange.ranks
        try:
            self._exchange.allgather(self._array(sent, count), self._array(received, ranks * count).reshape(ranks, count))
        except BaseException as error:  # noqa: BLE001: not to be lost in C; raised once the call has returned
            self.error = error
            return 1
        return 0

    def _array(self, pointer: Any, count: int) -> np.ndarray:
        return np.frombuffer(self._ffi.buffer(pointer, 8 * count))
