"""Waiting for a file that is not there or not flushed yet: bounded, and only once a file."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from bluesky_powder.errors import FramesUnavailable

T = TypeVar("T")

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.5
MOST_GIVEN_UP = 4096
"""How many files are remembered that are not waited for any more."""


class Patience:
    """Tries again until a time is over. A file that has used it up is not waited for again until it can be read.

    Parameters
    ----------
    timeout
        Seconds to wait for one read; 0 tries once.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._hurry = threading.Event()
        self._given_up: dict[str, None] = {}

    def hurry(self) -> None:
        """Wait no more, from now on; what waits at this moment gives up."""
        self._hurry.set()

    def until_read(self, file: str, attempt: Callable[[], T]) -> T:
        """Return what `attempt` returns, as soon as it does not raise FramesUnavailable.

        Parameters
        ----------
        file
            What is read, for its share of patience.
        attempt
            Tries once.

        Raises
        ------
        FramesUnavailable
            The last one, with how long it was waited for.
        """
        patient = file not in self._given_up and not self._hurry.is_set()
        end = time.monotonic() + (self.timeout if patient else 0.0)
        pause = FIRST_PAUSE
        while True:
            try:
                value = attempt()
            except FramesUnavailable as error:
                left = end - time.monotonic()
                if left <= 0 or self._hurry.wait(min(pause, left)):
                    self._give_up(file)
                    raise FramesUnavailable(self._explained(str(error))) from error
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                self._given_up.pop(file, None)
                return value

    def _give_up(self, file: str) -> None:
        self._given_up[file] = None
        while len(self._given_up) > MOST_GIVEN_UP:
            self._given_up.pop(next(iter(self._given_up)), None)

    def _explained(self, reason: str) -> str:
        if self.timeout == 0 or self._hurry.is_set():
            return reason
        return f"{reason} (waited {self.timeout:g} s for this file; replay the run when it is readable)"
