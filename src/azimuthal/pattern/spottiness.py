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
from typing import Literal, NamedTuple

import numpy as np

from azimuthal.errors import PatternError
from azimuthal.pattern.sums import ROUNDING, Array, BinnedSums

Grade = Literal["smooth", "mild", "strong"]

SMOOTH_BELOW = 0.05
STRONG_ABOVE = 0.15
LEAST_EFFECTIVE_PIXELS = 10.0
"""Rings with fewer effective pixels, W^2 / Q, do not count towards the excess: their variance says nothing."""


class RingMeans(NamedTuple):
    """What a pattern's rings say, not clipped.

    Attributes
    ----------
    plain, weighted
        Mean of R over those that saw counts, plain and weighted by intensity; NaN without any.
    excess, excess_weighted
        Mean of R_excess, likewise, over those of them that count towards it.
    error, error_weighted
        Standard errors of these; NaN below two rings.
    """

    plain: float
    weighted: float
    excess: float
    excess_weighted: float
    error: float
    error_weighted: float


def ring_means(pattern: BinnedSums) -> RingMeans:
    """Look at a pattern's rings."""
    from azimuthal.pattern.kernels import describe_rings  # numba: reading patterns does without

    sums = np.ascontiguousarray(pattern.sums)
    sums.flags.writeable = False  # as those of patterns are: the kernel is compiled for such arrays
    variances, *means = describe_rings(sums, ROUNDING, LEAST_EFFECTIVE_PIXELS)
    variances.flags.writeable = False
    vars(pattern).setdefault("azimuthal_variance", variances)  # where a cached property keeps it: errors are asked next
    return RingMeans(*means)


def spottiness(pattern: BinnedSums, weighted: bool, excess: bool, pyfai: bool) -> float:
    """Return S in one of its forms; see `Pattern.spottiness`."""
    if pyfai:
        if excess:
            raise PatternError("spottiness: pyFAI has no excess form; leave out pyfai or excess")
        return _pyfai(pattern, weighted)
    return _root(mean_scatter(pattern, weighted, excess))


def mean_scatter(pattern: BinnedSums, weighted: bool, excess: bool) -> float:
    """Return the mean of R or R_excess over the rings, intensity-weighted or not, not clipped; NaN without rings."""
    means = ring_means(pattern)
    if excess:
        return means.excess_weighted if weighted else means.excess
    return means.weighted if weighted else means.plain


def excess_error(pattern: BinnedSums, weighted: bool) -> float:
    """Return the standard error of the mean of R_excess (that is, of the square of S_excess); NaN below two rings."""
    means = ring_means(pattern)
    return means.error_weighted if weighted else means.error


def numbers(pattern: BinnedSums) -> "SpottinessNumbers":
    """Return what `spottiness`, `mean_scatter` and `excess_error` give, to the last bit, evaluating the rings once."""
    means = ring_means(pattern)
    return SpottinessNumbers(
        plain=_root(means.plain),
        weighted=_root(means.weighted),
        excess=_root(means.excess),
        excess_weighted=_root(means.excess_weighted),
        excess_error=means.error,
        mean_excess=means.excess,
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


def _root(mean: float) -> float:
    return math.sqrt(max(0.0, mean)) if not math.isnan(mean) else math.nan


def profile(pattern: BinnedSums, excess: bool) -> Array:
    """Return R or R_excess ring by ring, NaN where the ring does not count."""
    counts = pattern.filled & (pattern.sum_signal > 0)
    if excess:
        counts &= pattern.sum_normalization**2 >= LEAST_EFFECTIVE_PIXELS * pattern.sum_normalization2
    V, W, Q, P = (pattern.sums[row][counts] for row in (1, 2, 3, 6))
    explained = P * (1.0 - Q / (W * W)) if excess else 0.0
    values = np.full(pattern.sum_signal.shape, np.nan)
    values[counts] = (pattern.azimuthal_variance[counts] - explained) / (V * V)
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
    means = ring_means(mean_frame)
    floor, error = means.excess, means.error
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
