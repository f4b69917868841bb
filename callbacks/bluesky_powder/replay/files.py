"""Documents in files: JSON lines, JSON arrays and JSON sequences, msgpack, our own journals; any of them gzipped.

What a file is shows in its first bytes, not in its name. Files are read as a stream, one document at a time in memory.
"""

import codecs
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bluesky_powder.errors import PublishError, ReplayError
from bluesky_powder.publish.obstacles import in_one_line
from bluesky_powder.replay.arrays import unpacked_array

Binary = io.BufferedReader | gzip.GzipFile
Pair = tuple[str, Mapping[str, Any]]
_GZIP = b"\x1f\x8b"
_JSON = b'[{"\x1e'
_CHUNK = 2**20
_BETWEEN = re.compile(r"[\s,]*")
_NEAR_END = 16
"""A JSON text that ends in the middle of a word or number is told to be wrong so far before its end, at most."""


class DocumentsBreakOffError(ReplayError):
    """Documents that end in the middle of one; those before it are good."""


def documents_in(path: str | Path) -> Iterator[Pair]:
    """Yield the documents of a file.

    Parameters
    ----------
    path
        As suitcase-jsonl, suitcase-msgpack, Bluesky's JSON writers, a Tiled export (application/json-seq) or a
        `TiledPublisher` write it: each record is [name, document] or {"name": ..., "doc": ...}.

    Yields
    ------
    tuple
        (name, document).

    Raises
    ------
    DocumentsBreakOffError
        After the last whole document, if the file ends in the middle of one.
    ReplayError
        If the file cannot be opened, or what it holds are no documents.
    """
    path = Path(path)
    try:
        with path.open("rb") as raw:
            if raw.peek(2)[:2] != _GZIP:
                yield from _documents(raw, path)
                return
            with gzip.open(raw) as unpacked:
                yield from _documents(unpacked, path)
    except EOFError as error:
        raise _broken_off(path, "its compressed data") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ReplayError(f"{path} is a damaged gzip file: {error}") from error
    except UnicodeDecodeError as error:
        raise ReplayError(f"{path} is not UTF-8: {error}") from error
    except OSError as error:
        raise ReplayError(f"{path} cannot be read: {error.strerror or error}") from error


def _documents(file: Binary, path: Path) -> Iterator[Pair]:
    if file.peek(3).startswith(codecs.BOM_UTF8):
        file.read(3)
    head = file.peek(64).lstrip()
    if not head:
        raise ReplayError(f"{path} is empty")
    if head[:1] in _JSON[:1] and head[1:].lstrip()[:1] in (b"{", b"[", b""):
        records = _json_array(file, path)
    elif head[0] in _JSON:
        records = _json_lines(file, path)
    elif head[0] == 0:
        records = _journal(path)
    else:
        records = _msgpack(file, path)
    for number, record in enumerate(records, 1):
        yield _as_pair(record, path, number)


def _as_pair(record: Any, path: Path, number: int) -> Pair:
    if isinstance(record, Mapping) and {"name", "doc"} <= record.keys():
        record = record["name"], record["doc"]
    if isinstance(record, list | tuple) and len(record) == 2:
        name, document = record
        if isinstance(name, str) and isinstance(document, Mapping):
            return name, document
    shown = str(record)[:60]
    raise ReplayError(f"{path}: record {number} is no Bluesky document, not [name, document] nor a mapping: {shown}")


def _broken_off(path: Path, where: str) -> DocumentsBreakOffError:
    return DocumentsBreakOffError(f"{path} ends in the middle of {where}; what stands before is taken")


def _json_lines(file: Binary, path: Path) -> Iterator[Any]:
    for number, line in enumerate(file, 1):
        text = line.lstrip(b"\x1e").strip()
        if not text:
            continue
        try:
            yield json.loads(text)
        except RecursionError as error:
            raise ReplayError(f"{path}, line {number} is nested too deeply") from error
        except ValueError as error:
            if line.endswith(b"\n"):
                raise ReplayError(f"{path}, line {number} is not JSON: {error}") from error
            raise _broken_off(path, f"line {number}") from error


def _json_array(file: Binary, path: Path) -> Iterator[Any]:
    """Yield the elements of one long array, without ever having all of it in memory."""
    decode = json.JSONDecoder().raw_decode
    text = codecs.getincrementaldecoder("utf-8")()
    held, number = text.decode(_read(file, _CHUNK)), 1
    at = held.index("[") + 1
    while True:
        at = _BETWEEN.match(held, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        if held.startswith("]", at):
            return
        try:
            element, at = decode(held, at)
        except RecursionError as error:
            raise ReplayError(f"{path}, element {number} is nested too deeply") from error
        except json.JSONDecodeError as error:
            if not _may_go_on(error):
                raise ReplayError(f"{path}, element {number} is not JSON: {error}") from error
            # Twice as much each time, so that a long element is not looked at too often.
            more = text.decode(_read(file, max(_CHUNK, len(held) - at)))
            if not more:
                raise _broken_off(path, f"element {number}" if at < len(held) else "its array") from error
            held, at = held[at:] + more, 0
        else:
            yield element
            number += 1


def _may_go_on(error: json.JSONDecodeError) -> bool:
    """Tell whether a JSON text may be right so far, and only not be whole."""
    return error.msg.startswith(("Unterminated string", "Invalid \\u")) or error.pos >= len(error.doc) - _NEAR_END


def _msgpack(file: Binary, path: Path) -> Iterator[Any]:
    import msgpack  # type: ignore[import-untyped]

    # A stand-in with the one method that is asked for.
    source = SimpleNamespace(read=partial(_read, file))
    unpacker = msgpack.Unpacker(
        source, raw=False, strict_map_key=False, object_hook=unpacked_array, max_buffer_size=2**31 - 1
    )
    number = end = 0
    try:
        for record in unpacker:
            number, end = number + 1, unpacker.tell()
            yield record
    except ReplayError as error:
        raise ReplayError(f"{path}, record {number + 1}: {error}") from error
    except (EOFError, OSError, zlib.error):
        raise
    except Exception as error:
        raise ReplayError(f"{path} is neither JSON nor msgpack: record {number + 1}: {in_one_line(error)}") from error
    if end < file.tell():
        raise _broken_off(path, f"record {number + 1}")


def _read(file: Binary, size: int) -> bytes:
    """Return so many bytes, or what there is: also what stands before the point where compressed data break off."""
    parts: list[bytes] = []
    while size > 0:
        try:
            part = file.read1(size)
        except EOFError:
            if not parts:
                raise
            break
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _journal(path: Path) -> Iterator[Any]:
    from bluesky_powder.publish.journal import read_journal

    number = 0
    try:
        for number, record in enumerate(read_journal(path), 1):  # noqa: B007 - told in the error
            yield record
    except PublishError as error:
        if not number:
            raise ReplayError(f"{path} holds no documents that are known here") from error
        raise _broken_off(path, f"record {number + 1}") from error
