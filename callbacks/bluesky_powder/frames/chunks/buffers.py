"""Memory for frames that is used again: getting fresh memory from the system costs more than decoding into it."""

import sys
import threading
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Buffers:
    """Makes arrays, in memory of earlier ones that nobody has any more: neither them nor any view of them.

    Safe to share between threads.

    Parameters
    ----------
    most_idle
        Bytes to keep for later at most; one array as large as the last one may be kept whatever its size.
    """

    def __init__(self, most_idle: int) -> None:
        self._most_idle = most_idle
        self._lock = threading.Lock()
        self._kept: list[NDArray[np.uint8]] = []

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return a contiguous array; what is in it is undefined."""
        nbytes = prod(shape) * dtype.itemsize
        with self._lock:
            idle = [k for k in range(len(self._kept)) if _references(self._kept, k) <= _ALONE]
            fitting = [k for k in idle if self._kept[k].nbytes == nbytes]
            if fitting:
                memory = self._kept.pop(fitting[-1])
            else:
                self._trim(idle, max(self._most_idle, nbytes) - nbytes)
                memory = np.empty(nbytes, np.uint8)
            # Views of views have the first array as their base: it is what each of them keeps.
            self._kept.append(memory)
            return memory.view(dtype).reshape(shape)

    def clear(self) -> None:
        """Keep nothing."""
        with self._lock:
            self._kept.clear()

    @property
    def nbytes(self) -> int:
        """Bytes that are kept, in use or not."""
        with self._lock:
            return sum(memory.nbytes for memory in self._kept)

    def _trim(self, idle: list[int], most: int) -> None:
        """Let idle memory go, the longest unused first, until no more than `most` bytes are left of it."""
        left = sum(self._kept[k].nbytes for k in idle)
        for k in idle:
            if left <= most:
                break
            left -= self._kept[k].nbytes
            self._kept[k] = _NOTHING
        self._kept = [memory for memory in self._kept if memory is not _NOTHING]


_NOTHING = np.empty(0, np.uint8)


def _references(kept: list[NDArray[np.uint8]], k: int) -> int:
    return sys.getrefcount(kept[k])


_ALONE = _references([np.empty(1, np.uint8)], 0)
"""References to memory that only the list has, counted the same way."""
