"""Starting and stopping the server."""

import ipaddress
import logging
import secrets
import socket
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from bluesky_powder.errors import ServerError
from bluesky_powder.publish.at_exit import close_at_exit
from bluesky_powder.server import exports, growing
from bluesky_powder.server.catalog import open_catalog
from bluesky_powder.server.collector import spare_what_stays
from bluesky_powder.server.databases import Databases
from bluesky_powder.server.folder import Folder
from bluesky_powder.server.log import ServerLog
from bluesky_powder.server.queries import RewrittenQuery
from bluesky_powder.server.tables import check_serialised

logger = logging.getLogger("bluesky_powder.server")

Access = Literal["key", "public"]
Process = Literal["shared", "own"]

_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 20.0
_OPEN_REQUESTS = 3
"""Seconds that requests under way are given at the end."""


class PowderServer:
    """A Tiled server in this process, for one folder.

    Catalog (SQLite), tables (DuckDB) and arrays (zarr) live in the folder and are there again at the next start, also
    when the folder was moved. Live subscriptions work. Runs can be asked for as documents. Tables and arrays may be
    read while they grow.

    Parameters
    ----------
    directory
        The folder; made when it does not exist.
    host
        Address to listen at; 127.0.0.1 can be reached from this machine only.
    port
        0 takes a free one.
    api_key
        Letters and digits; generated unless given. Never logged.
    readable
        Folders whose files may be registered and read; remembered with the folder.
    access
        "key": nothing without the key; "public": anyone may read, the key is for writing.
    database
        ``postgresql://`` URI for catalog and tables instead of files in the folder. The arrays stay in the folder.
    streaming
        ``redis://`` URI for live messages instead of this process's memory.
    process
        "own": this process does nothing else, so its garbage collector may be made to disturb no requests.

    Raises
    ------
    ServerError
        If the key or the database's URI is malformed; at start, if folder, port, database or Tiled does not do.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str | None = None,
        readable: Iterable[str | Path] = (),
        access: Access = "key",
        database: str | None = None,
        streaming: str | None = None,
        process: Process = "shared",
    ) -> None:
        if api_key is not None and not (api_key.isascii() and api_key.isalnum()):
            raise ServerError("an API key consists of letters and digits only, at least one")
        self._host, self._wanted_port, self._access = host, port, access
        self._readable, self._process = list(readable), process
        self._folder = Folder.at(directory)
        self._databases, self._streaming = Databases.at(self._folder, database), streaming
        self.api_key = api_key or secrets.token_hex(16)
        self._log = ServerLog(self._folder.log, self.api_key)
        self._contexts: list[Any] = []
        self._uvicorn: Any = None
        self._thread: threading.Thread | None = None
        self._port = 0

    @property
    def directory(self) -> Path:
        """The folder, absolute."""
        return self._folder.path

    @property
    def spool(self) -> Path:
        """Where publishers into this server keep documents on their way."""
        return self._folder.spool

    @property
    def running(self) -> bool:
        """Tell whether the server answers."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def uri(self) -> str:
        """Address, without the key; for browsers and for ``tiled.client.from_uri(uri, api_key=...)``.

        Raises
        ------
        ServerError
            If the server has not been started.
        """
        if not self._port:
            raise ServerError("the server has not been started, so it has no address yet")
        return f"http://{_reachable(self._host)}:{self._port}"

    @property
    def is_local(self) -> bool:
        """Tell whether it is reached from this machine only."""
        try:
            return ipaddress.ip_address(self._host).is_loopback
        except ValueError:
            return self._host == "localhost"

    def client(self) -> Any:
        """Return a Tiled client of this server; it is closed with the server."""
        from tiled.client import from_uri

        # A proxy that the environment names is not for a server in this process.
        client = from_uri(self.uri, api_key=self.api_key, trust_env=False)
        self._contexts.append(client.context)
        return client

    def start(self) -> Self:
        """Start, and return when requests are answered."""
        if self._thread is not None:
            return self
        listening = self._listen()
        try:
            self._folder.lock()
        except ServerError:
            listening.close()
            raise
        self._log.open()
        try:
            self._run(listening)
        except BaseException:
            listening.close()
            self.close()
            raise
        close_at_exit(self.close)
        logger.info("serving %s at %s", self.directory, self.uri)
        return self

    def close(self) -> None:
        """Stop: requests under way are finished or, after some seconds, cut. Calling it again does nothing."""
        while self._contexts:
            self._contexts.pop().close()
        thread, self._thread = self._thread, None
        if thread is not None:
            self._uvicorn.should_exit = True
            thread.join(_STOP_TIMEOUT)
            if thread.is_alive():
                logger.error("the server of %s does not stop; a request seems stuck", self.directory)
        self._log.close()
        self._folder.unlock()

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.close()

    def __repr__(self) -> str:
        where = self.uri if self.running else "not running"
        return f"<PowderServer {self.directory} {where}>"

    def _listen(self) -> socket.socket:
        """Take the port before anything else: whether it is free is known at once, and whose fault it is."""
        try:
            family = socket.getaddrinfo(self._host, self._wanted_port, type=socket.SOCK_STREAM)[0][0]
            listening = socket.create_server((self._host, self._wanted_port), family=family)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ServerError(f"cannot listen at {self._host} port {self._wanted_port}: {reason}") from error
        self._port = listening.getsockname()[1]
        # asyncio sends without delay on sockets that say they are TCP only; others answer 40 ms late (Nagle's algorithm
        # waiting for the reader's delayed acknowledgement).
        return socket.socket(listening.family, listening.type, socket.IPPROTO_TCP, fileno=listening.detach())

    def _run(self, listening: socket.socket) -> None:
        import uvicorn
        from tiled.storage import get_storage

        app = self._build()
        config = uvicorn.Config(
            app,
            loop="asyncio",
            lifespan="on",
            log_config=None,
            access_log=False,  # its lines would hold keys given as ?api_key=
            timeout_graceful_shutdown=_OPEN_REQUESTS,
        )
        self._uvicorn = uvicorn.Server(config)
        thread = threading.Thread(target=self._serve, args=(listening,), name="bluesky-powder-server", daemon=True)
        thread.start()
        self._thread = thread
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._uvicorn.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise ServerError(f"the server of {self.directory} does not start{self._why()}; see {self._folder.log}")
            time.sleep(0.02)
        if self._databases.kind == "embedded":
            check_serialised(get_storage(self._databases.tables))
        self._folder.note_address(self.uri)
        if self._process == "own":
            spare_what_stays()

    def _serve(self, listening: socket.socket) -> None:
        try:
            self._uvicorn.run(sockets=[listening])
        except SystemExit:
            # uvicorn's way to say that the start failed; the reason is in the log.
            return

    def _build(self) -> Any:
        """Return the app."""
        from tiled.config import Authentication
        from tiled.server.app import build_app

        from bluesky_powder.web.settings import ui_settings

        catalog = open_catalog(self._folder, self._databases, self._streaming, self._readable)
        with ui_settings(self._folder.ui_settings):
            app = build_app(
                catalog,
                authentication=Authentication(
                    single_user_api_key=self.api_key, allow_anonymous_access=self._access == "public"
                ),
                include_routers=_routers(),
            )
        app.add_middleware(RewrittenQuery, place=growing.PLACE, rewrite=growing.with_slice)
        app.add_middleware(RewrittenQuery, place=exports.PLACE, rewrite=exports.in_media_type)
        _keep_settings_apart(app)
        return app

    def _why(self) -> str:
        return f": {self._log.last_error}" if self._log.last_error else ""


def _routers() -> list[Any]:
    """Teach Tiled to give runs as documents and files; return the routes that Bluesky's client expects, and ours."""
    from bluesky_tiled_plugins.exporters import json_seq_exporter
    from bluesky_tiled_plugins.routers.validator import router
    from tiled.media_type_registration import default_serialization_registry

    from bluesky_powder.web import router as pages

    default_serialization_registry.register("BlueskyRun", "application/json-seq", json_seq_exporter)
    exports.register(default_serialization_registry)
    return [router, pages]


def _keep_settings_apart(app: Any) -> None:
    """Give an app settings of its own.

    Tiled 0.2.20 writes key and access of each app into one object of the whole process: the server started last would
    decide over the others' keys, and a public one would open them all.
    """
    from tiled.server.settings import get_settings

    settings = app.dependency_overrides[get_settings]().model_copy(deep=True)
    app.dependency_overrides[get_settings] = lambda: settings
    get_settings.cache_clear()


def _reachable(host: str) -> str:
    """Return an address that clients on this machine can use."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return host if address.version == 4 else f"[{host}]"
