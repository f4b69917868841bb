"""``bluesky-powder export``: a pattern of a derived run as a file for a refinement program."""

from pathlib import Path
from typing import Annotated

import typer

from bluesky_powder.cli._catalog import DirectoryOption, KeyOption, TiledOption, open_catalog


def export(
    uid: Annotated[str, typer.Argument(help="Of the derived run, of its raw run, or the beginning of either.")],
    format: Annotated[
        str | None,
        typer.Option("--format", help="xye, chi, fxye, nxazint or csv; unless given, by the output file's extension."),
    ] = None,
    which: Annotated[
        str | None, typer.Option(help="merged (all frames), cumulative (up to --frame), or frame; merged unless given.")
    ] = None,
    frame: Annotated[int | None, typer.Option(help="Number of the raw event, from 1.")] = None,
    directory: DirectoryOption = None,
    tiled: TiledOption = None,
    api_key: KeyOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File; powder-UID.EXTENSION if left out.")
    ] = None,
) -> None:
    """Write the merged pattern of a derived run, or another of its patterns, to a file."""
    from bluesky_powder.client import find
    from bluesky_powder.client.choice import Choice
    from bluesky_powder.client.formats import EXTENSIONS, format_of

    choice = Choice.of(which, frame)
    named = format if format is not None or output is None else EXTENSIONS.get(output.suffix, output.suffix)
    kind = format_of(named or "xye")
    with open_catalog(directory, tiled, api_key, there=True) as catalog:
        run = find(catalog.client, uid)
        path = output or Path(f"powder-{run.metadata['start']['uid'][:8]}{_suffix(choice.frame)}{kind.extension}")
        run.export(path, format=kind.name, which=choice.which, frame=choice.frame)
    typer.echo(str(path))


def _suffix(frame: int | None) -> str:
    return "" if frame is None else f"-{frame}"
