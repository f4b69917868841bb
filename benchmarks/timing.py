"""Timing of two ways of doing the same thing, in turn, so that a machine's drift hits both."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """Median seconds of ours and of the reference, and the median of their ratio pair by pair."""

    name: str
    ours: float
    reference: float
    ratio: float
    target: float | None = None


def compare(
    name: str,
    ours: Callable[[], object],
    reference: Callable[[], object],
    *,
    repeats: int = 7,
    warmups: int = 1,
    target: float | None = None,
) -> Comparison:
    """Time both in alternation after warm-ups; `target` is the ratio to reach."""
    for _ in range(warmups):
        ours()
        reference()
    pairs = [(_seconds(ours), _seconds(reference)) for _ in range(repeats)]
    return Comparison(
        name,
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(b / a for a, b in pairs),
        target,
    )


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
