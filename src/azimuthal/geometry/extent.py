"""Which pixels of a flat grid can be the nearest to the beam and the farthest, without looking at all of them.

Along a straight line t -> p + t u, cos 2θ = z / R is stationary where z' R² = z (R²)' / 2. As z is linear and R² a
parabola, their cubic and quadratic terms cancel: that is linear in t, so there is one such place at most, and between
it and the ends of the line 2θ is monotone, like every coordinate that follows from it. The same holds for the radius,
whose square is a parabola. So on each line of a grid the least and the largest value are at an end, or at a crossing
beside that place. The parallax correction bends lines; then all are looked at.
"""

import numpy as np
import numpy.typing as npt

from azimuthal.geometry.grid import GridPixels
from azimuthal.geometry.model import Geometry
from azimuthal.geometry.placing import Floats
from azimuthal.units import RadialUnit, radial_unit

_TIE = 1e-9
"""Relative difference that rounding cannot make."""
_BESIDE = np.arange(-2, 2)[:, None, None]


def corner_extent(geometry: Geometry, pixels: GridPixels, unit: str | RadialUnit) -> tuple[float, float]:
    """Return the least and the largest radial coordinate of all corners, bit for bit.

    Parameters
    ----------
    geometry
        Where the detector is.
    pixels
        Its pixels.
    unit
        Of 2θ, a coordinate that follows from it, or the radius; not of the azimuth.

    Raises
    ------
    UnitError
        When the unit needs a wavelength and there is none.
    """
    code, factor = radial_unit(unit).kernel_arguments(geometry.wavelength)
    rows = slice(None) if geometry.parallax else _outer_rows(pixels, radial_unit(unit).kind == "radius")
    values = pixels.radial_of_corners(code, factor, rows)
    return float(values.min()), float(values.max())


def _outer_rows(pixels: GridPixels, radius: bool) -> npt.NDArray[np.intp]:
    """Return the rows of pixels that have the nearest corners to the beam, or the farthest."""
    one, two = (lines.T for lines in pixels.corner_lines())
    two, distance, matrix = np.unique(two), pixels.placing.distance, pixels.placing.matrix
    slope, start = matrix[2, 1], matrix[2, 0] * one + matrix[2, 2] * distance
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if radius:
            place = slope * start / (matrix[0, 1] ** 2 + matrix[1, 1] ** 2)
        else:
            place = slope * (one * one + distance * distance) / start
    beside = np.clip(np.searchsorted(two, place) + _BESIDE, 0, two.size - 1)
    ends = np.broadcast_to(np.array([0, two.size - 1])[:, None, None], (2, *one.shape))
    values = _values(matrix, one, two[np.concatenate([beside, ends])], distance, radius)
    least, largest = values.min(axis=(0, 1)), values.max(axis=(0, 1))
    return np.flatnonzero((least <= least.min() * (1.0 + _TIE)) | (largest >= largest.max() * (1.0 - _TIE)))


def _values(matrix: Floats, one: Floats, two: Floats, distance: float, radius: bool) -> Floats:
    """Return the radius or 2θ of points of the detector."""
    y, x, z = (row[0] * one + row[1] * two + row[2] * distance for row in matrix)
    return radial_unit("r_m" if radius else "2th_rad").from_lab(y, x, z)


def around_beam(pixels: GridPixels) -> tuple[slice, slice] | None:
    """Return rows and columns of a few pixels, those that hold the beam or its prolongation backwards among them.

    None where that misses the detector. A pixel that is seen at the beam by the parallax correction is farther from
    the PONI than the beam, by the largest correction at most.
    """
    placing = pixels.placing
    along = placing.matrix[2]
    with np.errstate(divide="ignore", invalid="ignore"):
        foot = placing.distance * along[:2] / along[2]
        farther = foot * (1.0 + np.abs(placing.shifts).max(initial=0.0) / max(np.hypot(*foot), 1e-300))
    found = [
        np.flatnonzero(_within(lines, min(a, b), max(a, b)))
        for lines, a, b in zip(pixels.corner_lines(), foot, farther, strict=True)
    ]
    if not all(some.size for some in found):
        return None
    rows, columns = (slice(int(some[0]), int(some[-1]) + 1) for some in found)
    return rows, columns


def _within(lines: Floats, low: float, high: float) -> npt.NDArray[np.bool_]:
    """Tell which pixels, that begin and end at `lines` (n, 2), are between two places, or next to them."""
    margin = np.abs(lines[:, 1] - lines[:, 0]).max()
    lower, upper = np.minimum(lines[:, 0], lines[:, 1]), np.maximum(lines[:, 0], lines[:, 1])
    return (upper >= low - margin) & (lower <= high + margin)
