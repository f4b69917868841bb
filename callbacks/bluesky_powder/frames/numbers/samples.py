"""Values of another stream of the run, such as a monitor that counts faster than the detector, as they come."""

import math
from abc import ABC, abstractmethod
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

from bluesky_powder.errors import FrameSkipped
from bluesky_powder.frames.numbers.columns import Column, ColumnFiles

MOST_SAMPLES = 2**22
"""How many values of events are kept for one data key."""

MOST_SPANS = 2**16
"""How many stretches of rows that do not follow each other are kept for one data key."""


class FrameTimes:
    """When the frames of a run were taken, as far as events tell.

    Attributes
    ----------
    last
        Highest seq_num.
    flown
        Whether there are frames without events.
    """

    def __init__(self) -> None:
        self.last = 0
        self.flown = False
        self._times = array("d")
        self._seq_nums = array("q")
        self._resumed = bytearray()
        self._seq_num = 0

    def note(self, seq_num: int, time: float) -> None:
        """Take the time of a frame's event."""
        resumed = seq_num <= self._seq_num
        self.last, self._seq_num = max(self.last, seq_num), seq_num
        at = bisect_right(self._times, time)
        self._times.insert(at, time)
        self._seq_nums.insert(at, seq_num)
        self._resumed.insert(at, resumed)

    def note_flown(self, seq_num: int) -> None:
        """Take a frame that has no event."""
        self.flown, self.last = True, max(self.last, seq_num)

    def before(self, time: float) -> float:
        """Return the time of the frame before; -inf where there is none."""
        at = bisect_left(self._times, time)
        return self._times[at - 1] if at else -math.inf

    def break_before(self, time: float) -> str:
        """Return why the samples of a frame do not begin with the frame before it; "" where they do."""
        at = bisect_left(self._times, time)
        if at == len(self._times):
            return "its time is not known"
        if self._resumed[at]:
            return "it is the first one after a pause"
        if self._seq_nums[at] != (self._seq_nums[at - 1] + 1 if at else 1):
            return "the event before it never came"
        return ""

    def latest(self) -> dict[int, float]:
        """Return the time of the latest version of each seq_num."""
        return dict(zip(self._seq_nums, self._times, strict=True))


class _Numbered(ABC):
    """Values that are counted: those of the event of seq_num 1 first.

    Attributes
    ----------
    width
        Values an event.
    problem
        Why they are of no use; "" where they are.
    """

    def __init__(self) -> None:
        self.width = 0
        self.problem = ""
        self._last = 0

    @property
    def count(self) -> int:
        """Number of the last value, counted from 1."""
        return self._last * self.width

    def numbered(self, first: int, stop: int) -> list[float]:
        """Return the values numbered from `first` to before `stop`, counted from 0; the latest version of each.

        Raises
        ------
        FrameSkipped
            If one of them never came, or cannot be read.
        """
        events = range(first // self.width, -(-stop // self.width))
        found = [value for event in events for value in self._of_event(event + 1)]
        skip = first % self.width
        return found[skip : skip + stop - first]

    @abstractmethod
    def _of_event(self, seq_num: int) -> Iterable[float]:
        """Return the values of the latest version of an event."""


class TimedSamples(_Numbered):
    """Values from events, with their times.

    Attributes
    ----------
    ordered
        Whether the events came in the order of their times.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ordered = True
        self._seq_nums = array("q")
        self._times = array("d")
        self._values = array("d")
        self._places: dict[int, int] | None = None

    @property
    def latest(self) -> float:
        """Time of the latest one."""
        return self._times[-1] if self._times else -math.inf

    def add(self, seq_num: int, time: float, values: Sequence[float]) -> None:
        """Take the values of an event."""
        if self.problem:
            return
        if self.width not in (0, len(values)):
            self.problem = f"its events have {self.width} and {len(values)} values"
        elif len(self._values) + len(values) > MOST_SAMPLES:
            self.problem = f"it has more than {MOST_SAMPLES} values, which are more than are kept"
        else:
            self.width = len(values)
            self.ordered = self.ordered and time >= self.latest
            if self._places is None and seq_num != len(self._seq_nums) + 1:
                self._places = {number: at for at, number in enumerate(self._seq_nums)}
            if self._places is not None:
                self._places[seq_num] = len(self._seq_nums)
            self._last = max(self._last, seq_num)
            self._seq_nums.append(seq_num)
            self._times.append(time)
            self._values.extend(values)

    def times(self, first: int, stop: int) -> list[float]:
        """Return the times of the events that the values with these numbers come from."""
        events = range(first // self.width, -(-stop // self.width))
        return [self._times[at] for at in map(self._position, (event + 1 for event in events)) if at is not None]

    def between(self, after: float, until: float) -> list[float]:
        """Return the values later than `after`, up to and with `until`."""
        start, stop = bisect_right(self._times, after), bisect_right(self._times, until)
        return list(self._values[start * self.width : stop * self.width])

    def gap(self, after: float, until: float) -> bool:
        """Tell whether events between these times, or right before or after them, never came."""
        start, stop = bisect_right(self._times, after), bisect_right(self._times, until)
        numbers = self._seq_nums[max(start - 1, 0) : stop + 1]
        return any(after - before > 1 for before, after in zip(numbers, numbers[1:], strict=False))

    def _of_event(self, seq_num: int) -> Sequence[float]:
        at = self._position(seq_num)
        if at is None:
            raise FrameSkipped("one of its events never came")
        return self._values[at * self.width : (at + 1) * self.width]

    def _position(self, seq_num: int) -> int | None:
        if self._places is not None:
            return self._places.get(seq_num)
        return seq_num - 1 if 0 < seq_num <= len(self._seq_nums) else None


class FiledSamples(_Numbered):
    """Values from a column in files, which have no times."""

    def __init__(self, files: ColumnFiles) -> None:
        super().__init__()
        self._files = files
        self._spans: list[tuple[range, int, Column]] = []

    def add(self, seq_nums: range, indices: range, column: Column) -> None:
        """Take the rows of a StreamDatum."""
        if self.width not in (0, column.width):
            self.problem = f"its files have {self.width} and {column.width} values an event"
            return
        self.width = column.width
        self._last = max(self._last, seq_nums.stop - 1)
        if self._spans:
            told, start, before = self._spans[-1]
            if before is column and told.stop == seq_nums.start and start + len(told) == indices.start:
                self._spans[-1] = (range(told.start, seq_nums.stop), start, column)
                return
        if len(self._spans) >= MOST_SPANS:
            self.problem = f"it is in more than {MOST_SPANS} pieces, which are more than are kept"
            return
        self._spans.append((seq_nums, indices.start, column))

    def _of_event(self, seq_num: int) -> Iterator[float]:
        for told, start, column in reversed(self._spans):
            if seq_num in told:
                yield from self._files.values(column, start + seq_num - told.start)
                return
        raise FrameSkipped("one of its StreamDatums never came")


Samples = TimedSamples | FiledSamples
