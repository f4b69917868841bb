"""Handlers of our own for the commonest specs of Resource documents, where the facility has installed none."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_powder.frames.files import npy, tiff
from bluesky_powder.frames.files.hdf5 import Hdf5Files
from bluesky_powder.frames.frame import as_images

_AD_DATASET = "/entry/data/data"


class AreaDetectorHdf5:
    """One HDF5 file of areaDetector's, finished or growing.

    Parameters
    ----------
    files
        What reads it, and closes it in the end.
    path
        Of the file.
    frame_per_point
        Images an event.
    """

    def __init__(self, files: Hdf5Files, path: str, frame_per_point: int = 1, **_: Any) -> None:
        self._files = files
        self._path = Path(path)
        self._count = frame_per_point

    def __call__(self, point_number: int, **_: Any) -> NDArray[Any]:
        """Return the images of one event, (frame_per_point, rows, columns)."""
        return self._files.read(self._path, _AD_DATASET, point_number, self._count)


class AreaDetectorTiff:
    """Numbered TIFF files of areaDetector's, one a frame.

    Parameters
    ----------
    path
        Of the folder.
    template
        Of file names: folder, name, number.
    filename
        The name.
    frame_per_point
        Images an event.
    """

    def __init__(self, path: str, template: str, filename: str, frame_per_point: int = 1, **_: Any) -> None:
        self._about = os.path.join(path, ""), filename
        self._template = template
        self._count = frame_per_point

    def __call__(self, point_number: int, **_: Any) -> NDArray[Any]:
        """Return the images of one event, (frame_per_point, rows, columns)."""
        numbers = range(point_number * self._count, (point_number + 1) * self._count)
        files = (Path(self._template % (*self._about, number)) for number in numbers)
        return np.concatenate([as_images(tiff.load(file)) for file in files])


class NumpySequence:
    """Numbered .npy files, one an event.

    Parameters
    ----------
    path
        What stands before ``_<index>.npy``.
    """

    def __init__(self, path: str, **_: Any) -> None:
        self._path = path

    def __call__(self, index: int, **_: Any) -> NDArray[Any]:
        """Return the array of one event."""
        return npy.load(Path(f"{self._path}_{index}.npy"))


def own_handlers(files: Hdf5Files) -> Mapping[str, Callable[..., Any]]:
    """Return spec -> what makes a handler, called with the path and the keywords of the Resource.

    Parameters
    ----------
    files
        What reads HDF5 files.
    """
    hdf5 = partial(AreaDetectorHdf5, files)
    return {"AD_HDF5": hdf5, "AD_HDF5_SWMR": hdf5, "AD_TIFF": AreaDetectorTiff, "NPY_SEQ": NumpySequence}
