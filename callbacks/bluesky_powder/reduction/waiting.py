"""Frames in the order in which they came, until it is known which dark belongs to each."""

from collections import deque
from collections.abc import Iterator

from bluesky_powder.errors import FrameSkipped
from bluesky_powder.frames import Frame, Skipped
from bluesky_powder.frames.darks.dark import Darks
from bluesky_powder.reduction.patterns import Exposure

MOST_WAITING = 2**17
MOST_BYTES_WAITING = 2**28


class WaitingLine:
    """A queue whose first frame goes once its dark is decided, or when the queue is too long.

    Parameters
    ----------
    darks
        Know which dark belongs to a frame.
    """

    def __init__(self, darks: Darks) -> None:
        self._darks = darks
        self._line: deque[Frame | Skipped] = deque()
        self._bytes = 0

    def put(self, item: Frame | Skipped) -> None:
        """Take what comes next."""
        self._line.append(item)
        self._bytes += _bytes_held(item)

    def ready(self) -> Iterator[Exposure | Skipped]:
        """Yield what can go."""
        while self._line and self._may_go(self._line[0]):
            item = self._line.popleft()
            self._bytes -= _bytes_held(item)
            yield self._with_dark(item)

    def _may_go(self, item: Frame | Skipped) -> bool:
        if isinstance(item, Skipped) or self._darks.decided(item):
            return True
        return len(self._line) > MOST_WAITING or self._bytes > MOST_BYTES_WAITING

    def _with_dark(self, item: Frame | Skipped) -> Exposure | Skipped:
        if isinstance(item, Skipped):
            return item
        try:
            return Exposure(item, self._darks.of(item))
        except FrameSkipped as reason:
            return Skipped(item.seq_num, item.count, str(reason))


def _bytes_held(item: Frame | Skipped) -> int:
    return item.images.nbytes_held if isinstance(item, Frame) else 0
