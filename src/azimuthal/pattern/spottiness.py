"""Spottiness: how far intensity along the rings is from even, per frame and over many (DESIGN 3).

With R = VV_azimuthal / V^2 = (sem / I)^2 on each ring, S = sqrt(mean R): the root mean square relative scatter of the
rings' intensities. Counting noise alone gives S = 1 / sqrt(counts per ring), so the *excess* takes the Poisson share
P (1 - Q / W^2) off VV first; a smooth powder then has 0, whatever the dose. S follows the index of pyFAI's
`calc_spottiness` (J. Kieffer et al.), restricted to rings that saw counts and evaluated on the exact variance.
"""

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from azimuthal.errors import PatternError
from azimuthal.pattern.sums import Array, BinnedSums

Grade = Literal["smooth", "mild", "strong"]

SMOOTH_BELOW = 0.05
STRONG_ABOVE = 0.15
LEAST_EFFECTIVE_PIXELS = 10.0
"""Rings with fewer effective pixels, W^2 / Q, do not count towards the excess: their variance says nothing."""


class Rings:
    """The rings that saw counts, and what is read from each of them.

    Parameters
    ----------
    pattern
        Whose radial bins with V > 0 they are.

    Attributes
    ----------
    bins
        Which of the pattern's bins they are.
    intensity
        V / W of each.
    """

    def __init__(self, pattern: BinnedSums) -> None:
        self.bins = _bins_of(np.flatnonzero(pattern.filled & (pattern.sum_signal > 0)))
        V, W, self._Q, self._P = (pattern.sums[row][self.bins] for row in (1, 2, 3, 6))
        self._variance = pattern.azimuthal_variance[self.bins]
        self._squared_signal, self._squared_weight = V * V, W * W
        self.intensity: Array = V / W

    def scatter(self) -> Array:
        """Return R of each ring."""
        return self._variance / self._squared_signal

    def excess(self) -> Array:
        """Return R_excess of each ring, not clipped."""
        explained = self._P * (1.0 - self._Q / self._squared_weight)
        return (self._variance - explained) / self._squared_signal

    def counting(self) -> NDArray[np.bool_]:
        """Return which rings count towards the excess."""
        counting: NDArray[np.bool_] = self._squared_weight >= LEAST_EFFECTIVE_PIXELS * self._Q
        return counting

    def scatter_and_weights(self, excess: bool) -> tuple[Array, Array]:
        """Return R, or R_excess, and the intensity of the rings that count towards its mean."""
        if not excess:
            return self.scatter(), self.intensity
        counting = self.counting()
        if counting.all():
            return self.excess(), self.intensity
        return self.excess()[counting], self.intensity[counting]


def _bins_of(numbers: NDArray[np.intp]) -> slice | NDArray[np.intp]:
    """Return ascending numbers of bins as a slice where they follow each other, as most often: it copies nothing."""
    if numbers.size and numbers[-1] - numbers[0] + 1 == numbers.size:
        return slice(int(numbers[0]), int(numbers[-1]) + 1)
    return numbers


def spottiness(pattern: BinnedSums, weighted: bool, excess: bool, pyfai: bool) -> float:
    """Return S in one of its forms; see `Pattern.spottiness`."""
    if pyfai:
        if excess:
            raise PatternError("spottiness: pyFAI has no excess form; leave out pyfai or excess")
        return _pyfai(pattern, weighted)
    return _root(mean_scatter(pattern, weighted, excess))


def mean_scatter(pattern: BinnedSums, weighted: bool, excess: bool) -> float:
    """Return the mean of R or R_excess over the rings, intensity-weighted or not, not clipped; NaN without rings."""
    R, weights = Rings(pattern).scatter_and_weights(excess)
    return _mean(R, weights if weighted else None)


def excess_error(pattern: BinnedSums, weighted: bool) -> float:
    """Return the standard error of the mean of R_excess (that is, of the square of S_excess); NaN below two rings."""
    R, weights = Rings(pattern).scatter_and_weights(excess=True)
    return _error(R, weights if weighted else None)


def numbers(pattern: BinnedSums) -> "SpottinessNumbers":
    """Return what `spottiness`, `mean_scatter` and `excess_error` give, to the last bit, evaluating the rings once."""
    rings = Rings(pattern)
    R, intensity = rings.scatter_and_weights(excess=False)
    excess, weights = rings.scatter_and_weights(excess=True)
    mean_excess = _mean(excess, None)
    return SpottinessNumbers(
        plain=_root(_mean(R, None)),
        weighted=_root(_mean(R, intensity)),
        excess=_root(mean_excess),
        excess_weighted=_root(_mean(excess, weights)),
        excess_error=_error(excess, None),
        mean_excess=mean_excess,
    )


@dataclass(frozen=True)
class SpottinessNumbers:
    """The numbers that describe a pattern's spottiness.

    Attributes
    ----------
    plain, weighted
        S, over all rings with counts, and weighted by intensity.
    excess, excess_weighted
        What counting statistics do not explain.
    excess_error
        Standard error of the square of `excess`.
    mean_excess
        That square, not clipped at 0.
    """

    plain: float
    weighted: float
    excess: float
    excess_weighted: float
    excess_error: float
    mean_excess: float


def _mean(R: Array, weights: Array | None) -> float:
    """Return the mean over rings, NaN without any."""
    if not R.size:
        return math.nan
    return float(_total(R) / R.size if weights is None else _total(weights * R) / _total(weights))


def _total(values: Array) -> np.float64:
    """Return the sum, as `values.sum()` does after looking at what else it may be asked for."""
    total: np.float64 = np.add.reduce(values)
    return total


def _root(mean: float) -> float:
    return math.sqrt(max(0.0, mean)) if not math.isnan(mean) else math.nan


def _error(R: Array, weights: Array | None) -> float:
    """Return the standard error of `_mean`, NaN below two rings."""
    n = R.size
    if n < 2:
        return math.nan
    apart = R - _mean(R, weights)
    if weights is None:
        return math.sqrt(_total(apart * apart) / (n - 1)) / math.sqrt(n)
    return float(np.sqrt(n / (n - 1) * _total(weights**2 * apart**2)) / _total(weights))


def profile(pattern: BinnedSums, excess: bool) -> Array:
    """Return R or R_excess ring by ring, NaN where the ring does not count."""
    rings = Rings(pattern)
    values = np.full(pattern.sum_signal.shape, np.nan)
    values[rings.bins] = np.where(rings.counting(), rings.excess(), np.nan) if excess else rings.scatter()
    return values


def grade(value: float) -> Grade | None:
    """Put a spottiness into words: below 0.05 smooth, to 0.15 mild, above strong; None for NaN."""
    if math.isnan(value):
        return None
    if value < SMOOTH_BELOW:
        return "smooth"
    return "mild" if value <= STRONG_ABOVE else "strong"


def independent_frames(patterns: Iterable[BinnedSums], mean_frame: BinnedSums) -> float:
    """Return how many independent samples the frames amount to: 1 = nothing new was seen, N = every frame was fresh.

    Parameters
    ----------
    patterns
        One a frame.
    mean_frame
        The pattern of the same frames summed pixel by pixel first.

    Returns
    -------
    float
        (mean over frames of mean R_excess) / (mean R_excess of the mean frame); NaN, with a UserWarning, where the
        latter is below two of its standard errors.
    """
    return independent_frames_from([mean_scatter(p, weighted=False, excess=True) for p in patterns], mean_frame)


def independent_frames_from(mean_excess_of_frames: Iterable[float], mean_frame: BinnedSums) -> float:
    """Return `independent_frames` from the frames' ``mean_excess`` values; frames without one (NaN) do not count."""
    values = np.array([x for x in mean_excess_of_frames if not math.isnan(x)])
    floor = mean_scatter(mean_frame, weighted=False, excess=True)
    error = excess_error(mean_frame, weighted=False)
    if values.size == 0 or not floor >= 2.0 * error:
        warnings.warn(
            "independent_frames: nothing to measure, the mean frame's excess "
            f"{floor:.3g} is below two of its standard errors ({error:.3g})",
            UserWarning,
            stacklevel=3,
        )
        return math.nan
    return float(values.mean() / floor)


def _pyfai(pattern: BinnedSums, weighted: bool) -> float:
    """Return pyFAI's `calc_spottiness`: all bins, empty ones too, intensity and signal floored at 0 and 1 count."""
    scatter = pattern.azimuthal_variance / np.maximum(1.0, pattern.sum_signal) ** 2
    weight = np.nan_to_num(np.maximum(0.0, pattern.intensity)) if weighted else np.ones_like(scatter)
    total = weight.sum()
    return math.sqrt((scatter * weight).sum() / total) if total > 0 else math.nan
