"""Which values of another stream belong to which frame."""

import math
from typing import Literal

from bluesky_powder.errors import FrameSkipped
from bluesky_powder.frames.numbers.samples import FrameTimes, Samples, TimedSamples
from bluesky_powder.recipe.sources import KeySource

Rule = int | Literal["time"]

TOO_LONG = (
    "is shared out when the run is over, and so many frames are not kept until then; "
    "say in the recipe how many values a frame has, `samples: 10`, or `samples: time`"
)


class Pairing:
    """Finds the values of one source in another stream that belong to each frame.

    The recipe says how with `samples`, and then frames are ready while the run goes on:

    - ``samples: m``: the frame of seq_num i has the values (i - 1) m + 1 to i m, counted over the stream.
    - ``samples: time``: it has the values of the events later than the event of the frame before it, and not later than
      its own; the first frame has all up to its own. Their sum includes what was counted between two exposures. There
      is no sum where the interval is not known to be one frame's: after a pause, and where an event is missing.

    Left out, this is decided when the run is over, for the whole run:

    - If the number of values is a whole multiple m of the number of frames, then as ``samples: m``. Where all of them
      have times, the values have to lie where m a frame would put them: each frame's before its event and after the
      previous one's, or, throughout the run, each frame's after its event and before the next one's. If not, both rules
      are possible and neither is chosen.
    - Else as ``samples: time``, if values and frames come with events.
    - Else there is no telling, and frames go without.

    Parameters
    ----------
    source
        With a stream, and what to take.
    frames
        Times of the frames, noted elsewhere.
    """

    def __init__(self, source: KeySource, frames: FrameTimes) -> None:
        self.source = source
        self.samples: Samples | None = None
        self._frames = frames
        self._rule: Rule | None = source.samples
        self._why_not = ""

    @property
    def can_be_live(self) -> bool:
        """Whether frames can be ready before the run is over."""
        return self._rule is not None

    def ready(self, seq_num: int, time: float | None) -> bool:
        """Tell whether everything that belongs to a frame has come."""
        if self.samples is None or self._rule is None:
            return False
        if self.samples.problem:
            return True
        if self._rule != "time":
            return self.samples.count >= seq_num * self._rule
        return time is None or not isinstance(self.samples, TimedSamples) or self.samples.latest > time

    def decide(self) -> None:
        """Choose the rule, now that everything has come that will."""
        if self._rule is None and self.samples is not None and not self.samples.problem:
            self._rule, self._why_not = self._chosen(self.samples)

    def values(self, seq_num: int, time: float | None) -> list[float]:
        """Return the values that belong to a frame, one or more.

        Parameters
        ----------
        seq_num, time
            Of its event; time None where there is none.

        Raises
        ------
        FrameSkipped
            If there are none, or there is no telling which; the message goes on from "which".
        """
        samples, stream = self.samples, self.source.stream
        if samples is None or samples.problem:
            raise FrameSkipped(
                f"is of no use: {samples.problem}" if samples else f"the stream {stream!r} did not bring"
            )
        if self._rule is None:
            raise FrameSkipped(self._why_not or TOO_LONG)
        try:
            if self._rule == "time":
                return self._in_time(samples, time)
            return samples.numbered((seq_num - 1) * self._rule, seq_num * self._rule)
        except FrameSkipped as reason:
            raise FrameSkipped(f"cannot be had from the stream {stream!r}: {reason}") from reason

    def _in_time(self, samples: Samples, time: float | None) -> list[float]:
        if not isinstance(samples, TimedSamples) or time is None:
            whose = "the frame" if time is None else "it"
            raise FrameSkipped(f"{whose} has no event, hence no time; say how many values a frame has, `samples: 10`")
        if not samples.ordered:
            raise FrameSkipped("its events are not in the order of their times")
        before = self._frames.before(time)
        if self.source.take == "sum":
            if reason := self._frames.break_before(time):
                raise FrameSkipped(f"the time that the frame's sum is over is not known, {reason}; or `take: mean`")
            if samples.gap(before, time):
                raise FrameSkipped("one of its events in the frame's time never came; replay the run, or `take: mean`")
        found = samples.between(before, time)
        if not found:
            raise FrameSkipped("none of its events lies between the frame's and the one before")
        return found

    def _chosen(self, samples: Samples) -> tuple[Rule | None, str]:
        frames, values = self._frames.last, samples.count
        timed = isinstance(samples, TimedSamples) and not self._frames.flown
        if not frames or not values:
            return None, f"the stream {self.source.stream!r} has no values of"
        if values % frames == 0:
            each = values // frames
            if not timed or _lies_well(samples, self._frames, each):  # type: ignore[arg-type]  # timed means so
                return each, ""
            return None, (
                f"has {values} values for {frames} frames, {each} each by their number but not by their times; "
                f"say in the recipe which holds, `samples: {each}` or `samples: time`"
            )
        if timed:
            return "time", ""
        return None, (
            f"has {values} values for {frames} frames, which is not a whole number each; "
            f"say in the recipe how many a frame has, such as `samples: {max(round(values / frames), 1)}`"
        )


def _lies_well(samples: TimedSamples, frames: FrameTimes, each: int) -> bool:
    """Tell whether `each` values a frame are its own by their times too, throughout before or throughout after it."""
    times = frames.latest()
    if len(times) != frames.last:
        return False
    before = after = True
    for seq_num, time in times.items():
        own = samples.times((seq_num - 1) * each, seq_num * each)
        if not own:
            return False
        before = before and times.get(seq_num - 1, -math.inf) < own[0] and own[-1] <= time
        after = after and time < own[0] and own[-1] <= times.get(seq_num + 1, math.inf)
    return before or after
