"""HDF5 files with a dataset of frames."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from bluesky_powder.errors import IngestError
from bluesky_powder.frames import Patience
from bluesky_powder.frames.files.handles import open_file
from bluesky_powder.frames.files.hdf5 import FrameUnwritten, Hdf5Files
from bluesky_powder.ingest.trouble import telling_what_is_wrong

USUAL = ("/entry/data/data", "/entry/instrument/detector/data", "/entry/data/data_000001", "/data")
"""Where NeXus, areaDetector, Dectris and Odin put their frames."""
_LEAST = 16
"""Rows and columns that a frame has at least; smaller datasets are not taken for frames unless they are named."""

Described = tuple[str, int, tuple[int, int], np.dtype[Any]]


def describe_hdf5(path: Path, dataset: str) -> Described:
    """Return dataset, number of frames, their shape and dtype.

    Parameters
    ----------
    path
        The file.
    dataset
        Path in the file; "" looks for it: at the usual places, else the only dataset of frames in the file.

    Raises
    ------
    IngestError
        If the file is damaged or there is no such dataset, or there are several.
    """
    with telling_what_is_wrong(path, "HDF5"), open_file(path) as file:
        return _describe(path, file, dataset or _found(path, file))


def hdf5_frames(path: Path, dataset: str) -> Iterator[NDArray[Any]]:
    """Yield the frames one by one, (rows, columns).

    Raises
    ------
    IngestError
        If one cannot be read.
    """
    try:
        with open_file(path) as file:
            (frames, *shape), dtype, fill = file[dataset].shape, file[dataset].dtype, file[dataset].fillvalue
        with closing(Hdf5Files(Patience(0.0))) as files:
            for index in range(frames):
                try:
                    frame = files.read(path, dataset, index, 1)[0]
                except FrameUnwritten:
                    frame = np.full(shape, fill, dtype)  # the reduction says so
                yield frame
    except Exception as error:
        raise IngestError(f"{path}: the frames in {dataset} cannot be read: {error}") from error


def _describe(path: Path, file: h5py.File, name: str) -> Described:
    node = file.get(name)
    if not isinstance(node, h5py.Dataset):
        has = ", ".join(_frames_in(file)) or "none that holds frames"
        raise IngestError(f"{path} has no dataset {name}; it has: {has}")
    if node.ndim != 3 or 0 in node.shape or node.dtype.kind not in "buif":
        raise IngestError(f"{path}: {name} is {node.dtype} of shape {node.shape}; frames are (frames, rows, columns)")
    frames, rows, columns = node.shape
    return name, frames, (rows, columns), node.dtype.newbyteorder("=")


def _found(path: Path, file: h5py.File) -> str:
    candidates = _frames_in(file)
    for name in USUAL:
        if name in candidates:
            return name
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise IngestError(f"{path} has no dataset of frames, (frames, rows, columns)")
    raise IngestError(
        f"{path} has several datasets of frames: {', '.join(candidates)}; name one, as in {path.name}::{candidates[0]}"
    )


def _frames_in(file: h5py.File) -> list[str]:
    found: list[str] = []

    def look(name: str, node: object) -> None:
        if isinstance(node, h5py.Dataset) and node.ndim == 3 and node.dtype.kind in "buif" and node.shape[0]:
            found.extend([f"/{name}"] if min(node.shape[1:]) >= _LEAST else [])

    file.visititems(look)
    # visititems passes over links to other files, which is how Dectris' master files have their frames.
    found += [name for name in USUAL if name not in found and isinstance(file.get(name), h5py.Dataset)]
    return found
