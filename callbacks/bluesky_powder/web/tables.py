"""Whether the tables of a server may be read while they grow; Tiled's own DuckDB tables may not."""

from collections.abc import Iterator
from typing import Any


def may_grow(tree: Any) -> bool:
    """Tell whether all tables of a Tiled tree may be read while rows are added.

    Those of PostgreSQL may, and those of catalogs that ``bluesky_powder.server.catalog`` has opened, be it for our own
    server or for a Tiled configuration. A tree that has no tables has none that may be read.

    Parameters
    ----------
    tree
        Root of the tree: a catalog, or a mapping of such.
    """
    storages = list(_databases(tree))
    return bool(storages) and all(_bears_readers(storage) for storage in storages)


def _databases(tree: Any) -> Iterator[Any]:
    from tiled.adapters.mapping import MapAdapter
    from tiled.storage import SQLStorage

    if isinstance(tree, MapAdapter):
        for below in tree.values():
            yield from _databases(below)
        return
    storages = getattr(getattr(tree, "context", None), "writable_storage", {})
    yield from (storage for storage in storages.values() if isinstance(storage, SQLStorage))


def _bears_readers(storage: Any) -> bool:
    from bluesky_powder.server.tables import OneAtATime

    return storage.dialect == "postgresql" or isinstance(storage.connect, OneAtATime)
