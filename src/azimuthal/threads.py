"""One small pool for all array work: our kernels release the GIL and run serially inside it.

Own threads rather than numba's ``prange``: they live beside other OpenMP users, and work is cut into pieces that
depend on its size only, so that results do not depend on how many threads there are.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

T = TypeVar("T")

PIXELS_PER_PIECE = 131_072


def thread_count() -> int:
    """Return how many threads the engine uses: AZIMUTHAL_THREADS, else the processors this process may use."""
    asked = os.environ.get("AZIMUTHAL_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_count(), thread_name_prefix="azimuthal")


def pieces(n: int, at_most: int = 8) -> list[tuple[int, int]]:
    """Cut ``range(n)`` into pieces that depend on `n` alone, as (start, stop) pairs."""
    return _cut(n, min(at_most, n // PIXELS_PER_PIECE))


def row_pieces(rows: int, columns: int) -> list[tuple[int, int]]:
    """Cut ``range(rows)`` into pieces of many pixels each, as (start, stop) pairs."""
    return _cut(rows, min(8, rows, rows * columns // PIXELS_PER_PIECE))


def _cut(n: int, parts: int) -> list[tuple[int, int]]:
    bounds = [n * k // max(1, parts) for k in range(max(1, parts) + 1)]
    return list(zip(bounds[:-1], bounds[1:], strict=True))


def run(function: Callable[[int, int], T], spans: Iterable[tuple[int, int]]) -> list[T]:
    """Call ``function(start, stop)`` for every span, in parallel where it pays; results in the order of the spans."""
    spans = list(spans)
    if len(spans) == 1 or thread_count() == 1:
        return [function(*span) for span in spans]
    return list(_pool().map(lambda span: function(*span), spans))
