"""Frames to HDF5 as fast area detectors write them: one chunk a frame, bitshuffle and LZ4, readable while it grows."""

import threading
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy.typing as npt

DATASET = "/entry/data/data"


class FrameFile:
    """A growing file of frames, shape (n, rows, columns), open for one writer and many readers (SWMR).

    Parameters
    ----------
    path
        Where; must not exist yet.
    shape
        (rows, columns).
    dtype
        Of the frames.
    """

    def __init__(self, path: Path, shape: tuple[int, int], dtype: npt.DTypeLike) -> None:
        self.path = path
        self.frames = 0
        # An aborted exposure may still be writing in its thread when the file is closed.
        self._lock = threading.Lock()
        self._file = h5py.File(path, "x", libver="latest")
        self._data = self._file.create_dataset(
            DATASET,
            shape=(0, *shape),
            maxshape=(None, *shape),
            chunks=(1, *shape),
            dtype=dtype,
            **hdf5plugin.Bitshuffle(cname="lz4"),
        )
        self._file.swmr_mode = True

    def append(self, frame: npt.NDArray[Any]) -> None:
        """Write and flush a frame; afterwards a reader can see it. A closed file stays as it is."""
        with self._lock:
            if self._file:
                self._data.resize(self.frames + 1, axis=0)
                self._data[self.frames] = frame
                self._data.flush()
                self.frames += 1

    def close(self) -> None:
        """Close the file; twice does no harm."""
        with self._lock:
            self._file.close()


def next_free(directory: Path, stem: str) -> Path:
    """Return the first of `stem_00001.h5`, `stem_00002.h5` ... after those that a directory holds already."""
    numbers = (path.stem.removeprefix(f"{stem}_") for path in directory.glob(f"{stem}_*.h5"))
    last = max((int(number) for number in numbers if number.isdigit()), default=0)
    return directory / f"{stem}_{last + 1:05d}.h5"
