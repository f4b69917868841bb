"""The documents of one run on disk, in order: written by one thread, read by another."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from bluesky_powder.errors import PublishError
from bluesky_powder.publish.encoding import decode, encode

_SIZE = 8


class Journal:
    """A file of documents.

    Parameters
    ----------
    folder
        Where to make it.
    run
        Uid of the run.
    """

    def __init__(self, folder: Path, run: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = "".join(letter for letter in run if letter.isalnum() or letter in "-_")[:80]
        self.path = folder / f"{name}-{secrets.token_hex(3)}.journal"
        self._writing = self.path.open("xb", buffering=0)
        self._reading = self.path.open("rb")

    def append(self, name: str, document: dict[str, Any]) -> None:
        """Add a document; when this returns it is in the file, whole.

        Raises
        ------
        OSError
            If the disk has no room.
        TypeError, OverflowError
            If the document cannot be written down.
        """
        data = encode(name, document)
        end = self._writing.tell()
        try:
            _write_all(self._writing.fileno(), len(data).to_bytes(_SIZE, "big") + data)
        except OSError:
            os.ftruncate(self._writing.fileno(), end)
            self._writing.seek(end)
            raise

    def read(self) -> tuple[str, dict[str, Any]]:
        """Return the next document; call it only when there is one."""
        return _read(self._reading)

    def rewind(self) -> None:
        """Begin reading from the first document again."""
        self._reading.seek(0)

    def close(self) -> None:
        """Close the file, which stays."""
        self._writing.close()
        self._reading.close()

    def remove(self) -> None:
        """Close and delete the file."""
        self.close()
        self.path.unlink(missing_ok=True)


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
                yield _read(file)
            except Exception as error:
                raise PublishError(f"{path} is no journal, or damaged: {error}") from error


def _read(file: BinaryIO) -> tuple[str, dict[str, Any]]:
    size = int.from_bytes(file.read(_SIZE), "big")
    return decode(file.read(size))


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
