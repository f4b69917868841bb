"""Where live messages are kept for subscribers that come late: in memory, or in Redis."""

from typing import Any

from bluesky_powder.errors import ServerError
from bluesky_powder.server.log import hidden

MESSAGES = 4000
"""Messages kept in memory; a frame takes about 10 of them, of 16 kB each."""

_DATA_TTL, _NUMBERS_TTL = 3600, 2_592_000
_CONNECT_TIMEOUT = 5


def settings_of(uri: str | None) -> dict[str, Any]:
    """Return the settings of Tiled's streaming cache.

    Parameters
    ----------
    uri
        ``redis://`` or ``rediss://``; None keeps messages in memory, which does for one process.

    Raises
    ------
    ServerError
        If Redis does not answer.
    """
    kept = {"data_ttl": _DATA_TTL, "seq_ttl": _NUMBERS_TTL}
    if uri is None:
        # Tiled's own 1000 messages are those of some 100 frames.
        return {"uri": "memory", "maxsize": MESSAGES, **kept}
    if not uri.startswith(("redis://", "rediss://")):
        raise ServerError(f"{hidden(uri)}: streaming goes to redis://HOST:PORT or rediss://HOST:PORT, or into memory")
    _ping(uri)
    return {"uri": uri, "socket_timeout": 86400, "socket_connect_timeout": _CONNECT_TIMEOUT, **kept}


def close_at_shutdown(catalog: Any) -> None:
    """Have the connections to Redis closed when the server ends; Tiled 0.2.20 leaves them open.

    Parameters
    ----------
    catalog
        Tiled's catalog, not started yet.
    """

    async def close() -> None:
        cache = catalog.context.streaming_cache
        if cache is not None:
            await cache.client.aclose()

    catalog.shutdown_tasks.append(close)


def _ping(uri: str) -> None:
    """Ask Redis for an answer now: Tiled would ask at the first write, and fail the write."""
    import redis

    try:
        with redis.Redis.from_url(uri, socket_timeout=_CONNECT_TIMEOUT, socket_connect_timeout=_CONNECT_TIMEOUT) as one:
            one.ping()
    except (redis.RedisError, ValueError) as error:
        raise ServerError(f"Redis at {hidden(uri)} does not answer: {hidden(str(error))}") from None
