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


def relative_scatter(pattern: BinnedSums) -> tuple[NDArray[np.bool_], Array]:
    """Return which rings have V > 0, and R of every ring (0 elsewhere)."""
    rings = pattern.filled & (pattern.sum_signal > 0)
    R = np.zeros_like(pattern.sum_signal)
    np.divide(pattern.azimuthal_variance, pattern.sum_signal**2, out=R, where=rings)
    return rings, R


def relative_excess(pattern: BinnedSums) -> tuple[NDArray[np.bool_], Array]:
    """Return which rings count for the excess, and R_excess of every ring (0 elsewhere), not clipped."""
    _, V, W, Q, _, _, P = pattern.sums
    rings = pattern.filled & (V > 0) & (W * W >= LEAST_EFFECTIVE_PIXELS * Q)
    share = np.zeros_like(V)
    np.divide(Q, W * W, out=share, where=rings)
    R = np.zeros_like(V)
    np.divide(pattern.azimuthal_variance - P * (1.0 - share), V * V, out=R, where=rings)
    return rings, R


def spottiness(pattern: BinnedSums, weighted: bool, excess: bool, pyfai: bool) -> float:
    """Return S in one of its forms; see `Pattern.spottiness`."""
    if pyfai:
        if excess:
            raise PatternError("spottiness: pyFAI has no excess form; leave out pyfai or excess")
        return _pyfai(pattern, weighted)
    return _root(mean_scatter(pattern, weighted, excess))


def mean_scatter(pattern: BinnedSums, weighted: bool, excess: bool) -> float:
    """Return the mean of R or R_excess over the rings, intensity-weighted or not, not clipped; NaN without rings."""
    rings, R = relative_excess(pattern) if excess else relative_scatter(pattern)
    return _mean(R[rings], pattern.intensity[rings] if weighted else None)


def excess_error(pattern: BinnedSums, weighted: bool) -> float:
    """Return the standard error of the mean of R_excess (that is, of the square of S_excess); NaN below two rings."""
    rings, R = relative_excess(pattern)
    return _error(R[rings], pattern.intensity[rings] if weighted else None)


def numbers(pattern: BinnedSums) -> "SpottinessNumbers":
    """Return what `spottiness`, `mean_scatter` and `excess_error` give, to the last bit, evaluating the rings once."""
    rings = np.flatnonzero(pattern.filled & (pattern.sum_signal > 0))
    V, W, Q, P = (pattern.sums[row].take(rings) for row in (1, 2, 3, 6))
    variance = pattern.azimuthal_variance.take(rings)
    squared_signal, squared_weight, intensity = V * V, W * W, V / W
    R, excess = variance / squared_signal, (variance - P * (1.0 - Q / squared_weight)) / squared_signal
    counting, weights = squared_weight >= LEAST_EFFECTIVE_PIXELS * Q, intensity
    if not counting.all():
        excess, weights = excess[counting], intensity[counting]
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
    return float(R.mean() if weights is None else (weights * R).sum() / weights.sum())


def _root(mean: float) -> float:
    return math.sqrt(max(0.0, mean)) if not math.isnan(mean) else math.nan


def _error(R: Array, weights: Array | None) -> float:
    """Return the standard error of `_mean`, NaN below two rings."""
    n = R.size
    if n < 2:
        return math.nan
    if weights is None:
        return float(R.std(ddof=1) / math.sqrt(n))
    mean = (weights * R).sum() / weights.sum()
    return float(np.sqrt(n / (n - 1) * (weights**2 * (R - mean) ** 2).sum()) / weights.sum())


def profile(pattern: BinnedSums, excess: bool) -> Array:
    """Return R or R_excess ring by ring, NaN where the ring does not count."""
    rings, R = relative_excess(pattern) if excess else relative_scatter(pattern)
    return np.where(rings, R, np.nan)


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
