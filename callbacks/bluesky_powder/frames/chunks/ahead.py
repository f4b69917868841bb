"""Reading ahead: who reads a dataset row after row finds the next rows decoded already, in a few threads."""

from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from typing import Any

from numpy.typing import NDArray

from azimuthal.threads import thread_count
from bluesky_powder.frames.chunks.buffers import Buffers
from bluesky_powder.frames.chunks.reader import ChunkMissing, Chunks, Part, Raw, ends_in_zero

Span = tuple[int, int]


@cache
def _pool() -> ThreadPoolExecutor:
    """Return the threads; what runs in them never waits for anything else that does."""
    return ThreadPoolExecutor(thread_count(), thread_name_prefix="chunks")


class Budget:
    """Bytes that may be held for reads that have not come yet; the datasets read longest ago give theirs up first.

    Parameters
    ----------
    nbytes
        The limit.
    """

    def __init__(self, nbytes: int) -> None:
        self._limit = nbytes
        self._held: OrderedDict[ReadAhead, int] = OrderedDict()

    @property
    def held(self) -> int:
        """Bytes that are held."""
        return sum(self._held.values())

    def take(self, owner: "ReadAhead", nbytes: int) -> bool:
        """Hold bytes for a dataset, if that is possible."""
        self._held[owner] = self._held.pop(owner, 0)
        while self.held + nbytes > self._limit:
            oldest = next(iter(self._held))
            if oldest is owner:
                self.give(owner, 0)
                return False
            oldest.drop()
            self._held.pop(oldest, None)
        self._held[owner] += nbytes
        return True

    def give(self, owner: "ReadAhead", nbytes: int) -> None:
        """Hold bytes no more."""
        self._held[owner] -= nbytes
        if self._held[owner] == 0:
            del self._held[owner]


@dataclass
class _Unit:
    """Rows that are being read, or have been.

    Attributes
    ----------
    span
        First and last + 1.
    array
        What they are read into.
    parts
        Their chunks, each with what reads it, where something does.
    nbytes
        Held for it.
    """

    span: Span
    array: NDArray[Any]
    parts: list[tuple[Part, "Future[Raw | None] | None"]]
    nbytes: int = 0

    def cancel(self) -> list["Future[Raw | None]"]:
        """Stop what has not begun; return what has."""
        return [future for _, future in self.parts if future is not None and not future.cancel()]


class ReadAhead:
    """Reads rows of one dataset, and the next ones before they are asked for.

    Not for several threads at a time.

    Parameters
    ----------
    chunks
        Of the dataset.
    budget
        What the rows that are read ahead may occupy.
    buffers
        Where arrays come from.
    settled
        Whether the file stays as it is. Otherwise what was read ahead is compared with the file when it is asked for,
        and read again where it has changed: frames may be announced, and overwritten, between the two.
    """

    def __init__(self, chunks: Chunks, budget: Budget, buffers: Buffers, *, settled: bool) -> None:
        self._chunks = chunks
        self._budget = budget
        self._buffers = buffers
        self._settled = settled
        self._units: dict[Span, _Unit] = {}
        self._last: Span = (0, 0)

    def read(self, first: int, stop: int, rows: int) -> NDArray[Any]:
        """Return rows first to stop.

        Parameters
        ----------
        first, stop
            Which; at least one.
        rows
            How many there are.

        Raises
        ------
        ChunkMissing
            With the number of a row that was never written; in a file that has settled, only if nothing of it was.
        ChunkDamaged
            If a chunk is damaged or cut off.
        """
        span = self._chunks.span(first, stop)
        follows, self._last = self._last[1] == first > 0, (first, stop)
        unit = self._units.pop(span, None)
        ahead = unit is not None
        if unit is None:
            unit = self._demanded(span)
        if not follows:
            self.drop()
        try:
            if follows:
                self._schedule(stop, stop - first, rows, besides=span)
            self._complete(unit, first, ahead=ahead)
        except BaseException:
            wait(unit.cancel())
            self._release(unit)
            raise
        if unit.span == (first, stop):
            self._release(unit)
            return unit.array
        self._keep(unit)
        wanted = self._chunks.empty(first, stop, self._buffers)
        wanted[...] = unit.array[first - span[0] : stop - span[0]]
        return wanted

    def drop(self) -> None:
        """Give up what was read ahead, once nothing uses the file any more for it."""
        running = [future for unit in self._units.values() for future in unit.cancel()]
        wait(running)
        for unit in self._units.values():
            self._release(unit)
        self._units.clear()

    def _demanded(self, span: Span) -> _Unit:
        """Begin to read rows that are wanted now; one chunk is left to whoever waits for it."""
        parts = list(self._chunks.parts(*span))
        array = self._chunks.empty(*span, self._buffers)
        return _Unit(span, array, self._begun(parts, array) if len(parts) > 1 else [(parts[0], None)])

    def _begun(self, parts: list[Part], array: NDArray[Any]) -> list[tuple[Part, "Future[Raw | None] | None"]]:
        if thread_count() == 1:
            return [(part, None) for part in parts]
        return [(part, _pool().submit(self._read, part, array)) for part in parts]

    def _schedule(self, first: int, step: int, rows: int, *, besides: Span) -> None:
        """Begin to read what will be asked for next."""
        if thread_count() == 1 or not (self._settled or self._chunks.filters.any):
            return
        for begin in range(first, min(first + step * 2 * thread_count(), rows - step + 1), step):
            span = self._chunks.span(begin, begin + step)
            if span != besides and span not in self._units:
                many = sum(unit.span[1] - unit.span[0] for unit in self._units.values())
                if self._units and many + span[1] - span[0] > 2 * thread_count():
                    return
                unit = self._allotted(span)
                if unit is None:
                    return
                self._units[span] = unit

    def _allotted(self, span: Span) -> _Unit | None:
        nbytes = self._cost(span)
        if not self._budget.take(self, nbytes):
            return None
        array = self._chunks.empty(*span, self._buffers)
        return _Unit(span, array, self._begun(list(self._chunks.parts(*span)), array), nbytes)

    def _keep(self, unit: _Unit) -> None:
        """Keep rows of which only some were asked for."""
        if unit.nbytes == 0:
            nbytes = self._cost(unit.span)
            if not self._budget.take(self, nbytes):
                return
            unit.nbytes = nbytes
        self._units[unit.span] = unit

    def _cost(self, span: Span) -> int:
        """Return the bytes that rows read ahead occupy, with their chunks where those are kept to compare."""
        return self._chunks.nbytes(*span) * (1 if self._settled else 2)

    def _release(self, unit: _Unit) -> None:
        if unit.nbytes:
            self._budget.give(self, unit.nbytes)
            unit.nbytes = 0

    def _read(self, part: Part, array: NDArray[Any], known: Raw | None = None) -> Raw | None:
        raw = self._chunks.read(part, array, known)
        if self._settled:
            return None
        if (known is None or raw is not known) and ends_in_zero(raw, part, array):
            self._chunks.check_whole(part)
        return raw

    def _complete(self, unit: _Unit, first: int, *, ahead: bool) -> None:
        """Wait until rows are there, and as they are in the file now."""
        missing = []
        for at, (part, future) in enumerate(unit.parts):
            try:
                raw = self._result(part, future, unit.array, ahead=ahead)
            except ChunkMissing:
                missing.append(part)
                continue
            unit.parts[at] = (part, _done(raw))
        for part in self._filled(unit, missing):
            raise ChunkMissing(max(part.offset[0], first))

    def _result(
        self, part: Part, future: "Future[Raw | None] | None", array: NDArray[Any], *, ahead: bool
    ) -> Raw | None:
        if future is None or future.cancel():
            return self._read(part, array)
        if not ahead:
            return future.result()
        try:
            known = future.result()
        except Exception:  # what was wrong then may be right now, or is told now
            return self._read(part, array)
        return known if self._settled else self._read(part, array, known)

    def _filled(self, unit: _Unit, missing: list[Part]) -> Iterator[Part]:
        """Fill chunks that were never written, where others of their rows were; yield the others."""
        for part in missing:
            many = sum(other.offset[0] == part.offset[0] for other, _ in unit.parts)
            if self._settled and sum(other.offset[0] == part.offset[0] for other in missing) < many:
                unit.array[part.where] = self._chunks.fill
            else:
                yield part


def _done(raw: Raw | None) -> "Future[Raw | None]":
    future: Future[Raw | None] = Future()
    future.set_result(raw)
    return future
