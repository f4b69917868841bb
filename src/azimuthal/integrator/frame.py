"""What is checked and prepared on a frame before it meets the matrix: shape, dtype, dummies, monitor."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from azimuthal.errors import FrameError

NO_DUMMY = (1, 0)
"""An empty interval: no value is a dummy."""
NO_FLOAT_DUMMY = (math.inf, -math.inf)
SIGNED_LIMIT = 2**63


def as_frames(frame: ArrayLike) -> NDArray[Any]:
    """Return a frame or a stack of frames as an array.

    Raises
    ------
    FrameError
        If it is a masked array of numpy, whose mask would be lost.
    """
    if isinstance(frame, np.ma.MaskedArray):
        raise FrameError("frame: a masked array of numpy; give its data as the frame and its mask as mask=")
    return np.asarray(frame)


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only view, as all arrays of users go to kernels: numba would compile each for writable ones too."""
    view = array.view()
    view.flags.writeable = False
    return view


def checked_array(what: str, array: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return `array` as a numeric array of `shape`, native byte order, C order.

    Raises
    ------
    FrameError
        If it is not numeric, is a masked array, or has another shape.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise FrameError(f"{what}: a masked array of numpy, whose mask would be lost; give a plain array and mask=")
    values = np.asarray(array)
    if values.dtype.kind not in "buif":
        raise FrameError(f"{what}: dtype {values.dtype} is not a real number")
    if values.shape != shape:
        raise FrameError(f"{what}: shape {values.shape} does not fit the detector's {shape}")
    if values.dtype == np.bool_:
        values = values.view(np.uint8)
    if values.dtype.kind == "f" and values.dtype.itemsize not in (4, 8):
        values = values.astype(np.float64)
    return np.ascontiguousarray(values, values.dtype.newbyteorder("="))


def checked_mask(what: str, mask: ArrayLike, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return `mask` as booleans of `shape`, True = left out, read-only; whole numbers other than 0 count as True.

    Raises
    ------
    FrameError
        If it is neither boolean nor whole numbers, or has another shape.
    """
    values = checked_array(what, mask, shape)
    if values.dtype.kind == "f" and not (values == np.rint(values)).all():
        raise FrameError(f"{what}: holds fractions or NaN; give booleans or whole numbers, non-zero = masked")
    return frozen(values != 0)


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
    return checked_array(what, plane, shape).astype(np.float64, copy=False)


def flat_plane(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what `checked_plane` gave as kernels take it, read-only: flat, or the one number that it is made of."""
    return frozen(plane.reshape(-1)[:1] if plane.strides == (0, 0) else plane.ravel())


def checked_variance(what: str, plane: ArrayLike, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return a variance as `checked_plane` does.

    Raises
    ------
    FrameError
        Also if any of it is negative.
    """
    values = checked_plane(what, plane, shape)
    if (values < 0).any():
        raise FrameError(f"{what}: holds negative numbers")
    return values


def checked_monitor(monitor: float) -> float:
    """Return the monitor as a float.

    Raises
    ------
    FrameError
        If it is zero, negative, not finite or no number.
    """
    try:
        value = float(monitor)
    except (TypeError, ValueError):
        raise FrameError(f"monitor: {monitor!r} is not a number") from None
    if not math.isfinite(value) or value <= 0.0:
        raise FrameError(f"monitor: {value!r} cannot normalize a frame; it must be finite and above 0")
    return value


def checked_monitors(monitor: Any, frames: int | None) -> list[float]:
    """Return one monitor a frame, from one number or as many as there are frames; None stands for a single frame.

    Raises
    ------
    FrameError
        If their number does not fit, or `checked_monitor` refuses one.
    """
    values = np.asarray(monitor)
    if values.dtype.kind not in "buif":
        raise FrameError(f"monitor: {monitor!r} is not a number")
    n = 1 if frames is None else frames
    if values.size == 1:
        return [checked_monitor(values.item())] * n
    if values.shape != (n,) or frames is None:
        raise FrameError(f"monitor: {values.size} values for {'one frame' if frames is None else f'{n} frames'}")
    return [checked_monitor(value) for value in values]


def of_frame(array: ArrayLike | None, k: int, frames: int | None, what: str) -> Any:
    """Return what belongs to frame `k` of a stack: ``array[k]`` where there is one for each frame, else `array`.

    Raises
    ------
    FrameError
        If there are as many planes as there are not frames.
    """
    if frames is None or array is None or np.ndim(array) != 3:
        return array
    planes = np.asanyarray(array)
    if len(planes) != frames:
        raise FrameError(f"{what}: {len(planes)} planes for {frames} frames")
    return planes[k]


@dataclass(frozen=True)
class Dummy:
    """Values that stand for 'no data'.

    Attributes
    ----------
    value, delta
        As the user gave them: taken in the frame's dtype, and applied to frames of every dtype.
    detector_value, detector_delta
        As the detector's maker has them: applied to integer frames only, wrapping for unsigned types.

    Raises
    ------
    FrameError
        If a delta is negative or not finite.
    """

    value: float | None
    delta: float | None
    detector_value: float | None
    detector_delta: float | None

    def __post_init__(self) -> None:
        if self.delta is not None and not 0.0 <= self.delta < math.inf:
            raise FrameError(f"delta_dummy: {self.delta!r} must be finite and at least 0")

    def interval(self, dtype: np.dtype[Any]) -> tuple[int, int] | tuple[float, float]:
        """Return the lowest and highest dummy in frames of `dtype`; low > high where there is none.

        Raises
        ------
        FrameError
            If the user's dummy does not exist in the dtype.
        """
        whole = dtype.kind in "uib"
        if self.value is not None:
            value, delta = self.value, self.delta
        elif whole and self.detector_value is not None:
            value, delta = self.detector_value, self.detector_delta if self.delta is None else self.delta
        else:
            return NO_DUMMY if whole else NO_FLOAT_DUMMY
        if whole:
            return _integer_interval(value, delta or 0.0, np.dtype(np.uint8) if dtype.kind == "b" else dtype)
        with np.errstate(over="ignore"):
            centre = float(dtype.type(value))
        return centre - (delta or 0.0), centre + (delta or 0.0)


@lru_cache(maxsize=256, typed=True)
def _integer_interval(value: float, delta: float, dtype: np.dtype[Any]) -> tuple[int, int]:
    limits = np.iinfo(dtype)
    if not math.isfinite(value) or value != int(value):
        raise FrameError(f"dummy: {value!r} is no value of {dtype} frames")
    centre = int(value)
    if centre < 0 and limits.min == 0:
        centre += limits.max + 1  # -1 in an unsigned frame is the type's largest value
    if centre == limits.max + 1 and isinstance(value, float) and dtype.itemsize == 8:
        centre = limits.max  # which no float can hold
    if not limits.min <= centre <= limits.max:
        if delta == 0.0:
            return NO_DUMMY
        raise FrameError(f"dummy: {value!r} does not fit {dtype} frames ({limits.min} to {limits.max})")
    reach = math.floor(delta)
    return max(centre - reach, limits.min), min(centre + reach, limits.max)


def kernel_frame(frame: ArrayLike, shape: tuple[int, ...], dummy: Dummy) -> tuple[NDArray[Any], Any, Any]:
    """Return a frame in one of the dtypes that kernels are compiled for, read-only, and its lowest and highest dummy.

    int8 is widened. uint64 is seen as int64; where it holds numbers above those of int64 it becomes float64 with NaN
    for dummies.

    Raises
    ------
    FrameError
        If the frame has the wrong shape or dtype, or cannot hold the user's dummy.
    """
    given = np.asarray(frame).dtype
    raw = checked_array("frame", frame, shape)
    low, high = dummy.interval(given)
    if raw.dtype != np.uint64:
        return frozen(raw.astype(np.int16) if raw.dtype == np.int8 else raw), low, high
    if raw.max(initial=0) >= SIGNED_LIMIT:
        values = raw.astype(np.float64)
        if low <= high:
            values[(raw >= low) & (raw <= high)] = np.nan
        return frozen(values), *NO_FLOAT_DUMMY
    if low >= SIGNED_LIMIT:
        low, high = NO_DUMMY
    return frozen(raw.view(np.int64)), low, min(high, SIGNED_LIMIT - 1)
