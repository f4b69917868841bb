"""The normalization of each pixel: flat * absorption * solid angle * polarization, and what is refused of them."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from azimuthal import threads
from azimuthal.errors import FrameError
from azimuthal.geometry import Geometry
from azimuthal.integrator.frame import checked_plane
from azimuthal.pattern import Conditions


def normalization(
    geometry: Geometry,
    conditions: Conditions,
    flat: ArrayLike | None,
    absorption: ArrayLike | None,
    skipped: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return n of each pixel for a monitor of 1, 0 where the pixel is no use, and which pixels those are.

    Parameters
    ----------
    geometry
        Where the pixels are.
    conditions
        With the kind of solid angle and the polarization.
    flat, absorption
        (rows, columns) or None.
    skipped
        (rows, columns) bool, pixels that are left out anyway.

    Returns
    -------
    norm, unused
        (rows, columns) float64 and bool; unused = skipped, or a factor is 0 or not finite.

    Raises
    ------
    FrameError
        If flat or absorption is negative in a pixel that is not skipped, or has the wrong shape.
    """
    planes = {what: _plane(what, factor, geometry) for what, factor in (("flat", flat), ("absorption", absorption))}
    skip = np.require(skipped, np.bool_, ["C", "W"])
    norm, unused, counts = geometry.normalization(
        conditions.solid_angle, conditions.polarization, **planes, skipped=skip
    )
    for what, negative in zip(planes, counts, strict=True):
        if negative:
            raise FrameError(f"{what}: {negative} pixels are negative; mask them or set them to 0")
    return norm, unused


def _plane(what: str, factor: ArrayLike | None, geometry: Geometry) -> NDArray[np.float64] | None:
    """Return a factor as kernels are compiled for it."""
    return None if factor is None else np.require(checked_plane(what, factor, geometry.shape), np.float64, ["C", "W"])


def polarization_pair(polarization: Any) -> tuple[float, float] | None:
    """Return (factor, axis offset in radians), from either or both; None stays None.

    Raises
    ------
    FrameError
        If the factor is outside -1..1, or the offset is no angle.
    """
    if polarization is None:
        return None
    try:
        factor, offset = (float(x) for x in (polarization if np.ndim(polarization) else (polarization, 0.0)))
    except (TypeError, ValueError):
        raise FrameError(f"polarization: {polarization!r} is no factor, nor (factor, axis offset)") from None
    if not -1.0 <= factor <= 1.0:
        raise FrameError(f"polarization: factor {factor!r} is outside -1..1")
    if not np.isfinite(offset):
        raise FrameError(f"polarization: axis offset {offset!r} is no angle")
    return factor, offset


def at_least_zero(what: str, value: float) -> float:
    """Return a number that is finite and not negative.

    Raises
    ------
    FrameError
        If it is not.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number) or number < 0.0:
        raise FrameError(f"{what}: {value!r} must be finite and at least 0")
    return number


def digest_of(*arrays: ArrayLike | None) -> str | None:
    """Return a digest of arrays by shape, dtype and content; None where none is given."""
    if all(array is None for array in arrays):
        return None
    digest = hashlib.sha256()
    for array in arrays:
        values = np.ascontiguousarray(() if array is None else array)
        digest.update(f"{array is None} {values.dtype.str} {values.shape} ".encode())
        digest.update(_digest_of_bytes(np.packbits(values) if values.dtype == np.bool_ else values))
    return digest.hexdigest()[:32]


def _digest_of_bytes(values: NDArray[Any]) -> bytes:
    """Return the digests of an array's bytes, piece by piece on all processors."""
    content = values.reshape(-1).view(np.uint8)
    pieces = threads.pieces(content.size)
    return b"".join(threads.run(lambda a, b: hashlib.sha256(content[a:b].data).digest(), pieces))
