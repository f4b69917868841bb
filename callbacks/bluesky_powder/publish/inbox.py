"""The bounded queue between those who hand over documents and the journal."""

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """A queue with room for so many entries and so many bytes, whose `put` never waits.

    Parameters
    ----------
    most, most_bytes
        The room.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._entries: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()

    def put(self, entry: T, size: int) -> bool:
        """Add an entry if there is room; tell whether there was. An entry larger than the room may come alone."""
        with self._changed:
            full = len(self._entries) >= self._most or self._bytes + size > self._most_bytes
            if full and self._entries:
                return False
            self._entries.append((entry, size))
            self._bytes += size
            self._changed.notify_all()
            return True

    def first(self, timeout: float) -> T | None:
        """Return the oldest entry, which stays in; None when none comes within `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._entries, timeout)
            return self._entries[0][0] if self._entries else None

    def remove_first(self) -> None:
        """Take out what `first` returned."""
        with self._changed:
            _, size = self._entries.popleft()
            self._bytes -= size
            self._changed.notify_all()

    def __len__(self) -> int:
        return len(self._entries)
