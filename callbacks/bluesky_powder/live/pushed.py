"""The sums that Tiled pushes, kept until their row comes: they are at hand then and need not be fetched."""

import logging
import threading
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bluesky_powder.live.socket import Closed, Message, Stream

logger = logging.getLogger("bluesky_powder.live")

MOST_KEPT = 64
"""Rows that are kept; beyond it the oldest are dropped, and fetched if they are asked for after all."""
TICK = 1.0


class PushedSums:
    """Listens to the array of sums, in a thread of its own, until it is left.

    An array that is a file's is told of without its values; nothing is found here then.

    Parameters
    ----------
    context
        Tiled's.
    path
        Of the array.
    shape
        Of one row.

    Raises
    ------
    OSError
        If it cannot be connected.
    """

    def __init__(self, context: Any, path: str, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._kept: dict[int, NDArray[np.float64]] = {}
        self._count = 0
        self._changed = threading.Condition()
        self._over = False
        self._stream = Stream(context, path)
        self._thread = threading.Thread(target=self._listen, name="follow-sums", daemon=True)
        self._thread.start()

    def take(self, row: int, patience: float) -> NDArray[np.float64] | None:
        """Return the sums of a row, once; None where they do not come.

        Parameters
        ----------
        row
            Its index.
        patience
            Seconds to wait for what is on its way.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._over or row in self._kept, patience)
            return self._kept.pop(row, None)

    def count(self, expected: int, patience: float) -> int:
        """Return how many rows of sums there are by what was pushed last; 0 before anything was.

        Parameters
        ----------
        expected
            So many are waited for.
        patience
            Seconds to wait.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._count >= expected, patience)
            return self._count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Listen no longer."""
        self._over = True
        self._stream.close()
        self._thread.join(TICK)

    def _listen(self) -> None:
        try:
            while not self._over:
                message = self._stream.next(TICK)
                if message is not None:
                    self._keep(message)
        except Closed:
            pass
        except Exception as error:
            # Nothing is lost: sums that are not here are fetched.
            logger.info("the stream of sums: %s: %s", type(error).__name__, error)
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()

    def _keep(self, message: Message) -> None:
        about = message.about
        offset, shape = about.get("offset"), tuple(about.get("shape") or ())
        if about.get("type") != "array-data" or not offset or shape[1:] != self._shape:
            return
        payload: bytes = about.get("payload") or b""
        if about.get("mimetype") != "application/octet-stream" or len(payload) != 8 * int(np.prod(shape)):
            return
        rows = np.frombuffer(payload, "<f8").reshape(shape)
        with self._changed:
            for number, sums in enumerate(rows, int(offset[0])):
                self._kept[number] = sums
            self._count = int(offset[0]) + len(rows)
            while len(self._kept) > MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            self._changed.notify_all()
