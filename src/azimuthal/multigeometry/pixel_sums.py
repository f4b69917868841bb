"""The frames of one geometry, summed pixel by pixel."""

import weakref
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from azimuthal import threads
from azimuthal.errors import FrameError
from azimuthal.integrator import Integrator
from azimuthal.integrator.frame import frozen
from azimuthal.integrator.summing import Totals
from azimuthal.multigeometry import kernels

NOT_EXACT = "remove: these sums are not whole numbers, so a frame cannot be taken out exactly; add the rest afresh"


LARGEST_COUNT = 4
"""Bytes of the counts that are added while they are integrated, as float64."""


class PixelSums:
    """Sums of signal, variance and monitors over frames, for the pixels that the integrator uses.

    The integrator is handed to every call rather than kept: it is larger than the sums. A first frame of counts is kept
    as it came, and becomes sums when there is a second one: most positions of a goniometer have no other.

    Attributes
    ----------
    first
        (pixels,) that frame, not in the sums yet; None once it is.
    signal
        (pixels,) uint32 while the sums of counts fit, then int64; float64 where a signal was no whole number.
    variance
        (pixels,) float64; None while it follows from the signal (counts, no dark).
    missed
        int64, numbers of the pixels that were ever left out, ascending.
    missing
        float64, for each of them the sum of the monitors of the frames that left it out.
    monitors
        Monitor of every frame.
    masked_pixels
        Left out pixels, summed over the frames.
    """

    ARRAYS = ("first", "signal", "variance", "missed", "missing")

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self.first: NDArray[Any] | None = None
        self.signal: NDArray[Any] = np.empty(0, np.uint32)
        self.variance: NDArray[np.float64] | None = None
        self.missed: NDArray[np.int64] = np.empty(0, np.int64)
        self.missing: NDArray[np.float64] = np.empty(0)
        self.monitors: list[float] = []
        self.masked_pixels = 0
        self._total = Fraction(0)
        self._weighed: tuple[Any, ...] | None = None

    @property
    def total_monitor(self) -> float:
        """Sum of the monitors, rounded once."""
        return float(self._total)

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
            setattr(self, name, arrays.get(name, np.empty(0, np.uint32) if name == "signal" else None))
        self._weighed = None

    def add(self, integrator: Integrator, sign: int, monitor: float, frame: ArrayLike, **given: Any) -> None:
        """Add a frame (`sign` 1) or take it out again (-1).

        Parameters
        ----------
        integrator
            Of the geometry.
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
            self._note_monitor(1, monitor)
            return
        used = integrator.used_pixels
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
            self.signal = np.zeros(self._pixels, np.uint32)
        if self.first is not None:
            first, self.first = self.first.reshape(integrator.shape), None
            monitor = self.monitors[0]
            self._note_monitor(-1, monitor)
            self._change(integrator, used, 1, monitor, first, {})

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
        self._note_monitor(sign, monitor)

    def integrate(
        self,
        integrator: Integrator,
        monitors: Sequence[float],
        frames: NDArray[Any],
        follow: bool,
    ) -> tuple[list[Any], list[Any]] | None:
        """Integrate one frame of counts, or `WIDTH`, and add them, in one pass over memory.

        Returns
        -------
        patterns, means
            Of the frames; and, with `follow`, of the sums after each, with the bits of `pattern`. None, with nothing
            changed, if it is not that simple: counts are negative, or no whole numbers; or several frames that are
            followed lack other pixels than those before them. None for a first frame too: it may be the only one of
            its geometry, for which no matrix need be built.

        Raises
        ------
        FrameError
            If a frame does not fit; nothing is changed.
        """
        if not self.monitors and len(frames) == 1:
            return None
        self._begin(integrator, integrator.used_pixels)
        if self.variance is not None or self.signal.dtype.kind == "f":
            return None
        values, low, high = integrator.kernel_frames(frames)
        if values.dtype.kind not in "ui" or values.dtype.itemsize > LARGEST_COUNT:
            return None
        flat = values.reshape(len(values), -1)
        lacks = [self._lacks_missed(frame, low, high) for frame in flat]
        ahead = follow and all(lacks)
        totals = self._totals(integrator, ahead)
        if totals is None or (follow and not ahead and len(flat) > 1):
            return None
        patterns = integrator.integrate_into(flat, low, high, monitors, totals)
        lost = [pattern.masked_pixels - integrator.masked_pixels for pattern in patterns]
        same = [one and n == self.missed.size for one, n in zip(lacks, lost, strict=True)]
        unforeseen = len(flat) > 1 and follow and not all(same)
        if totals.spoilt or unforeseen or (any(lost) and integrator.read_noise > 0):
            for frame in flat:
                self._change_counts(frame, integrator.used_pixels, low, high, -1)
            return None
        means, before = [], self.missed
        for k, monitor in enumerate(monitors):
            if lost[k]:
                self._miss(before if same[k] else self._lost_pixels(flat[k], integrator, low, high), monitor)
            self.masked_pixels += integrator.masked_pixels + lost[k]
            self._note_monitor(1, monitor)
            if not follow:
                continue
            if ahead and same[k]:
                seldom = (self.missed, self.signal, self._seen()) if self.missed.size else None
                args = (totals.sums[k], self.total_monitor, self.masked_pixels, seldom)
                means.append(integrator.pattern_of_totals(*args))
            else:
                means.append(self.pattern(integrator))
        return patterns, means

    def _totals(self, integrator: Integrator, follow: bool) -> Totals | None:
        """Return what frames are added to; None if the sums of what is left cannot be followed to the last digit."""
        totals = Totals(self.signal, len(self.monitors), follow=follow)
        if follow and self.missed.size:
            rarely, (totals.rare_weights, poor) = self._rarely(integrator, self.missed)
            if poor:
                return None
            if self.signal[self.missed].any():  # those without a count need no leaving out
                totals.rarely = frozen(rarely)
        return totals

    def _lacks_missed(self, frame: NDArray[Any], low: Any, high: Any) -> bool:
        """Tell whether a flat frame has no data in any of the pixels that were missed before."""
        values = frame[self.missed]
        return bool(((values >= low) & (values <= high)).all())

    def _lost_pixels(self, frame: NDArray[Any], integrator: Integrator, low: Any, high: Any) -> NDArray[np.int64]:
        """Return the numbers of the used pixels in which a flat frame has no data."""

        def find(start: int, stop: int) -> NDArray[np.int64]:
            numbers = np.empty(stop - start, np.int64)
            return numbers[: kernels.find_lost(start, stop, frame, integrator.used_pixels, low, high, numbers)]

        return np.concatenate(threads.run(find, threads.pieces(frame.size)))

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
        total = self.total_monitor
        if self.variance is None:
            seldom = (self.missed, self._seen()) if self.missed.size else None
            return integrator.integrate_counts(self.signal, total, len(self.monitors), self.masked_pixels, seldom)
        monitor = np.array([total])
        if self.missed.size:
            monitor = np.full(self.signal.size, total)
            monitor[self.missed] = self._seen()
        return integrator.integrate_sums(self.signal, self._variance(integrator), monitor, self.masked_pixels)

    def _add_counts(
        self, integrator: Integrator, used: NDArray[np.bool_], sign: int, monitor: float, frame: ArrayLike
    ) -> bool:
        """Add a frame of counts in one pass; False, with nothing changed, where it is not that simple."""
        values, low, high = integrator.kernel_frame(frame)
        if values.dtype.kind not in "ui" or self.signal.dtype.kind == "f":
            return False
        change = partial(self._change_counts, values.ravel(), used, low, high)
        pixels, negative, outgrown = change(sign)
        lost = pixels.size
        # Negative counts have no Poisson variance, and read noise is there only in frames in which a pixel was seen.
        not_simple = negative or (lost and integrator.read_noise > 0)
        not_exact = lost and sign < 0 and not float(monitor).is_integer()
        if not_simple or not_exact or outgrown:
            change(-sign)
        if not_simple:
            return False
        if not_exact:
            raise FrameError(NOT_EXACT)
        if outgrown:
            if self.signal.dtype == np.int64:
                return False  # beyond whole numbers of float64
            self.signal = self.signal.astype(np.int64)
            return self._add_counts(integrator, used, sign, monitor, frame)
        if lost:
            self._miss(pixels, sign * monitor)
        self.masked_pixels += sign * (integrator.masked_pixels + lost)
        return True

    def _change_counts(
        self, flat: NDArray[Any], used: NDArray[np.bool_], low: Any, high: Any, sign: int
    ) -> tuple[NDArray[np.int64], int, bool]:
        """Add a flat frame's counts, or take them out.

        Returns
        -------
        lost, negative, outgrown
            The pixels that it lacks, how many are negative, and whether a sum does not fit its dtype any more.
        """

        def change(start: int, stop: int) -> tuple[NDArray[np.int64], int, bool]:
            numbers = np.empty(stop - start, np.int64)
            lost, *others = kernels.add_counts(start, stop, sign, flat, used, low, high, self.signal, numbers)
            return numbers[:lost], *others

        numbers, negative, outgrown = zip(*threads.run(change, threads.pieces(flat.size)), strict=True)
        return np.concatenate(numbers), sum(negative), any(outgrown)

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
        if self.signal.dtype != np.float64:
            self.signal = self.signal.astype(np.float64 if fractions else np.int64, copy=False)
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

    def _note_monitor(self, sign: int, monitor: float) -> None:
        self._total += sign * Fraction(monitor)
        if sign > 0:
            self.monitors.append(monitor)
        else:
            self.monitors.remove(monitor)

    def _miss(self, pixels: NDArray[np.int64], monitor: float) -> None:
        """Note that pixels, ascending, were left out of a frame with this monitor."""
        if np.array_equal(pixels, self.missed):
            self.missing += monitor
        else:
            missed = np.union1d(self.missed, pixels)
            missing = np.zeros(missed.size)
            missing[np.searchsorted(missed, self.missed)] = self.missing
            missing[np.searchsorted(missed, pixels)] += monitor
            self.missed, self.missing = missed, missing
        if monitor < 0:
            still = self.missing != 0.0
            self.missed, self.missing = self.missed[still], self.missing[still]

    def _seen(self) -> NDArray[np.float64]:
        """Return the monitors of the frames in which missed pixels were seen.

        It is 0 exactly for pixels never seen, however monitors were added up.
        """
        total = self.total_monitor
        return np.where(self.missing >= total * (1.0 - 1e-12), 0.0, total - self.missing)

    def _check_removable(self, monitor: float, whole: bool, left_out: bool) -> None:
        """Refuse to take out what floating-point sums would not give back exactly."""
        whole_sums = self.signal.dtype.kind in "ui" and (self.variance is None or _is_whole(self.variance))
        whole_monitor = not left_out or float(monitor).is_integer()
        if not (whole and whole_sums and whole_monitor):
            raise FrameError(NOT_EXACT)


def _is_whole(signal: NDArray[np.float64]) -> bool:
    return bool((signal == np.rint(signal)).all()) and bool(np.abs(signal).max(initial=0.0) < 2.0**53)
