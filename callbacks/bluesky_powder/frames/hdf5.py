"""Images in HDF5 files, also while they are written: one open SWMR handle a file."""

import contextlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers the filters that detectors compress with
import numpy as np
from numpy.typing import NDArray

from bluesky_powder.errors import FramesUnavailable
from bluesky_powder.frames.frame import as_images
from bluesky_powder.frames.patience import Patience

MOST_OPEN_FILES = 16


class Hdf5Files:
    """Open HDF5 files of one run; the least recently used is closed first.

    Parameters
    ----------
    patience
        How long to wait for what is not there yet.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._open: OrderedDict[Path, h5py.File] = OrderedDict()

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
            (k, rows, columns).

        Raises
        ------
        FramesUnavailable
            If the file is missing, damaged, or does not have the frame in time.
        """
        return as_images(self._patience.until_read(str(path), lambda: self._try(path, dataset, index, count)))

    def close(self) -> None:
        """Close all files."""
        while self._open:
            self._forget(next(iter(self._open)))

    def _try(self, path: Path, dataset: str, index: int, count: int) -> NDArray[Any]:
        try:
            return self._read_once(path, dataset, index, count)
        except FramesUnavailable:
            self._forget(path)  # a new handle sees what an old one may not
            raise
        except Exception as error:
            self._forget(path)
            raise FramesUnavailable(f"{path}: dataset {dataset} cannot be read: {error}") from error

    def _read_once(self, path: Path, dataset: str, index: int, count: int) -> NDArray[Any]:
        node = self._file(path).get(dataset)
        if not isinstance(node, h5py.Dataset):
            raise FramesUnavailable(f"{path} has no dataset {dataset} (yet)")
        if node.ndim == 2 and index == 0 and count == 1:
            return np.asarray(node[()])
        first, stop = (index * count, (index + 1) * count) if node.ndim == 3 else (index, index + 1)
        if node.shape[0] < stop:
            node.id.refresh()
        if node.shape[0] < stop:
            raise FramesUnavailable(f"{path}: {dataset} has {node.shape[0]} frames, number {stop - 1} is not there")
        images = np.asarray(node[first:stop])
        if _may_be_unwritten(images, node.fillvalue):
            _check_written(path, node, first, stop)
        return images

    def _file(self, path: Path) -> h5py.File:
        file = self._open.get(path)
        if file is not None:
            self._open.move_to_end(path)
            return file
        try:
            _check_whole(path)
            # SWMR opens finished files too, and those that a crashed writer has left marked as open; and it does not
            # keep the file locked against its writer.
            file = h5py.File(path, "r", libver="latest", swmr=True)
        except FileNotFoundError:
            raise FramesUnavailable(f"{path}: there is no such file") from None
        except OSError as error:
            raise FramesUnavailable(f"{path} is no readable HDF5 file: {error}") from error
        self._open[path] = file
        while len(self._open) > MOST_OPEN_FILES:
            self._forget(next(iter(self._open)))
        return file

    def _forget(self, path: Path) -> None:
        file = self._open.pop(path, None)
        if file is not None:
            with contextlib.suppress(Exception):  # a damaged file may not even close
                file.close()


def _check_whole(path: Path) -> None:
    """Refuse a finished file that is shorter than it says: read with SWMR, the missing frames would be zeros.

    A file that is being written fails this way of opening for other reasons, and is none of its business.
    """
    try:
        h5py.File(path, "r", locking=False).close()
    except FileNotFoundError:
        raise
    except OSError as error:
        if "truncated" in str(error):
            raise FramesUnavailable(f"{path} is truncated: {error}") from error


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
            raise FramesUnavailable(f"{path}: frame {row} of {node.name} was announced but is not written")


@dataclass(frozen=True, slots=True)
class Hdf5Images:
    """Images of one event in an HDF5 file; see `Hdf5Files.read`."""

    files: Hdf5Files
    path: Path
    dataset: str
    index: int
    count: int

    @property
    def nbytes_held(self) -> int:
        """Nothing is held."""
        return 0

    def read(self) -> NDArray[Any]:
        """Return the images, (k, rows, columns)."""
        return self.files.read(self.path, self.dataset, self.index, self.count)
