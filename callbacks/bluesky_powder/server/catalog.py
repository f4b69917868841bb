"""The catalog of a server's folder, as our own server opens it and any Tiled configuration can.

In a configuration::

    trees:
      - path: /
        tree: bluesky_powder.server.catalog:in_folder
        args: {directory: /data/powder, read: [/data/raw]}

Unlike Tiled's own ``tree: catalog``, its DuckDB tables may be read while they grow, its streaming cache holds a whole
run of patterns, and its folder may be moved.
"""

import atexit
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bluesky_powder.errors import ServerError
from bluesky_powder.server.collector import spare_what_stays
from bluesky_powder.server.databases import Databases
from bluesky_powder.server.folder import Folder
from bluesky_powder.server.log import hidden
from bluesky_powder.server.signatures import remember_signatures
from bluesky_powder.server.streaming import close_at_shutdown, keep_within_bytes, settings_of
from bluesky_powder.server.tables import serialise


def in_folder(
    directory: str,
    database: str | None = None,
    streaming: str | None = None,
    read: Iterable[str] = (),
    top_level_access_tags: list[str] | None = None,
) -> Any:
    """Return the catalog of a folder, for ``tree:`` in a Tiled configuration; the process keeps the folder to itself.

    Parameters
    ----------
    directory
        The folder; made when it does not exist.
    database
        ``postgresql://`` URI for catalog and tables; without it they are files in the folder.
    streaming
        ``redis://`` URI of the streaming cache; without it the cache is in the memory of this process.
    read
        Folders whose files may be registered and read; remembered with the folder.
    top_level_access_tags
        Access tags of the catalog itself, where an access policy goes by tags.

    Raises
    ------
    ServerError
        If the folder is served already, or it, the database or Redis cannot be used.
    """
    folder = Folder.at(directory)
    folder.lock()
    try:
        databases = Databases.at(folder, database or None)
        adapter = open_catalog(folder, databases, streaming or None, read, top_level_access_tags)
    except BaseException:
        folder.unlock()
        raise
    atexit.register(folder.unlock)

    async def spare() -> None:
        spare_what_stays()

    adapter.startup_tasks.append(spare)
    return adapter


def open_catalog(
    folder: Folder,
    databases: Databases,
    streaming: str | None = None,
    readable: Iterable[str | Path] = (),
    top_level_access_tags: list[str] | None = None,
) -> Any:
    """Return Tiled's catalog of a folder that is locked; made where there is none.

    Raises
    ------
    ServerError
        If it cannot be opened.
    """
    from tiled.catalog import from_uri
    from tiled.storage import get_storage

    remember_signatures()
    cache = settings_of(streaming)
    read = [str(path) for path in folder.readable(readable)]
    initialised = databases.are_initialised()
    folder.settle(databases.follow_move)
    try:
        if not initialised:
            databases.initialise()
        catalog = from_uri(
            databases.catalog,
            writable_storage=[str(folder.arrays), databases.tables],
            readable_storage=read,
            cache_config=cache,
            top_level_access_tags=top_level_access_tags,
        )
        if databases.kind == "embedded":
            serialise(get_storage(databases.tables))
        if streaming is None:
            keep_within_bytes(catalog)
        else:
            close_at_shutdown(catalog)
    except ServerError:
        raise
    except Exception as error:
        cause = getattr(error, "orig", None) or error  # the driver's words rather than SQLAlchemy's
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[-1]
        raise ServerError(f"{folder.path} cannot be opened as a Tiled catalog: {hidden(reason)}") from None
    return catalog
