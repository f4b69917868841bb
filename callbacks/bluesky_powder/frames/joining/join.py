"""Joining what a file holds with the event of the same seq_num, and with columns in other files, in any order."""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from bluesky_powder.frames.frame import Images
from bluesky_powder.frames.joining.recent import Recent

V = TypeVar("V")

MOST_WAITING = 2**20
"""How many frames, events or rows may wait for their counterparts; beyond that the oldest make do without."""


MOST_BYTES = 2**27
"""How many bytes of images in events may wait."""


@dataclass(frozen=True, slots=True)
class EventNote:
    """What is kept of an event.

    Attributes
    ----------
    uid, time
        Of the event.
    descriptor
        Uid of its descriptor.
    data
        The positions and monitor in it, nothing else.
    """

    uid: str
    time: float
    descriptor: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Announced:
    """The images of one seq_num, as soon as the documents tell of them.

    Attributes
    ----------
    seq_num, count
        Number of the event, and how many images it has.
    images
        Where they are.
    descriptor
        Uid.
    time
        When they were announced, seconds since 1970.
    told
        Number of the document that did so, among all of the run.
    """

    seq_num: int
    count: int
    images: Images
    descriptor: str
    time: float
    told: int = 0


class Joined(NamedTuple):
    """A frame with its event, and by data key where its row of a column is; None for what never came."""

    frame: Announced
    event: EventNote | None
    rows: Mapping[str, Any]


Place = tuple[int, int]
"""A seq_num, and the pass of the run in which it was told: after a pause seq_nums are told again."""


class _Passes:
    """Numbers the passes, as one kind of document tells of them."""

    def __init__(self) -> None:
        self._last = 0
        self.number = 0

    def place(self, seq_num: int) -> Place:
        """Return the seq_num with the pass that it belongs to."""
        if seq_num <= self._last:
            self.number += 1
        self._last = seq_num
        return seq_num, self.number


class _Parts(Generic[V]):
    """Events, or rows of one column, that wait for their frame; those that were used are kept a while."""

    def __init__(self) -> None:
        self.passes = _Passes()
        self.fresh: OrderedDict[Place, V] = OrderedDict()
        self.used: Recent[int, V] = Recent()
        self.lost = 0

    def keep(self, place: Place, part: V) -> None:
        """Let a part wait."""
        self.fresh[place] = part
        if len(self.fresh) > MOST_WAITING:
            self.fresh.popitem(last=False)
            self.lost += 1

    def take(self, place: Place) -> V | None:
        """Return the part of a place, None where it has not come."""
        part = self.fresh.pop(place, None)
        if part is not None:
            self.used[place[0]] = part
        return part

    def latest(self, seq_num: int) -> V | None:
        """Return what a frame has to make do with when nothing more comes: of its seq_num, from any pass."""
        for number in range(self.passes.number, -1, -1):
            if (seq_num, number) in self.fresh:
                return self.take((seq_num, number))
        return self.used.get(seq_num)


@dataclass(slots=True)
class _Waiting:
    frame: Announced
    event: EventNote | None
    wants_event: bool
    missing: set[str]
    rows: dict[str, Any]


class Join:
    """Pairs the frames of one stream with its events, and with the rows of columns that files hold.

    A frame that needs a row waits for it. A StreamDatum of one seq_num waits for its event: when numbers come with
    events until the run ends, else until the next StreamDatum. One of several seq_nums comes from a fly scan and waits
    only where numbers come with events. After a pause seq_nums repeat: then frames meet events and rows of the same
    pass, and those of another only once nothing newer can come.

    Parameters
    ----------
    needs_event
        Whether a frame is worth nothing without its event.
    columns
        Data keys of the columns of which a frame needs a row.
    """

    def __init__(self, needs_event: bool, columns: Collection[str] = ()) -> None:
        self.needs_event = needs_event
        self.columns = tuple(columns)
        self._events: _Parts[EventNote] = _Parts()
        self._rows: dict[str, _Parts[Any]] = {key: _Parts() for key in self.columns}
        self._passes = _Passes()
        self._waiting: OrderedDict[Place, _Waiting] = OrderedDict()
        self._in_no_hurry: list[Place] = []
        self._announced: list[list[int]] = []
        self._bytes = 0

    def event(self, seq_num: int, note: EventNote) -> Iterator[Joined]:
        """Take an event; yield the frame that waited for it."""
        place = self._events.passes.place(seq_num)
        waiting = self._waiting.get(place)
        if waiting is None or not waiting.wants_event:
            self._events.keep(place, note)
            return
        waiting.event, waiting.wants_event = note, False
        self._events.used[seq_num] = note
        yield from self._ready(place, waiting)

    def row(self, key: str, seq_num: int, row: Any) -> Iterator[Joined]:
        """Take where a row of a column is; yield the frame that waited for it."""
        parts = self._rows[key]
        place = parts.passes.place(seq_num)
        waiting = self._waiting.get(place)
        if waiting is None or key not in waiting.missing:
            parts.keep(place, row)
            return
        waiting.rows[key] = parts.used[seq_num] = row
        waiting.missing.discard(key)
        yield from self._ready(place, waiting)

    def with_event(self, frame: Announced, note: EventNote) -> Iterator[Joined]:
        """Take a frame that came with its event; yield it if nothing else is missing."""
        yield from self._take(frame, note, False)

    def announce(self, frames: Iterable[Announced], *, alone: bool) -> Iterator[Joined]:
        """Take the frames of one StreamDatum; yield those that are ready, older ones first.

        Parameters
        ----------
        frames
            In the order of their seq_nums.
        alone
            Whether the StreamDatum is of one seq_num.
        """
        released, self._in_no_hurry = self._in_no_hurry, []
        for place in released:
            waiting = self._waiting.get(place)
            if waiting is not None and waiting.wants_event:
                waiting.wants_event = False
                yield from self._ready(place, waiting)
        for frame in frames:
            yield from self._take(frame, None, alone or self.needs_event)

    def leftovers(self) -> Iterator[Joined]:
        """Yield, at the end of the run, what still waits, with the event and rows that it has to make do with."""
        while self._waiting:
            yield self._make_do(self._waiting.popitem(last=False)[1])

    def note(self, seq_nums: Iterable[int]) -> None:
        """Take note that frames of these seq_nums were announced, though they cannot be had."""
        for seq_num in seq_nums:
            self._note(seq_num)

    def was_announced(self, seq_num: int) -> bool:
        """Tell whether a frame of this seq_num was announced."""
        return any(start <= seq_num < stop for start, stop in reversed(self._announced))

    def events_without_frame(self) -> tuple[list[int], int]:
        """Return the seq_nums of events whose frame was never announced, and how many more were forgotten."""
        told = {seq_num for start, stop in self._announced for seq_num in range(start, stop)}
        return sorted({seq_num for seq_num, _ in self._events.fresh} - told), self._events.lost

    def _take(self, frame: Announced, note: EventNote | None, wants_event: bool) -> Iterator[Joined]:
        place = self._passes.place(frame.seq_num)
        self._note(frame.seq_num)
        if note is None:
            note = self._events.take(place)
        rows = {key: self._rows[key].take(place) for key in self.columns}
        missing = {key for key, row in rows.items() if row is None} if rows else _NOTHING
        wants_event = wants_event and note is None
        if not wants_event and not missing:
            yield Joined(frame, note, rows)
            return
        if wants_event and not self.needs_event:
            self._in_no_hurry.append(place)
        self._waiting[place] = _Waiting(frame, note, wants_event, missing, rows)
        self._bytes += frame.images.nbytes_held
        while len(self._waiting) > MOST_WAITING or self._bytes > MOST_BYTES:
            yield self._make_do(self._waiting.popitem(last=False)[1])

    def _ready(self, place: Place, waiting: _Waiting) -> Iterator[Joined]:
        if not waiting.wants_event and not waiting.missing:
            del self._waiting[place]
            self._bytes -= waiting.frame.images.nbytes_held
            yield Joined(waiting.frame, waiting.event, waiting.rows)

    def _make_do(self, waiting: _Waiting) -> Joined:
        seq_num = waiting.frame.seq_num
        self._bytes -= waiting.frame.images.nbytes_held
        for key in waiting.missing:
            waiting.rows[key] = self._rows[key].latest(seq_num)
        return Joined(waiting.frame, waiting.event or self._events.latest(seq_num), waiting.rows)

    def _note(self, seq_num: int) -> None:
        """Remember that a frame of this seq_num was announced."""
        if self._announced and self._announced[-1][1] == seq_num:
            self._announced[-1][1] += 1
        else:
            self._announced.append([seq_num, seq_num + 1])


_NOTHING: set[str] = set()
