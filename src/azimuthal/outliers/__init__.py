"""Frames to patterns without outliers: sigma clipping, means between quantiles, medians (DESIGN 3).

Every ring decides for itself, and about its own entries only: with splitting, a pixel that is an outlier in one ring
stays in its neighbours unless it is one there too. That makes the result independent of the order of rings and of
threads, and keeps the two methods' meaning: each is a statement about the values along one ring. (pyFAI drops a clipped
pixel from all rings, for those that happen to be evaluated later.) What is kept is summed as `integrate` does, so
patterns merge; their errors are those of the kept entries, and do not know that the tails were cut.

The monitor scales all values of a frame alike and does not take part in the decisions.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from azimuthal import threads
from azimuthal.integrator.frame import as_frames, checked_mask, checked_monitors, frozen, of_frame
from azimuthal.outliers import kernels
from azimuthal.outliers.rules import ClipModel, FrameKeywords, Quantiles, Rule, SigmaClip
from azimuthal.pattern import SUMS

if TYPE_CHECKING:
    from azimuthal.integrator import Integrator

__all__ = ["ClipModel", "FrameKeywords", "Quantiles", "Rule", "SigmaClip", "median", "quantile_mean", "sigma_clip"]

NO_SHARES = np.empty(0, np.float32)
NO_MASK = frozen(np.empty(0, np.bool_))
NO_VARIANCE = frozen(np.empty(0, np.float64))
NO_DUMMIES = (1.0, 0.0)


def sigma_clip(
    integrator: "Integrator",
    frame: ArrayLike,
    threshold: float = 5.0,
    max_iter: int = 5,
    error_model: ClipModel = "azimuthal",
    **given: Unpack[FrameKeywords],
) -> Any:
    """Integrate without outliers by sigma clipping.

    Parameters
    ----------
    integrator
        Of the geometry; splitting "no" is advised, since split pixels blur what a ring's scatter is.
    frame
        (rows, columns), or (n, rows, columns).
    threshold, max_iter, error_model
        See `SigmaClip`. The patterns have the error model that they were clipped with (hybrid: poisson).
    **given
        As in `Integrator.integrate`.

    Returns
    -------
    Pattern or list of Pattern

    Raises
    ------
    FrameError
        If parameters or frame do not fit.
    """
    rule = SigmaClip(threshold, max_iter, error_model)
    splitting = integrator.conditions.splitting
    if splitting != "no":
        warnings.warn(
            f"sigma_clip: splitting {splitting!r} shares pixels between rings, whose scatter then says less about "
            "outliers; use an Integrator with splitting='no'",
            UserWarning,
            stacklevel=3,
        )
    return apply(integrator, rule, frame, **given)


def quantile_mean(
    integrator: "Integrator", frame: ArrayLike, lower: float, upper: float, **given: Unpack[FrameKeywords]
) -> Any:
    """Integrate what lies between two quantiles of each ring; see `Quantiles`, and `sigma_clip` for the rest."""
    return apply(integrator, Quantiles(lower, upper), frame, **given)


def median(integrator: "Integrator", frame: ArrayLike, **given: Unpack[FrameKeywords]) -> Any:
    """Integrate the median of each ring; see `Quantiles`, and `sigma_clip` for the rest."""
    return apply(integrator, Quantiles(0.5, 0.5), frame, **given)


def apply(
    integrator: "Integrator",
    rule: Rule,
    frame: ArrayLike,
    dark: ArrayLike | None = None,
    dark_variance: ArrayLike | None = None,
    variance: ArrayLike | None = None,
    monitor: float | Sequence[float] | NDArray[np.floating] = 1.0,
    mask: ArrayLike | None = None,
) -> Any:
    """Integrate what a rule keeps of a frame, or of each frame of a stack; parameters as in `Integrator.integrate`."""
    frames = as_frames(frame)
    n = len(frames) if frames.ndim == 3 else None
    patterns = []
    for k, factor in enumerate(checked_monitors(monitor, n)):
        given = (
            frames if n is None else frames[k],
            dark,
            dark_variance,
            of_frame(variance, k, n, "variance"),
            of_frame(mask, k, n, "mask"),
        )
        sums, lost = _sum_kept(integrator, rule, _entries(integrator, *given), factor)
        pattern = integrator.pattern_of(sums, integrator.masked_pixels + lost)
        conditions = replace(pattern.conditions, outliers=rule.treatment)
        patterns.append(replace(pattern, conditions=conditions, error_model=rule.error_model))
    return patterns[0] if n is None else patterns


def _entries(
    integrator: "Integrator",
    frame: NDArray[Any],
    dark: ArrayLike | None,
    dark_variance: ArrayLike | None,
    variance: ArrayLike | None,
    mask: ArrayLike | None,
) -> tuple[Any, ...]:
    """Return the frame and what tells which pixels to leave out, flat, as kernels want them."""
    if dark is not None or dark_variance is not None or variance is not None:
        signal, var = integrator.prepare(frame, dark, dark_variance, variance, mask)
        return frozen(signal.ravel()), NO_MASK, NO_DUMMIES, frozen(var.ravel())
    values, low, high = integrator.kernel_frame(frame)
    masked = NO_MASK if mask is None else checked_mask("mask", mask, integrator.shape).ravel()
    return values.ravel(), masked, (float(low), float(high)), NO_VARIANCE


def _sum_kept(
    integrator: "Integrator", rule: Rule, entries: tuple[Any, ...], monitor: float
) -> tuple[NDArray[np.float64], int]:
    """Return the seven sums over what the rule keeps, (7, bins), and how many usable pixels the frame left out."""
    matrix = integrator.matrix
    noise = float(integrator.gain), float(integrator.read_noise) ** 2
    everything = (_rings(integrator), *entries, noise)
    sums = np.zeros((len(SUMS), matrix.n_bins))
    spans = _spans(matrix.csr.indptr)
    lost = threads.run(lambda start, stop: rule.sum_rings(start, stop, everything, sums), spans)
    sums[[kernels.W, kernels.A]] *= monitor
    sums[kernels.Q] *= monitor * monitor
    return sums, sum(lost)


def _rings(integrator: "Integrator") -> tuple[NDArray[Any], ...]:
    """Return the matrix in bin order, as kernels want it, each pixel's first bin, and each entry's normalization."""
    matrix = integrator.matrix
    rings = matrix.csr
    whole = all(band.shares is None for band in matrix.bands)
    shares = NO_SHARES if whole else rings.shares
    return rings.indptr, rings.pixels, shares, rings.first_bins, integrator.ring_normalization


def _spans(indptr: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Cut the rings into spans of about equally many entries."""
    inner = [stop for _, stop in threads.pieces(int(indptr[-1]))[:-1]]
    bounds = [0, *np.searchsorted(indptr, inner).tolist(), indptr.size - 1]
    return [(a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True) if a < b]
