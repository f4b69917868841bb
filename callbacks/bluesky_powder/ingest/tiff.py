"""TIFF files of one frame each."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from bluesky_powder.errors import IngestError
from bluesky_powder.ingest.trouble import telling_what_is_wrong


def describe_tiff(path: Path) -> tuple[tuple[int, int], np.dtype[Any]]:
    """Return shape and dtype of the frame in a TIFF file, without reading it.

    Raises
    ------
    IngestError
        If the file is damaged, has several pages, or is no detector image.
    """
    with telling_what_is_wrong(path, "TIFF"), tifffile.TiffFile(path) as file:
        pages, series = len(file.pages), file.series[0]
        shape, dtype = tuple(series.shape), np.dtype(series.dtype)
        whole = _is_whole(file, path)
    if pages > 1:
        raise IngestError(f"{path} has {pages} pages; TIFF files are taken with one frame each, so write it as HDF5")
    if len(shape) != 2 or dtype.kind not in "buif":
        raise IngestError(f"{path} holds {dtype} of shape {shape}, which is no detector frame (rows, columns)")
    if not whole:
        raise IngestError(f"{path} is cut off: it is shorter than its header says")
    return (shape[0], shape[1]), dtype.newbyteorder("=")


def read_tiff(path: Path) -> NDArray[Any]:
    """Return the frame, (rows, columns).

    Raises
    ------
    IngestError
        If the file is damaged.
    """
    with telling_what_is_wrong(path, "TIFF"):
        return np.asarray(tifffile.imread(path))


def _is_whole(file: tifffile.TiffFile, path: Path) -> bool:
    page = file.pages[0]
    ends = (start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=True))
    return max(ends, default=0) <= path.stat().st_size
