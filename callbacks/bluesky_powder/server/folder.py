"""The folder that holds all a server has: its databases, arrays, log, and what it may read elsewhere."""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from bluesky_powder.errors import ServerError

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows, where DuckDB's own lock has to do
    fcntl = None  # type: ignore[assignment]


@dataclass
class Folder:
    """A server's folder, made where it does not exist.

    Attributes
    ----------
    path
        Absolute.
    """

    path: Path
    _lock: IO[str] | None = field(default=None, repr=False)

    @classmethod
    def at(cls, path: str | Path) -> "Folder":
        """Make the folder.

        Raises
        ------
        ServerError
            If it cannot be made or written to.
        """
        folder = cls(Path(path).expanduser().resolve())
        try:
            folder.arrays.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ServerError(f"{folder.path} cannot be a server's folder: {error.strerror or error}") from error
        for place in (folder.path, folder.arrays):
            if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
                raise ServerError(f"{folder.path} cannot be a server's folder: {place} is not readable and writable")
        return folder

    @property
    def arrays(self) -> Path:
        """Folder of the zarr arrays."""
        return self.path / "data"

    @property
    def catalog(self) -> Path:
        """SQLite file of the catalog."""
        return self.path / "catalog.db"

    @property
    def tables(self) -> Path:
        """DuckDB file of the tables."""
        return self.path / "storage.duckdb"

    @property
    def log(self) -> Path:
        """Log file."""
        return self.path / "server.log"

    @property
    def ui_settings(self) -> Path:
        """Settings of Tiled's own pages."""
        return self.path / "ui-settings.yml"

    @property
    def spool(self) -> Path:
        """Folder of documents that are on their way into this server."""
        return self.path / "spool"

    def lock(self) -> None:
        """Keep other servers out until `unlock`.

        Raises
        ------
        ServerError
            If one is in.
        """
        if fcntl is None:  # pragma: no cover
            return
        file = (self.path / "server.lock").open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            where = file.read().strip() or "an unknown address"
            file.close()
            raise ServerError(
                f"{self.path} is served already, at {where}; use --tiled with that address, or stop that server"
            ) from None
        self._lock = file

    def note_address(self, uri: str) -> None:
        """Leave the address for those who find the folder locked."""
        if self._lock is not None:
            self._lock.truncate(0)
            self._lock.write(uri)
            self._lock.flush()

    def unlock(self) -> None:
        """Let others in."""
        if self._lock is not None:
            self._lock.truncate(0)
            self._lock.close()
            self._lock = None

    def settle(self, move: Callable[[Path | None, Path], None]) -> None:
        """Note where the folder is, for the time when it is somewhere else.

        Parameters
        ----------
        move
            Called with the place noted last, None where there is none, and the present one.
        """
        note = self.path / "place"
        before = note.read_text(encoding="utf-8").strip() if note.is_file() else ""
        move(Path(before) if before else None, self.path)
        if before != str(self.path):
            note.write_text(f"{self.path}\n", encoding="utf-8")

    def readable(self, more: Iterable[str | Path] = ()) -> list[Path]:
        """Return the folders elsewhere that may be read, after adding some; they are remembered with the folder.

        What was once registered from there could not be read after a restart otherwise.
        """
        file = self.path / "readable.json"
        known: list[str] = []
        if file.is_file():
            try:
                known = [str(entry) for entry in json.loads(file.read_text(encoding="utf-8"))]
            except (OSError, ValueError, TypeError) as error:
                raise ServerError(f"{file} is damaged ({error}); remove it and name the folders again") from error
        added = [str(Path(entry).expanduser().resolve()) for entry in more]
        folders = list(dict.fromkeys([*known, *added]))
        if folders != known:
            file.write_text(json.dumps(folders, indent=1), encoding="utf-8")
        return [Path(entry) for entry in folders]
