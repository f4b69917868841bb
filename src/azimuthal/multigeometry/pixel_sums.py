"""The frames of one geometry, summed pixel by pixel."""

import math
import weakref
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from azimuthal import threads
from azimuthal.errors import FrameError
from azimuthal.integrator import Integrator
from azimuthal.integrator.summing import Totals
from azimuthal.multigeometry import kernels

NOT_EXACT = "remove: these sums are not whole numbers, so a frame cannot be taken out exactly; add the rest afresh"


class PixelSums:
    """Sums of signal, variance and monitors over frames, for the pixels that the integrator uses.

    The integrator is handed to every call rather than kept: it is larger than the sums. A first frame of counts is kept
    as it came, and becomes sums when there is a second one: most positions of a goniometer have no other.

    Attributes
    ----------
    first
        (pixels,) that frame, not in the sums yet; None once it is.
    signal
        (pixels,) int64 while every signal was a whole number, else float64.
    variance
        (pixels,) float64; None while it follows from the signal (counts, no dark).
    missing
        (pixels,) float64, monitors of the frames in which the pixel was left out; None while there is none.
    missed
        int64, numbers of the pixels that were ever left out, ascending.
    monitors
        Monitor of every frame.
    masked_pixels
        Left out pixels, summed over the frames.
    """

    ARRAYS = ("first", "signal", "variance", "missing", "missed")

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self.first: NDArray[Any] | None = None
        self.signal: NDArray[Any] = np.empty(0, np.int64)
        self.variance: NDArray[np.float64] | None = None
        self.missing: NDArray[np.float64] | None = None
        self.missed: NDArray[np.int64] | None = None
        self.monitors: list[float] = []
        self.masked_pixels = 0
        self._weighed: tuple[Any, ...] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(array.nbytes for array in self.arrays().values())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that there are, by name."""
        return {name: getattr(self, name) for name in self.ARRAYS if getattr(self, name) is not None}

    def set_arrays(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Set the arrays, None where there is none."""
        for name in self.ARRAYS:
            setattr(self, name, arrays.get(name, np.empty(0, np.int64) if name == "signal" else None))
        self._weighed = None

    def add(
        self, integrator: Integrator, used: NDArray[np.bool_], sign: int, monitor: float, frame: ArrayLike, **given: Any
    ) -> None:
        """Add a frame (`sign` 1) or take it out again (-1).

        Parameters
        ----------
        integrator
            Of the geometry.
        used
            (pixels,), its `used_pixels`.
        sign, monitor, frame
            What to do, with what.
        **given
            dark, dark_variance, variance, mask as for `Integrator.integrate`.

        Raises
        ------
        FrameError
            If the frame does not fit, cannot be taken out exactly, or was never in; nothing is changed.
        """
        if sign < 0 and monitor not in self.monitors:
            raise FrameError(f"remove: no frame with monitor {monitor!r} was added for this geometry")
        if sign > 0 and not given and not self.monitors and self._keep_first(integrator, frame):
            self.monitors.append(monitor)
            return
        self._begin(integrator, used)
        self._change(integrator, used, sign, monitor, frame, given)

    def _keep_first(self, integrator: Integrator, frame: ArrayLike) -> bool:
        """Keep a first frame of counts, as it is; False where it is not that simple."""
        values, _, _ = integrator.kernel_frame(frame)
        if values.dtype.kind not in "ui" or values.dtype != np.asarray(frame).dtype:
            return False
        self.first = values.flatten()
        return True

    def _begin(self, integrator: Integrator, used: NDArray[np.bool_]) -> None:
        """Have sums, of the first frame if one was kept."""
        if self.signal.size != self._pixels:
            self.signal = np.zeros(self._pixels, np.int64)
        if self.first is not None:
            first, self.first = self.first.reshape(integrator.shape), None
            self._change(integrator, used, 1, self.monitors.pop(), first, {})

    def _change(
        self,
        integrator: Integrator,
        used: NDArray[np.bool_],
        sign: int,
        monitor: float,
        frame: ArrayLike,
        given: dict[str, Any],
    ) -> None:
        if not (not given and self.variance is None and self._add_counts(integrator, used, sign, monitor, frame)):
            self._add_corrected(integrator, used, sign, monitor, frame, given)
        if sign > 0:
            self.monitors.append(monitor)
        else:
            self.monitors.remove(monitor)

    def add_batch(
        self,
        integrator: Integrator,
        used: NDArray[np.bool_],
        monitors: Sequence[float],
        frames: NDArray[Any],
        follow: bool,
    ) -> tuple[list[Any], list[Any]] | None:
        """Integrate `WIDTH` frames of counts and add them, in one pass; None, with nothing changed, if not that simple.

        It is where all frames lack the same pixels as those before them: a detector's dead ones.

        Returns
        -------
        patterns, means
            Of the frames; and, with `follow`, of the sums after each, with the bits of `pattern`.
        """
        self._begin(integrator, used)
        missed = np.empty(0, np.int64) if self.missed is None else self.missed
        if self.variance is not None or self.signal.dtype != np.int64 or (missed.size and integrator.read_noise > 0):
            return None
        values, low, high = integrator.kernel_frames(frames)
        if values.dtype.kind != "u":
            return None
        flat = values.reshape(len(values), -1)
        at_missed = flat[:, missed]
        if not ((at_missed >= low) & (at_missed <= high)).all():
            return None
        totals = Totals(self.signal, len(self.monitors), follow=follow)
        if missed.size and follow:
            rarely, (weights, poor) = self._rarely(integrator, missed)
            if poor:
                return None
            totals = replace(totals, rarely=rarely, rare_weights=weights)
        patterns = integrator.integrate_into(flat, low, high, monitors, totals)
        lost = [pattern.masked_pixels - integrator.masked_pixels for pattern in patterns]
        if lost != [missed.size] * len(lost):
            for frame in flat:
                self._change_counts(frame, used, low, high, -1)
            return None
        means = []
        for k, monitor in enumerate(monitors):
            self.monitors.append(monitor)
            if missed.size:
                self._miss(missed, monitor)
            self.masked_pixels += integrator.masked_pixels + lost[k]
            if follow:
                total = math.fsum(self.monitors)
                seldom = None
                if self.missed is not None and self.missing is not None:
                    seldom = self.missed, self.signal, _seen(total, self.missing[self.missed])
                means.append(integrator.pattern_of_totals(totals.sums[k], total, self.masked_pixels, seldom))
        return patterns, means

    def _rarely(
        self, integrator: Integrator, missed: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], tuple[NDArray[np.float64], bool]]:
        """Return the missed pixels as flags, and their weights; kept as long as the pixels are the same."""
        known = self._weighed
        if known is None or known[0]() is not integrator or not np.array_equal(known[1], missed):
            flags = np.zeros(self.signal.size, np.bool_)
            flags[missed] = True
            known = self._weighed = (weakref.ref(integrator), missed, flags, integrator.weights_of(flags))
        return known[2], known[3]

    def pattern(self, integrator: Integrator) -> Any:
        """Integrate the sums into a Pattern, or Cake."""
        self._begin(integrator, integrator.used_pixels)
        total = math.fsum(self.monitors)
        if self.variance is None:
            seldom = None
            if self.missed is not None and self.missing is not None:
                seldom = self.missed, _seen(total, self.missing[self.missed])
            return integrator.integrate_counts(self.signal, total, len(self.monitors), self.masked_pixels, seldom)
        monitor = np.array([total]) if self.missing is None else _seen(total, self.missing)
        return integrator.integrate_sums(self.signal, self._variance(integrator), monitor, self.masked_pixels)

    def _add_counts(
        self, integrator: Integrator, used: NDArray[np.bool_], sign: int, monitor: float, frame: ArrayLike
    ) -> bool:
        """Add a frame of counts in one pass; False, with nothing changed, where it is not that simple."""
        values, low, high = integrator.kernel_frame(frame)
        if values.dtype.kind not in "ui" or self.signal.dtype != np.int64:
            return False
        change = partial(self._change_counts, values.ravel(), used, low, high)
        pixels, negative = change(sign)
        lost = pixels.size
        # Negative counts have no Poisson variance, and read noise is there only in frames in which a pixel was seen.
        not_simple = negative or (lost and integrator.read_noise > 0)
        not_exact = lost and sign < 0 and not float(monitor).is_integer()
        if not_simple or not_exact:
            change(-sign)
        if not_simple:
            return False
        if not_exact:
            raise FrameError(NOT_EXACT)
        if lost:
            self._miss(pixels, sign * monitor)
        self.masked_pixels += sign * (integrator.masked_pixels + lost)
        return True

    def _change_counts(
        self, flat: NDArray[Any], used: NDArray[np.bool_], low: Any, high: Any, sign: int
    ) -> tuple[NDArray[np.int64], int]:
        """Add a flat frame's counts, or take them out; return the pixels that it lacks, and how many are negative."""

        def change(start: int, stop: int) -> tuple[NDArray[np.int64], int]:
            numbers = np.empty(stop - start, np.int64)
            lost, negative = kernels.add_counts(start, stop, sign, flat, used, low, high, self.signal, numbers)
            return numbers[:lost], negative

        parts = threads.run(change, threads.pieces(flat.size))
        return np.concatenate([numbers for numbers, _ in parts]), sum(negative for _, negative in parts)

    def _add_corrected(
        self,
        integrator: Integrator,
        used: NDArray[np.bool_],
        sign: int,
        monitor: float,
        frame: ArrayLike,
        given: dict[str, Any],
    ) -> None:
        """Add a frame with its corrections, with its variance where that does not follow from the counts."""
        how = integrator.corrected_frame(frame, **given)
        spans = threads.pieces(self.signal.size)
        seen = threads.run(lambda a, b: kernels.inspect_corrected(a, b, *how, used), spans)
        lost, fractions, negative, fractional_variances = (sum(part[k] for part in seen) for k in range(4))
        follows = set(given) <= {"mask"} and not fractions and not negative
        follows = follows and not (lost and integrator.read_noise > 0)
        if sign < 0:
            self._check_removable(monitor, not fractions and (follows or not fractional_variances), bool(lost))
        if self.variance is None and not follows:
            self.variance = self._variance(integrator)
        if fractions and self.signal.dtype != np.float64:
            self.signal = self.signal.astype(np.float64)
        into = self.signal, np.empty(0) if self.variance is None else self.variance

        def add(start: int, stop: int) -> NDArray[np.int64]:
            numbers = np.empty(stop - start, np.int64)
            return numbers[: kernels.add_corrected(start, stop, sign, *how, used, *into, numbers)]

        pixels = np.concatenate(threads.run(add, spans))
        if lost:
            self._miss(pixels, sign * monitor)
        self.masked_pixels += sign * (integrator.masked_pixels + lost)

    def _variance(self, integrator: Integrator) -> NDArray[np.float64]:
        """Return the variance so far: what was added up, or what follows from the counts."""
        if self.variance is not None:
            return self.variance
        variance: NDArray[np.float64] = integrator.gain * self.signal.astype(np.float64)
        variance += len(self.monitors) * integrator.read_noise**2
        return variance

    def _miss(self, pixels: NDArray[np.int64], monitor: float) -> None:
        if self.missing is None or self.missed is None:
            self.missing, self.missed = np.zeros(self.signal.size), np.empty(0, np.int64)
        self.missing[pixels] += monitor
        missed = np.union1d(self.missed, pixels)
        self.missed = missed[self.missing[missed] != 0.0]
        if not self.missed.size:
            self.missing = self.missed = None

    def _check_removable(self, monitor: float, whole: bool, left_out: bool) -> None:
        """Refuse to take out what floating-point sums would not give back exactly."""
        whole_sums = self.signal.dtype == np.int64 and (self.variance is None or _is_whole(self.variance))
        whole_monitor = not left_out or float(monitor).is_integer()
        if not (whole and whole_sums and whole_monitor):
            raise FrameError(NOT_EXACT)


def _seen(total: float, missing: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what is left of the sum of monitors; 0 exactly for pixels never seen, however monitors were added up."""
    return np.where(missing >= total * (1.0 - 1e-12), 0.0, total - missing)


def _is_whole(signal: NDArray[np.float64]) -> bool:
    return bool((signal == np.rint(signal)).all()) and bool(np.abs(signal).max(initial=0.0) < 2.0**53)
