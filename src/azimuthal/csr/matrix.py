"""The sparse matrix that shares pixels out among bins, in the two orders that the kernels want.

Pixel order (`PixelMatrix`) is what integration uses: the frame is read once from start to end and the few sums of the
bins stay in cache. Bin order (`CSRMatrix`) is what needs all pixels of a ring at once: medians, clipping, comparison
with other programs.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from azimuthal.csr.kernels import sort_shares, sort_whole_pixels

SHARE_QUANTUM = 2.0**-24
"""Shares are whole multiples of this, so that float32 holds them and float64 adds them up without rounding."""


@dataclass(frozen=True, eq=False)
class CSRMatrix:
    """Shares in bin order: row = bin, ascending pixel numbers inside each row.

    Attributes
    ----------
    indptr
        int64, (bins + 1,); row r is ``indptr[r]:indptr[r + 1]``.
    pixels
        int32, (entries,); flat pixel number, C order.
    shares
        float32, (entries,); the part of the pixel that lies in the bin, 0 to 1.
    """

    indptr: NDArray[np.int64]
    pixels: NDArray[np.int32]
    shares: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PixelMatrix:
    """Shares in pixel order: pixel i has the entries ``indptr[i]:indptr[i + 1]``.

    Attributes
    ----------
    n_bins
        Number of bins; a bin number is below it.
    bins
        int32, (entries,). Without splitting there is one entry a pixel (-1: none) and `indptr` and `shares` are None.
    indptr
        int32 or int64, (pixels + 1,), or None.
    shares
        float32, (entries,), multiples of 2**-24, or None: every share is 1.
    """

    n_bins: int
    bins: NDArray[np.int32]
    indptr: NDArray[np.int64] | None = None
    shares: NDArray[np.float32] | None = None

    @property
    def n_pixels(self) -> int:
        """Number of pixels of the frame."""
        return self.bins.size if self.indptr is None else self.indptr.size - 1

    @property
    def nbytes(self) -> int:
        """Bytes that the arrays occupy, those of the bin order too once it was asked for."""
        arrays = [self.bins, self.indptr, self.shares]
        if "csr" in self.__dict__:
            arrays += [self.csr.indptr, self.csr.pixels, self.csr.shares]
        return sum(array.nbytes for array in arrays if array is not None)

    @cached_property
    def csr(self) -> CSRMatrix:
        """The same shares in bin order, built on first use."""
        if self.indptr is None or self.shares is None:
            return CSRMatrix(*sort_whole_pixels(self.bins, self.n_bins))
        return CSRMatrix(*sort_shares(self.indptr, self.bins, self.shares, self.n_bins))
