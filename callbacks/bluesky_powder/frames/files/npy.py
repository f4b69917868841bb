"""Arrays of .npy files: all of one, or some of its frames."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_powder.errors import FramesUnavailable


def load(path: Path) -> NDArray[Any]:
    """Return the array of a file; one of Python objects is refused by numpy."""
    return np.asarray(np.load(path, allow_pickle=False))


def load_rows(path: Path, index: int, count: int) -> NDArray[Any]:
    """Return the images of one event out of a file that holds all of them, (count, rows, columns).

    Parameters
    ----------
    path
        (n, rows, columns), (n, 1, rows, columns), (n, k, rows, columns), or one image (rows, columns).
    index
        Number of the event in it.
    count
        Images an event, k.

    Raises
    ------
    FramesUnavailable
        If the file has fewer.
    """
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim == 2:
        array = array[np.newaxis]
    one_by_one = array.ndim == 3 or (array.ndim == 4 and array.shape[1] == 1)
    first, stop = (index * count, (index + 1) * count) if one_by_one else (index, index + 1)
    if len(array) < stop:
        raise FramesUnavailable(f"{path} has {len(array)} frames, number {stop - 1} is not there")
    return np.array(array[first:stop])
