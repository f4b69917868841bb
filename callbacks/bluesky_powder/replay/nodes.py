"""What Tiled keeps of one stream of a run: descriptors, rows of a table, arrays beside it, and files."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass
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
        Arrays that are kept beside the table; the index into them is the row's `at`.
    files
        Data key -> where the values of each event are that files hold.
    """

    name: str
    descriptors: Sequence[Mapping[str, Any]]
    rows: Sequence[Mapping[str, Any]] = ()
    columns: Mapping[str, Column] = field(default_factory=dict)
    files: Mapping[str, Sequence[Piece]] = field(default_factory=dict)

    def values(self, at: int) -> dict[str, Any]:
        """Return the data of one event."""
        row = self.rows[at]
        keys = self.descriptors[0]["data_keys"]
        data = {key: row[key] for key in keys if row.get(key) is not None}
        return data | {key: column.at(row["at"]) for key, column in self.columns.items()}


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
    descriptors = build_descriptor_docs(dict(container.metadata), name, run_start_uid=run)
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
            files[part] = pieces_of(child, about, descriptors[0])
        elif child.structure_family == "array":
            columns[part] = Column(child)
    return StoredStream(name, descriptors, _in_step(rows, columns, ended, name), columns, files)


def _rows(tables: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the rows of a table, or of the several that a wide one is split into."""
    read = [table.read() for table in tables]
    if not read:
        return []
    columns = {str(key): frame[key].tolist() for frame in read for key in frame}
    size = min(map(len, columns.values()), default=0)
    rows = [{key: values[at] for key, values in columns.items()} | {"at": at} for at in range(size)]
    # A database gives no order, and an append that was tried twice may have gone in twice.
    unique = {(row["seq_num"], row["time"]): row for row in reversed(rows)}
    ordered = sorted(unique.values(), key=lambda row: (row["time"], row["at"]))
    if len(ordered) == len(rows):
        return ordered
    return [row | {"at": at} for at, row in enumerate(ordered)]


def _in_step(rows: list[dict[str, Any]], columns: Mapping[str, Column], ended: bool, name: str) -> list[dict[str, Any]]:
    """Return the rows whose arrays are there."""
    least = min(map(len, columns.values()), default=len(rows))
    if ended:
        for key, column in columns.items():
            if len(column) != len(rows):
                raise ReplayError(
                    f"stream {name!r} has {len(rows)} events but {len(column)} entries of {key!r}; which belong "
                    "together cannot be told"
                )
    return [row for row in rows if row["at"] < least]


def datums(piece_list: Sequence[Piece], start: int, stop: int) -> Iterator[tuple[Piece, range]]:
    """Yield the parts of a range of events with the files that hold them."""
    for piece in piece_list:
        part = range(max(piece.span.start, start), min(piece.span.stop, stop))
        if part:
            yield piece, part
