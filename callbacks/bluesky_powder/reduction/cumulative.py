"""Frames so far: their union and their mean frame, in the order of seq_nums, whatever order they came in.

What is emitted for a seq_num describes the latest versions of all frames up to it. A frame that comes late, or again
after a pause, takes everything after it out, and those frames go back in when their turn comes; so live and replayed
reductions add the same numbers in the same order.
"""

import logging
import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from azimuthal import AzimuthalError, Geometry, MeanFrames, Pattern, union
from bluesky_powder.errors import FrameSkipped
from bluesky_powder.reduction.documents import named
from bluesky_powder.reduction.history import History
from bluesky_powder.reduction.keys import spottiness_names
from bluesky_powder.reduction.patterns import Exposure, FrameReducer, Reduced

LOGGER = logging.getLogger("bluesky_powder.reduction")
_PREFIX = "mean_frame_"
NO_MEAN_FRAME = dict.fromkeys(spottiness_names(_PREFIX), math.nan)


@dataclass(frozen=True)
class SoFar:
    """State after one event.

    Attributes
    ----------
    seq_num, time
        Of the event.
    pattern
        Union of the patterns up to it.
    frames
        How many images are in it, as integrated: of `frames_per_event: sum` one an event. `independent_frames` is of so
        many.
    mean_frame
        The five spottiness numbers of the mean frame, by data key.
    independent_frames, reason
        The number, and why it is NaN ("" where it is not).
    """

    seq_num: int
    time: float
    pattern: Pattern
    frames: int
    mean_frame: dict[str, float]
    independent_frames: float
    reason: str


@dataclass(frozen=True)
class Merged:
    """All frames of the geometries so far.

    Attributes
    ----------
    time
        Of the last event in it.
    pattern
        Their union.
    geometries
        How many.
    """

    time: float
    pattern: Pattern
    geometries: int


class Cumulative:
    """Accumulates one run.

    Parameters
    ----------
    reducer
        For frames that have to be read again.
    byte_budget
        What pixel sums may occupy.
    scratch
        Folder for scratch files.

    Attributes
    ----------
    history
        The events so far.
    mean_lost
        Why there is no mean frame any more; "" while there is one.
    """

    def __init__(self, reducer: FrameReducer, *, byte_budget: int = 2**30, scratch: str | Path | None = None) -> None:
        self.history = History(scratch)
        self._reducer = reducer
        self._budget: dict[str, Any] = {"byte_budget": byte_budget, "scratch": scratch}
        self._mean = MeanFrames(**self._budget)
        self.mean_lost = ""
        self._union: Pattern | None = None
        self._applied: list[int] = []
        self._frames = 0
        self._excess = 0.0
        self._excess_frames = 0
        self._geometries: set[Geometry] = set()
        self._ahead: deque[int] = deque()

    def mean_for(self, seq_nums: Sequence[int]) -> MeanFrames | None:
        """Return the mean frame, if these events are new, in order and later than all others; else None.

        Whoever adds all of them to it `put`s them next, in this order, each with the mean frame's pattern after it.
        """
        self._catch_up()
        after = self._applied[-1] if self._applied else -1
        rising = all(one < other for one, other in pairwise((after, *seq_nums)))
        if self.mean_lost or not rising or self.history.seq_nums(after + 1):
            return None
        self._ahead.extend(seq_nums)
        return self._mean

    def put(self, exposure: Exposure, reduced: Reduced) -> Iterator[SoFar | Merged]:
        """Add an event, or replace it; yield what is new, in the order in which it is to be emitted."""
        seq_num = exposure.frame.seq_num
        is_in_mean = reduced.mean is not None and bool(self._ahead) and self._ahead[0] == seq_num
        if not is_in_mean:
            reduced = replace(reduced, mean=None)
            self._catch_up()
        if self._applied and self._applied[-1] >= seq_num:
            self._retract(seq_num)
        self.history.put(exposure, reduced)
        after = self._applied[-1] + 1 if self._applied else None
        for earlier in self.history.seq_nums(after, seq_num):
            yield from self._apply(earlier, None)
        yield from self._apply(seq_num, reduced)
        if is_in_mean:
            self._ahead.popleft()  # not before all has gone well

    def finish(self) -> Iterator[SoFar | Merged]:
        """Put back what still is out, then yield the merge of everything."""
        self._catch_up()
        after = self._applied[-1] + 1 if self._applied else None
        for seq_num in self.history.seq_nums(after):
            yield from self._apply(seq_num, None)
        if self._union is not None:
            yield self._merged()

    def close(self) -> None:
        """Remove scratch files."""
        self.history.close()
        self._mean.close()

    def _apply(self, seq_num: int, reduced: Reduced | None) -> Iterator[SoFar | Merged]:
        """Take an event in; a new geometry first closes the merge of those before it."""
        entry = self.history[seq_num]
        if self._geometries and entry.geometry not in self._geometries:
            yield self._merged()
        self._take_in(seq_num, reduced.pattern if reduced else self.history.pattern(seq_num))
        mean = reduced.mean if reduced else None
        if mean is None and not self.mean_lost:
            mean = self._mean_with(seq_num, reduced)
        yield self._so_far(seq_num, mean)

    def _take_in(self, seq_num: int, pattern: Pattern) -> None:
        entry = self.history[seq_num]
        self._union = pattern if self._union is None else union((self._union, pattern))
        self._geometries.add(entry.geometry)
        self._applied.append(seq_num)
        self._frames += entry.frames
        for excess in entry.mean_excess:
            if not math.isnan(excess):
                self._excess += excess
                self._excess_frames += 1

    def _retract(self, seq_num: int) -> None:
        """Take every event from `seq_num` on out again."""
        cut = bisect_left(self._applied, seq_num)
        keep, out = self._applied[:cut], self._applied[cut:]
        if not self.mean_lost:
            self._take_out_of_mean(out, keep)
        self._union, self._geometries, self._applied, self._frames = None, set(), [], 0
        self._excess, self._excess_frames = 0.0, 0
        for number in keep:
            self._take_in(number, self.history.pattern(number))

    def _mean_with(self, seq_num: int, reduced: Reduced | None) -> Pattern | None:
        """Add an event to the mean frame; return its pattern then, None where there is no mean frame any more."""
        self._add_to_mean(seq_num, reduced)
        return None if self.mean_lost else self._mean.pattern

    def _add_to_mean(self, seq_num: int, reduced: Reduced | None) -> None:
        try:
            added = reduced or self._reread(seq_num)
            for image, monitor, pattern in zip(added.images, added.monitors, added.patterns, strict=True):
                own = pattern if pattern.conditions.outliers is None else None
                self._mean.add(added.integrator, image, monitor=monitor, pattern=own, **added.given)
        except Exception as error:
            self.mean_lost = f"there is no mean frame from event {seq_num} on: {error}"
            LOGGER.warning("%s", self.mean_lost, exc_info=not isinstance(error, FrameSkipped | AzimuthalError))

    def _take_out_of_mean(self, out: list[int], keep: list[int]) -> None:
        try:
            for number in out:
                out_again = self._reread(number)
                for image, monitor in zip(out_again.images, out_again.monitors, strict=True):
                    self._mean.remove(out_again.integrator, image, monitor=monitor, **out_again.given)
        except (FrameSkipped, AzimuthalError):
            # Frames that are not whole numbers cannot be taken out exactly.
            self._sum_afresh(keep)

    def _catch_up(self) -> None:
        """Make good for events that were added to the mean frame and then were not put."""
        if not self._ahead:
            return
        self._ahead.clear()
        if not self.mean_lost and self._mean.frames != self._frames:
            self._sum_afresh(self._applied)

    def _sum_afresh(self, seq_nums: Sequence[int]) -> None:
        self._mean.close()
        self._mean = MeanFrames(**self._budget)
        for seq_num in seq_nums:
            if not self.mean_lost:
                self._add_to_mean(seq_num, None)

    def _reread(self, seq_num: int) -> Reduced:
        exposure = self.history.exposure(seq_num)
        if exposure is None:
            raise FrameSkipped(f"the frame of event {seq_num} is no longer at hand; replay the run")
        return self._reducer.reduce_one(exposure, self.history[seq_num].geometry.shape)

    def _so_far(self, seq_num: int, mean: Pattern | None) -> SoFar:
        if self._union is None:
            raise RuntimeError("nothing was added yet")
        mean_frame, independent, reason = dict(NO_MEAN_FRAME), math.nan, self.mean_lost
        if mean is not None:
            numbers = mean.spottiness_numbers()
            mean_frame = named(numbers, _PREFIX)
            independent, reason = self._independent_frames(mean.mean_excess, numbers.excess_error)
        return SoFar(
            seq_num=seq_num,
            time=self.history[seq_num].time,
            pattern=self._union,
            frames=self._frames,
            mean_frame=mean_frame,
            independent_frames=independent,
            reason=reason,
        )

    def _independent_frames(self, floor: float, error: float) -> tuple[float, str]:
        """Return the number of independent frames, or NaN and why there is nothing to measure (DESIGN 3).

        Parameters
        ----------
        floor, error
            The mean frame's mean R_excess, and its standard error.
        """
        if not (self._excess_frames and floor > 0.0 and floor >= 2.0 * error):
            return math.nan, (
                f"nothing to measure: the mean frame's excess over counting statistics, {floor:.3g}, "
                f"is below two of its standard errors ({error:.3g})"
            )
        return self._excess / self._excess_frames / floor, ""

    def _merged(self) -> Merged:
        if self._union is None:
            raise RuntimeError("nothing was added yet")
        return Merged(self.history[self._applied[-1]].time, self._union, len(self._geometries))
