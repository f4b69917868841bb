"""Frames over a matrix: the kernels run band by band, their sums added up in the order of the bands."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from azimuthal import threads
from azimuthal.csr import Band, TiledMatrix, kernels
from azimuthal.csr.corrected import kernels as of_corrected
from azimuthal.csr.vectors import WIDTH
from azimuthal.integrator.frame import frozen
from azimuthal.pattern import SUMS

Floats = NDArray[np.float64]
NOTHING = frozen(np.empty(0))
NO_MASK = frozen(np.empty(0, np.bool_))
NO_MASKS = frozen(np.empty((WIDTH, 0), np.bool_))


@dataclass(frozen=True, eq=False)
class Corrections:
    """What a frame needs besides its mask, flat arrays of one value for every pixel, a single one, or none.

    Attributes
    ----------
    dark, dark_variance
        Subtracted, and added to the variance of counts.
    variance
        Stands in for that of counts and dark.
    monitor
        Factors of the normalization, one at least; 0 leaves the pixel out.
    """

    dark: Floats = field(default_factory=lambda: NOTHING)
    dark_variance: Floats = field(default_factory=lambda: NOTHING)
    variance: Floats = field(default_factory=lambda: NOTHING)
    monitor: Floats = field(default_factory=lambda: np.ones(1))


@dataclass(frozen=True, eq=False)
class Weighted:
    """What the geometry alone says about the bins that pixels reach, and what a frame takes away from that.

    Attributes
    ----------
    n_bins
        How many bins there are.
    span
        Those that pixels reach.
    constants
        (bins of the span, 4), N, W, Q and the sum of c^2 of all pixels.
    lost
        Likewise, of the pixels that are left out; None where there are none.
    """

    n_bins: int
    span: slice
    constants: Floats
    lost: Floats | None = None

    def complete(
        self, signal: Floats, gain: float, read_noise: float, frames: int = 1
    ) -> tuple[Floats, NDArray[np.bool_] | None]:
        """Make all seven sums, (7, bins), of V, A, B and P of counts, (bins of the span, 4).

        Tells which bins, (bins,), lost most, if any: there the difference of two large numbers has cost digits.
        """
        weights = self.constants if self.lost is None else self.constants - self.lost
        everything = np.zeros((len(SUMS), self.n_bins))
        sums = everything[:, self.span]
        for row, column in zip((kernels.V, kernels.A, kernels.B, kernels.P), signal.T, strict=True):
            sums[row] = column
        for row, column in zip((kernels.N, kernels.W, kernels.Q), weights.T[:3], strict=True):
            sums[row] = column
        if gain != 1.0:
            sums[kernels.P] *= gain
        if read_noise:
            sums[kernels.P] += frames * read_noise**2 * weights[:, 3]
        if self.lost is None:
            return everything, None
        # N is exact (shares are multiples of 2**-24), so an emptied bin is exactly 0.
        sums[:, sums[kernels.N] == 0.0] = 0.0
        poor = np.zeros(self.n_bins, np.bool_)
        poor[self.span] = (sums[kernels.N] > 0) & (sums[kernels.N] < 0.5 * self.constants[:, 0])
        return everything, poor if poor.any() else None


@dataclass(eq=False)
class Totals:
    """Counts summed over frames, which frames are added to as they are integrated.

    Attributes
    ----------
    counts
        (pixels,) uint32 or int64; is added to.
    frames
        How many are in them before the call.
    rarely
        (pixels,) bool, or (0,): pixels that were left out of some of them, and stay out of `sums`. Those without
        counts, here and in the frames, need not be told.
    rare_weights
        N, W, Q and the sum of c^2 over these pixels, (bins, 4); None where there are none.
    follow
        Whether the totals are to be summed after each frame.
    sums
        Then receives, for each frame, all seven sums of the totals for a monitor of 1, as `Summing.raw` makes them of
        counts that lack the rare pixels, and no others: they are of no use where a frame lacked others, nor where a bin
        lost most of its pixels.
    spoilt
        Becomes True where a total outgrew its dtype, or a count was negative: the frames are to be taken out again.
    """

    counts: NDArray[Any]
    frames: int = 0
    rarely: NDArray[np.bool_] = field(default_factory=lambda: NO_MASK)
    rare_weights: Floats | None = None
    follow: bool = False
    sums: list[Floats] = field(default_factory=list)
    spoilt: bool = False

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What kernels take."""
        return self.counts, self.rarely, self.follow


NO_TOTALS = Totals(np.empty(0, np.uint32))


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

    matrix: TiledMatrix
    norm: Floats
    gain: float
    read_noise: float

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, those of `constants` too, which any frame will need, and `ring_norm` with the rings."""
        span = self.matrix.span
        others = 4 * (span.stop - span.start) + self.matrix.ring_entries
        return self.matrix.nbytes + self.norm.nbytes + self.norm.itemsize * others

    def raw(
        self,
        frame: NDArray[Any],
        masked: NDArray[np.bool_],
        low: Any,
        high: Any,
        frames: int = 1,
        totals: Totals = NO_TOTALS,
    ) -> tuple[Floats, int]:
        """Sum counts: all seven sums for a monitor of 1, (7, bins), and how many pixels of the matrix are left out.

        The counts may be those of several `frames` added up. Bins that lost most of their pixels are summed afresh.
        Where there are totals, the frame is added to them, and `Totals.sums` are made.
        """
        matrix = self.matrix
        lanes = 2 if totals.follow else 1

        def add(band: Band) -> tuple[Floats, Floats, int, bool]:
            sums, lost_sums = np.zeros(matrix.n_bins * 4 * lanes), np.zeros((1, matrix.n_bins, 4))
            common = (*band.arrays, matrix.shape, frame, masked, low, high)
            into = (sums, lost_sums, *totals.arguments)
            return sums, lost_sums, *kernels.add_frame(*common, self.norm, matrix.used, *into)

        parts, span = self._over_bands(add), matrix.span
        lost = sum(part[2] for part in parts)
        lost_sums = add_up([part[1][0, span] for part in parts]) if lost else None
        cut = slice(span.start * 4 * lanes, span.stop * 4 * lanes)
        both = add_up([part[0][cut] for part in parts]).reshape(-1, 4, lanes)
        sums, poor = self._complete(both[:, :, 0], lost_sums, frames)
        if poor is not None:
            sums[:, poor] = self.corrected(frame, masked, low, high, Corrections(), frames)[0][:, poor]
        self._note_totals(totals, both[:, :, 1:], any(part[3] for part in parts))
        return sums, lost

    def batch(
        self,
        frames: NDArray[Any],
        masked: NDArray[np.bool_] | None,
        low: Any,
        high: Any,
        totals: Totals = NO_TOTALS,
    ) -> list[tuple[Floats, int]]:
        """Sum `WIDTH` frames, (WIDTH, pixels), at once; for each what `raw` gives, to the last bit, totals too."""
        matrix = self.matrix
        hidden = NO_MASKS if masked is None else masked
        lanes = 2 * WIDTH if totals.follow else WIDTH

        def add(band: Band) -> tuple[Floats, Floats, NDArray[np.int64], bool]:
            sums, lost_sums = np.zeros(matrix.n_bins * 4 * lanes), np.zeros((WIDTH, matrix.n_bins, 4))
            lost = np.zeros(WIDTH, np.int64)
            common = (*band.arrays, matrix.shape, frames, hidden, low, high)
            into = (sums, lost_sums, lost, *totals.arguments)
            return sums, lost_sums, lost, kernels.add_batch(*common, self.norm, matrix.used, *into)

        parts, span = self._over_bands(add), matrix.span
        lost = np.sum([part[2] for part in parts], axis=0)
        cut = slice(span.start * 4 * lanes, span.stop * 4 * lanes)
        sums = add_up([part[0][cut] for part in parts]).reshape(-1, 4, lanes)
        results = []
        for f in range(WIDTH):
            lost_sums = add_up([part[1][f, span] for part in parts]) if lost[f] else None
            complete, poor = self._complete(sums[:, :, f], lost_sums, 1)
            if poor is not None:
                complete[:, poor] = self.corrected(frames[f], hidden[f], low, high, Corrections())[0][:, poor]
            results.append((complete, int(lost[f])))
        self._note_totals(totals, sums[:, :, WIDTH:], any(part[3] for part in parts))
        return results

    def _note_totals(self, totals: Totals, sums: Floats, spoilt: bool) -> None:
        """Tell `totals` what became of them; ``sums`` (bins, 4, frames) are theirs after each frame."""
        if totals is not NO_TOTALS:
            totals.spoilt |= spoilt
            rare = None if totals.rare_weights is None else totals.rare_weights[self.matrix.span]
            for f in range(sums.shape[2]):
                complete, _ = self._complete(sums[:, :, f], rare, totals.frames + f + 1)
                totals.sums.append(complete)

    def weights_of(self, pixels: NDArray[np.bool_]) -> tuple[Floats, bool]:
        """Sum N, W, Q and c^2 over some pixels, (bins, 4), and tell whether a bin would lose most of its pixels."""
        matrix = self.matrix

        def add(band: Band) -> Floats:
            sums = np.zeros((1, matrix.n_bins, 4))
            kernels.weigh_flagged(*band.arrays, matrix.shape, self.norm, pixels, sums)
            return sums[0]

        lost, every = add_up(self._over_bands(add)), self.constants[:, 0]
        left = every - lost[matrix.span, 0]
        return lost, bool(((left > 0) & (left < 0.5 * every)).any())

    def corrected(
        self,
        frame: NDArray[Any],
        masked: NDArray[np.bool_],
        low: Any,
        high: Any,
        corrections: Corrections,
        frames: int = 1,
    ) -> tuple[Floats, int]:
        """Sum a frame with corrections: all seven sums, (7, bins), and how many pixels of the matrix are left out."""
        matrix, given = self.matrix, corrections
        noise = frames * self.read_noise**2

        def add(band: Band) -> tuple[Floats, int]:
            sums = np.zeros((matrix.n_bins, len(SUMS)))
            common = (*band.arrays, matrix.shape, frame, masked, low, high)
            how = (given.dark, given.dark_variance, given.variance, self.gain, noise, self.norm, given.monitor)
            return sums, of_corrected.add_prepared(*common, *how, matrix.used, sums)

        parts = self._over_bands(add)
        return np.ascontiguousarray(add_up([part[0] for part in parts]).T), sum(part[1] for part in parts)

    def some(self, pixels: NDArray[np.int64], counts: NDArray[np.int64], monitor: Floats) -> Floats:
        """Sum counts of some pixels, by their numbers, each with its own monitor: all seven sums, (7, bins)."""
        tiles = self.matrix.tile_of(pixels)
        order = np.argsort(tiles, kind="stable")
        common = (tiles[order], pixels[order], counts[pixels[order]], monitor[order], self.gain, self.norm)

        def add(band: Band) -> Floats:
            sums = np.zeros((self.matrix.n_bins, len(SUMS)))
            of_corrected.add_some(*band.arrays, self.matrix.shape, *common, sums)
            return sums

        return np.ascontiguousarray(add_up(self._over_bands(add)).T)

    @cached_property
    def ring_norm(self) -> Floats:
        """`norm` of the pixel of each entry in bin order: read in turn, where rings would look for it all over."""
        return self.norm[self.matrix.csr.pixels]

    @cached_property
    def constants(self) -> Floats:
        """N, W, Q and the sum of c^2 over all entries, (bins of the matrix's span, 4)."""
        matrix = self.matrix

        def add(band: Band) -> Floats:
            sums = np.zeros((matrix.n_bins, 4))
            kernels.add_constants(*band.arrays, matrix.shape, self.norm, sums)
            return sums[matrix.span]

        return add_up(self._over_bands(add))

    def _complete(self, signal: Floats, lost: Floats | None, frames: int) -> tuple[Floats, NDArray[np.bool_] | None]:
        """Make all seven sums; see `Weighted`."""
        weighted = Weighted(self.matrix.n_bins, self.matrix.span, self.constants, lost)
        return weighted.complete(signal, self.gain, self.read_noise, frames)

    def _over_bands(self, function: Callable[[Band], Any]) -> list[Any]:
        return threads.each(function, self.matrix.bands)


def add_up(parts: Sequence[Floats]) -> Floats:
    """Add the sums of bands, in their order."""
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total
