"""The server's log: a file in its folder, never the terminal, and never with the key in it.

A Tiled configuration can have its logs without keys, too, access log included (``examples/tiled-config.yml``)::

    uvicorn:
      log_config:
        formatters: {plain: {(): bluesky_powder.server.log.WithoutSecrets}}
"""

import importlib
import logging
import re
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

_LOGGERS = ("uvicorn.error", "tiled.server", "tiled.catalog", "tiled.adapters")
_TALKER = "tiled.server.app"
"""This one has a handler of its own, for the terminal."""


_KEYS = re.compile(r"(api(?:_|%5f)key=|\bapikey\s+)[^&\s\"';,]+", re.IGNORECASE)
_PASSWORDS = re.compile(r"(://)[^/\s@]*@")


def hidden(text: str) -> str:
    """Return a text without the keys and passwords that addresses and headers in it hold."""
    return _PASSWORDS.sub(r"\1<hidden>@", _KEYS.sub(r"\1<hidden>", text))


class WithoutSecrets(logging.Formatter):
    """Formats log records, without API keys (``?api_key=...``) and without passwords in addresses.

    Parameters
    ----------
    fmt, **keywords
        As for ``logging.Formatter``.
    """

    def __init__(self, fmt: str = "%(asctime)s %(levelname)s %(name)s: %(message)s", **keywords: Any) -> None:
        super().__init__(fmt, **keywords)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the traceback if there is one."""
        return hidden(super().format(record))


class _KeyHidden(WithoutSecrets):
    """Knows the key itself, too: it may stand anywhere."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self._key = key

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace(self._key, "<api key>")


class _LastError(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        lines = (record.exc_text or record.getMessage()).strip().splitlines()
        self.text = lines[-1] if lines else ""


class ServerLog:
    """Sends what Tiled and uvicorn report to a file.

    Parameters
    ----------
    file
        Log file, renewed at 5 MB.
    key
        API key, to be kept out of it.
    """

    def __init__(self, file: Path, key: str) -> None:
        self._file, self._key = file, key
        self._last_error = _LastError()
        self._handlers: tuple[logging.Handler, ...] = ()
        self._before: dict[str, tuple[int, bool]] = {}
        self._talkers: list[logging.Handler] = []

    def open(self) -> None:
        """Begin."""
        importlib.import_module(_TALKER)
        self._talkers, logging.getLogger(_TALKER).handlers = logging.getLogger(_TALKER).handlers, []
        handler = RotatingFileHandler(self._file, maxBytes=5_000_000, backupCount=1, encoding="utf-8", delay=True)
        handler.setFormatter(_KeyHidden(self._key))
        self._handlers = (handler, self._last_error)
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            self._before[name] = logger.level, logger.propagate
            logger.setLevel(logging.INFO)
            # Failed requests have their place in the file; on a scientist's terminal they would look like a crash.
            logger.propagate = False
            for each in self._handlers:
                logger.addHandler(each)

    def close(self) -> None:
        """End, and leave the loggers as they were. Calling it again does nothing."""
        if not self._handlers:
            return
        for name, (level, propagated) in self._before.items():
            logger = logging.getLogger(name)
            logger.setLevel(level)
            logger.propagate = propagated
            for handler in self._handlers:
                logger.removeHandler(handler)
        logging.getLogger(_TALKER).handlers = self._talkers
        for handler in self._handlers:
            handler.close()
        self._handlers = ()

    @property
    def last_error(self) -> str:
        """Last line of what was last reported as an error; "" when nothing was."""
        return hidden(self._last_error.text).replace(self._key, "<api key>")
