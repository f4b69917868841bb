"""Frames that have everything but numbers from elsewhere: from a baseline that is not read yet, or another stream."""

from collections import deque
from collections.abc import Callable, Iterator
from heapq import merge

from bluesky_powder.frames.joining.join import MOST_BYTES, MOST_WAITING, Joined


class Held:
    """Keeps frames until their numbers have come, in the order in which they came themselves."""

    def __init__(self) -> None:
        self._number = 0
        self._soon: deque[tuple[int, Joined]] = deque()
        self._in_the_end: deque[tuple[int, Joined]] = deque()
        self._bytes = 0

    def put(self, joined: Joined, *, until_the_end: bool) -> Iterator[Joined]:
        """Keep a frame; yield those for which there is no room any more, the oldest first.

        Parameters
        ----------
        joined
            The frame.
        until_the_end
            Whether nothing before the end of the run can tell its numbers.
        """
        self._number += 1
        (self._in_the_end if until_the_end else self._soon).append((self._number, joined))
        self._bytes += joined.frame.images.nbytes_held
        while len(self._soon) + len(self._in_the_end) > MOST_WAITING or self._bytes > MOST_BYTES:
            yield self._taken(self._in_the_end or self._soon)

    def ready(self, is_ready: Callable[[Joined], bool]) -> Iterator[Joined]:
        """Yield the frames whose numbers have come."""
        while self._soon and is_ready(self._soon[0][1]):
            yield self._taken(self._soon)

    def rest(self) -> Iterator[Joined]:
        """Yield all frames, at the end of the run."""
        rest = merge(self._soon, self._in_the_end, key=lambda entry: entry[0])
        self._soon, self._in_the_end, self._bytes = deque(), deque(), 0
        yield from (joined for _, joined in rest)

    def _taken(self, queue: deque[tuple[int, Joined]]) -> Joined:
        joined = queue.popleft()[1]
        self._bytes -= joined.frame.images.nbytes_held
        return joined
