"""The loops over a pattern's rings."""

import numpy as np
from numba import njit


@njit(nogil=True, cache=True, error_model="numpy")
def describe_rings(sums, rounding, least_effective_pixels):
    """Return what the rings that saw counts say of spottiness (`azimuthal.pattern.spottiness`).

    Parameters
    ----------
    sums
        (7, bins) float64.
    rounding
        The share of B below which variances are nothing but rounding.
    least_effective_pixels
        W^2 / Q of rings that count towards the excess.

    Returns
    -------
    variances
        (bins,) float64, VV_azimuthal, with the bits of `BinnedSums.azimuthal_variance`.
    plain, weighted
        Mean of R over the rings that saw counts, plain and weighted by intensity; NaN without any.
    excess, excess_weighted
        Likewise, of R_excess over those that count.
    error, error_weighted
        Standard errors of the latter two means; NaN below two rings.
    """
    bins = sums.shape[1]
    seen, counts = np.empty(bins, np.bool_), np.empty(bins, np.bool_)
    intensity, scatter, excess, variances = np.empty(bins), np.empty(bins), np.empty(bins), np.empty(bins)
    for k in range(bins):  # without a branch or a sum: eight at a time
        N, V, W, Q, A, B, P = sums[0, k], sums[1, k], sums[2, k], sums[3, k], sums[4, k], sums[5, k], sums[6, k]
        filled = (N > 0.0) & (W != 0.0)
        there = filled & (V > 0.0)
        mean = V / W
        mean = mean if filled else 0.0
        variance = B - mean * (2.0 * A - mean * Q)
        variance = variance if variance > rounding * B else 0.0
        variances[k] = variance
        seen[k] = there
        counts[k] = there & (least_effective_pixels * Q <= W * W)
        intensity[k] = mean
        scatter[k] = variance / (V * V)
        excess[k] = (variance - P * (1.0 - Q / (W * W))) / (V * V)
    rings = counting = 0
    weight = plain = weighted = weight_counting = plain_excess = weighted_excess = 0.0
    for k in range(bins):
        if seen[k]:
            rings += 1
            weight += intensity[k]
            plain += scatter[k]
            weighted += intensity[k] * scatter[k]
        if counts[k]:
            counting += 1
            weight_counting += intensity[k]
            plain_excess += excess[k]
            weighted_excess += intensity[k] * excess[k]
    plain /= rings
    weighted /= weight
    plain_excess /= counting
    weighted_excess /= weight_counting
    apart = apart_weighted = 0.0
    for k in range(bins):
        if counts[k]:
            x, y = excess[k] - plain_excess, intensity[k] * (excess[k] - weighted_excess)
            apart += x * x
            apart_weighted += y * y
    error = error_weighted = np.nan
    if counting > 1:
        error = np.sqrt(apart / (counting - 1)) / np.sqrt(np.float64(counting))
        error_weighted = np.sqrt(counting / (counting - 1) * apart_weighted) / weight_counting
    return variances, plain, weighted, plain_excess, weighted_excess, error, error_weighted
