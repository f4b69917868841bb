"""Frames over a matrix: the kernels run piece by piece, their sums added up in the order of the pieces."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from azimuthal import threads
from azimuthal.csr import PixelMatrix, kernels
from azimuthal.pattern import SUMS

Floats = NDArray[np.float64]
LARGEST_SUMS = 2**20
"""Bins times pieces: more would fill memory with sums of pieces (7 * 8 bytes a bin)."""


@dataclass(frozen=True, eq=False)
class Summing:
    """Sums flat frames over bins.

    Attributes
    ----------
    matrix
        Shares of pixels.
    norm
        (pixels,) float64, normalization of each pixel for a monitor of 1.
    gain, read_noise
        Of the detector.
    """

    matrix: PixelMatrix
    norm: Floats
    gain: float
    read_noise: float

    def raw(
        self, frame: NDArray[Any], masked: NDArray[np.bool_], low: Any, high: Any, frames: int = 1
    ) -> tuple[Floats, int]:
        """Sum counts and what the frame leaves out, which `kernels.add_raw_whole` explains: (7, bins), and how many.

        The counts may be those of several `frames` added up.
        """
        matrix = self.matrix
        noise = frames * self.read_noise**2

        def add(start: int, stop: int) -> tuple[Floats, int]:
            sums = np.zeros((len(SUMS), matrix.n_bins))
            lost = np.zeros(1, np.int64)
            common = (start, stop, frame, masked, low, high, self.norm)
            if matrix.indptr is None:
                kernels.add_raw_whole(*common, matrix.bins, self.gain, noise, sums, lost)
            else:
                kernels.add_raw_shared(*common, matrix.indptr, matrix.bins, matrix.shares, self.gain, noise, sums, lost)
            return sums, int(lost[0])

        parts = threads.run(add, self._pieces())
        return _add_up([sums for sums, _ in parts]), sum(lost for _, lost in parts)

    def prepared(self, signal: NDArray[Any], variance: Floats, monitor: Floats) -> Floats:
        """Sum a signal with its variance, all seven rows: (7, bins)."""
        matrix = self.matrix

        def add(start: int, stop: int) -> Floats:
            sums = np.zeros((len(SUMS), matrix.n_bins))
            common = (start, stop, signal, variance, self.norm, monitor)
            if matrix.indptr is None:
                kernels.add_prepared_whole(*common, matrix.bins, sums)
            else:
                kernels.add_prepared_shared(*common, matrix.indptr, matrix.bins, matrix.shares, sums)
            return sums

        return _add_up(threads.run(add, self._pieces()))

    def some(self, pixels: NDArray[np.int64], counts: NDArray[np.int64], monitor: Floats) -> Floats:
        """Sum some pixels, by their numbers, each with its own monitor, all seven rows: (7, bins)."""
        matrix = self.matrix
        sums = np.zeros((len(SUMS), matrix.n_bins))
        common = (pixels, counts, monitor, self.norm)
        if matrix.indptr is None:
            kernels.add_some_whole(*common, matrix.bins, self.gain, sums)
        else:
            kernels.add_some_shared(*common, matrix.indptr, matrix.bins, matrix.shares, self.gain, sums)
        return sums

    def constants(self) -> Floats:
        """Sum N, W and Q over all usable pixels, (3, bins): what a frame takes away that leaves all of them out."""
        everything = np.ones(self.norm.size, np.bool_)
        sums, _ = self.raw(everything.view(np.uint8), everything, 1, 0)
        return sums[[kernels.N, kernels.W, kernels.Q]]

    def _pieces(self) -> list[tuple[int, int]]:
        return threads.pieces(self.norm.size, max(1, min(8, LARGEST_SUMS // self.matrix.n_bins)))


def _add_up(parts: list[Floats]) -> Floats:
    """Add the sums of pieces, in their order."""
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total
