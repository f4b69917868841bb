"""Frames in, patterns out: one geometry, one set of bins, one treatment."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from azimuthal import threads
from azimuthal.bins import RadialBins, corners_of, poles_of
from azimuthal.csr import PixelMatrix, kernels
from azimuthal.errors import FrameError
from azimuthal.geometry import Geometry
from azimuthal.integrator.frame import (
    NO_DUMMY,
    Dummy,
    as_kernel_dtype,
    checked_array,
    checked_mask,
    checked_monitor,
    checked_plane,
)
from azimuthal.pattern import SUMS, Conditions, Pattern
from azimuthal.splitting import Splitting, check_splitting, half_widths, share_bbox, share_full, share_whole
from azimuthal.units import radial_unit

__all__ = ["Integrator", "SolidAngle", "checked_monitor"]

SolidAngle = Literal["relative", "absolute"] | None
NO_MASK = np.empty(0, np.bool_)


class Integrator:
    """Integrates frames of one geometry into patterns. Immutable; safe to share between threads.

    Parameters
    ----------
    geometry
        Where the detector is.
    bins
        Radial bins; a range of None covers the whole detector.
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

    Raises
    ------
    FrameError
        If an array has the wrong shape, or a flat is negative.
    BinningError, UnitError, GeometryError
        If bins, unit, splitting, solid angle or polarization cannot be.
    """

    def __init__(
        self,
        geometry: Geometry,
        bins: RadialBins,
        *,
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
        if parallax is not None and parallax != geometry.parallax:
            geometry = replace(geometry, parallax=parallax)
        self.geometry = geometry
        self.bins = bins.resolved(geometry)
        self.shape = geometry.shape
        self.gain = _positive("gain", gain, least=0.0)
        self.read_noise = _positive("read_noise", read_noise, least=0.0)
        detector = geometry.detector
        self._dummy = Dummy(dummy, delta_dummy, detector.dummy, detector.delta_dummy)
        pair = _polarization_pair(polarization)
        self._conditions = Conditions(splitting, solid_angle, pair, geometry.parallax)
        norm, usable = self._normalization(flat, absorption)
        skipped = np.array(detector.mask)
        if mask is not None:
            skipped |= checked_mask("mask", mask, self.shape)
        skipped |= ~usable
        self._norm = norm.ravel()
        self._static_masked = int(skipped.sum())
        self._edges = self.bins.edges
        self.matrix = self._share_pixels(skipped)
        self._constants = self._sum_constants()

    @property
    def conditions(self) -> Conditions:
        """What patterns of this integrator must agree in with others to be merged."""
        return self._conditions

    @property
    def masked_pixels(self) -> int:
        """Pixels that no frame can use: gaps, mask, unusable flat."""
        return self._static_masked

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays that this integrator keeps."""
        return self.matrix.nbytes + self._norm.nbytes + self._constants.nbytes + self._edges.nbytes

    @property
    def normalization(self) -> NDArray[np.float64]:
        """Flat * solid angle * polarization * absorption of each pixel, (rows, columns)."""
        return self._norm.reshape(self.shape)

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
            (rows, columns), non-zero = left out of this frame, besides the mask of the integrator.

        Returns
        -------
        Pattern or list of Pattern

        Raises
        ------
        FrameError
            If shapes or dtypes do not fit, or the monitor is not above 0.
        """
        frames = np.asarray(frame)
        if frames.ndim != 3:
            return self._integrate_one(frames, dark, dark_variance, variance, checked_monitor(_single(monitor)), mask)
        monitors = np.broadcast_to(np.asarray(monitor, np.float64), (len(frames),))
        variances = np.asarray(variance) if variance is not None else None
        return [
            self._integrate_one(
                one,
                dark,
                dark_variance,
                variances[k] if variances is not None and variances.ndim == 3 else variances,
                checked_monitor(monitors[k]),
                mask,
            )
            for k, one in enumerate(frames)
        ]

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
        sums = self._add_prepared(signal.ravel(), variance.ravel(), monitor)
        return self._pattern(sums, masked_pixels)

    def prepare(
        self,
        frame: ArrayLike,
        dark: ArrayLike | None = None,
        dark_variance: ArrayLike | None = None,
        variance: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return signal and variance of one frame, (rows, columns) float64 each; NaN signal = left out."""
        raw = self._raw(frame)
        left_out = self._left_out(raw, mask)
        signal = raw.astype(np.float64)
        if variance is not None:
            var = np.array(checked_plane("variance", variance, self.shape))
            if (var < 0).any():
                raise FrameError("variance: holds negative numbers")
        else:
            var = self.gain * np.maximum(signal, 0.0) + self.read_noise**2
            if dark_variance is not None:
                var += checked_plane("dark_variance", dark_variance, self.shape)
        if dark is not None:
            signal -= checked_plane("dark", dark, self.shape)
        signal[left_out] = np.nan
        return signal, var

    def _integrate_one(
        self,
        frame: NDArray[Any],
        dark: ArrayLike | None,
        dark_variance: ArrayLike | None,
        variance: ArrayLike | None,
        monitor: float,
        mask: ArrayLike | None,
    ) -> Pattern:
        if dark is None and dark_variance is None and variance is None:
            return self._integrate_raw(self._raw(frame), monitor, mask)
        signal, var = self.prepare(frame, dark, dark_variance, variance, mask)
        sums = self._add_prepared(signal.ravel(), var.ravel(), np.array([monitor]))
        lost = int(np.count_nonzero(~np.isfinite(signal.ravel()[self.used_pixels])))
        return self._pattern(sums, self._static_masked + lost)

    def _raw(self, frame: ArrayLike) -> NDArray[Any]:
        return checked_array("frame", frame, self.shape)

    def _left_out(self, raw: NDArray[Any], mask: ArrayLike | None) -> NDArray[np.bool_]:
        """Tell which pixels a frame leaves out by itself: dummies, not finite, its own mask."""
        low, high = self._dummy.interval(raw.dtype)
        values = as_kernel_dtype(raw)
        left_out = (values >= low) & (values <= high)
        if raw.dtype.kind == "f":
            left_out |= ~np.isfinite(raw)
        if mask is not None:
            left_out |= checked_mask("mask", mask, self.shape)
        return left_out

    def _integrate_raw(self, raw: NDArray[Any], monitor: float, mask: ArrayLike | None) -> Pattern:
        """Integrate counts as they are: N, W, Q are the geometry's constants less what the frame leaves out."""
        masked = NO_MASK if mask is None else checked_mask("mask", mask, self.shape).ravel()
        sums, lost = self._add_raw(as_kernel_dtype(raw).ravel(), masked, self._dummy.interval(raw.dtype))
        if lost:
            self._subtract_lost(sums, raw, masked)
        else:
            sums[[kernels.N, kernels.W, kernels.Q]] = self._constants
        sums[[kernels.W, kernels.A]] *= monitor
        sums[kernels.Q] *= monitor * monitor
        return self._pattern(sums, self._static_masked + lost)

    def _subtract_lost(self, sums: NDArray[np.float64], raw: NDArray[Any], masked: NDArray[np.bool_]) -> None:
        """Turn what was left out into what is left, in rows N, W, Q; bins that lost most are summed afresh."""
        rows = [kernels.N, kernels.W, kernels.Q]
        sums[rows] = self._constants - sums[rows]
        # N is exact (shares are multiples of 2**-24), so an emptied bin is exactly 0.
        sums[:, sums[kernels.N] == 0.0] = 0.0
        poor = (sums[kernels.N] > 0) & (sums[kernels.N] < 0.5 * self._constants[kernels.N])
        if poor.any():
            # The difference of two large numbers would cost digits here.
            signal, var = self.prepare(raw, mask=masked.reshape(self.shape) if masked.size else None)
            fresh = self._add_prepared(signal.ravel(), var.ravel(), np.ones(1))
            sums[:, poor] = fresh[:, poor]

    def _add_raw(
        self, frame: NDArray[Any], masked: NDArray[np.bool_], dummies: tuple[float, float]
    ) -> tuple[NDArray[np.float64], int]:
        """Run the kernel over a flat frame; see `kernels.add_raw_whole` for what the rows mean."""
        noise = self.read_noise**2
        matrix, norm = self.matrix, self._norm

        def add(start: int, stop: int) -> tuple[NDArray[np.float64], int]:
            sums = np.zeros((len(SUMS), matrix.n_bins))
            lost = np.zeros(1, np.int64)
            common = (start, stop, frame, masked, *dummies, norm)
            if matrix.indptr is None:
                kernels.add_raw_whole(*common, matrix.bins, self.gain, noise, sums, lost)
            else:
                kernels.add_raw_shared(*common, matrix.indptr, matrix.bins, matrix.shares, self.gain, noise, sums, lost)
            return sums, int(lost[0])

        parts = threads.run(add, threads.pieces(frame.size))
        return _add_up([sums for sums, _ in parts]), sum(lost for _, lost in parts)

    def _add_prepared(
        self, signal: NDArray[Any], variance: NDArray[np.float64], monitor: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        matrix, norm = self.matrix, self._norm

        def add(start: int, stop: int) -> NDArray[np.float64]:
            sums = np.zeros((len(SUMS), matrix.n_bins))
            common = (start, stop, signal, variance, norm, monitor)
            if matrix.indptr is None:
                kernels.add_prepared_whole(*common, matrix.bins, sums)
            else:
                kernels.add_prepared_shared(*common, matrix.indptr, matrix.bins, matrix.shares, sums)
            return sums

        return _add_up(threads.run(add, threads.pieces(signal.size)))

    def _pattern(self, sums: NDArray[np.float64], masked_pixels: int) -> Pattern:
        return Pattern(
            unit=self.bins.unit,
            edges=self._edges,
            sums=sums,
            conditions=self._conditions,
            gain=self.gain,
            masked_pixels=masked_pixels,
            wavelength=self.geometry.wavelength,
        )

    def _normalization(
        self, flat: ArrayLike | None, absorption: ArrayLike | None
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return n of each pixel for a monitor of 1, and whether a pixel can be used at all."""
        norm = np.ones(self.shape)
        for what, factor in (("flat", flat), ("absorption", absorption)):
            if factor is not None:
                plane = checked_plane(what, factor, self.shape)
                if (plane < 0).any():
                    raise FrameError(
                        f"{what}: {int((plane < 0).sum())} pixels are negative; mask them or set them to 0"
                    )
                norm *= plane
        solid_angle = self.geometry.solid_angle(self._conditions.solid_angle)
        if solid_angle is not None:
            norm *= solid_angle
        if self._conditions.polarization is not None:
            norm *= self.geometry.polarization(*self._conditions.polarization)
        usable = np.isfinite(norm) & (norm != 0.0)
        norm[~usable] = 0.0
        return norm, usable

    def _share_pixels(self, skipped: NDArray[np.bool_]) -> PixelMatrix:
        unit = self.bins.unit
        if self._conditions.splitting == "no":
            return share_whole(self.geometry.radial(unit), skipped, self._edges)
        corners = corners_of(self.geometry, unit)
        if self._conditions.splitting == "full":
            return share_full(corners, self.shape[1], skipped, self._edges, poles_of(self.geometry, unit))
        centres = self.geometry.radial(unit)
        floor = 0.0 if radial_unit(unit).nonnegative else None
        return share_bbox(centres, half_widths(centres, corners), skipped, self._edges, floor)

    def _sum_constants(self) -> NDArray[np.float64]:
        """Sum N, W and Q over all usable pixels, (3, bins): what a frame takes away that leaves all of them out."""
        everything = np.ones(self._norm.size, np.bool_)
        sums, _ = self._add_raw(everything.view(np.uint8), everything, NO_DUMMY)
        return sums[[kernels.N, kernels.W, kernels.Q]]

    @property
    def used_pixels(self) -> NDArray[np.bool_]:
        """Which pixels, flat, have a share in any bin."""
        return self.matrix.bins >= 0 if self.matrix.indptr is None else np.diff(self.matrix.indptr) > 0


def _add_up(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Add the sums of pieces, in their order."""
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total


def _single(monitor: Any) -> float:
    values = np.asarray(monitor, np.float64)
    if values.size != 1:
        raise FrameError(f"monitor: {values.size} values for one frame")
    return float(values.reshape(()))


def _positive(what: str, value: float, least: float) -> float:
    number = float(value)
    if not np.isfinite(number) or number < least:
        raise FrameError(f"{what}: {value!r} must be finite and at least {least:g}")
    return number


def _polarization_pair(polarization: float | tuple[float, float] | None) -> tuple[float, float] | None:
    """Return (factor, axis offset), checked."""
    if polarization is None:
        return None
    factor, offset = (float(x) for x in (polarization if isinstance(polarization, tuple) else (polarization, 0.0)))
    if not -1.0 <= factor <= 1.0:
        raise FrameError(f"polarization: factor {factor!r} is outside -1..1")
    if not np.isfinite(offset):
        raise FrameError(f"polarization: axis offset {offset!r} is no angle")
    return factor, offset
