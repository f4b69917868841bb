"""A live stream for a browser.

A browser cannot set headers on a websocket, and Tiled 0.2.20 does not look at the cookie there: it accepts the
connection and is silent for ever. So the cookie's key is put where Tiled looks for it.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

_OF_THE_FIRST_ROUTE = frozenset(("path_params", "endpoint", "route", "router"))


def relayed(scope: Mapping[str, Any], path: str, key: str | None) -> dict[str, Any]:
    """Return the ASGI scope of Tiled's own stream for the same connection.

    Parameters
    ----------
    scope
        Of the connection.
    path
        Of the node.
    key
        API key in the connection's cookie. It is used for pages of this server only: browsers send cookies along
        whoever asks, and websockets know no same-origin policy.
    """
    base = scope.get("root_path", "")
    full = f"{base}/api/v1/stream/single/{path}"
    headers = list(scope["headers"])
    if key and _of_this_server(headers):
        headers = [pair for pair in headers if pair[0] != b"authorization"]
        headers.append((b"authorization", f"Apikey {key}".encode("latin-1", "replace")))
    kept = {name: value for name, value in scope.items() if name not in _OF_THE_FIRST_ROUTE}
    return {**kept, "path": full, "raw_path": quote(full).encode("ascii"), "headers": headers}


def _of_this_server(headers: list[tuple[bytes, bytes]]) -> bool:
    given = dict(headers)
    origin = urlsplit(given.get(b"origin", b"").decode("latin-1")).netloc
    return bool(origin) and origin == given.get(b"host", b"").decode("latin-1")
