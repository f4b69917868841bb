"""Timing of two ways of doing the same thing, in turn, so that a machine's drift hits both."""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Unit = Literal["s", "ms", "µs", "MB", "frames/s", "%", "times", ""]
Verdict = Literal["stretch", "yes", "no", "-"]
Function = Callable[[], object]

REPEATS = 7
SETTLE = 0.02
"""Seconds for which OpenMP's threads may still spin when pyFAI is done; nobody is to be measured beside them."""


@dataclass(frozen=True)
class Comparison:
    """Medians of ours and of the reference, and the median of their ratio pair by pair.

    Attributes
    ----------
    name
        What was done.
    ours, reference
        Seconds, bytes or frames a second, as `unit` wants it.
    ratio
        How many times better ours is.
    target, stretch
        Ratio to reach; None where none was set.
    unit
        To print ours and the reference in.
    """

    name: str
    ours: float
    reference: float
    ratio: float
    target: float | None = None
    stretch: float | None = None
    unit: Unit = "ms"

    @property
    def met(self) -> Verdict:
        """Which of target and stretch the ratio reaches."""
        return _verdict(self.ratio, self.target, self.stretch)


@dataclass(frozen=True)
class Figure:
    """One number of ours.

    Attributes
    ----------
    name
        What was measured.
    value
        In seconds, bytes, frames a second, or a plain number, as `unit` wants it.
    unit
        To print it in.
    target, stretch
        To reach, as `value`; None where none was set.
    better
        Whether the least or the most is wanted.
    """

    name: str
    value: float
    unit: Unit
    target: float | None = None
    stretch: float | None = None
    better: Literal["least", "most"] = "least"

    @property
    def met(self) -> Verdict:
        """Which of target and stretch the value reaches."""
        sign = 1.0 if self.better == "most" else -1.0
        target, stretch = (None if x is None else sign * x for x in (self.target, self.stretch))
        return _verdict(sign * self.value, target, stretch)


@dataclass(frozen=True)
class Table:
    """Numbers of ours in rows and columns: how a cost grows."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Row = Comparison | Figure | Table


def compare(
    name: str,
    ours: Function,
    reference: Function,
    *,
    repeats: int = REPEATS,
    warmups: int = 1,
    target: float | None = None,
    stretch: float | None = None,
    unit: Unit = "ms",
    frames: int = 1,
) -> Comparison:
    """Time both in alternation after warm-ups.

    Parameters
    ----------
    name, target, stretch, unit
        See `Comparison`.
    ours, reference
        What to time.
    repeats, warmups
        Times that each is called, with and without looking at the clock.
    frames
        How many one call takes: seconds are those of one frame.
    """
    pairs = in_turn([ours, reference], repeats=repeats, warmups=warmups)
    mine, theirs = (statistics.median(column) / frames for column in zip(*pairs, strict=True))
    return Comparison(name, mine, theirs, statistics.median(b / a for a, b in pairs), target, stretch, unit)


def in_turn(
    functions: Sequence[Function],
    *,
    repeats: int = REPEATS,
    warmups: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> list[tuple[float, ...]]:
    """Call all functions one after the other, again and again; return the seconds of each round after the warm-ups."""
    for _ in range(warmups):
        for function in functions:
            function()
    gc.collect()
    return [tuple(_settled_seconds(function, clock) for function in functions) for _ in range(repeats)]


def quicker(*functions: Function, repeats: int = 2) -> int:
    """Return the number of the function that takes less time."""
    rounds = in_turn(functions, repeats=repeats)
    best = [min(column) for column in zip(*rounds, strict=True)]
    return best.index(min(best))


def processor_seconds(function: Function, repeats: int = REPEATS) -> float:
    """Return the median processor time of a function after a warm-up, of all threads together.

    It tells the same on a busy machine.
    """
    return statistics.median(s for (s,) in in_turn([function], repeats=repeats, clock=time.process_time))


def seconds(function: Function, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return what one call takes."""
    start = clock()
    function()
    return clock() - start


def _settled_seconds(function: Function, clock: Callable[[], float]) -> float:
    time.sleep(SETTLE)
    return seconds(function, clock)


def _verdict(value: float, target: float | None, stretch: float | None) -> Verdict:
    if stretch is not None and value >= stretch:
        return "stretch"
    if target is None:
        return "-"
    return "yes" if value >= target else "no"
