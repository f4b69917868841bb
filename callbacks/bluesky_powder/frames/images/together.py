"""Reading the images of several events, those that follow each other in one HDF5 file at once."""

from collections.abc import Iterator, Sequence
from typing import Any

from numpy.typing import NDArray

from bluesky_powder.errors import FrameSkipped
from bluesky_powder.frames.files.hdf5 import Hdf5Images
from bluesky_powder.frames.frame import Images

LIKELY_BYTES = 2**25
"""What an image occupies, until one was read: 8 million pixels of 4 bytes."""


class EventReader:
    """Reads the images of events; those that it reads at once lie one after the other in one array.

    Parameters
    ----------
    most_bytes
        What may be read at once; one event always may.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._image_bytes = LIKELY_BYTES

    def read(self, events: Sequence[Images]) -> Iterator[NDArray[Any] | Exception]:
        """Yield the images of each event, (k, rows, columns), or why they cannot be had."""
        at = 0
        while at < len(events):
            first = events[at]
            per_event = self._image_bytes * (first.count if isinstance(first, Hdf5Images) else 1)
            run = events[at : at + min(_following(events, at), max(self._most_bytes // per_event, 1))]
            for result in _read_run(run):
                if not isinstance(result, Exception):
                    self._image_bytes = max(result[0].nbytes, 1)
                yield result
            at += len(run)


def _following(events: Sequence[Images], start: int) -> int:
    """Return how many events, from `start` on, follow each other in one file."""
    first = events[start]
    if not isinstance(first, Hdf5Images):
        return 1
    for many, other in enumerate(events[start + 1 :], 1):
        if other != Hdf5Images(first.files, first.path, first.dataset, first.index + many, first.count):
            return many
    return len(events) - start


def _read_run(events: Sequence[Images]) -> Iterator[NDArray[Any] | Exception]:
    """Yield the images of events that follow each other; where not all can be had, of those that can."""
    first = events[0]
    if len(events) > 1 and isinstance(first, Hdf5Images):
        stop, count = first.index + len(events), first.count
        try:
            images = first.files.read_stack(first.path, first.dataset, first.index, stop, count)
        except FrameSkipped:
            pass  # one of them is missing; which, and why, comes out below
        else:
            yield from (images[at * count : (at + 1) * count] for at in range(len(events)))
            return
    for one in events:
        try:
            yield one.read()
        except Exception as reason:
            yield reason
