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
               (ranks, len(sent)), with everybody's in the order of ranks. Behind it the call goes on to use both: keep
               copies. What it raises, the call raises.

    Of an mpi4py communicator: Exchange(comm.size, comm.Allgather). A call that bnorm refuses still takes part, so that
    no rank waits for it; one that this face refuses before (a dtype, a shape, a negative average_factor) does not.
    """

    ranks: int
    allgather: Callable[[np.ndarray, np.ndarray], object]


class Messages:
    """The bnorm_exchange of one call, with all that must live as long."""

    def __init__(self, ffi: Any, exchange: Exchange, count: int):
        buffer, errors = np.empty(count), []

        def part(pointer: Any, length: int) -> np.ndarray:
            """A view of `length` doubles of the buffer, which lives as long as the view."""
            first = (int(ffi.cast("uintptr_t", pointer)) - buffer.ctypes.data) // buffer.itemsize
            return buffer[first : first + length]

        # A closure, not a method: that would make a cycle, and the buffer wait for the garbage collector.
        def allgather(_: Any, sent: Any, received: Any, length: int) -> int:
            try:
                own = part(sent, length)
                own.flags.writeable = False
                exchange.allgather(own, part(received, exchange.ranks * length).reshape(exchange.ranks, length))
            except BaseException as error:  # noqa: BLE001: not to be lost in C; raised once the call has returned
                errors.append(error)
                return 1
            return 0

        self._errors = errors
        self._callback = ffi.callback("int32_t(void *, const double *, double *, int64_t)", allgather, error=1)
        fields = {
            "struct_size": ffi.sizeof("bnorm_exchange"),
            "ranks": exchange.ranks,
            "allgather": self._callback,
            "buffer": ffi.cast("double *", ffi.from_buffer(buffer)),
            "buffer_count": count,
        }
        self.pointer = ffi.new("bnorm_exchange *", fields)

    @property
    def error(self) -> BaseException | None:
        """What allgather has raised."""
        return self._errors[0] if self._errors else None
