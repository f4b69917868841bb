"""Where catalog and tables are: files in the server's folder, or a PostgreSQL database."""

import asyncio
import contextlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

from bluesky_powder.errors import ServerError
from bluesky_powder.server.folder import Folder
from bluesky_powder.server.log import hidden


@dataclass(frozen=True)
class Databases:
    """The databases of a server.

    Attributes
    ----------
    kind
        "embedded": SQLite and DuckDB files in the folder; "postgresql": one PostgreSQL database for both.
    catalog, tables
        Path or URI of the catalog; URI of the tables. They may hold a password.
    """

    kind: Literal["embedded", "postgresql"]
    catalog: str = field(repr=False)
    tables: str = field(repr=False)

    @classmethod
    def at(cls, folder: Folder, uri: str | None) -> "Databases":
        """Return those of a folder, or at a ``postgresql://`` URI.

        Raises
        ------
        ServerError
            If the URI is of another kind or names no database.
        """
        if uri is None:
            from tiled.utils import ensure_uri

            return cls("embedded", str(folder.catalog), ensure_uri(f"duckdb:///{folder.tables}"))
        parsed = urlparse(uri)
        if parsed.scheme != "postgresql":
            raise ServerError(f"{hidden(uri)}: a database is given as postgresql://USER@HOST:PORT/NAME")
        if not parsed.path.strip("/"):
            raise ServerError(f"{hidden(uri)} names no database: postgresql://USER@HOST:PORT/NAME")
        return cls("postgresql", uri, uri)

    def are_initialised(self) -> bool:
        """Tell whether the catalog was made, wholly.

        Raises
        ------
        ServerError
            If PostgreSQL cannot be reached.
        """
        if self.kind == "embedded":
            return _first_value_sqlite(Path(self.catalog), _MADE) == 1
        return _made_in_postgresql(self.catalog)

    def initialise(self) -> None:
        """Make an empty database a catalog, as ``tiled catalog init`` does, for which Tiled starts a Python anew.

        Raises
        ------
        Exception
            Whatever SQLAlchemy and the database's driver raise, if it cannot be.
        """
        catalog = Path(self.catalog)
        if self.kind == "embedded" and not catalog.exists():
            new = catalog.with_name(f"{catalog.name}.new")
            new.unlink(missing_ok=True)
            _initialise(str(new))
            new.replace(catalog)  # so that it is whole, or not there
        else:
            _initialise(self.catalog)

    def follow_move(self, before: Path | None, now: Path) -> None:
        """Make the catalog's addresses follow a folder that was moved.

        Parameters
        ----------
        before
            Where the folder was; None where that was not noted, so that the catalog has to tell.
        now
            Where it is.

        Raises
        ------
        ServerError
            If the catalog is in PostgreSQL, which other places may share, or cannot be changed.
        """
        if self.kind == "postgresql":
            if before not in (None, now):
                raise ServerError(
                    f"this folder was {before} when its patterns were stored, and the database has their places; "
                    f"move it back, or make {before} a link to {now} and serve that"
                )
            return
        catalog = Path(self.catalog)
        if before is None:
            tables = _first_value_sqlite(
                catalog, "SELECT data_uri FROM assets WHERE data_uri LIKE 'duckdb://%' LIMIT 1"
            )
            before = Path(urlparse(tables).path.replace("//", "/", 1)).parent if isinstance(tables, str) else None
        if before in (None, now) or not catalog.is_file():
            return
        try:
            with contextlib.closing(sqlite3.connect(catalog)) as connection, connection:
                for old, new in (
                    (f"file://localhost{before}/", f"file://localhost{now}/"),
                    (f"duckdb://localhost/{before}/", f"duckdb://localhost/{now}/"),
                ):
                    connection.execute(
                        "UPDATE assets SET data_uri = ? || substr(data_uri, ?) WHERE substr(data_uri, 1, ?) = ?",
                        (new, len(old) + 1, len(old), old),
                    )
        except sqlite3.Error as error:
            raise ServerError(f"{now} was moved from {before}, and its catalog cannot follow: {error}") from error


def _initialise(catalog: str) -> None:
    with ThreadPoolExecutor(1) as apart:  # from an event loop, should one run here
        apart.submit(asyncio.run, _make(catalog)).result()


async def _make(catalog: str) -> None:
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import create_async_engine
    from tiled.catalog.alembic_constants import ALEMBIC_DIR
    from tiled.catalog.core import initialize_database
    from tiled.utils import ensure_specified_sql_driver

    def stamp(connection: Connection) -> None:
        MigrationContext.configure(connection).stamp(ScriptDirectory(ALEMBIC_DIR), "head")

    engine = create_async_engine(ensure_specified_sql_driver(catalog))
    try:
        await initialize_database(engine)
        async with engine.begin() as connection:  # last: it says that the rest was done
            await connection.run_sync(stamp)
    finally:
        await engine.dispose()


_MADE = "SELECT count(*) FROM alembic_version"


def _first_value_sqlite(file: Path, query: str) -> Any:
    """Return what a query gives first; None where the file or the table is not there, or no database."""
    if not file.is_file():
        return None
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(file)) as connection:
        row = connection.execute(query).fetchone()
        return row[0] if row else None
    return None


def _made_in_postgresql(uri: str) -> bool:
    import adbc_driver_postgresql.dbapi as postgresql  # type: ignore[import-untyped]
    from adbc_driver_manager import Error

    try:
        with postgresql.connect(uri) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass('alembic_version') IS NOT NULL")
            return bool(cursor.fetchone()[0])
    except Error as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ServerError(f"the database at {hidden(uri)} cannot be used: {hidden(reason)}") from None
