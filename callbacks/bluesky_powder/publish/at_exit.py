"""Closing in good order when the program ends."""

import atexit
import threading
import weakref
from collections.abc import Callable


def close_at_exit(close: Callable[[], object]) -> None:
    """Have a bound method called at the program's end, unless its object is gone by then; the latest first.

    Parameters
    ----------
    close
        To be called once more than needed without harm.
    """
    method = weakref.WeakMethod(close)

    def run() -> None:
        alive = method()
        if alive is not None:
            alive()

    # threading's own hook runs while servers can still put work into thread pools; atexit runs after they are shut.
    getattr(threading, "_register_atexit", atexit.register)(run)
