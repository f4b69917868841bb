"""Where a command finds runs: a server's folder, or a server's address."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bluesky_powder.errors import ServerError

if TYPE_CHECKING:
    from bluesky_powder.server import PowderServer

DirectoryOption = Annotated[
    Path | None, typer.Option("--directory", "-d", help="Folder of the embedded server.", file_okay=True)
]
TiledOption = Annotated[str | None, typer.Option("--tiled", help="Address of a Tiled server.", metavar="URL")]
KeyOption = Annotated[
    str | None, typer.Option("--api-key", envvar="TILED_API_KEY", help="Its key.", show_envvar=True, metavar="KEY")
]


@dataclass(frozen=True)
class Catalog:
    """An open catalog of runs.

    Attributes
    ----------
    client
        Tiled client.
    uri
        Address.
    server
        The embedded server; None for another's.
    """

    client: Any
    uri: str
    server: "PowderServer | None"

    def lines_that_read(self, uid: str) -> tuple[str, ...]:
        """Return the Python that reads a run once the command is over."""
        if self.server is not None:
            return (
                "from bluesky_powder.server import PowderServer",
                f"with PowderServer({str(self.server.directory)!r}) as server:",
                f'    print(server.client()["{uid}"]["primary"].read())',
            )
        return (
            "from tiled.client import from_uri",
            f'run = from_uri("{self.uri}", api_key=...)["{uid}"]',
            'print(run["primary"].read())',
        )


@contextmanager
def open_catalog(
    directory: Path | None,
    tiled: str | None,
    api_key: str | None,
    *,
    readable: Iterable[Path] = (),
    there: bool = False,
) -> Iterator[Catalog]:
    """Open a catalog; the embedded server runs as long as it is open.

    Parameters
    ----------
    directory, tiled, api_key
        One of folder and address; the key is for the address.
    readable
        Folders that the embedded server may read.
    there
        Whether the folder has to be a server's already.

    Yields
    ------
    Catalog
        Closed on leaving.

    Raises
    ------
    ServerError
        If neither or both are given, or the server does not start or answer.
    """
    if (directory is None) == (tiled is None):
        raise ServerError("give one of --directory (a folder of our own server) and --tiled (a server's address)")
    if tiled is not None:
        from bluesky_powder.client import connect

        with connect(tiled, api_key) as client:
            yield Catalog(client, tiled, None)
        return
    assert directory is not None  # noqa: S101 - one of them is given
    if there and not (directory / "catalog.db").is_file():
        raise ServerError(f"{directory} is no folder of a server: it has no catalog.db")
    from bluesky_powder.server import PowderServer

    with PowderServer(directory, readable=readable) as server:
        yield Catalog(server.client(), server.uri, server)
