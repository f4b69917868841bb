"""The documents of one run on disk, in order: written by one thread, read by another, adopted by later processes."""

import contextlib
import os
import secrets
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self

from bluesky_powder.errors import PublishError
from bluesky_powder.publish.encoding import decode, encode

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows, where journals are left to the user
    fcntl = None  # type: ignore[assignment]

SUFFIX = ".journal"
_HEAD = struct.Struct(">Qd")
"""Size of the document that follows, and when it came."""
MOST_IN_MEMORY = 2**27
"""Bytes of documents that are kept in memory when the disk has no room for them."""


class Journal:
    """A file of documents; what the disk has no room for is kept in memory, as far as that is bearable.

    Parameters
    ----------
    path
        The file.
    file
        Open for reading and writing.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self._writing, self._reading = file, path.open("rb")
        self._tail: list[bytes] = []
        self._in_memory = self._next_of_tail = 0

    @classmethod
    def new(cls, folder: Path, run: str) -> Self:
        """Begin a journal.

        Parameters
        ----------
        folder
            Where to make it.
        run
            Uid of the run.

        Raises
        ------
        OSError
            If it cannot be made.
        """
        folder.mkdir(parents=True, exist_ok=True)
        name = "".join(letter for letter in run if letter.isalnum() or letter in "-_")[:80]
        path = folder / f"{name}-{secrets.token_hex(3)}{SUFFIX}"
        file = path.open("xb", buffering=0)
        _lock(file)
        return cls(path, file)

    @classmethod
    def left_behind(cls, path: Path) -> tuple[Self, list[str], dict[str, Any]] | None:
        """Take over a journal that no living process has; None where one has it, or there is nothing in it.

        An entry that was being written when its process ended is cut off.

        Returns
        -------
        journal, names, start
            The journal, at its beginning; the names of its documents; its start document.

        Raises
        ------
        OSError
            If it cannot be read.
        """
        file = path.open("r+b", buffering=0)
        if not _lock(file):
            file.close()
            return None
        start: dict[str, Any] = {}
        names, whole = [], 0
        with path.open("rb") as reading, contextlib.suppress(EOFError, ValueError, TypeError, KeyError):
            while True:
                name, document, _ = _read(reading)
                start = document if name == "start" else start
                names.append(name)
                whole = reading.tell()
        if not start:
            file.close()
            return None
        os.ftruncate(file.fileno(), whole)
        file.seek(whole)
        return cls(path, file), names, start

    @property
    def in_memory(self) -> int:
        """Bytes of documents that the disk had no room for."""
        return self._in_memory

    def append(self, name: str, document: dict[str, Any], stamp: float | None = None) -> None:
        """Add a document; when this returns it is in the file, whole, or in memory where the disk is full.

        Parameters
        ----------
        name, document
            The document.
        stamp
            When it came, in seconds of `time.time`; now unless given.

        Raises
        ------
        OSError
            If neither has room.
        TypeError, OverflowError
            If the document cannot be written down.
        """
        data = encode(name, document)
        entry = _HEAD.pack(len(data), time.time() if stamp is None else stamp) + data
        if self._tail:
            self._remember(entry, None)
            return
        end = self._writing.tell()
        try:
            _write_all(self._writing.fileno(), entry)
        except OSError as error:
            os.ftruncate(self._writing.fileno(), end)
            self._writing.seek(end)
            self._remember(entry, error)

    def read(self) -> tuple[str, dict[str, Any], float]:
        """Return the next document and when it came (s of `time.time`); call it only when there is one."""
        try:
            return _read(self._reading)
        except EOFError:
            entry = self._tail[self._next_of_tail]
            self._next_of_tail += 1
            _, stamp = _HEAD.unpack_from(entry)
            return *decode(entry[_HEAD.size :]), stamp

    def rewind(self) -> None:
        """Begin reading from the first document again."""
        self._reading.seek(0)
        self._next_of_tail = 0

    def save(self) -> bool:
        """Write what is in memory to the file, if there is room by now; tell whether all is in the file."""
        tail = b"".join(self._tail)
        end = self._writing.tell()
        try:
            _write_all(self._writing.fileno(), tail)
        except OSError:
            os.ftruncate(self._writing.fileno(), end)
            self._writing.seek(end)
            return False
        self._tail, self._in_memory, self._next_of_tail = [], 0, 0
        return True

    def close(self) -> None:
        """Close the file, which stays."""
        self._writing.close()
        self._reading.close()

    def remove(self) -> None:
        """Close and delete the file."""
        self.path.unlink(missing_ok=True)
        self.close()

    def _remember(self, entry: bytes, error: OSError | None) -> None:
        if self._in_memory + len(entry) > MOST_IN_MEMORY:
            raise error or OSError(f"{self._in_memory / 1e6:.0f} MB of documents are in memory already")
        self._in_memory += len(entry)
        self._tail.append(entry)


def read_journal(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the documents of a journal that was left on disk.

    Parameters
    ----------
    path
        As a publisher's failure names it.

    Raises
    ------
    PublishError
        If the file is no journal.
    """
    with Path(path).open("rb") as file:
        while file.peek(1):
            try:
                name, document, _ = _read(file)
            except Exception as error:
                raise PublishError(f"{path} is no journal, or damaged: {error}") from error
            yield name, document


def _read(file: BinaryIO) -> tuple[str, dict[str, Any], float]:
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise EOFError("it ends within a document") if head else EOFError("no more documents")
    size, stamp = _HEAD.unpack(head)
    if size > os.fstat(file.fileno()).st_size:
        raise EOFError("it ends within a document")
    data = file.read(size)
    if len(data) < size:
        raise EOFError("it ends within a document")
    return *decode(data), stamp


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _lock(file: BinaryIO) -> bool:
    """Keep other processes from adopting a journal as long as this one lives; tell whether no other has it."""
    if fcntl is None:  # pragma: no cover
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
