"""Tables that can be read while they grow.

Tiled 0.2.20 keeps DuckDB tables behind a pool that hands the *same* connection to every worker thread. Two requests at
once end each other's transactions: rows are appended twice, reads fail, or the process dies of a segmentation fault.
Here every use of that connection, from `connect` to `close`, waits for its turn.

Also tried, with four writers and four readers at once, and found wanting:

- SQLite tables: "database is locked" for every second request; with a write-ahead log and a busy timeout still when two
  runs begin at once; and a column that begins with 1024 NaN before its first number cannot be read ever again.
- DuckDB with a connection for each thread: "write-write conflict" when two runs begin at once.
"""

import threading
from collections.abc import Callable
from typing import Any

from bluesky_powder.errors import ServerError

LONGEST_WAIT = 60.0
"""Seconds to wait for a turn. A request takes milliseconds; one that is stuck shall be an error, not a hang."""


class OneAtATime:
    """Stands in for a storage's `connect`: one connection in use at a time, in the whole process.

    Parameters
    ----------
    connect
        Returns a connection whose `close` gives it back.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._turn = threading.Lock()

    def __call__(self) -> "HeldConnection":
        """Wait for a turn and return a connection.

        Raises
        ------
        TimeoutError
            If the connection in use is not given back.
        """
        if not self._turn.acquire(timeout=LONGEST_WAIT):
            raise TimeoutError(f"the tables have been in use for {LONGEST_WAIT:g} s by one request, which seems stuck")
        try:
            return HeldConnection(self._connect(), self._turn.release)
        except BaseException:
            self._turn.release()
            raise


class HeldConnection:
    """A connection that ends its turn when it is closed; otherwise the connection itself."""

    def __init__(self, connection: Any, end_turn: Callable[[], None]) -> None:
        self._connection = connection
        self._end_turn: Callable[[], None] | None = end_turn

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def close(self) -> None:
        """Give the connection back and end the turn, once."""
        end_turn, self._end_turn = self._end_turn, None
        if end_turn is None:
            return
        try:
            self._connection.close()
        finally:
            end_turn()


def serialise(storage: Any) -> None:
    """Make all uses of a Tiled SQL storage wait for each other.

    Parameters
    ----------
    storage
        As ``tiled.storage.get_storage`` returns it.

    Raises
    ------
    ServerError
        If this version of Tiled has no such thing as `storage.connect`.
    """
    connect = getattr(storage, "connect", None)
    if not callable(connect):
        raise ServerError(f"{_tiled()} opens its tables in a way that is not known here; install tiled 0.2.20")
    if not isinstance(connect, OneAtATime):
        # A frozen dataclass, which nothing but its own __setattr__ guards.
        object.__setattr__(storage, "connect", OneAtATime(connect))


def check_serialised(storage: Any) -> None:
    """Make sure, once the server runs, that Tiled uses the storage that was serialised.

    Raises
    ------
    ServerError
        If it has made itself another one.
    """
    if not isinstance(getattr(storage, "connect", None), OneAtATime):
        raise ServerError(f"{_tiled()} opens its tables anew at start, so they would not be safe; install tiled 0.2.20")


def _tiled() -> str:
    from importlib.metadata import version

    return f"tiled {version('tiled')}"
