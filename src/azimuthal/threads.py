"""One small pool for all array work: our kernels release the GIL and run serially inside it.

Own threads rather than numba's ``prange``: they live beside other OpenMP users, and work is cut into pieces that
depend on its size only, so that results do not depend on how many threads there are.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from typing import Any, TypeVar

S = TypeVar("S")
T = TypeVar("T")

_here = threading.local()

PIXELS_PER_PIECE = 131_072


def thread_count() -> int:
    """Return how many threads the engine uses: AZIMUTHAL_THREADS, else the processors this process may use."""
    asked = os.environ.get("AZIMUTHAL_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_count(), "azimuthal", initializer=lambda: setattr(_here, "inside", True))


def pieces(n: int, at_most: int = 8) -> list[tuple[int, int]]:
    """Cut ``range(n)`` into pieces that depend on `n` alone, as (start, stop) pairs."""
    return cut(n, min(at_most, n // PIXELS_PER_PIECE))


def row_pieces(rows: int, columns: int) -> list[tuple[int, int]]:
    """Cut ``range(rows)`` into pieces of many pixels each, as (start, stop) pairs."""
    return cut(rows, min(8, rows, rows * columns // PIXELS_PER_PIECE))


def cut(n: int, parts: int) -> list[tuple[int, int]]:
    """Cut ``range(n)`` into parts of about the same size, as (start, stop) pairs."""
    bounds = [n * k // max(1, parts) for k in range(max(1, parts) + 1)]
    return list(zip(bounds[:-1], bounds[1:], strict=True))


def run(function: Callable[[int, int], T], spans: Iterable[tuple[int, int]]) -> list[T]:
    """Call ``function(start, stop)`` for every span, in parallel where it pays; results in the order of the spans."""
    return each(lambda span: function(*span), list(spans))


def each(function: Callable[[S], T], items: Sequence[S]) -> list[T]:
    """Call a function for every item, in parallel where it pays; results in the order of the items.

    The calling thread works too, so that it never waits for a pool that is busy with what others want, as it is for
    many seconds when kernels are compiled. What the function starts in turn runs in its own thread: waiting for others
    inside the pool could wait for ever.
    """
    if len(items) <= 1 or thread_count() == 1 or getattr(_here, "inside", False):
        return [function(item) for item in items]
    results: list[Any] = [None] * len(items)
    left = iter(range(len(items)))  # shared: each number goes to one thread

    def work() -> None:
        try:
            for k in left:
                results[k] = function(items[k])
        except BaseException:
            deque(left, 0)  # none is begun any more
            raise

    others = [_pool().submit(work) for _ in range(min(thread_count(), len(items)) - 1)]
    _here.inside = True
    try:
        work()
    finally:
        _here.inside = False
        begun = [other for other in others if not other.cancel()]
        wait(begun)
    for other in begun:
        other.result()  # raises what it met
    return results


def ahead(function: Callable[[S], T], items: Iterable[S], most: int | None = None) -> Iterator[T]:
    """Yield ``function(item)`` in the order of the items, while others are worked on: `most` at a time.

    What it starts in turn runs in its own thread. When the iterator is closed, what was begun is waited for.
    """
    if thread_count() == 1 or getattr(_here, "inside", False):
        yield from map(function, items)
        return
    begun: deque[Future[T]] = deque()
    try:
        for item in items:
            begun.append(_pool().submit(function, item))
            if len(begun) >= (most or 2 * thread_count()):
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        for future in begun:
            future.cancel()
        wait(begun)
