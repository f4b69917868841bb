"""Tiled's stream of a table, over a websocket."""

import json
import math
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

MOST_BYTES = 2**24
KEY_LIFETIME = 60
OPEN_TIMEOUT = 10.0


class Closed(Exception):  # noqa: N818 - no failure
    """The producer has ended the stream."""


@dataclass(frozen=True)
class Message:
    """Rows that were appended.

    Attributes
    ----------
    sequence
        Number of the message; the next has the next number.
    rows
        Numbers by column.
    """

    sequence: int
    rows: list[dict[str, Any]]


class Stream:
    """A live stream of a table.

    Parameters
    ----------
    context
        Tiled's, with the address and the key.
    path
        Of the table.

    Raises
    ------
    OSError
        If it cannot be connected.
    """

    def __init__(self, context: Any, path: str) -> None:
        from websockets.sync.client import connect

        base = context.api_uri.copy_with(scheme="wss" if context.api_uri.scheme == "https" else "ws")
        uri = f"{str(base).rstrip('/')}/stream/single/{quote(path)}?envelope_format=json"
        key = context.api_key
        if context.server_info.authentication.providers:
            key = context.create_api_key(expires_in=KEY_LIFETIME, note="bluesky_powder.live")["secret"]
        headers = {"Authorization": f"Apikey {key}"} if key else {}
        self._open = ExitStack()
        self._socket = self._open.enter_context(
            connect(uri, additional_headers=headers, max_size=MOST_BYTES, open_timeout=OPEN_TIMEOUT)
        )
        try:
            self._socket.recv(OPEN_TIMEOUT)  # the schema
        except BaseException:
            self._open.close()
            raise

    def next(self, timeout: float) -> Message | None:
        """Return the next message; None when there is none in time (seconds).

        Raises
        ------
        Closed
            If the producer has ended the stream.
        websockets.exceptions.ConnectionClosedError
            If the connection is lost.
        """
        from websockets.exceptions import ConnectionClosedOK

        try:
            told = json.loads(self._socket.recv(timeout))
        except TimeoutError:
            return None
        except ConnectionClosedOK:
            raise Closed from None
        columns = told.get("payload") if told.get("type") == "table-data" else None
        return Message(int(told["sequence"]), _rows(columns or {}))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self._open.close()


def _rows(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Return columns as rows; what JSON has no number for is NaN."""
    count = len(next(iter(columns.values()), []))
    return [{name: math.nan if each[at] is None else each[at] for name, each in columns.items()} for at in range(count)]
