"""A Tiled server in a process of its own, as ``bluesky-powder serve`` starts it at a facility."""

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SERVE = "from bluesky_powder.cli import main; main()"
_END = 30.0


@dataclass(frozen=True)
class Served:
    """A server that runs.

    Attributes
    ----------
    directory
        Its folder.
    uri
        Its address.
    api_key
        To write and read with.
    """

    directory: Path
    uri: str
    api_key: str = field(repr=False)
    _contexts: list[Any] = field(default_factory=list, repr=False)

    @property
    def spool(self) -> Path:
        """Folder for publishers' journals."""
        return self.directory / "spool"

    def client(self) -> Any:
        """Return a Tiled client; it is closed with the server."""
        from tiled.client import from_uri

        client = from_uri(self.uri, api_key=self.api_key, trust_env=False)
        self._contexts.append(client.context)
        return client

    def close(self) -> None:
        """Close the clients."""
        while self._contexts:
            self._contexts.pop().close()


@contextmanager
def served() -> Iterator[Served]:
    """Serve a new folder on this machine, until the end of the block.

    Raises
    ------
    RuntimeError
        If the server does not start.
    """
    key = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        command = [sys.executable, "-c", _SERVE, "serve", "--directory", folder, "--port", "0"]
        process = subprocess.Popen(
            command, env={**os.environ, "TILED_SINGLE_USER_API_KEY": key}, stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            told = process.stdout.readline()
            if " at http" not in told:
                raise RuntimeError(f"the server did not start: {told.strip()}")
            server = Served(Path(folder), told.split()[-1], key)
            try:
                yield server
            finally:
                server.close()
        finally:
            process.terminate()
            process.communicate(timeout=_END)
