"""The sparse matrix that shares pixels out among bins, in the two orders that the kernels want.

Tile order (`TiledMatrix`) is what integration uses: the frame is read once, tile by tile, and one bin's entries in a
tile are neighbours, so that their sums stay in registers. Bin order (`CSRMatrix`) is what needs all pixels of a ring at
once: medians, clipping, comparison with other programs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from azimuthal import threads
from azimuthal.csr.sorting import count_entries, first_bins, place_entries, tile_pixels
from azimuthal.csr.tiles import TILE_COLUMNS, TILE_ROWS, bands, tiles_across

SHARE_QUANTUM = 2.0**-24
"""Shares are whole multiples of this, so that float32 holds them and float64 adds them up without rounding."""


@dataclass(frozen=True, eq=False)
class CSRMatrix:
    """Shares in bin order: row = bin; inside a row pixels stand tile by tile.

    Attributes
    ----------
    indptr
        int64, (bins + 1,); row r is ``indptr[r]:indptr[r + 1]``.
    pixels
        int32, (entries,); flat pixel number, C order.
    shares
        float32, (entries,); the part of the pixel that lies in the bin, 0 to 1.
    first_bins
        int32, (pixels,); the lowest bin of each pixel, -1 where it has none.
    """

    indptr: NDArray[np.int64]
    pixels: NDArray[np.int32]
    shares: NDArray[np.float32]
    first_bins: NDArray[np.int32]

    @property
    def nbytes(self) -> int:
        """Bytes that the arrays occupy."""
        return self.indptr.nbytes + self.pixels.nbytes + self.shares.nbytes + self.first_bins.nbytes


@dataclass(frozen=True, eq=False)
class Band:
    """Shares of some rows of tiles. Row = the entries of one bin in one tile.

    Attributes
    ----------
    first_tile
        Number of its first tile in the image.
    tile_ptr
        int64, (tiles + 1,); tile t has the rows ``tile_ptr[t]:tile_ptr[t + 1]``, bins ascending.
    row_bins
        int32, (rows,).
    row_ptr
        int64, (rows + 1,); row r has the entries ``row_ptr[r]:row_ptr[r + 1]``.
    pixels
        uint16, (entries,); number of the pixel in its tile.
    shares
        float32, (entries,), multiples of 2**-24; None: every share is 1.
    """

    first_tile: int
    tile_ptr: NDArray[np.int64]
    row_bins: NDArray[np.int32]
    row_ptr: NDArray[np.int64]
    pixels: NDArray[np.uint16]
    shares: NDArray[np.float32] | None

    @property
    def arrays(self) -> tuple[Any, ...]:
        """First tile and arrays, as kernels take them."""
        return self.first_tile, self.tile_ptr, self.row_bins, self.row_ptr, self.pixels, self.shares

    @property
    def nbytes(self) -> int:
        """Bytes that the arrays occupy."""
        return sum(array.nbytes for array in self.arrays[1:] if array is not None)


@dataclass(frozen=True, eq=False)
class TiledMatrix:
    """Shares in tile order.

    Attributes
    ----------
    n_bins
        Number of bins; a bin number is below it.
    shape
        (rows, columns) of the image.
    bands
        The matrix, cut into what one thread works on at a time.
    used
        bool, (pixels,); whether a pixel has a share in any bin.
    """

    n_bins: int
    shape: tuple[int, int]
    bands: tuple[Band, ...]
    used: NDArray[np.bool_]
    _listeners: list[Callable[[], None]] = field(default_factory=list, repr=False)

    @classmethod
    def build(
        cls, shape: tuple[int, int], n_bins: int, share: Callable[[int, int, NDArray[np.bool_]], tuple[Any, ...]]
    ) -> "TiledMatrix":
        """Build a matrix band by band, in parallel.

        Parameters
        ----------
        shape
            (rows, columns).
        n_bins
            Number of bins.
        share
            Called with the first and last + 1 row of tiles and the array `used`, of which it sets its own pixels;
            returns the arrays of a `Band`, shares empty where all are 1.
        """
        used = np.zeros(shape[0] * shape[1], np.bool_)
        across = tiles_across(shape[1])

        def band(first: int, last: int) -> Band:
            tile_ptr, row_bins, row_ptr, pixels, shares = share(first, last, used)
            return Band(first * across, tile_ptr, row_bins, row_ptr, pixels, shares if shares.size else None)

        return cls(n_bins, shape, tuple(threads.run(band, bands(shape, n_bins))), used)

    @classmethod
    def of_pixels(
        cls,
        shape: tuple[int, int],
        n_bins: int,
        share: Callable[[int, int], tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]],
    ) -> "TiledMatrix":
        """Build a matrix from shares in pixel order.

        Parameters
        ----------
        shape, n_bins
            (rows, columns), and number of bins.
        share
            Called with the first and last + 1 pixel of a band; returns indptr (its pixels + 1,), bins and shares.
        """

        def sort(first: int, last: int, used: NDArray[np.bool_]) -> tuple[Any, ...]:
            start, stop = (min(row * TILE_ROWS, shape[0]) * shape[1] for row in (first, last))
            return tile_pixels(first, last, shape, n_bins, start, *share(start, stop), used)  # type: ignore[no-any-return]

        return cls.build(shape, n_bins, sort)

    @cached_property
    def span(self) -> slice:
        """The bins that have entries, from the lowest to the highest."""
        reached = [band.row_bins for band in self.bands if band.row_bins.size]
        if not reached:
            return slice(0, 0)
        return slice(int(min(bins.min() for bins in reached)), int(max(bins.max() for bins in reached)) + 1)

    @property
    def n_pixels(self) -> int:
        """Number of pixels of the frame."""
        return self.used.size

    @property
    def nbytes(self) -> int:
        """Bytes that the arrays occupy, those of the bin order too once it was asked for."""
        return self._own_nbytes + (self._rings.nbytes if "_rings" in self.__dict__ else 0)

    @property
    def ring_entries(self) -> int:
        """Entries in bin order, 0 until that was asked for."""
        return self._rings.pixels.size if "_rings" in self.__dict__ else 0

    def when_grown(self, tell: Callable[[], None]) -> None:
        """Have `tell` called when the bin order is there and `nbytes` larger by it."""
        self._listeners.append(tell)

    @cached_property
    def _own_nbytes(self) -> int:
        return self.used.nbytes + sum(band.nbytes for band in self.bands)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: all but those who want to be told."""
        return self.__dict__ | {"_listeners": []}

    @property
    def csr(self) -> CSRMatrix:
        """The same shares in bin order, built on first use."""
        known = "_rings" in self.__dict__
        rings = self._rings
        if not known:
            for tell in self._listeners:
                tell()
        return rings

    @cached_property
    def _rings(self) -> CSRMatrix:
        counts = np.zeros(self.n_bins, np.int64)
        for band in self.bands:
            count_entries(band.row_bins, band.row_ptr, counts)
        indptr = np.zeros(self.n_bins + 1, np.int64)
        np.cumsum(counts, out=indptr[1:])
        pixels, shares = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32)
        cursor = indptr[:-1].copy()
        for band in self.bands:
            place_entries(*band.arrays, self.shape, cursor, pixels, shares)
        return CSRMatrix(indptr, pixels, shares, first_bins(indptr, pixels, self.n_pixels))

    def tile_of(self, pixels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of the tile of each pixel."""
        rows, columns = np.divmod(pixels, self.shape[1])
        tiles: NDArray[np.int64] = rows // TILE_ROWS * tiles_across(self.shape[1]) + columns // TILE_COLUMNS
        return tiles
