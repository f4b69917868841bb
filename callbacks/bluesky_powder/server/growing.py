"""Arrays that can be read while they grow.

A Tiled client asks for an array of the shape that it saw last, and gets an error (after ten tries, up to 45 s) when a
row has been added since. Rows are only ever appended, so the rows that it saw can be given to it.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class ExpectedShape:
    """ASGI middleware: answer a request for a whole array with the part of it that the client knows of.

    Parameters
    ----------
    app
        What answers.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and "/array/full/" in scope["path"]:
            scope = {**scope, "query_string": with_slice(scope["query_string"].decode("latin-1")).encode("latin-1")}
        await self.app(scope, receive, send)


def with_slice(query: str) -> str:
    """Return a query that asks for a slice as large as the shape that it expects, unless it has a slice already."""
    pairs = parse_qsl(query, keep_blank_values=True)
    given = dict(pairs)
    sizes = given.get("expected_shape", "").split(",")
    if "slice" in given or not all(size.isdecimal() for size in sizes):
        return query
    return urlencode([*pairs, ("slice", ",".join(f":{size}" for size in sizes))])
