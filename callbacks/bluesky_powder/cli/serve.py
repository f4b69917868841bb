"""``bluesky-powder serve``: the embedded server in the foreground."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bluesky_powder.cli._ending import told_to_end
from bluesky_powder.errors import ServerError

if TYPE_CHECKING:
    from bluesky_powder.server import PowderServer


def serve(
    directory: Annotated[Path, typer.Option("--directory", "-d", help="Folder of the server; made if need be.")],
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="TILED_SINGLE_USER_API_KEY", show_envvar=True, help="Letters and digits.", metavar="KEY"),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Anyone may read; the key is for writing.")] = False,
    read: Annotated[
        list[Path] | None, typer.Option(help="Folder whose files may be registered and read; remembered.")
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            envvar="BLUESKY_POWDER_DATABASE",
            show_envvar=True,
            help="postgresql://USER@HOST/NAME for catalog and tables; without it they are files in the folder.",
            metavar="URI",
        ),
    ] = None,
    streaming: Annotated[
        str | None,
        typer.Option(
            envvar="BLUESKY_POWDER_STREAMING",
            show_envvar=True,
            help="redis://HOST:PORT for live messages; without it they are in memory.",
            metavar="URI",
        ),
    ] = None,
) -> None:
    """Serve a folder with Tiled until Ctrl-C.

    Passwords and keys are seen by others of this machine on a command line, so give them by the environment variables,
    or PostgreSQL's by ~/.pgpass.
    """
    for folder in read or ():
        if not folder.is_dir():
            raise ServerError(f"--read {folder}: there is no such folder")
    from bluesky_powder.server import PowderServer

    ended = told_to_end()
    server = PowderServer(
        directory,
        host=host,
        port=port,
        api_key=api_key,
        readable=read or (),
        access="public" if public else "key",
        database=database,
        streaming=streaming,
        process="own",
    )
    with server:
        typer.echo(f"serving {server.directory} at {server.uri}")
        if api_key is None:
            typer.echo(_told(server))
        if public:
            typer.echo("anyone who reaches this address may read")
        _warn(server, public=public)
        typer.echo(f'in Python: from_uri("{server.uri}", api_key=...) from tiled.client; Ctrl-C ends')
        sys.stdout.flush()
        while server.running and not ended.wait(1.0):
            pass
        if not ended.is_set():
            raise ServerError(f"the server has ended by itself; see {server.directory / 'server.log'}")


def _warn(server: "PowderServer", *, public: bool) -> None:
    """Say what it means to be open to the network."""
    if server.is_local:
        return
    if public:
        typer.echo("warning: --public on an address of the network: all that can reach it may read all", err=True)
    else:
        typer.echo("warning: the key crosses the network unencrypted; put a proxy with TLS before it", err=True)


def _told(server: "PowderServer") -> str:
    """Return how to get at the generated key: on a terminal itself, anywhere else by a file, as output may be a log."""
    file = server.directory / "api-key"
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(server.api_key + "\n")
    shown = f" {server.api_key}" if sys.stdout.isatty() else ""
    return f"API key:{shown} (in {file})"
