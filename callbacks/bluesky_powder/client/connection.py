"""Reaching a Tiled server, and saying in one line what is wrong where that fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bluesky_powder.errors import DerivedRunError, ServerError

_QUICK = 5.0


@contextmanager
def connect(uri: str, api_key: str | None = None) -> Iterator[Any]:
    """Connect to a Tiled server.

    Parameters
    ----------
    uri
        Address, such as ``http://127.0.0.1:8000``.
    api_key
        Its key; without one, what Tiled itself finds (its environment variable TILED_API_KEY, a login remembered).

    Yields
    ------
    tiled.client.container.Container
        Closed on leaving.

    Raises
    ------
    ServerError
        If nobody answers there, it is no Tiled server, or the key does not fit.
    """
    import httpx
    from tiled.client import from_context
    from tiled.client.context import Context

    if not uri.startswith(("http://", "https://")):
        raise ServerError(f"{uri!r} is no address of a Tiled server; one begins with http:// or https://")
    try:
        # Tiled's client would try for 45 s.
        httpx.get(uri, timeout=_QUICK, follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServerError(f"no Tiled server answers at {uri}: {error}") from error
    try:
        context, path = Context.from_any_uri(uri, api_key=api_key, show_progress=False)
    except Exception as error:
        raise ServerError(f"{uri} is no Tiled server: {_said(error)}") from error
    with context:
        try:
            client = from_context(context, node_path_parts=path)
        except Exception as error:
            raise ServerError(f"cannot connect to Tiled at {uri}: {_said(error)}") from error
        yield client


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Turn what the HTTP client raises into an error of one line.

    Raises
    ------
    DerivedRunError
        If Tiled refuses or does not answer.
    """
    import httpx

    try:
        yield
    except httpx.HTTPError as error:
        raise DerivedRunError(f"Tiled cannot {what}: {_said(error)}") from error


def _said(error: Exception) -> str:
    import httpx

    if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in (401, 403):
        return "it wants an API key (--api-key, or TILED_API_KEY), or another one"
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
