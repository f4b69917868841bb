"""Requests that are answered as if something else had been asked for."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class RewrittenQuery:
    """ASGI middleware: change the query of requests for some paths.

    Parameters
    ----------
    app
        What answers.
    place
        What the path of such a request has in it.
    rewrite
        Returns the query to answer, without its question mark.
    """

    def __init__(
        self, app: Callable[[Scope, Receive, Send], Awaitable[None]], place: str, rewrite: Callable[[str], str]
    ) -> None:
        self.app, self._place, self._rewrite = app, place, rewrite

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and self._place in scope["path"]:
            query = self._rewrite(scope["query_string"].decode("latin-1"))
            scope = {**scope, "query_string": query.encode("latin-1")}
        await self.app(scope, receive, send)
