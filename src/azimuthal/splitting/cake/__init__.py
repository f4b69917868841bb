"""From pixel positions to shares of the cells of a cake: radial bins times azimuthal bins, which wrap.

``no``     a pixel belongs to the cell of its centre;
``bbox``   its share of a cell is the product of its overlaps in both directions, the half width in azimuth being the
           largest angle between a corner and the centre;
``full``   its share is the area of its quadrilateral in (radial, azimuth) over the cell, cut exactly.

A pixel on the half line where azimuths jump from 180 to -180 degrees is not torn. The pixel that holds the beam is the
rectangle from the beam to its farthest corner over the full turn.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from azimuthal import threads
from azimuthal.csr import TiledMatrix
from azimuthal.splitting import Corners, Poles, interval
from azimuthal.splitting.cake import kernels

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Grid:
    """The cells of a cake; cell number = azimuthal bin * radial bins + radial bin.

    Attributes
    ----------
    radial
        (radial bins + 1,) float64, equidistant edges.
    azimuthal
        (azimuthal bins + 1,) float64, equidistant edges; the first in [-period / 2, period / 2), the last at most a
        period above it.
    period
        A full turn in the unit of `azimuthal`: 360 or 2 pi.
    """

    radial: Floats
    azimuthal: Floats
    period: float

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return (self.radial.size - 1) * (self.azimuthal.size - 1)

    @property
    def numbers(self) -> tuple[Floats, Floats, float, float]:
        """Edges, what turns radians into the unit of the azimuthal ones, and the period, as kernels take them."""
        return self.radial, self.azimuthal, self.period / (2.0 * math.pi), self.period


def cake_whole(centres: Floats, azimuths: Floats, skipped: NDArray[np.bool_], grid: Grid) -> TiledMatrix:
    """Give each pixel wholly to the cell of its centre.

    Parameters
    ----------
    centres, azimuths
        (rows, columns) float64, radial position and azimuth (radians in ]-pi, pi]) of pixel centres.
    skipped
        (rows, columns) bool, pixels to leave out.
    grid
        The cells.
    """
    r, chi, skip = _flat(centres), _flat(azimuths), np.ascontiguousarray(skipped).ravel()
    bins = np.empty(r.size, np.int32)

    def share(start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        kernels.whole_pixels(start, stop, r, chi, skip, *grid.numbers, bins)
        here = bins[start:stop]
        return _indptr(here >= 0), here[here >= 0], np.empty(0, np.float32)

    return TiledMatrix.of_pixels(centres.shape, grid.n_cells, share)


def half_azimuths(azimuths: Floats, corners: Corners, poles: Poles) -> Floats:
    """Return, per pixel, the largest angle (radians) between a corner's azimuth and the centre's."""
    flat = _flat(azimuths)
    half = np.empty(flat.size)
    where = (corners.radial, corners.azimuth, *corners.layout, poles.array)
    columns = azimuths.shape[1]
    threads.run(lambda a, b: kernels.half_azimuths(a, b, columns, flat, *where, half), threads.pieces(flat.size))
    return half.reshape(azimuths.shape)


def cake_bbox(
    centres: Floats,
    half_width: Floats,
    azimuths: Floats,
    half_azimuth: Floats,
    skipped: NDArray[np.bool_],
    grid: Grid,
    floor: float | None = 0.0,
) -> TiledMatrix:
    """Share each pixel by the overlap of a rectangle with the cells.

    Parameters
    ----------
    centres, half_width
        (rows, columns) float64, along the radius.
    azimuths, half_azimuth
        (rows, columns) float64, radians.
    skipped
        (rows, columns) bool.
    grid
        The cells.
    floor
        Footprints are cut there (0 for radial units that cannot be negative), or not at all (None).
    """
    extents = *interval(centres, half_width, floor), _flat(azimuths - half_azimuth), _flat(azimuths + half_azimuth)
    return _gather(extents, np.ascontiguousarray(skipped).ravel(), skipped.shape, grid, kernels.bbox_cells, ())


def cake_full(
    corners: Corners,
    skipped: NDArray[np.bool_],
    grid: Grid,
    poles: Poles = Poles(),  # noqa: B008  frozen
) -> TiledMatrix:
    """Share each pixel by the area of its quadrilateral in (radial, azimuth) over the cells.

    Parameters
    ----------
    corners
        Of all pixels.
    skipped
        (rows, columns) bool.
    grid
        The cells.
    poles
        Where the radial unit has no azimuth.
    """
    skip = np.ascontiguousarray(skipped).ravel()
    extents = np.empty(skip.size), np.empty(skip.size), np.empty(skip.size), np.empty(skip.size)
    where = (skipped.shape[1], corners.radial, corners.azimuth, *corners.layout, poles.array)
    threads.run(lambda a, b: kernels.footprints(a, b, *where, *extents), threads.pieces(skip.size))
    return _gather(extents, skip, skipped.shape, grid, kernels.full_cells, where)


def _gather(
    extents: tuple[Floats, ...],
    skip: NDArray[np.bool_],
    shape: tuple[int, int],
    grid: Grid,
    kernel: Callable[..., int],
    where: tuple[object, ...],
) -> TiledMatrix:
    """Run a kernel band by band into buffers of at most the needed size."""
    counts = np.empty(skip.size, np.int64)

    def share(start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        room, most = kernels.count_cells(start, stop, *extents, skip, *grid.numbers)
        bins, shares = np.empty(room, np.int32), np.empty(room, np.float32)
        n = kernel(start, stop, *where, *extents, skip, *grid.numbers, most, counts, bins, shares)
        return _indptr(counts[start:stop]), bins[:n], shares[:n]

    return TiledMatrix.of_pixels(shape, grid.n_cells, share)


def _indptr(counts: NDArray[Any]) -> NDArray[np.int64]:
    indptr = np.zeros(counts.size + 1, np.int64)
    np.cumsum(counts, out=indptr[1:])
    return indptr


def _flat(array: Floats) -> Floats:
    return np.ascontiguousarray(array, np.float64).ravel()
