"""Where live messages are kept for subscribers that come late: in memory, or in Redis."""

from typing import Any

from bluesky_powder.errors import ServerError
from bluesky_powder.server.log import hidden

BYTES = 2**28
"""Bytes of messages kept in memory: of some 1400 patterns of 2000 bins with their sums, 180 kB each."""
_NODES = 100_000
"""Nodes whose messages are numbered; each takes some 200 bytes."""
_BESIDES = 500
"""Bytes that a message takes besides what is in it."""

_HELD = "_data_cache"
"""What Tiled's store in memory calls the messages that it holds."""
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
        return {"uri": "memory", "maxsize": _NODES, **kept}
    if not uri.startswith(("redis://", "rediss://")):
        raise ServerError(f"{hidden(uri)}: streaming goes to redis://HOST:PORT or rediss://HOST:PORT, or into memory")
    _ping(uri)
    return {"uri": uri, "socket_timeout": 86400, "socket_connect_timeout": _CONNECT_TIMEOUT, **kept}


def keep_within_bytes(catalog: Any) -> None:
    """Have messages kept in memory up to so many bytes, the oldest dropped first.

    Tiled 0.2.20 counts messages, and they differ in size by a factor of a thousand: its own 1000 are those of some
    100 patterns, or 18 GB of raw frames.

    Parameters
    ----------
    catalog
        Tiled's catalog, not started yet.
    """

    async def keep() -> None:
        bound(catalog.context.streaming_cache.client)

    # Tiled makes the cache at start, in the task before this one.
    catalog.startup_tasks.append(keep)


def bound(store: Any) -> None:
    """Have Tiled's store in memory count bytes.

    Raises
    ------
    ServerError
        If this version of Tiled keeps messages in a way that is not known here.
    """
    import cachetools  # type: ignore[import-untyped]

    if not isinstance(getattr(store, _HELD, None), cachetools.TTLCache):
        raise ServerError("this Tiled keeps live messages in a way that is not known here; install tiled 0.2.20")
    setattr(store, _HELD, cachetools.TTLCache(BYTES, ttl=_DATA_TTL, getsizeof=_size))


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


def _size(message: dict[str, Any]) -> int:
    """Return the bytes of a message; one that is larger than all the room takes all of it, and the others go."""
    parts = (len(part) for part in message.values() if isinstance(part, bytes | str | memoryview))
    return min(BYTES, _BESIDES + sum(parts))


def _ping(uri: str) -> None:
    """Ask Redis for an answer now: Tiled would ask at the first write, and fail the write."""
    import redis

    try:
        with redis.Redis.from_url(uri, socket_timeout=_CONNECT_TIMEOUT, socket_connect_timeout=_CONNECT_TIMEOUT) as one:
            one.ping()
    except (redis.RedisError, ValueError) as error:
        raise ServerError(f"Redis at {hidden(uri)} does not answer: {hidden(str(error))}") from None
