"""Images in HDF5 files, also while they are written: one open SWMR handle a file, chunks decoded by our own kernels."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from bluesky_powder.errors import FramesUnavailable
from bluesky_powder.frames.chunks import Budget, Buffers, ChunkDamaged, ChunkMissing, Chunks, ReadAhead
from bluesky_powder.frames.files.handles import Handle, Stamp, refresh
from bluesky_powder.frames.frame import NotHeld, as_images
from bluesky_powder.frames.patience import Patience

MOST_OPEN_FILES = 16
AHEAD_BYTES = 2**28
"""What frames that were read ahead may occupy."""


class FrameUnwritten(FramesUnavailable):
    """A frame that was announced, but is not in its file."""


class Hdf5Files:
    """Open HDF5 files of one run; the least recently used is closed first.

    Who reads a dataset frame after frame, or stack after stack, finds the next ones read and decoded already.

    Parameters
    ----------
    patience
        How long to wait for what is not there yet.
    ahead_bytes
        What frames that were read ahead may occupy; 0 reads none ahead.
    """

    def __init__(self, patience: Patience, *, ahead_bytes: int = AHEAD_BYTES) -> None:
        self._patience = patience
        self._open: OrderedDict[Path, _Opened] = OrderedDict()
        self._budget, self._buffers = Budget(ahead_bytes), Buffers(ahead_bytes)
        self._lock = threading.RLock()

    @property
    def bytes_ahead(self) -> int:
        """What frames that were read ahead occupy."""
        return self._budget.held

    def read(self, path: Path, dataset: str, index: int, count: int) -> NDArray[Any]:
        """Return the images of one event.

        Parameters
        ----------
        path, dataset
            (n, rows, columns), (n, k, rows, columns), or one image (rows, columns).
        index
            Number of the event in the dataset.
        count
            Images an event, k.

        Returns
        -------
        ndarray
            (k, rows, columns), of the file's dtype.

        Raises
        ------
        FramesUnavailable
            If the file is missing, damaged, or does not have the frame in time.
        """
        return as_images(self._read(path, dataset, index, index + 1, count))

    def read_stack(self, path: Path, dataset: str, start: int, stop: int, count: int = 1) -> NDArray[Any]:
        """Return the images of events that follow each other; all chunks are decoded right into one array.

        Parameters
        ----------
        path, dataset
            As in `read`.
        start, stop
            Number of the first event, and that after the last one.
        count
            Images an event, k.

        Returns
        -------
        ndarray
            ((stop - start) * k, rows, columns), of the file's dtype.

        Raises
        ------
        FramesUnavailable
            As in `read`; one frame that cannot be had is enough.
        """
        rows = self._read(path, dataset, start, stop, count)
        return as_images(rows.reshape(-1, *rows.shape[2:]) if rows.ndim == 4 else rows)

    def frames(self, path: Path, dataset: str, start: int, stop: int) -> Iterator[NDArray[Any]]:
        """Yield the frames of a dataset (n, rows, columns) one by one, (rows, columns).

        Raises
        ------
        FramesUnavailable
            As in `read`.
        """
        for index in range(start, stop):
            yield self.read(path, dataset, index, 1)[0]

    def close(self) -> None:
        """Close all files; what is being read ahead is given up first."""
        with self._lock:
            while self._open:
                self._forget(next(iter(self._open)))
            self._buffers.clear()

    def _read(self, path: Path, dataset: str, start: int, stop: int, count: int) -> NDArray[Any]:
        try:
            return self._patience.until_read(str(path), lambda: self._try(path, dataset, start, stop, count))
        except FramesUnavailable as error:
            if isinstance(error.__cause__, FrameUnwritten):
                raise FrameUnwritten(str(error)) from error
            raise

    def _try(self, path: Path, dataset: str, start: int, stop: int, count: int) -> NDArray[Any]:
        with self._lock:
            try:
                return self._read_once(path, dataset, start, stop, count)
            except FramesUnavailable:
                self._forget(path)  # a new handle sees what an old one may not
                raise
            except Exception as error:
                self._forget(path)
                raise FramesUnavailable(f"{path}: dataset {dataset} cannot be read: {error}") from error

    def _read_once(self, path: Path, dataset: str, start: int, stop: int, count: int) -> NDArray[Any]:
        source = self._file(path).source(dataset)
        node = source.node
        if node.ndim == 2 and (start, stop, count) == (0, 1, 1):
            return np.asarray(node[()])
        first, last = (start * count, stop * count) if node.ndim == 3 else (start, stop)
        rows, hidden = source.rows(last)
        if rows < last:
            raise FramesUnavailable(f"{path}: {dataset} has {rows} frames, number {last - 1} is not there{hidden}")
        if source.ahead is None:
            return _read_by_hdf5(path, node, first, last)
        try:
            return source.ahead.read(first, last, rows)
        except ChunkMissing as error:
            raise _unwritten(path, node, error.args[0]) from None
        except ChunkDamaged as error:
            raise FramesUnavailable(f"{path}: frame {first} of {node.name} is damaged: {error}") from error

    def _file(self, path: Path) -> "_Opened":
        opened = self._open.get(path)
        if opened is not None and not opened.outdated:
            self._open.move_to_end(path)
            return opened
        self._forget(path)
        opened = self._open[path] = _Opened(Handle.open(path), self._budget, self._buffers)
        while len(self._open) > MOST_OPEN_FILES:
            self._forget(next(iter(self._open)))
        return opened

    def _forget(self, path: Path) -> None:
        opened = self._open.pop(path, None)
        if opened is not None:
            opened.close()


@dataclass(frozen=True, slots=True)
class _Source:
    """One dataset: of the file that was opened, or of one that it links to.

    Attributes
    ----------
    node
        The dataset.
    stamp
        Of the file that it is in.
    settled
        Whether that file is finished.
    ahead
        Reads its chunks; None where HDF5 has to.
    """

    node: h5py.Dataset
    stamp: Stamp
    settled: bool
    ahead: ReadAhead | None

    @classmethod
    def of(cls, handle: Handle, dataset: str, budget: Budget, buffers: Buffers) -> "_Source":
        """Return a dataset of an open file."""
        node = handle.dataset(dataset)
        home = Path(node.file.filename)
        linked = home != Path(handle.file.filename)
        stamp = Stamp.of(home) if linked else handle.stamp
        settled = stamp.settled() if linked else handle.settled
        chunks = Chunks.of(node)
        ahead = None if chunks is None else ReadAhead(chunks, budget, buffers, settled=settled)
        return cls(node, stamp, settled, ahead)

    def rows(self, wanted: int) -> tuple[int, str]:
        """Return how many rows there are, looked up anew where that may matter, and what may hide some."""
        hidden = False
        if self.node.shape[0] < wanted or (self.ahead is not None and not self.settled):
            hidden = not refresh(self.node)
        return self.node.shape[0], "; it is open elsewhere in this process, which hides what is new" if hidden else ""


@dataclass(frozen=True, slots=True)
class _Opened:
    """An open file with the datasets that were read from it."""

    handle: Handle
    budget: Budget
    buffers: Buffers
    sources: dict[str, _Source] = field(default_factory=dict)

    def source(self, dataset: str) -> _Source:
        """Return a dataset."""
        if dataset not in self.sources:
            self.sources[dataset] = _Source.of(self.handle, dataset, self.budget, self.buffers)
        return self.sources[dataset]

    @property
    def outdated(self) -> bool:
        """Whether one of the files is another one now."""
        stamps = {self.handle.stamp: self.handle.settled, **{s.stamp: s.settled for s in self.sources.values()}}
        return any(stamp.outdated(settled=settled) for stamp, settled in stamps.items())

    def close(self) -> None:
        """Give the file back, once nothing reads ahead in it."""
        for source in self.sources.values():
            if source.ahead is not None:
                source.ahead.drop()
        self.handle.release()


def _read_by_hdf5(path: Path, node: h5py.Dataset, first: int, stop: int) -> NDArray[Any]:
    images = np.asarray(node[first:stop])
    if _may_be_unwritten(images, node.fillvalue):
        _check_written(path, node, first, stop)
    return images


def _may_be_unwritten(images: NDArray[Any], fill: Any) -> bool:
    """Tell whether images hold nothing but the fill value, which HDF5 returns for what was never written."""
    return bool((images[..., ::97] == fill).all()) and bool((images == fill).all())


def _check_written(path: Path, node: h5py.Dataset, first: int, stop: int) -> None:
    """Check that the chunks of some rows are in the file; a writer may announce rows before it has written them.

    Raises
    ------
    FramesUnavailable
        If they are not.
    """
    if node.chunks is None or node.is_virtual:
        return
    size, deep = path.stat().st_size, node.chunks[0]
    for row in range(first - first % deep, stop, deep):
        chunk = node.id.get_chunk_info_by_coord((row, *(0,) * (node.ndim - 1)))
        if chunk.byte_offset is None or chunk.byte_offset + chunk.size > size:
            raise _unwritten(path, node, max(row, first))


def _unwritten(path: Path, node: h5py.Dataset, row: int) -> FrameUnwritten:
    return FrameUnwritten(f"{path}: frame {row} of {node.name} was announced but is not written")


@dataclass(frozen=True, slots=True)
class Hdf5Images(NotHeld):
    """Images of one event in an HDF5 file; see `Hdf5Files.read`."""

    files: Hdf5Files
    path: Path
    dataset: str
    index: int
    count: int

    def read(self) -> NDArray[Any]:
        """Return the images, (k, rows, columns)."""
        return self.files.read(self.path, self.dataset, self.index, self.count)
