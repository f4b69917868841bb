"""Images side by side in memory, so that the engine can take them together."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Stack:
    """A few images of one shape and dtype.

    Those of a lone event are taken as they are; so are those of several events that already lie one after the other in
    one array, as a reader leaves them that reads ahead. Any others are copied.

    Parameters
    ----------
    most, most_bytes
        Images and bytes that fit in; the images of one event always do.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._array: NDArray[Any] | None = None
        self._own: NDArray[Any] | None = None

    @property
    def images(self) -> NDArray[Any]:
        """What is in it, (n, rows, columns)."""
        if self._array is None:
            raise ValueError("the stack is empty")
        return self._array

    def has_room_for(self, images: NDArray[Any]) -> bool:
        """Tell whether images, (k, rows, columns), fit in."""
        if self._array is None:
            return True
        return len(self._array) + len(images) <= self._most and self._array.nbytes + images.nbytes <= self._most_bytes

    def put(self, images: NDArray[Any]) -> NDArray[Any]:
        """Put images in for which there is room; return them as they lie in the stack.

        Parameters
        ----------
        images
            (k, rows, columns), of the shape and dtype of those in it.
        """
        if self._array is None:
            self._array = images
        elif self._own is None and (longer := _one_array(self._array, images)) is not None:
            self._array = longer
        else:
            self._copy(self._array, images)
        return self._array[len(self._array) - len(images) :]

    def _copy(self, before: NDArray[Any], images: NDArray[Any]) -> None:
        if self._own is None:
            room = max(min(self._most, self._most_bytes // max(images[0].nbytes, 1)), len(before) + len(images))
            self._own = np.empty((room, *images.shape[1:]), images.dtype)
            self._own[: len(before)] = before
        end = len(before) + len(images)
        self._own[len(before) : end] = images
        self._array = self._own[:end]


def _one_array(before: NDArray[Any], images: NDArray[Any]) -> NDArray[Any] | None:
    """Return both as a part of the array that they lie in, one right after the other; None where they do not."""
    whole = images.base
    if not isinstance(whole, np.ndarray) or whole is not before.base or before.dtype != images.dtype:
        return None
    if not (whole.flags.c_contiguous and before.flags.c_contiguous and images.flags.c_contiguous):
        return None
    if images.ctypes.data != before.ctypes.data + before.nbytes:
        return None
    start = before.ctypes.data - whole.ctypes.data
    both = whole.reshape(-1).view(np.uint8)[start : start + before.nbytes + images.nbytes]
    return both.view(images.dtype).reshape(-1, *images.shape[1:])
