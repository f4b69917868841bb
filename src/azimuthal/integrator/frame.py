"""What is checked and prepared on a frame before it meets the matrix: shape, dtype, dummies, dark, variance."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from azimuthal.errors import FrameError

NO_DUMMY = (1, 0)
"""An empty interval: no value is a dummy."""


def checked_array(what: str, array: ArrayLike, shape: tuple[int, int]) -> NDArray[Any]:
    """Return `array` as a numeric array of `shape`, native byte order, C order.

    Raises
    ------
    FrameError
        If it is not numeric or has another shape.
    """
    values = np.asarray(array)
    if values.dtype.kind not in "buif":
        raise FrameError(f"{what}: dtype {values.dtype} is not a real number")
    if values.shape != shape:
        raise FrameError(f"{what}: shape {values.shape} does not fit the detector's {shape}")
    if values.dtype == np.bool_:
        values = values.view(np.uint8)
    if values.dtype == np.float16 or values.dtype.itemsize > 8:
        values = values.astype(np.float64)
    return np.ascontiguousarray(values, values.dtype.newbyteorder("="))


def checked_mask(what: str, mask: ArrayLike, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return `mask` as booleans of `shape`, True = left out; any number other than 0 counts as True.

    Raises
    ------
    FrameError
        If it is neither boolean nor whole numbers, or has another shape.
    """
    values = checked_array(what, mask, shape)
    if values.dtype.kind == "f" and not np.isin(values, (0.0, 1.0)).all():
        raise FrameError(f"{what}: holds fractions or NaN; give booleans or whole numbers, non-zero = masked")
    return values != 0


def checked_plane(what: str, plane: ArrayLike, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return a number or an array of `shape` as float64, (rows, columns).

    Raises
    ------
    FrameError
        If it is not numeric or has another shape.
    """
    values = np.asarray(plane)
    if values.ndim == 0 and values.dtype.kind in "buif":
        return np.broadcast_to(np.float64(values), shape)
    return checked_array(what, values, shape).astype(np.float64, copy=False)


def checked_monitor(monitor: float) -> float:
    """Return the monitor as a float.

    Raises
    ------
    FrameError
        If it is zero, negative or not finite.
    """
    value = float(monitor)
    if not math.isfinite(value) or value <= 0.0:
        raise FrameError(f"monitor: {value!r} cannot normalize a frame; it must be finite and above 0")
    return value


@dataclass(frozen=True)
class Dummy:
    """Values that stand for 'no data'.

    Attributes
    ----------
    value, delta
        As the user gave them: taken in the frame's dtype, and applied to frames of every dtype.
    detector_value, detector_delta
        As the detector's maker has them: applied to integer frames only, wrapping for unsigned types.
    """

    value: float | None
    delta: float | None
    detector_value: float | None
    detector_delta: float | None

    def interval(self, dtype: np.dtype[Any]) -> tuple[int, int] | tuple[float, float]:
        """Return the lowest and highest dummy in frames of `dtype`; low > high where there is none.

        Raises
        ------
        FrameError
            If the user's dummy does not exist in the dtype.
        """
        if self.value is not None:
            value, delta = self.value, self.delta
        elif dtype.kind in "ui" and self.detector_value is not None:
            value, delta = self.detector_value, self.detector_delta
        else:
            return NO_DUMMY if dtype.kind in "ui" else (math.inf, -math.inf)
        if dtype.kind == "f":
            centre = float(dtype.type(value))
            return centre - (delta or 0.0), centre + (delta or 0.0)
        return _integer_interval(value, delta or 0.0, dtype)


def _integer_interval(value: float, delta: float, dtype: np.dtype[Any]) -> tuple[int, int]:
    limits = np.iinfo(dtype)
    if value != int(value):
        raise FrameError(f"dummy: {value!r} is no value of {dtype} frames")
    centre = int(value)
    if centre < 0 and limits.min == 0:
        centre += limits.max + 1  # -1 in an unsigned frame is the type's largest value
    if not limits.min <= centre <= limits.max:
        if delta == 0.0:
            return NO_DUMMY
        raise FrameError(f"dummy: {value!r} does not fit {dtype} frames ({limits.min} to {limits.max})")
    reach = math.floor(delta)
    low, high = max(centre - reach, limits.min), min(centre + reach, limits.max)
    if dtype == np.uint64:  # such frames are seen as int64 by the kernels
        low, high = (x - 2**64 if x >= 2**63 else x for x in (low, high))
    return low, high


def as_kernel_dtype(frame: NDArray[Any]) -> NDArray[Any]:
    """Return the frame in one of the dtypes that kernels are compiled for, without changing values.

    uint64 is seen as int64 (dummies at the type's maximum become small negative numbers); int8 is widened.
    """
    if frame.dtype == np.uint64:
        return frame.view(np.int64)
    if frame.dtype == np.int8:
        return frame.astype(np.int16)
    return frame
