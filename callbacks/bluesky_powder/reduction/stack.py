"""Images side by side in memory, so that the engine can take them together."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Stack:
    """A few images of one shape and dtype. The images of a lone event are taken as they are, not copied.

    Parameters
    ----------
    most, most_bytes
        Images and bytes that fit in; the images of one event always do.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._array: NDArray[Any] | None = None
        self._filled = 0

    @property
    def images(self) -> NDArray[Any]:
        """What is in it, (n, rows, columns)."""
        if self._array is None:
            raise ValueError("the stack is empty")
        return self._array[: self._filled]

    def has_room_for(self, images: NDArray[Any]) -> bool:
        """Tell whether images, (k, rows, columns), fit in."""
        return self._array is None or self._filled + len(images) <= len(self._array)

    def put(self, images: NDArray[Any], to_come: int) -> NDArray[Any]:
        """Put images in; return them as they lie in the stack.

        Parameters
        ----------
        images
            (k, rows, columns), of the shape and dtype of those in it.
        to_come
            Of how many events more images may come.
        """
        if self._array is None:
            per_image = max(images[0].nbytes, 1)
            room = min(len(images) * (1 + to_come), self._most, self._most_bytes // per_image)
            if room < 2 * len(images):
                self._array, self._filled = images, len(images)
                return images
            self._array = np.empty((room, *images.shape[1:]), images.dtype)
        place = self._array[self._filled : self._filled + len(images)]
        place[:] = images
        self._filled += len(images)
        return place
