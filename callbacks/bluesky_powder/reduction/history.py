"""What was reduced before, so that a frame can be replaced: patterns on disk, recent frames at hand."""

import logging
import tempfile
from bisect import bisect_left, insort
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from azimuthal import Geometry, Pattern
from bluesky_powder.reduction.patterns import Exposure, Reduced

LOGGER = logging.getLogger("bluesky_powder.reduction")

RECALLED_FRAMES = 1024
RECALLED_BYTES = 2**28
UNWRITTEN_BYTES = 2**27
"""What patterns may occupy in memory when the disk of the scratch file is full."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One raw event that was reduced.

    Attributes
    ----------
    time
        Of the event.
    geometry
        Where the detector was.
    frames
        How many images.
    mean_excess
        Of each image's pattern.
    masked_pixels
        Of the pattern.
    slot
        Place of the pattern's sums in the scratch file.
    """

    time: float
    geometry: Geometry
    frames: int
    mean_excess: tuple[float, ...]
    masked_pixels: int
    slot: int


class History:
    """The events of one run, in the order of their seq_nums, the latest version of each.

    The sums of patterns go to a scratch file, 56 bytes a bin. Frames and darks are not kept but where to read them
    again, for the last `RECALLED_FRAMES` events; of inline ones the images, up to `RECALLED_BYTES`.

    Parameters
    ----------
    scratch
        Folder for the scratch file; None for the system's.
    """

    def __init__(self, scratch: str | Path | None = None) -> None:
        self._scratch = scratch
        self._file: IO[bytes] | None = None
        self._unwritten: dict[int, bytes] = {}
        self._like: Pattern | None = None
        self._order: list[int] = []
        self._entries: dict[int, Entry] = {}
        self._exposures: OrderedDict[int, Exposure] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self._order)

    def __contains__(self, seq_num: int) -> bool:
        """Tell whether the event is known."""
        return seq_num in self._entries

    def __getitem__(self, seq_num: int) -> Entry:
        """Return what is known of an event."""
        return self._entries[seq_num]

    def put(self, exposure: Exposure, reduced: Reduced) -> Entry:
        """Keep an event, in place of an earlier version of it."""
        frame = exposure.frame
        seq_num = frame.seq_num
        old = self._entries.get(seq_num)
        slot = old.slot if old else len(self._order)
        self._write(slot, reduced.pattern)
        self._like = reduced.pattern
        if old is None:
            insort(self._order, seq_num)
        entry = Entry(
            time=frame.time,
            geometry=reduced.geometry,
            frames=len(reduced.patterns),
            mean_excess=tuple(pattern.mean_excess for pattern in reduced.patterns),
            masked_pixels=reduced.pattern.masked_pixels,
            slot=slot,
        )
        self._entries[seq_num] = entry
        self._remember(seq_num, exposure)
        return entry

    def seq_nums(self, low: int | None = None, high: int | None = None) -> list[int]:
        """Return the known seq_nums with ``low <= seq_num < high``, rising."""
        start = 0 if low is None else bisect_left(self._order, low)
        stop = len(self._order) if high is None else bisect_left(self._order, high)
        return self._order[start:stop]

    def pattern(self, seq_num: int) -> Pattern:
        """Return the pattern of an event."""
        if self._like is None:
            raise KeyError(seq_num)
        entry, size = self._entries[seq_num], self._like.sums.nbytes
        raw = self._unwritten.get(entry.slot) or self._read(entry.slot * size, size)
        sums = np.frombuffer(raw).reshape(self._like.sums.shape)
        return self._like.with_sums(sums, entry.masked_pixels)

    def exposure(self, seq_num: int) -> Exposure | None:
        """Return where an event's images, and their dark, can be read again; None when that was too long ago."""
        return self._exposures.get(seq_num)

    def close(self) -> None:
        """Remove the scratch file."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._exposures.clear()
        self._unwritten.clear()

    def _write(self, slot: int, pattern: Pattern) -> None:
        """Write to the scratch file; on a full disk to memory, as far as there is room.

        Raises
        ------
        OSError
            If neither has room.
        """
        raw = np.ascontiguousarray(pattern.sums).data.cast("B")
        self._unwritten.pop(slot, None)
        try:
            if self._file is None:
                # Unbuffered: a full disk is to show here, not when the file is closed.
                self._file = tempfile.TemporaryFile("w+b", 0, prefix="bluesky-powder-", dir=self._scratch)  # noqa: SIM115
            self._file.seek(slot * len(raw))
            view = raw
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            if (len(self._unwritten) + 1) * len(raw) > UNWRITTEN_BYTES:
                raise
            if not self._unwritten:
                LOGGER.warning("patterns are kept in memory, as the scratch file cannot take them: %s", error)
            self._unwritten[slot] = raw.tobytes()

    def _read(self, start: int, size: int) -> bytes:
        if self._file is None:
            raise KeyError(start)
        self._file.seek(start)
        raw = b""
        while len(raw) < size:
            more = self._file.read(size - len(raw))
            if not more:
                raise OSError("the scratch file is shorter than what was written to it")
            raw += more
        return raw

    def _remember(self, seq_num: int, exposure: Exposure) -> None:
        old = self._exposures.pop(seq_num, None)
        self._bytes += _bytes_held(exposure) - (_bytes_held(old) if old else 0)
        self._exposures[seq_num] = exposure
        while len(self._exposures) > RECALLED_FRAMES or (self._bytes > RECALLED_BYTES and len(self._exposures) > 1):
            _, dropped = self._exposures.popitem(last=False)
            self._bytes -= _bytes_held(dropped)


def _bytes_held(exposure: Exposure) -> int:
    return exposure.frame.images.nbytes_held
