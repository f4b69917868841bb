"""The command line: ``bluesky-powder COMMAND``, one module a command."""

import logging
import os
import sys
from typing import Annotated

import typer

from azimuthal.errors import AzimuthalError
from bluesky_powder.cli.demo import demo
from bluesky_powder.cli.export import export
from bluesky_powder.cli.ingest import ingest
from bluesky_powder.cli.range import range as cover
from bluesky_powder.cli.replay import replay
from bluesky_powder.cli.serve import serve
from bluesky_powder.cli.show import show
from bluesky_powder.errors import BlueskyPowderError

_EXTRA_OF_MODULE = {
    "databroker": "databroker",
    "fastapi": "server",
    "matplotlib": "live",
    "ophyd_async": "sim",
    "uvicorn": "server",
    "zmq": "live",
}

app = typer.Typer(name="bluesky-powder", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _all_commands(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log what the parts do, not only what fails.")
    ] = False,
) -> None:
    """Powder diffraction for Bluesky: frames in, patterns and spottiness out, live."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    if verbose:
        logging.getLogger("bluesky_powder").setLevel(logging.INFO)


for _command in (demo, ingest, replay, show, export, cover, serve):
    app.command(_command.__name__)(_command)


def main() -> None:
    """Run the command line; what goes wrong in a known way is one line on stderr and exit code 1."""
    try:
        app()
    except BrokenPipeError:
        # The reader has gone (`| head`); Python must not flush into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (AzimuthalError, BlueskyPowderError, OSError) as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF_MODULE.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        _fail(f"this command needs {error.name}, which is not installed: pip install 'bluesky-powder[{extra}]'")


def _fail(message: str) -> None:
    typer.echo(f"bluesky-powder: {message}", err=True)
    sys.exit(1)
