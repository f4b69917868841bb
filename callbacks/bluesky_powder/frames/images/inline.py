"""Images that stand in the event itself."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bluesky_powder.errors import FrameSkipped
from bluesky_powder.frames.frame import as_images


@dataclass(frozen=True, slots=True)
class InlineImages:
    """Images in memory.

    Attributes
    ----------
    array
        As the event has it.
    """

    array: NDArray[Any]

    @classmethod
    def of(cls, value: Any, dtype_numpy: Any) -> "InlineImages":
        """Take an event's value; nested lists (as JSON and Tiled give) get their dtype back.

        Raises
        ------
        FrameSkipped
            If the value is no array of numbers.
        """
        if isinstance(value, np.ndarray):
            return cls(value)
        try:
            dtype = np.dtype(dtype_numpy) if isinstance(dtype_numpy, str) else None
            return cls(np.array(value, dtype))
        except Exception as error:  # whatever an object does that only looks like an array
            raise FrameSkipped(f"the event's frame is no array of numbers: {error}") from error

    @property
    def nbytes_held(self) -> int:
        """Bytes of the array."""
        return self.array.nbytes

    def read(self) -> NDArray[Any]:
        """Return the images, (k, rows, columns)."""
        return as_images(self.array)
