"""Numbers that a file holds, one row an event: what PandA-like devices write beside the frames, also while they do."""

import contextlib
import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from bluesky_powder.errors import FrameSkipped, FramesUnavailable
from bluesky_powder.frames.files.handles import open_file, refresh
from bluesky_powder.frames.files.trouble import telling_what_is_wrong
from bluesky_powder.frames.images.reach import Reach, is_special
from bluesky_powder.frames.joining.stream_resource import HDF5, Resource, told_by

MOST_OPEN_FILES = 16
BLOCK = 4096
"""Rows that are read at once, where so many were announced."""
MOST_BLOCKS = 64
"""How many blocks are kept."""


@dataclass(kw_only=True)
class Column(Resource):
    """One StreamResource document of a data key that holds numbers.

    Attributes
    ----------
    width
        Numbers an event.
    """

    width: int

    @classmethod
    def of(cls, document: Mapping[str, Any], data_key: Mapping[str, Any]) -> "Column":
        """Take a document, with the descriptor's entry for it."""
        told = told_by(document)
        parameters = told["parameters"]
        sizes = [size for size in data_key.get("shape") or () if isinstance(size, int)]
        many = int(parameters.get("multiplier") or parameters.get("frame_per_point") or 1)
        width = max(math.prod(sizes), 1)
        return cls(**told, width=many if width == 1 else width)


class ColumnFiles:
    """Reads columns; files stay open, the least recently used is closed first.

    Parameters
    ----------
    reach
        What the readers of the run share.
    """

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._open: OrderedDict[Path, _OpenFile] = OrderedDict()
        self._blocks: OrderedDict[str, tuple[int, NDArray[np.float64]]] = OrderedDict()

    def values(self, column: Column, index: int) -> list[float]:
        """Return the numbers of one event.

        Parameters
        ----------
        column
            Where.
        index
            Of the event in the stream.

        Raises
        ------
        FrameSkipped
            If this kind of resource is not read here, or does not hold numbers; the message goes on from the data key.
        FramesUnavailable
            If the file is missing, damaged, or does not have the row in time.
        """
        start, block = self._blocks.get(column.uid, (0, _NO_ROWS))
        if not start <= index < start + len(block):
            start, block = index, self._read(column, index)
            self._blocks[column.uid] = start, block
            if len(self._blocks) > MOST_BLOCKS:
                self._blocks.popitem(last=False)
        numbers: list[float] = block[index - start].tolist()
        return numbers

    def close(self) -> None:
        """Close all files."""
        while self._open:
            self._forget(next(iter(self._open)))

    def _read(self, column: Column, index: int) -> NDArray[np.float64]:
        """Return the rows from an index on that were announced and are there, (n, width), n at least 1."""
        path, dataset = self._place_of(column)
        # What lies beyond the indices announced may not be written yet.
        stop = min(max(column.begin + column.events, index + 1), index + BLOCK)
        first, last = index - column.first, stop - column.first
        if first < 0:
            raise FrameSkipped(f"is in {path}, which begins after index {index}")
        return self._reach.patience.until_read(str(path), lambda: self._try(path, dataset, first, last, column.width))

    def _place_of(self, column: Column) -> tuple[Path, str]:
        if column.mimetype != HDF5:
            raise FrameSkipped(f"is in a file of type {column.mimetype}, where numbers are not read; known is {HDF5}")
        path, parameters = Path(self._reach.path(column.uri)), column.parameters
        dataset = parameters.get("dataset") or parameters.get("path")
        if not dataset:
            raise FrameSkipped(f"is in {path}, but its StreamResource names no dataset")
        for odd in ("template", "slice"):
            if parameters.get(odd):
                raise FrameSkipped(f"is in {path}, but numbers with {odd!r} in their StreamResource are not read")
        return path, str(dataset)

    def _try(self, path: Path, dataset: str, first: int, last: int, width: int) -> NDArray[np.float64]:
        try:
            return self._file(path).rows(dataset, first, last, width)
        except FramesUnavailable:
            self._forget(path)  # a new handle sees what an old one may not
            raise
        except FrameSkipped:
            raise
        except Exception as error:
            self._forget(path)
            raise FramesUnavailable(f"{path}: dataset {dataset} cannot be read: {error}") from error

    def _file(self, path: Path) -> "_OpenFile":
        file = self._open.get(path)
        if file is None:
            file = self._open[path] = _OpenFile(path)
        self._open.move_to_end(path)
        while len(self._open) > MOST_OPEN_FILES:
            self._forget(next(iter(self._open)))
        return file

    def _forget(self, path: Path) -> None:
        file = self._open.pop(path, None)
        if file is not None:
            file.close()


class _OpenFile:
    """One HDF5 file, open for reading while it may be written, with the datasets that were asked for.

    Raises
    ------
    FramesUnavailable
        If it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._nodes: dict[str, tuple[h5py.Dataset, float]] = {}
        if is_special(str(path)):
            raise FramesUnavailable(f"{path} is a pipe or a device, no file")
        with telling_what_is_wrong(path, "HDF5"):
            self._file = open_file(path)

    def rows(self, dataset: str, first: int, last: int, width: int) -> NDArray[np.float64]:
        """Return the rows of events from `first` to before `last`, as far as they are there, (n, width)."""
        node, fill = self._node(dataset)
        each = math.prod(node.shape[1:])
        if each == 0 or width % each:
            where = f"is in {self._path}, where {dataset}"
            raise FrameSkipped(f"{where} has {each} numbers a row, but {width} an event are told")
        per_event = width // each
        if node.shape[0] < last * per_event:
            refresh(node)
        last = min(last, node.shape[0] // per_event)
        if last <= first:
            raise FramesUnavailable(f"{self._path}: {dataset} has {node.shape[0]} rows, fewer than were announced")
        found = np.asarray(node[first * per_event : last * per_event], dtype=np.float64)
        if node.chunks is not None and ((found == fill) | np.isnan(found)).any():
            last = self._end_of_written(node, first * per_event, last * per_event) // per_event
            if last <= first:
                raise FramesUnavailable(f"{self._path}: rows of {dataset} were announced but are not written")
        return found.reshape(-1, width)[: last - first]

    def close(self) -> None:
        """Close it, whatever its state."""
        with contextlib.suppress(Exception):  # a damaged file may not even close
            self._file.close()

    def _node(self, dataset: str) -> tuple[h5py.Dataset, float]:
        """Return a dataset, and what its unwritten rows read as."""
        if dataset not in self._nodes:
            node = self._file.get(dataset)
            if not isinstance(node, h5py.Dataset):
                raise FramesUnavailable(f"{self._path} has no dataset {dataset} (yet)")
            if node.ndim == 0 or node.dtype.kind not in "buif":
                where = f"is in {self._path}, where {dataset}"
                raise FrameSkipped(f"{where} ({node.dtype}, {node.ndim}-D) is no column of numbers")
            self._nodes[dataset] = node, float(node.fillvalue)
        return self._nodes[dataset]

    def _end_of_written(self, node: h5py.Dataset, start: int, stop: int) -> int:
        """Return the row before which all chunks are in the file: others read as the fill value."""
        size, deep = self._path.stat().st_size, node.chunks[0]
        for row in range(start - start % deep, stop, deep):
            chunk = node.id.get_chunk_info_by_coord((row, *(0,) * (node.ndim - 1)))
            if chunk.byte_offset is None or chunk.byte_offset + chunk.size > size:
                return max(row, start)
        return stop


@dataclass(frozen=True, slots=True)
class Row:
    """The numbers of one event in a column; see `ColumnFiles.values`."""

    files: ColumnFiles
    column: Column
    index: int

    def values(self) -> list[float]:
        """Return them."""
        return self.files.values(self.column, self.index)


_NO_ROWS = np.empty((0, 0))
