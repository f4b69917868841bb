"""Tiled's stream of a table or an array, over a websocket."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import msgpack  # type: ignore[import-untyped]

MOST_BYTES = 2**24
KEY_LIFETIME = 60
OPEN_TIMEOUT = 10.0


class Closed(Exception):  # noqa: N818 - no failure
    """The producer has ended the stream."""


@dataclass(frozen=True)
class Message:
    """What was written into a node.

    Attributes
    ----------
    sequence
        Number of the message; the next has the next number.
    about
        The rest of it: its type, `payload` (bytes) and what there is to say of those.
    """

    sequence: int
    about: Mapping[str, Any] = field(repr=False)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Rows that were appended to a table: numbers and texts by column."""
        import pyarrow as pa  # type: ignore[import-untyped]

        if self.about.get("type") != "table-data":
            return []
        with pa.ipc.open_file(self.about["payload"]) as file:
            return list(file.read_all().to_pylist())


class Stream:
    """A live stream of a node.

    Parameters
    ----------
    context
        Tiled's, with the address and the key.
    path
        Of the node.

    Raises
    ------
    OSError
        If it cannot be connected.
    """

    def __init__(self, context: Any, path: str) -> None:
        from websockets.sync.client import connect

        base = context.api_uri.copy_with(scheme="wss" if context.api_uri.scheme == "https" else "ws")
        uri = f"{str(base).rstrip('/')}/stream/single/{quote(path)}?envelope_format=msgpack"
        key = context.api_key
        if context.server_info.authentication.providers:
            key = context.create_api_key(expires_in=KEY_LIFETIME, note="bluesky_powder.live")["secret"]
        headers = {"Authorization": f"Apikey {key}"} if key else {}
        self._open = ExitStack()
        # Packing takes longer than sending: a pattern's sums are numbers that hardly shrink.
        self._socket = self._open.enter_context(
            connect(uri, additional_headers=headers, max_size=MOST_BYTES, open_timeout=OPEN_TIMEOUT, compression=None)
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
            told = msgpack.unpackb(self._socket.recv(timeout))
        except TimeoutError:
            return None
        except ConnectionClosedOK:
            raise Closed from None
        return Message(int(told["sequence"]), told)

    def close(self) -> None:
        """Close; whoever waits for a message gets an error."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
