"""Frames in, patterns out: one geometry, one set of bins, one treatment."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from azimuthal import outliers
from azimuthal.bins import AzimuthalBins, RadialBins
from azimuthal.csr import TiledMatrix, kernels
from azimuthal.csr.vectors import WIDTH
from azimuthal.geometry import Geometry
from azimuthal.integrator.corrections import at_least_zero, digest_of, polarization_pair
from azimuthal.integrator.frame import (
    NO_DUMMY,
    Dummy,
    as_frames,
    checked_mask,
    checked_monitor,
    checked_monitors,
    checked_plane,
    checked_variance,
    flat_plane,
    frozen,
    kernel_frame,
    of_frame,
)
from azimuthal.integrator.preparation import Preparation, frozen_edges
from azimuthal.integrator.shares import check_bins
from azimuthal.integrator.summing import NO_MASK, NOTHING, Corrections, Summing, Totals
from azimuthal.outliers.rules import ClipModel, FrameKeywords
from azimuthal.pattern import SUMS, Cake, Conditions, Pattern
from azimuthal.splitting import Splitting, check_splitting

__all__ = ["Integrator", "IntegratorKey", "SolidAngle", "checked_monitor"]

SolidAngle = Literal["relative", "absolute"] | None
IntegratorKey = tuple[Geometry, str | None]


class Integrator:
    """Integrates frames of one geometry into patterns, or into cakes. Immutable; safe to share between threads.

    Parameters
    ----------
    geometry
        Where the detector is.
    bins
        Radial bins; a range of None covers the whole detector.
    azimuth
        Azimuthal bins, which make a Cake of every frame; None makes a Pattern.
    splitting
        "no", "bbox" or "full" (default).
    mask
        (rows, columns), non-zero = left out; adds to the detector's gaps.
    flat, absorption
        (rows, columns), factors of the normalization. Pixels where they are 0 or not finite are left out.
    solid_angle
        "relative" (1 at the point of normal incidence), "absolute" (steradian) or None.
    polarization
        Factor in [-1, 1], a pair (factor, axis offset in radians), or None.
    parallax
        True or False overrides what the geometry's file says; None takes it.
    dummy, delta_dummy
        Value that stands for 'no data' and its tolerance, in the frame's dtype; None takes the detector's, for integer
        frames.
    gain
        Variance of one count (1 for photon counting).
    read_noise
        Standard deviation added to every pixel, in the unit of the frame.

    Attributes
    ----------
    matrix
        Shares of the pixels; a cake's bins are numbered azimuthal bin * radial bins + radial bin.

    Raises
    ------
    FrameError
        If an array has the wrong shape or dtype, or a flat is negative in a pixel that is not masked.
    BinningError, UnitError, GeometryError
        If bins, unit, splitting, solid angle or polarization cannot be.
    """

    def __init__(
        self,
        geometry: Geometry,
        bins: RadialBins,
        azimuth: AzimuthalBins | None = None,
        splitting: Splitting = "full",
        mask: ArrayLike | None = None,
        flat: ArrayLike | None = None,
        absorption: ArrayLike | None = None,
        solid_angle: SolidAngle = "relative",
        polarization: float | tuple[float, float] | None = 0.99,
        parallax: bool | None = None,
        dummy: float | None = None,
        delta_dummy: float | None = None,
        gain: float = 1.0,
        read_noise: float = 0.0,
    ) -> None:
        check_splitting(splitting)
        check_bins(bins, azimuth)
        if parallax is not None and parallax != geometry.parallax:
            geometry = replace(geometry, parallax=parallax)
        self.geometry = geometry
        self.bins = bins.resolved(geometry)
        self.azimuth = azimuth
        self.shape = geometry.shape
        self.gain = at_least_zero("gain", gain)
        self.read_noise = at_least_zero("read_noise", read_noise)
        detector = geometry.detector
        self._dummy = Dummy(dummy, delta_dummy, detector.dummy, detector.delta_dummy)
        self._conditions = Conditions(splitting, solid_angle, polarization_pair(polarization), geometry.parallax)
        skipped = np.array(detector.mask)
        if mask is not None:
            skipped |= checked_mask("mask", mask, self.shape)
        self._key = geometry, digest_of(mask, flat, absorption)
        self._edges = frozen_edges(self.bins)
        noise = self.gain, self.read_noise
        how = geometry, self.bins, azimuth, self._conditions
        self._preparation = Preparation(*how, (flat, absorption), skipped, *noise)

    @property
    def key(self) -> IntegratorKey:
        """Tells integrators onto the same bins apart: the geometry, and a digest of the arrays that were given."""
        return self._key

    @property
    def matrix(self) -> TiledMatrix:
        """Shares of the pixels, built at first need: at the second frame."""
        return self._summing.matrix

    @property
    def _summing(self) -> Summing:
        return self._preparation.summing

    @property
    def conditions(self) -> Conditions:
        """What patterns of this integrator must agree in with others to be merged."""
        return self._conditions

    @property
    def masked_pixels(self) -> int:
        """Pixels that no frame can use: gaps, mask, unusable flat."""
        return self._preparation.unused

    @property
    def used_pixels(self) -> NDArray[np.bool_]:
        """Which pixels, flat, have a share in any bin."""
        return self._preparation.used_pixels

    @property
    def span(self) -> slice:
        """The radial bins that pixels reach; a cake's are all taken for that."""
        return self._preparation.span if self.azimuth is None else slice(None)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays that this integrator keeps so far."""
        return self._preparation.nbytes

    def when_grown(self, tell: Callable[[], None]) -> None:
        """Have `tell` called, without arguments, by whatever thread has just made `nbytes` larger."""
        self._preparation.when_grown(tell)

    @property
    def normalization(self) -> NDArray[np.float64]:
        """Flat * solid angle * polarization * absorption of each pixel, (rows, columns)."""
        return self._summing.norm.reshape(self.shape)

    @property
    def ring_normalization(self) -> NDArray[np.float64]:
        """`normalization` of the pixel of each entry of the matrix in bin order, (entries,)."""
        return self._summing.ring_norm

    def integrate(
        self,
        frame: ArrayLike,
        dark: ArrayLike | None = None,
        dark_variance: ArrayLike | None = None,
        variance: ArrayLike | None = None,
        monitor: float | Sequence[float] | NDArray[np.floating] = 1.0,
        mask: ArrayLike | None = None,
    ) -> Any:
        """Integrate one frame, (rows, columns), into a Pattern, or a stack, (n, rows, columns), into a list of n.

        Parameters
        ----------
        frame
            Counts of any real dtype and byte order.
        dark
            Number or (rows, columns), subtracted with its sign.
        dark_variance
            Number or (rows, columns), added to the variance of counts.
        variance
            (rows, columns) or (n, rows, columns); stands in for the variance of counts and dark.
        monitor
            Factor of the normalization, one number or n.
        mask
            (rows, columns) or (n, rows, columns), non-zero = left out, besides the mask of the integrator.

        Returns
        -------
        Pattern or list of Pattern
            Cake where the integrator has azimuthal bins.

        Raises
        ------
        FrameError
            If shapes or dtypes do not fit, or the monitor is not above 0.
        """
        frames = as_frames(frame)
        given: dict[str, Any] = {"dark": dark, "dark_variance": dark_variance, "variance": variance, "mask": mask}
        if frames.ndim != 3:
            return self._integrate_one(frames, checked_monitors(monitor, None)[0], **given)
        monitors = checked_monitors(monitor, len(frames))
        plain = dark is None and dark_variance is None and variance is None
        batched = len(frames) - len(frames) % WIDTH if plain else 0
        patterns = []
        for k in range(0, batched, WIDTH):
            patterns += self._integrate_batch(frames[k : k + WIDTH], monitors[k : k + WIDTH], mask, k, len(frames))
        for k in range(batched, len(frames)):
            for name in ("variance", "mask"):
                given[name] = of_frame({"variance": variance, "mask": mask}[name], k, len(frames), name)
            patterns.append(self._integrate_one(frames[k], monitors[k], **given))
        return patterns

    def sigma_clip(
        self,
        frame: ArrayLike,
        threshold: float = 5.0,
        max_iter: int = 5,
        error_model: ClipModel = "azimuthal",
        **given: Unpack[FrameKeywords],
    ) -> Any:
        """Integrate without outliers by sigma clipping: `outliers.sigma_clip`; `given` as in `integrate`."""
        return outliers.sigma_clip(self, frame, threshold, max_iter, error_model, **given)

    def quantile_mean(self, frame: ArrayLike, lower: float, upper: float, **given: Unpack[FrameKeywords]) -> Any:
        """Integrate what lies between two quantiles of a ring: `outliers.Quantiles`; `given` as in `integrate`."""
        return outliers.quantile_mean(self, frame, lower, upper, **given)

    def median(self, frame: ArrayLike, **given: Unpack[FrameKeywords]) -> Any:
        """Integrate the median of each ring: `outliers.Quantiles`; `given` as in `integrate`."""
        return outliers.median(self, frame, **given)

    def integrate_counts(
        self,
        counts: NDArray[Any],
        monitor: float,
        frames: int,
        masked_pixels: int,
        seldom: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None,
    ) -> Any:
        """Integrate counts that were summed over frames pixel by pixel.

        Parameters
        ----------
        counts
            (rows * columns,) uint32 or int64, not below 0.
        monitor
            Sum of the frames' monitors.
        frames
            How many there are.
        masked_pixels
            What the pattern is to say about left out pixels.
        seldom
            Numbers of pixels that were left out of some frames, and the sums of the monitors of the others. There must
            be no read noise then.
        """
        if seldom is None:
            sums, _ = self._summing.raw(frozen(counts), NO_MASK, 1, 0, frames)
            return self.pattern_of_totals(sums, monitor, masked_pixels)
        pixels, seen = seldom
        rarely = np.zeros(counts.size, np.bool_)
        rarely[pixels] = True
        sums, _ = self._summing.raw(frozen(counts), frozen(rarely), 1, 0, frames)
        return self.pattern_of_totals(sums, monitor, masked_pixels, (pixels, counts, seen))

    def integrate_sums(
        self, signal: NDArray[Any], variance: NDArray[np.float64], monitor: NDArray[np.float64], masked_pixels: int = 0
    ) -> Pattern:
        """Integrate a prepared signal: what was summed over frames pixel by pixel.

        Parameters
        ----------
        signal
            (rows, columns), int64 or float64.
        variance
            (rows, columns) float64.
        monitor
            (1,) or (rows * columns,) float64, the sum of monitors over the frames in which the pixel was valid.
        masked_pixels
            What the pattern is to say about left out pixels.
        """
        corrections = Corrections(variance=frozen(variance.ravel()), monitor=monitor)
        sums, _ = self._summing.corrected(frozen(signal.ravel()), NO_MASK, *NO_DUMMY, corrections)
        return self.pattern_of(sums, masked_pixels)

    def prepare(
        self,
        frame: ArrayLike,
        dark: ArrayLike | None = None,
        dark_variance: ArrayLike | None = None,
        variance: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return signal and variance of one frame, (rows, columns) float64 each; NaN signal = left out."""
        values, low, high = self.kernel_frame(as_frames(frame))
        left_out = (values >= low) & (values <= high)
        if mask is not None:
            left_out |= checked_mask("mask", mask, self.shape)
        signal = values.astype(np.float64)
        if variance is not None:
            var = np.array(checked_variance("variance", variance, self.shape))
        else:
            var = self.gain * np.maximum(signal, 0.0) + self.read_noise**2
            if dark_variance is not None:
                var += checked_variance("dark_variance", dark_variance, self.shape)
        if dark is not None:
            with np.errstate(invalid="ignore"):  # infinite less infinite is left out below
                signal -= checked_plane("dark", dark, self.shape)
        signal[left_out | ~np.isfinite(signal)] = np.nan
        return signal, var

    def kernel_frame(self, frame: ArrayLike) -> tuple[NDArray[Any], Any, Any]:
        """Return a frame, (rows, columns), in a dtype of the kernels, with the lowest and highest value of no data.

        Raises
        ------
        FrameError
            If shape or dtype do not fit, or the frame cannot hold the dummy that was asked for.
        """
        return kernel_frame(frame, self.shape, self._dummy)

    def kernel_frames(self, frames: ArrayLike) -> tuple[NDArray[Any], Any, Any]:
        """Return a stack as `kernel_frame` returns one frame.

        Raises
        ------
        FrameError
            Likewise.
        """
        stack = np.asarray(frames)
        return kernel_frame(stack, (len(stack), *self.shape), self._dummy)

    def pattern_of(self, sums: NDArray[np.float64], masked_pixels: int) -> Any:
        """Return the pattern, or cake, of sums over the bins of the matrix, (7, bins)."""
        common: dict[str, Any] = {
            "unit": self.bins.unit,
            "edges": self._edges,
            "conditions": self._conditions,
            "gain": self.gain,
            "masked_pixels": masked_pixels,
            "wavelength": self.geometry.wavelength,
        }
        if self.azimuth is None:
            return Pattern(sums=sums, **common)
        cells = sums.reshape(len(SUMS), self.azimuth.npt, self.bins.npt)
        return Cake(sums=cells, azimuthal_edges=self.azimuth.edges, **common)

    def _integrate_one(
        self,
        frame: NDArray[Any],
        monitor: float,
        dark: ArrayLike | None,
        dark_variance: ArrayLike | None,
        variance: ArrayLike | None,
        mask: ArrayLike | None,
    ) -> Any:
        if dark is None and dark_variance is None and variance is None:
            masked = NO_MASK if mask is None else checked_mask("mask", mask, self.shape).ravel()
            values, low, high = self.kernel_frame(frame)
            flat = values.ravel()
            first = self._preparation.first(flat, masked, low, high)
            sums, lost = first or self._summing.raw(flat, masked, low, high)
            return self.pattern_of(_scaled(sums, monitor), self.masked_pixels + lost)
        checked = self.corrected_frame(frame, dark, dark_variance, variance, mask)
        corrections = Corrections(checked[4], checked[5], checked[6], np.array([monitor]))
        flat, masked, low, high = checked[:4]
        sums, lost = self._summing.corrected(flat, masked, low, high, corrections)
        return self.pattern_of(sums, self.masked_pixels + lost)

    def corrected_frame(
        self,
        frame: ArrayLike,
        dark: ArrayLike | None = None,
        dark_variance: ArrayLike | None = None,
        variance: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> tuple[Any, ...]:
        """Return a frame and its corrections, checked and flat, as kernels take them.

        They are: frame, mask (or none), lowest and highest dummy; dark, dark variance and variance (one value for every
        pixel, one, or none); gain and squared read noise.

        Raises
        ------
        FrameError
            If something does not fit.
        """
        masked = NO_MASK if mask is None else checked_mask("mask", mask, self.shape).ravel()
        values, low, high = self.kernel_frame(as_frames(frame))
        planes = (
            NOTHING if dark is None else flat_plane(checked_plane("dark", dark, self.shape)),
            *(
                NOTHING if plane is None else flat_plane(checked_variance(what, plane, self.shape))
                for what, plane in (("dark_variance", dark_variance), ("variance", variance))
            ),
        )
        return values.ravel(), masked, low, high, *planes, self.gain, self.read_noise**2

    def integrate_into(
        self, frames: NDArray[Any], low: Any, high: Any, monitors: Sequence[float], totals: Totals
    ) -> list[Any]:
        """Integrate one frame of counts, or `WIDTH` of them, adding them to `totals` on the way.

        Parameters
        ----------
        frames, low, high
            As `kernel_frames` returns them, the frames flat: (1 or WIDTH, rows * columns); no larger than int32.
        monitors
            One for each frame.
        totals
            Is changed; see `Totals`.
        """
        if len(frames) == WIDTH:
            return self._patterns_of(self._summing.batch(frames, None, low, high, totals), monitors)
        return self._patterns_of([self._summing.raw(frames[0], NO_MASK, low, high, totals=totals)], monitors)

    def weights_of(self, pixels: NDArray[np.bool_]) -> tuple[NDArray[np.float64], bool]:
        """Return what `Summing.weights_of` does."""
        return self._summing.weights_of(pixels)

    def pattern_of_totals(
        self,
        sums: NDArray[np.float64],
        monitor: float,
        masked_pixels: int,
        seldom: tuple[NDArray[np.int64], NDArray[Any], NDArray[np.float64]] | None = None,
    ) -> Any:
        """Return the pattern of sums over frames for a monitor of 1, with what is known of pixels seen seldom.

        Parameters
        ----------
        sums
            (7, bins), of all other pixels.
        monitor, masked_pixels
            As for `integrate_counts`.
        seldom
            Pixels, the counts of all pixels, and the sums of monitors of the pixels.
        """
        scaled = _scaled(sums, monitor)
        if seldom is not None and seldom[2].any():
            scaled += self._summing.some(*seldom)
        return self.pattern_of(scaled, masked_pixels)

    def _integrate_batch(
        self, frames: NDArray[Any], monitors: Sequence[float], mask: ArrayLike | None, first: int, n: int
    ) -> list[Any]:
        """Integrate `WIDTH` raw frames of a stack of n, from number `first` on."""
        masked = None
        if mask is not None:
            planes = [of_frame(mask, first + k, n, "mask") for k in range(WIDTH)]
            masked = frozen(np.stack([checked_mask("mask", plane, self.shape).ravel() for plane in planes]))
        values, low, high = self.kernel_frames(frames)
        return self._patterns_of(self._summing.batch(values.reshape(WIDTH, -1), masked, low, high), monitors)

    def _patterns_of(self, results: list[tuple[NDArray[np.float64], int]], monitors: Sequence[float]) -> list[Any]:
        return [
            self.pattern_of(_scaled(sums, monitor), self.masked_pixels + lost)
            for (sums, lost), monitor in zip(results, monitors, strict=True)
        ]


def _scaled(sums: NDArray[np.float64], monitor: float) -> NDArray[np.float64]:
    """Return sums that were made for a monitor of 1 as they are for another one."""
    if monitor == 1.0:
        return sums
    sums[kernels.W] *= monitor
    sums[kernels.A] *= monitor
    sums[kernels.Q] *= monitor * monitor
    return sums
