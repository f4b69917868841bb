"""Python's garbage collector in a process that does nothing but serve.

A full collection looks at every object of every module that was loaded: a quarter of a second, in which nothing is
answered and nothing is pushed, every few hundred requests. Modules stay for good, so they need not be looked at.
"""

import gc
import time
from typing import Any

LONG = 0.02
"""Seconds of a collection from which on what it has left over is taken out of those to come."""
MOST_TIMES = 12
"""How often: what is taken out is never collected if it falls out of use in a circle, so there has to be an end."""


class _Settling:
    """Takes what long collections leave over out of later ones."""

    def __init__(self) -> None:
        self._began, self._left = 0.0, MOST_TIMES

    def __call__(self, phase: str, info: dict[str, Any]) -> None:
        """Be told of a collection by `gc`."""
        if phase == "start":
            self._began = time.perf_counter()
        elif info["generation"] == 2 and time.perf_counter() - self._began > LONG:
            gc.freeze()
            self._left -= 1
            if not self._left:
                gc.callbacks.remove(self)


def spare_what_stays() -> None:
    """Take what is loaded by now, and what is loaded with the first requests, out of the collector's way.

    For a process of the server's own only: in another one, things that are in use now may fall out of use later.
    """
    if any(isinstance(callback, _Settling) for callback in gc.callbacks):
        return
    gc.callbacks.append(_Settling())
    gc.collect()
