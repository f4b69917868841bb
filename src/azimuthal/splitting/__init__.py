"""From pixel positions to shares of bins: the footprint of a detector on a radial axis.

``no``     a pixel belongs to the bin of its centre;
``bbox``   its share of a bin is the overlap with [centre - d, centre + d], d the largest radial distance of a corner;
``full``   its share is the area of its quadrilateral in (radial, azimuth) over the bin.

Bins are half open, the last one closed; what lies outside the range belongs to no bin (DESIGN 3). Cakes, and patterns
over the azimuth, are in `azimuthal.splitting.cake`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from azimuthal import threads
from azimuthal.csr import TiledMatrix
from azimuthal.csr.tiles import TILE_ROWS
from azimuthal.errors import BinningError
from azimuthal.splitting import full, kernels

Splitting = Literal["no", "bbox", "full"]


@dataclass(frozen=True, eq=False)
class Corners:
    """Radial positions and azimuths of all pixel corners, flat, with the way to find those of one pixel.

    Attributes
    ----------
    radial, azimuth
        float64; azimuth in radians.
    row_stride, column_stride, offsets
        Corner k of pixel (i, j) is at ``i * row_stride + j * column_stride + offsets[k]``.
    """

    radial: NDArray[np.float64]
    azimuth: NDArray[np.float64]
    row_stride: int
    column_stride: int
    offsets: NDArray[np.int64]

    @classmethod
    def from_vertices(cls, radial: NDArray[np.float64], azimuth: NDArray[np.float64]) -> "Corners":
        """Take a grid of shared vertices, (rows + 1, columns + 1) each."""
        width = radial.shape[1]
        offsets = np.array([0, width, width + 1, 1], np.int64)
        return cls(np.ascontiguousarray(radial).ravel(), np.ascontiguousarray(azimuth).ravel(), width, 1, offsets)

    @classmethod
    def from_corners(cls, radial: NDArray[np.float64], azimuth: NDArray[np.float64]) -> "Corners":
        """Take four corners a pixel, (rows, columns, 4) each, in order around the pixel."""
        offsets = np.arange(4, dtype=np.int64)
        stride = 4 * radial.shape[1]
        return cls(np.ascontiguousarray(radial).ravel(), np.ascontiguousarray(azimuth).ravel(), stride, 4, offsets)

    def from_row(self, first: int) -> "Corners":
        """Return the same corners as those of the pixels from row `first` on; those above are not there."""
        return replace(self, offsets=self.offsets - first * self.row_stride) if first else self

    @property
    def layout(self) -> tuple[int, int, NDArray[np.int64]]:
        """The three numbers that find a corner, in the order that kernels take them."""
        return self.row_stride, self.column_stride, self.offsets


@dataclass(frozen=True)
class Poles:
    """Radial positions at which there is no azimuth; a pixel around one of them reaches to it, over the full turn.

    Attributes
    ----------
    front
        On the beam: 0, or -inf where the unit diverges (such a pixel is in no bin); NaN ends pixels at their corners.
    equator
        At right angles to the beam; pixels with all corners beyond it are around the other pole.
    back
        On the beam's prolongation towards the source; inf where no pixel can be around it.
    """

    front: float = 0.0
    equator: float = math.inf
    back: float = math.inf

    @property
    def array(self) -> NDArray[np.float64]:
        """The three numbers, as kernels take them."""
        return np.array([self.front, self.equator, self.back])


def share_whole(centres: NDArray[np.float64], skipped: NDArray[np.bool_], edges: NDArray[np.float64]) -> TiledMatrix:
    """Give each pixel wholly to the bin of its centre.

    Parameters
    ----------
    centres
        (rows, columns) float64, radial position of pixel centres.
    skipped
        (rows, columns) bool, pixels to leave out.
    edges
        (bins + 1,) float64, equidistant, in the unit of `centres`.
    """
    flat = np.ascontiguousarray(centres, np.float64).ravel()
    skip = np.ascontiguousarray(skipped).ravel()
    return TiledMatrix.build(
        skipped.shape,
        edges.size - 1,
        lambda first, last, used: kernels.whole_tiles(first, last, skipped.shape, flat, skip, edges, used),
    )


def share_bbox(
    centres: NDArray[np.float64],
    half_width: NDArray[np.float64],
    skipped: NDArray[np.bool_],
    edges: NDArray[np.float64],
    floor: float | None = 0.0,
) -> TiledMatrix:
    """Share each pixel by the overlap of ``centre -+ half_width`` with the bins.

    Parameters
    ----------
    centres, half_width
        (rows, columns) float64.
    skipped
        (rows, columns) bool.
    edges
        (bins + 1,) float64, equidistant.
    floor
        Footprints are cut there (0 for units that cannot be negative), or not at all (None).
    """
    low, high = interval(centres, half_width, floor)
    skip = np.ascontiguousarray(skipped).ravel()
    return TiledMatrix.of_pixels(
        skipped.shape, edges.size - 1, lambda a, b: kernels.bbox_pixels(a, b, low, high, skip, edges)
    )


def share_full(
    corners: Corners | Callable[[int, int], Corners],
    skipped: NDArray[np.bool_],
    edges: NDArray[np.float64],
    poles: Poles = Poles(),
) -> TiledMatrix:
    """Share each pixel by the area of its quadrilateral in (radial, azimuth) over the bins.

    Parameters
    ----------
    corners
        Of all pixels; or what returns those of the pixels in rows first..last, so that there need not be all at once.
    skipped
        (rows, columns) bool.
    edges
        (bins + 1,) float64, equidistant.
    poles
        Where the radial unit has no azimuth.
    """
    skip = np.ascontiguousarray(skipped).ravel()
    shape = skipped.shape

    def share(first: int, last: int, used: NDArray[np.bool_]) -> tuple[Any, ...]:
        here = corners(first * TILE_ROWS, min(last * TILE_ROWS, shape[0])) if callable(corners) else corners
        where = here.radial, here.azimuth, here.layout, poles.array
        return full.full_tiles(first, last, shape, skip, *where, edges, used)  # type: ignore[no-any-return]

    return TiledMatrix.build(shape, edges.size - 1, share)


def half_widths(centres: NDArray[np.float64], corners: Corners) -> NDArray[np.float64]:
    """Return, per pixel, the largest radial distance of a corner from the centre; the shape of `centres`."""
    flat = np.ascontiguousarray(centres, np.float64).ravel()
    half = np.empty(flat.size)
    columns = centres.shape[1]
    threads.run(
        lambda a, b: kernels.half_widths(a, b, columns, flat, corners.radial, *corners.layout, half),
        threads.pieces(flat.size),
    )
    return half.reshape(centres.shape)


def interval(
    centres: NDArray[np.float64], half_width: NDArray[np.float64], floor: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the flat bounds of ``centre -+ half width``, NaN where a unit diverges, not below `floor`."""
    with np.errstate(invalid="ignore"):
        low = np.ascontiguousarray(centres - half_width, np.float64).ravel()
        high = np.ascontiguousarray(centres + half_width, np.float64).ravel()
    if floor is not None:
        np.maximum(low, floor, out=low)
    return low, high


def check_splitting(splitting: str) -> None:
    """Raise BinningError, listing what exists, unless `splitting` is one of them."""
    if splitting not in get_args(Splitting):
        raise BinningError(f"splitting: {splitting!r} does not exist; choose one of {', '.join(get_args(Splitting))}")
