"""The loops over rings: one ring's entries are gathered once, an interval of values is found, its entries are summed.

An entry is one pixel's share of one ring: ``c`` the share, ``v`` = s / n its value, ``w`` = c n its weight, ``x`` = c s
and ``p`` = c^2 var. Whatever the rule, what it keeps is all entries of the ring with values in one closed interval, so
a rule only has to find that interval. Rings never see each other: results depend neither on their order nor on threads.

Which entries stay may be decided in any order of summation (``reassoc``); what stays is summed in pixel order.
"""

import numpy as np
from numba import njit

N, V, W, Q, A, B, P = range(7)

SLACK = 1e-12
"""Relative slack of every comparison that decides what stays: rounding alone neither drops nor keeps an entry."""

SAMPLE = 31
"""Entries that a selection looks at to guess where its target lies."""

SMALL = 24
"""So many entries are sorted rather than divided further."""


@njit(nogil=True, cache=True, error_model="numpy")
def clip_rings(
    start, stop, ring, frame, masked, dummies, variance, norm, noise, threshold, max_iter, poisson, sums
):  # fmt: skip
    """Sum rings start..stop of a frame without outliers by sigma clipping, into columns of `sums` (7, bins).

    Parameters
    ----------
    ring
        indptr, pixels, shares of the matrix in bin order (shares empty: all 1), and indptr, bins in pixel order
        (indptr empty: one entry a pixel).
    frame
        Flat counts or signal; not finite = left out.
    masked
        Flat bool, True = left out, or empty.
    dummies
        Lowest and highest value that stands for 'no data', float64.
    variance
        Flat float64, or empty: variance is gain * max(frame, 0) + read noise^2.
    norm
        Flat float64, normalization of each pixel.
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
        m, left_out = _gather(r, ring, frame, masked, dummies, variance, norm, noise, v, w, x, c, p)
        lost += left_out
        low, high = clip(v, w, c, p, m, threshold, max_iter, poisson, noise[0])
        _add_kept(v, w, x, c, p, m, low, high, r, sums)
    return lost


@njit(nogil=True, cache=True, error_model="numpy")
def quantile_rings(start, stop, ring, frame, masked, dummies, variance, norm, noise, lower, upper, sums):
    """Sum what lies between two quantiles of each ring; see `clip_rings`."""
    indptr = ring[0]
    room = _room(start, stop, indptr)
    v, w, x, c, p = room
    spare = np.empty((2, v.size))
    lost = 0
    for r in range(start, stop):
        m, left_out = _gather(r, ring, frame, masked, dummies, variance, norm, noise, v, w, x, c, p)
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
def _gather(r, ring, frame, masked, dummies, variance, norm, noise, v, w, x, c, p):
    """Fill the buffers with the usable entries of ring r; return how many, and how many pixels were left out."""
    indptr, pixels, shares, _, _ = ring
    first = indptr[r]
    m = indptr[r + 1] - first
    row = pixels[first : first + m]
    # Short loops without branches: the compiler vectorizes them.
    for k in range(m):
        x[k] = np.float64(frame[np.uint64(row[k])])
    for k in range(m):
        w[k] = norm[np.uint64(row[k])]
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
    _, _, _, pixel_indptr, pixel_bins = ring
    kept, lost = 0, 0
    for k in range(m):
        if not np.isfinite(x[k]) or (low <= x[k] <= high) or (has_variance and not np.isfinite(p[k])):
            i = row[k]
            lost += pixel_indptr.size == 0 or pixel_bins[pixel_indptr[i]] == r
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


# ------------------------------------------------------------------------------------------------- quantiles


@njit(nogil=True, cache=True, error_model="numpy")
def between_quantiles(v, w, m, lower, upper, spare_v, spare_w):
    """Return the interval of values that lie between two quantiles, in cumulative weight, of m entries.

    Equal values are one entry. Kept are entries wholly inside [lower, upper] and the one that holds all of it; where
    that is nothing, the interval lies across a single boundary: the entry that holds its middle, or both neighbours.
    """
    if m == 0 or (lower == 0.0 and upper == 1.0):
        return -np.inf, np.inf
    total = _total(w, m)
    slack = SLACK * total
    begin, end = lower * total, upper * total
    first, first_from, first_to = select(v, w, m, -np.inf, 0.0, total, begin - slack, spare_v, spare_w)
    last, last_from, last_to = first, first_from, first_to
    if first_to <= end + slack:
        last, last_from, last_to = select(v, w, m, first, first_to, total, end + slack, spare_v, spare_w)
    first_inside = first_from >= begin - slack
    last_inside = last_to <= end + slack
    first_holds = first_from <= begin + slack and first_to >= end - slack
    last_holds = last_from <= begin + slack and last_to >= end - slack
    if first == last:
        return first, first  # it holds the interval, or is it
    low = first if first_inside or first_holds else np.nextafter(first, np.inf)
    high = last if last_inside or last_holds else np.nextafter(last, -np.inf)
    if low == first or high == last or last_from - first_to > slack or _any_between(v, m, low, high):
        return low, high
    middle = 0.5 * (begin + end)
    if abs(middle - first_to) <= slack:
        return first, last
    return (first, first) if middle < first_to else (last, last)


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc"})
def _total(w, m):
    total = 0.0
    for k in range(m):
        total += w[k]
    return total


@njit(nogil=True, cache=True, error_model="numpy")
def _any_between(v, m, low, high):
    for k in range(m):  # noqa: SIM110 - numba has no any() over generators
        if low <= v[k] <= high:
            return True
    return False


@njit(nogil=True, cache=True, error_model="numpy")
def select(v, w, m, above, base, total, target, spare_v, spare_w):
    """Return the first value > `above` whose cumulative weight exceeds `target` (else the last), and its span.

    Parameters
    ----------
    v, w
        Values and weights of m entries, in any order; not changed.
    above, base
        Only values above this one are looked at; `base` is the weight of all others.
    total
        Sum of all weights.
    target
        Cumulative weight to exceed.
    spare_v, spare_w
        Room for m entries.

    Returns
    -------
    value, from, to
        Cumulative weights below and up to the value; equal values count as one.

    Notes
    -----
    As in Floyd and Rivest (1975, Comm. ACM 18, 165), a sorted sample brackets the target, and one pass throws away
    all that lies outside the bracket; here without branches, and with the weights of what was thrown away.
    """
    n = m
    if above > -np.inf or m <= SMALL:
        n = _keep(v, w, m, np.nextafter(above, np.inf), np.inf, spare_v, spare_w)
        v, w = spare_v, spare_w
        if n == 0:
            return above, base, base
    sample = np.empty(SAMPLE)
    weight = total - base
    single = False
    while n > SMALL:
        for j in range(SAMPLE):
            sample[j] = v[(2 * j + 1) * n // (2 * SAMPLE)]
        _sort(sample, SAMPLE)
        low, high = _bracket(sample, (target - base) / weight if weight > 0.0 else 0.5, single)
        below, inside, n_below, n_inside = _weigh(v, w, n, low, high)
        go_below = target < base + below and n_below > 0
        go_above = not go_below and target >= base + below + inside and n_below + n_inside < n
        if not (go_below or go_above):
            if low == high:
                return low, base + below, base + below + inside
            single = n_inside == n
            base += below
            weight = inside
        elif go_below:
            low, high, single = -np.inf, np.nextafter(low, -np.inf), False
            weight = below
        else:
            low, high, single = np.nextafter(high, np.inf), np.inf, False
            base += below + inside
            weight -= below + inside
        n = _keep(v, w, n, low, high, spare_v, spare_w)
        v, w = spare_v, spare_w
    return _scan(v, w, n, base, target)


@njit(nogil=True, cache=True, error_model="numpy")
def _bracket(sample, fraction, single):
    """Return two values of a sorted sample that likely enclose a quantile; one and the same if `single`."""
    fraction = min(1.0, max(0.0, fraction))
    at = fraction * SAMPLE
    if single:
        pivot = sample[min(SAMPLE - 1, int(at))]
        return pivot, pivot
    reach = 1.0 + 1.5 * np.sqrt(SAMPLE * fraction * (1.0 - fraction))
    first, last = int(np.floor(at - reach)), int(np.floor(at + reach))
    low = sample[first] if first >= 0 else -np.inf
    high = sample[last] if last < SAMPLE else np.inf
    return low, high


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc"})
def _weigh(v, w, n, low, high):
    """Return the weight below an interval and inside it, and how many entries are there."""
    below = inside = 0.0
    n_below = n_inside = 0
    for k in range(n):
        is_below = v[k] < low
        is_inside = (v[k] >= low) & (v[k] <= high)
        below += w[k] if is_below else 0.0
        inside += w[k] if is_inside else 0.0
        n_below += is_below
        n_inside += is_inside
    return below, inside, n_below, n_inside


@njit(nogil=True, cache=True, error_model="numpy")
def _keep(v, w, n, low, high, into_v, into_w):
    """Move entries with low <= v <= high to the front of other arrays, or of their own; return how many."""
    kept = 0
    for k in range(n):
        value = v[k]
        into_v[kept] = value
        into_w[kept] = w[k]
        kept += (value >= low) & (value <= high)
    return kept


@njit(nogil=True, cache=True, error_model="numpy")
def _scan(v, w, n, base, target):
    """Sort few entries and walk up to the one that `select` looks for."""
    for k in range(1, n):
        value, weight = v[k], w[k]
        j = k
        while j > 0 and v[j - 1] > value:
            v[j], w[j] = v[j - 1], w[j - 1]
            j -= 1
        v[j], w[j] = value, weight
    k = 0
    while True:
        value, start = v[k], base
        while k < n and v[k] == value:
            base += w[k]
            k += 1
        if base > target or k == n:
            return value, start, base


@njit(nogil=True, cache=True, error_model="numpy")
def _sort(values, n):
    for k in range(1, n):
        value = values[k]
        j = k
        while j > 0 and values[j - 1] > value:
            values[j] = values[j - 1]
            j -= 1
        values[j] = value
