"""What Tiled keeps of one stream of a run: descriptors, rows of a table, arrays beside it, and files."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bluesky_powder.errors import ReplayError
from bluesky_powder.replay.assets import Piece, pieces_of

_TABLE = re.compile(r"internal(_\d+)?")
_BLOCK = 2**25
"""Bytes of an array that are fetched at once."""


@dataclass
class Column:
    """An array beside the table, one entry per row, fetched a block at a time.

    Attributes
    ----------
    node
        Tiled's array client, (rows, ...).
    """

    node: Any
    _first: int = 0
    _block: Any = ()

    def __len__(self) -> int:
        return int(self.node.shape[0])

    def at(self, row: int) -> Any:
        """Return one entry."""
        if not self._first <= row < self._first + len(self._block):
            each = int(np.prod(self.node.shape[1:])) * np.dtype(self.node.dtype).itemsize
            count = max(_BLOCK // max(each, 1), 1)
            self._first, self._block = row, self.node[row : min(row + count, len(self))]
        return self._block[row - self._first]


@dataclass(frozen=True)
class Files:
    """The files behind one data key of a stream.

    Attributes
    ----------
    pieces
        StreamResource documents, each with the indices that it holds.
    indices
        Index of each event, in the order of the events.
    resources
        Whether the StreamResource documents are this stream's to tell, rather than another's that shares the files.
    """

    pieces: Sequence[Piece]
    indices: Sequence[int]
    resources: bool = True

    def of(self, events: range) -> Iterator[tuple[Piece, range, int]]:
        """Yield piece, indices, and number of the first event, for as long as events and indices go on together."""
        starts = [piece.span.start for piece in self.pieces]
        at, end = events.start, min(events.stop, len(self.indices))
        while at < end:
            first = self.indices[at]
            piece = self.pieces[bisect_right(starts, first) - 1]
            size = 1
            while at + size < end and self.indices[at + size] == first + size < piece.span.stop:
                size += 1
            yield piece, range(first, first + size), at
            at += size


@dataclass(frozen=True)
class StoredStream:
    """One stream, as far as Tiled has it.

    Attributes
    ----------
    name
        Of the stream.
    descriptors
        Descriptor documents, in order of time.
    rows
        What the table says of each event, in the order in which they were taken: seq_num, time, values, ``ts_KEY``.
    columns
        Arrays that are kept beside the table.
    files
        Data key -> where the values are that files hold.
    """

    name: str
    descriptors: Sequence[Mapping[str, Any]]
    rows: Sequence[Mapping[str, Any]] = ()
    columns: Mapping[str, Column] = field(default_factory=dict)
    files: Mapping[str, Files] = field(default_factory=dict)

    def values(self, at: int) -> dict[str, Any]:
        """Return the data of one event."""
        row = self.rows[at]
        keys = self.descriptors[0]["data_keys"]
        data = {key: row[key] for key in keys if row.get(key) is not None}
        return data | {key: column.at(at) for key, column in self.columns.items()}


def read_stream(node: Any, name: str, run: str, *, ended: bool) -> StoredStream:
    """Read what Tiled has of a stream; arrays and files are only looked up.

    Parameters
    ----------
    node
        Tiled client of the stream.
    name
        Of the stream.
    run
        Uid of the raw run.
    ended
        Whether the run is over. One that is not may have more rows in one place than in another.

    Raises
    ------
    ReplayError
        If table and arrays do not fit together.
    """
    from bluesky_tiled_plugins.exporters import build_descriptor_docs

    container = getattr(node, "base", node)
    descriptors = [
        _with_streams(descriptor)
        for descriptor in build_descriptor_docs(dict(container.metadata), name, run_start_uid=run)
    ]
    keys = descriptors[0]["data_keys"]
    parts = list(container)
    # The table first: an event's arrays and files are there before its row.
    rows = _rows([container[part] for part in parts if _TABLE.fullmatch(part)])
    columns, files = {}, {}
    for part in parts:
        about = keys.get(part)
        if about is None or _TABLE.fullmatch(part):
            continue
        child = container[part]
        if about.get("external") is not None:
            pieces = pieces_of(child, about, descriptors[0])
            files[part] = Files(pieces, range(pieces[-1].span.stop))
        elif child.structure_family == "array":
            columns[part] = Column(child)
    return StoredStream(name, descriptors, _in_step(rows, columns, ended, name), columns, files)


def _with_streams(descriptor: Mapping[str, Any]) -> dict[str, Any]:
    """Return a descriptor that says of all files that StreamDatums tell of them: Tiled has no Resources and Datums."""
    keys = {
        key: about if about.get("external") is None else {**about, "external": "STREAM:"}
        for key, about in descriptor["data_keys"].items()
    }
    return {**descriptor, "data_keys": keys}


def _rows(tables: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the rows of a table, or of the several that a wide one is split into, in order of time."""
    read = [table.read() for table in tables]
    columns = {str(key): frame[key].tolist() for frame in read for key in frame}
    size = min(map(len, columns.values()), default=0)
    rows = [{key: values[at] for key, values in columns.items()} for at in range(size)]
    # A database promises no order; and an append that was tried twice may have gone in twice.
    unique = {(row["seq_num"], row["time"]): row for row in rows}
    return sorted(unique.values(), key=lambda row: row["time"])


def _in_step(rows: list[dict[str, Any]], columns: Mapping[str, Column], ended: bool, name: str) -> list[dict[str, Any]]:
    """Return the rows whose arrays are there."""
    for key, column in columns.items():
        if ended and len(column) != len(rows):
            raise ReplayError(
                f"stream {name!r} has {len(rows)} events but {len(column)} entries of {key!r}; which belong together "
                "cannot be told"
            )
    return rows[: min(map(len, columns.values()), default=len(rows))]


def share_files(streams: Sequence[StoredStream]) -> list[StoredStream]:
    """Return streams that know of the files which they share.

    A detector that is read in two streams (dark frames, say) goes on writing to one file. Tiled's writer then puts all
    of it into the stream that came first. Indices went up from event to event, whatever the stream, and so does time.
    """
    found = list(streams)
    for holder in streams:
        for key, files in holder.files.items():
            sharing = [stream for stream in found if key in _external(stream) and key not in stream.files]
            together = sorted(
                (row["time"], stream.name, at) for stream in (holder, *sharing) for at, row in enumerate(stream.rows)
            )
            if not sharing or len(together) != len(files.indices):
                continue
            for stream in (holder, *sharing):
                mine = [index for index, (_, name, _) in enumerate(together) if name == stream.name]
                shared = Files(files.pieces, mine, resources=stream is holder)
                at = next(number for number, other in enumerate(found) if other.name == stream.name)
                found[at] = replace(found[at], files={**found[at].files, key: shared})
    return found


def _external(stream: StoredStream) -> list[str]:
    keys = stream.descriptors[0]["data_keys"]
    return [key for key, about in keys.items() if about.get("external") is not None]
