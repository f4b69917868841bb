"""Joining what a file holds with the event of the same seq_num, whichever comes first."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

REMEMBERED = 4096
"""How many events (or Datums) that were used are kept, for documents that refer to them again."""


class Recent(Generic[K, V]):
    """A mapping that forgets its oldest entries."""

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __setitem__(self, key: K, value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        while len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def get(self, key: K) -> V | None:
        """Return the entry, or None."""
        return self._entries.get(key)


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
    """One seq_num that a StreamDatum announces.

    Attributes
    ----------
    seq_num, index
        Number of the event; place in the resource.
    resource, descriptor
        Uids.
    time
        When it was announced, seconds since 1970.
    """

    seq_num: int
    index: int
    resource: str
    descriptor: str
    time: float


Pair = tuple[Announced, EventNote | None]


class Join:
    """Pairs the StreamDatums of one stream with its events.

    A StreamDatum of one seq_num waits for its event: when positions come with events until the run ends, else until
    the next StreamDatum of the same resource. One of several seq_nums comes from a fly scan and waits only where
    positions come with events. An event that was used already counts only once nothing newer comes: after a pause
    seq_nums repeat, and the old event must not meet the new frame.

    Parameters
    ----------
    needs_event
        Whether a frame is worth nothing without its event.
    """

    def __init__(self, needs_event: bool) -> None:
        self.needs_event = needs_event
        self._fresh: dict[int, EventNote] = {}
        self._used: Recent[int, EventNote] = Recent()
        self._waiting: dict[int, Announced] = {}

    def event(self, seq_num: int, note: EventNote) -> Iterator[Pair]:
        """Take an event; yield the frame that waited for it."""
        waited = self._waiting.pop(seq_num, None)
        if waited is None:
            self._fresh[seq_num] = note
        else:
            self._used[seq_num] = note
            yield waited, note

    def announce(self, frames: list[Announced]) -> Iterator[Pair]:
        """Take the frames of one StreamDatum; yield those that are ready, older ones first."""
        if not self.needs_event and frames:
            yield from self._release(frames[0].resource)
        for frame in frames:
            note = self._fresh.pop(frame.seq_num, None)
            if note is not None:
                self._used[frame.seq_num] = note
                yield frame, note
            elif len(frames) > 1 and not self.needs_event:
                yield frame, self._used.get(frame.seq_num)
            else:
                self._waiting[frame.seq_num] = frame

    def leftovers(self) -> Iterator[Pair]:
        """Yield, at the end of the run, what still waits, with the event that it has to make do with."""
        for seq_num in sorted(self._waiting):
            yield self._waiting[seq_num], self._used.get(seq_num)
        self._waiting.clear()

    def events_without_frame(self) -> list[int]:
        """Return the seq_nums of events whose frame was never announced."""
        return sorted(self._fresh)

    def _release(self, resource: str) -> Iterator[Pair]:
        for seq_num in [s for s, frame in self._waiting.items() if frame.resource == resource]:
            yield self._waiting.pop(seq_num), self._used.get(seq_num)
