"""The loops over rings: one ring's entries are gathered once, an interval of values is found, its entries are summed.

An entry is one pixel's share of one ring: ``c`` the share, ``v`` = s / n its value, ``w`` = c n its weight, ``x`` = c s
and ``p`` = c^2 var. Whatever the rule, what it keeps is all entries of the ring with values in one closed interval, so
a rule only has to find that interval. Rings never see each other: results depend neither on their order nor on threads.

Which entries stay may be decided in any order of summation (``reassoc``); what stays is summed in pixel order.
"""

import numpy as np
from numba import njit

from azimuthal.csr.vectors import prefetch
from azimuthal.outliers.selection.kernels import SLACK, between_quantiles

N, V, W, Q, A, B, P = range(7)


@njit(nogil=True, cache=True, error_model="numpy")
def clip_rings(start, stop, ring, frame, masked, dummies, variance, noise, threshold, max_iter, poisson, sums):
    """Sum rings start..stop of a frame without outliers by sigma clipping, into columns of `sums` (7, bins).

    Parameters
    ----------
    ring
        indptr, pixels, shares of the matrix in bin order (shares empty: all 1), the first bin of each pixel, and the
        normalization of each entry's pixel, float64.
    frame
        Flat counts or signal; not finite = left out.
    masked
        Flat bool, True = left out, or empty.
    dummies
        Lowest and highest value that stands for 'no data', float64.
    variance
        Flat float64, or empty: variance is gain * max(frame, 0) + read noise^2.
    noise
        Gain and read noise^2.
    threshold, max_iter
        Of the clipping.
    poisson
        Whether the spread is that of counting statistics, rather than that around the ring.

    Returns
    -------
    int
        Pixels left out, each counted in the first of its rings.
    """
    indptr = ring[0]
    room = _room(start, stop, indptr)
    v, w, x, c, p = room
    lost = 0
    for r in range(start, stop):
        m, left_out = _gather(r, ring, frame, masked, dummies, variance, noise, v, w, x, c, p)
        lost += left_out
        low, high = clip(v, w, c, p, m, threshold, max_iter, poisson, noise[0])
        _add_kept(v, w, x, c, p, m, low, high, r, sums)
    return lost


@njit(nogil=True, cache=True, error_model="numpy")
def quantile_rings(start, stop, ring, frame, masked, dummies, variance, noise, lower, upper, sums):
    """Sum what lies between two quantiles of each ring; see `clip_rings`."""
    indptr = ring[0]
    room = _room(start, stop, indptr)
    v, w, x, c, p = room
    spare = np.empty((2, v.size))
    lost = 0
    for r in range(start, stop):
        m, left_out = _gather(r, ring, frame, masked, dummies, variance, noise, v, w, x, c, p)
        lost += left_out
        low, high = between_quantiles(v, w, m, lower, upper, spare[0], spare[1])
        _add_kept(v, w, x, c, p, m, low, high, r, sums)
    return lost


# ------------------------------------------------------------------------------------------------- one ring's entries


@njit(nogil=True, cache=True, error_model="numpy")
def _room(start, stop, indptr):
    """Return buffers for the entries of the longest ring: v, w, x, c (all 1) and p."""
    longest = 0
    for r in range(start, stop):
        longest = max(longest, indptr[r + 1] - indptr[r])
    return np.empty(longest), np.empty(longest), np.empty(longest), np.ones(longest), np.empty(longest)


@njit(nogil=True, cache=True, error_model="numpy")
def _gather(r, ring, frame, masked, dummies, variance, noise, v, w, x, c, p):
    """Fill the buffers with the usable entries of ring r; return how many, and how many pixels were left out."""
    indptr, pixels, shares, _, norm = ring
    first = indptr[r]
    m = indptr[r + 1] - first
    row = pixels[first : first + m]
    # While this ring is worked on, the next one comes from memory.
    for k in range(first + m, indptr[min(r + 2, indptr.size - 1)]):
        prefetch(frame, np.int64(pixels[k]))
    # Short loops without branches: the compiler vectorizes them.
    for k in range(m):
        x[k] = np.float64(frame[np.uint64(row[k])])
    for k in range(m):
        w[k] = norm[first + k]
    if variance.size:
        for k in range(m):
            p[k] = variance[np.uint64(row[k])]
    if masked.size:
        for k in range(m):
            if masked[np.uint64(row[k])]:
                x[k] = np.nan
    if shares.size:
        for k in range(m):
            c[k] = np.float64(shares[first + k])
    m, lost = _drop_unusable(r, ring, row, dummies, variance.size > 0, w, x, c, p)
    for k in range(m):
        v[k] = x[k] / w[k]
    if not variance.size:
        for k in range(m):
            p[k] = noise[0] * max(x[k], 0.0) + noise[1]
    if shares.size:
        for k in range(m):
            w[k] *= c[k]
            x[k] *= c[k]
            p[k] *= c[k] * c[k]
    return m, lost


@njit(nogil=True, cache=True, error_model="numpy")
def _drop_unusable(r, ring, row, dummies, has_variance, w, x, c, p):
    """Close the gaps that dummies and values that are not finite leave; return how many stay, and pixels lost."""
    low, high = dummies
    m = row.size
    unusable = 0
    for k in range(m):
        # x - x is 0 for every finite x and NaN for all others.
        unusable += int(x[k] - x[k] != 0.0) | int((x[k] >= low) & (x[k] <= high))
    if has_variance:
        for k in range(m):
            unusable += int(p[k] - p[k] != 0.0)
    if unusable == 0:
        return m, 0
    first_bins = ring[3]
    kept, lost = 0, 0
    for k in range(m):
        if not np.isfinite(x[k]) or (low <= x[k] <= high) or (has_variance and not np.isfinite(p[k])):
            lost += first_bins[row[k]] == r
            continue
        w[kept], x[kept], c[kept], p[kept] = w[k], x[k], c[k], p[k]
        kept += 1
    return kept, lost


@njit(nogil=True, cache=True, error_model="numpy")
def _add_kept(v, w, x, c, p, m, low, high, r, sums):
    """Write the seven sums of the entries with low <= v <= high to column r, in the order of the entries."""
    s_n = s_v = s_w = s_q = s_a = s_b = s_p = 0.0
    for k in range(m):
        if low <= v[k] <= high:
            s_n += c[k]
            s_v += x[k]
            s_w += w[k]
            s_q += w[k] * w[k]
            s_a += w[k] * x[k]
            s_b += x[k] * x[k]
            s_p += p[k]
    sums[N, r], sums[V, r], sums[W, r], sums[Q, r] = s_n, s_v, s_w, s_q
    sums[A, r], sums[B, r], sums[P, r] = s_a, s_b, s_p


# ------------------------------------------------------------------------------------------------- sigma clipping


@njit(nogil=True, cache=True, error_model="numpy")
def clip(v, w, c, p, m, threshold, max_iter, poisson, gain):
    """Return the interval of values that sigma clipping keeps of m entries.

    In every round, entries with |v - I| > cut * std go, where cut = max(threshold, sqrt(2 ln(n / sqrt(2 pi)))) and
    n = max(3, N) (Chauvenet's criterion), until none does or `max_iter` rounds are over.
    """
    low, high = -np.inf, np.inf
    if m == 0 or max_iter == 0:
        return low, high
    kept, n, total, shift, spread = _moments(v, w, c, p, m, low, high, v[0], poisson, gain)
    for _ in range(max_iter):
        if kept == 0 or total == 0.0:
            break
        cut = max(threshold, np.sqrt(2.0 * np.log(max(3.0, n) / np.sqrt(2.0 * np.pi))))
        reach = cut * spread * (1.0 + SLACK) + SLACK * abs(shift)
        # Who was dropped stays out, even if a later round's interval is wider.
        low, high = max(low, shift - reach), min(high, shift + reach)
        before = kept
        kept, n, total, shift, spread = _moments(v, w, c, p, m, low, high, shift, poisson, gain)
        if kept == before:
            break
    return low, high


@njit(nogil=True, cache=True, error_model="numpy")
def _moments(v, w, c, p, m, low, high, centre, poisson, gain):
    """Return entries, N, W, mean and standard deviation of what lies in an interval; `centre` is a guess of the mean.

    The deviations are summed around `centre` and moved to the mean, again from there if it was far off: that is the
    two-pass variance but for rounding.
    """
    if poisson:
        kept, n, total, first, squares, variance = _poisson_sums(v, w, c, p, m, low, high)
        if kept == 0 or total == 0.0:
            return kept, n, total, 0.0, 0.0
        # A ring that saw no counts has the spread of one count.
        return kept, n, total, first / total, np.sqrt((variance if variance > 0.0 else gain) / squares)
    mean, variance, squares = centre, 0.0, 1.0
    for _ in range(2):
        centre = mean
        kept, n, total, first, squares, mixed, second = _azimuthal_sums(v, w, c, m, low, high, centre)
        if kept == 0 or total == 0.0:
            return kept, n, total, 0.0, 0.0
        # Not centre + sum w d / W: equal values, zeros above all, have their own value as mean.
        mean = first / total
        offset = mean - centre
        variance = max(0.0, second - offset * (2.0 * mixed - offset * squares))
        if offset * offset * squares <= 100.0 * variance:
            break
    return kept, n, total, mean, np.sqrt(variance / squares)


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc"})
def _azimuthal_sums(v, w, c, m, low, high, centre):
    """Return entries, N, W, sum w v, Q, sum w^2 d and sum w^2 d^2 over low <= v <= high, d = v - centre."""
    kept = 0
    n = total = first = squares = mixed = second = 0.0
    for k in range(m):
        inside = (v[k] >= low) & (v[k] <= high)
        weight = w[k] if inside else 0.0
        deviation = weight * (v[k] - centre)
        kept += inside
        n += c[k] if inside else 0.0
        total += weight
        first += weight * v[k]
        squares += weight * weight
        mixed += weight * deviation
        second += deviation * deviation
    return kept, n, total, first, squares, mixed, second


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc"})
def _poisson_sums(v, w, c, p, m, low, high):
    """Return entries, N, W, sum w v, Q and P over low <= v <= high."""
    kept = 0
    n = total = first = squares = variance = 0.0
    for k in range(m):
        inside = (v[k] >= low) & (v[k] <= high)
        weight = w[k] if inside else 0.0
        kept += inside
        n += c[k] if inside else 0.0
        total += weight
        first += weight * v[k]
        squares += weight * weight
        variance += p[k] if inside else 0.0
    return kept, n, total, first, squares, variance
