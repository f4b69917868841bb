"""Detector files: growing HDF5 as fast detectors write it, numbered files as slow ones do, and columns of numbers."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import quote

import h5py
import hdf5plugin
import numpy as np
import numpy.typing as npt
import tifffile

DATASET = "/entry/data/data"
_COLUMN_CHUNK = 1024

FileKind = Literal["hdf5", "tiff", "npy"]
_TYPES: Mapping[str, str] = {"tiff": "image/tiff", "npy": "application/x-npy"}


class FrameWriter(Protocol):
    """Takes the frames of one run."""

    mimetype: str
    frames: int

    @property
    def uri(self) -> str:
        """Where, as StreamResource documents say it."""
        ...

    @property
    def parameters(self) -> dict[str, Any]:
        """What is to be known beyond that, as StreamResource documents say it."""
        ...

    def append(self, frame: npt.NDArray[Any]) -> None:
        """Write a frame; afterwards a reader can see it. What is closed stays as it is."""
        ...

    def close(self) -> None:
        """End; twice does no harm."""
        ...


class FrameFile:
    """A growing file of frames, shape (n, rows, columns), open for one writer and many readers (SWMR).

    One chunk a frame, bitshuffle and LZ4.

    Parameters
    ----------
    path
        Where; must not exist yet.
    shape
        (rows, columns).
    dtype
        Of the frames.
    """

    mimetype = "application/x-hdf5"

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

    @property
    def uri(self) -> str:
        """Of the file."""
        return uri_of(self.path)

    @property
    def parameters(self) -> dict[str, Any]:
        """The dataset."""
        return {"dataset": DATASET}

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


class FrameSequence:
    """Numbered files in a folder of their own, one an `append`, numbered from 0.

    They are named, and told of, as Tiled's consolidators expect: TIFF by folder and template, .npy by what all names
    begin with.

    Parameters
    ----------
    folder
        Where; must not exist yet.
    kind
        Of the files.
    stem
        How their names begin.
    """

    def __init__(self, folder: Path, kind: Literal["tiff", "npy"], stem: str) -> None:
        self.folder = folder
        self.frames = 0
        self.mimetype = f"multipart/related;type={_TYPES[kind]}"
        self._kind = kind
        self._stem = stem
        self._lock = threading.Lock()
        self._closed = False
        folder.mkdir(parents=True)

    @property
    def uri(self) -> str:
        """Of the folder, with a slash at its end; for .npy files up to the number."""
        return f"{uri_of(self.folder)}/" + (quote(self._stem) if self._kind == "npy" else "")

    @property
    def parameters(self) -> dict[str, Any]:
        """The template of TIFF file names."""
        return {} if self._kind == "npy" else {"template": f"{self._stem}_{{:06d}}.tif"}

    def append(self, frame: npt.NDArray[Any]) -> None:
        """Write a frame, or a stack of them, as the next file."""
        with self._lock:
            if self._closed:
                return
            if self._kind == "tiff":
                tifffile.imwrite(self.folder / f"{self._stem}_{self.frames:06d}.tif", frame)
            else:
                np.save(self.folder / f"{self._stem}_{self.frames}.npy", frame, allow_pickle=False)
            self.frames += 1

    def close(self) -> None:
        """Write no more."""
        with self._lock:
            self._closed = True


class ColumnFile:
    """A growing file of numbers, one dataset a column, as a PandA writes what it captures (SWMR).

    Parameters
    ----------
    path
        Where; must not exist yet.
    columns
        Names; the dataset of `x` is ``/x``.
    """

    mimetype = "application/x-hdf5"

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        self.rows = 0
        self.chunk = _COLUMN_CHUNK
        self._lock = threading.Lock()
        self._file = h5py.File(path, "x", libver="latest")
        self._data = {
            name: self._file.create_dataset(name, (0,), np.float64, maxshape=(None,), chunks=(_COLUMN_CHUNK,))
            for name in columns
        }
        self._file.swmr_mode = True

    @property
    def uri(self) -> str:
        """Of the file."""
        return uri_of(self.path)

    def append(self, rows: Mapping[str, Sequence[float]]) -> None:
        """Write some rows, all columns equally many, and flush them."""
        (number,) = {len(values) for values in rows.values()}
        with self._lock:
            if self._file:
                for name, data in self._data.items():
                    data.resize(self.rows + number, axis=0)
                    data[self.rows :] = rows[name]
                    data.flush()
                self.rows += number

    def close(self) -> None:
        """Close the file; twice does no harm."""
        with self._lock:
            self._file.close()


def open_writer(
    kind: FileKind, directory: Path, stem: str, shape: tuple[int, int], dtype: npt.DTypeLike
) -> FrameWriter:
    """Begin the next file, or folder of files, of a detector.

    Parameters
    ----------
    kind
        Of files.
    directory
        Where.
    stem
        How their names begin.
    shape, dtype
        Of frames.
    """
    if kind == "hdf5":
        return FrameFile(next_free(directory, stem), shape, dtype)
    return FrameSequence(next_free(directory, stem, ""), kind, stem)


def next_free(directory: Path, stem: str, extension: str = ".h5") -> Path:
    """Return the first of `stem_00001.h5`, `stem_00002.h5` ... after those that a directory holds already."""
    numbers = (path.stem.removeprefix(f"{stem}_") for path in directory.glob(f"{stem}_*{extension}"))
    last = max((int(number) for number in numbers if number.isdigit()), default=0)
    return directory / f"{stem}_{last + 1:05d}{extension}"


def uri_of(path: Path) -> str:
    """Return the URI of a file on this machine."""
    return "file://localhost" + quote(path.as_posix())
