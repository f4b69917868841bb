"""A series of detector files of one kind, shape and dtype."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bluesky_powder.errors import IngestError
from bluesky_powder.ingest.hdf5 import describe_hdf5, hdf5_frames
from bluesky_powder.ingest.tiff import describe_tiff, read_tiff

Kind = Literal["tiff", "hdf5"]

_MAGIC: dict[bytes, Kind] = {
    b"II*\x00": "tiff",
    b"MM\x00*": "tiff",
    b"II+\x00": "tiff",
    b"MM\x00+": "tiff",
    b"\x89HDF": "hdf5",
}


@dataclass(frozen=True)
class FrameFile:
    """One file.

    Attributes
    ----------
    path
        Absolute, symbolic links followed.
    dataset
        Of an HDF5 file; "" otherwise.
    frames
        How many are in it.
    shape, dtype
        Of one frame, (rows, columns).
    """

    path: Path
    dataset: str
    frames: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]

    @property
    def name(self) -> str:
        """What to call it."""
        return f"{self.path.name}::{self.dataset}" if self.dataset else self.path.name


@dataclass(frozen=True)
class Series:
    """Files whose frames follow each other.

    Attributes
    ----------
    kind
        "tiff" or "hdf5".
    files
        In the order given.
    """

    kind: Kind
    files: tuple[FrameFile, ...]

    @property
    def frames(self) -> int:
        """How many frames there are in all."""
        return sum(file.frames for file in self.files)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a frame."""
        return self.files[0].shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a frame."""
        return self.files[0].dtype

    @property
    def folders(self) -> list[Path]:
        """The folders that the files are in."""
        return sorted({file.path.parent for file in self.files})

    def read(self) -> Iterator[NDArray[Any]]:
        """Yield the frames one by one, (rows, columns).

        Raises
        ------
        IngestError
            If one cannot be read.
        """
        for file in self.files:
            if self.kind == "tiff":
                yield read_tiff(file.path)
            else:
                yield from hdf5_frames(file.path, file.dataset)


def open_series(names: Sequence[str]) -> Series:
    """Look into files and make sure that they belong together.

    Parameters
    ----------
    names
        Paths of TIFF files of one frame each, or of HDF5 files; ``file.h5::/path/in/file`` names a dataset, which is
        looked for otherwise. In the order in which they were taken.

    Raises
    ------
    IngestError
        If a file is missing, unreadable, neither TIFF nor HDF5, or of another shape or dtype than the first.
    """
    if not names:
        raise IngestError("no files are given")
    described = [_describe(name) for name in names]
    kinds = {kind for kind, _ in described}
    if len(kinds) > 1:
        raise IngestError("some files are TIFF and others HDF5; ingest them separately")
    files = tuple(file for _, file in described)
    first = files[0]
    for file in files[1:]:
        if (file.shape, file.dtype) != (first.shape, first.dtype):
            raise IngestError(
                f"{file.path} has {_frame(file)} frames, {first.path} has {_frame(first)}; ingest them separately"
            )
    return Series(described[0][0], files)


def _describe(name: str) -> tuple[Kind, FrameFile]:
    text, _, dataset = name.partition("::")
    path = Path(text).expanduser().resolve()
    kind = _kind_of(path)
    if kind == "tiff":
        if dataset:
            raise IngestError(f"{path} is a TIFF file, in which there is no dataset {dataset}")
        return kind, FrameFile(path, "", 1, *describe_tiff(path))
    return kind, FrameFile(path, *describe_hdf5(path, dataset))


def _kind_of(path: Path) -> Kind:
    if path.is_dir():
        raise IngestError(f"{path} is a folder; give its files, such as {path}/*.tif")
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError:
        raise IngestError(f"there is no file {path}") from None
    except OSError as error:
        raise IngestError(f"cannot read {path}: {error.strerror or error}") from error
    kind = _MAGIC.get(magic)
    if kind is None:
        raise IngestError(f"{path} is neither a TIFF nor an HDF5 file")
    return kind


def _frame(file: FrameFile) -> str:
    return f"{file.shape[0]}×{file.shape[1]} {file.dtype.name}"
