"""Quantiles of weighted values by selection: nothing is sorted whole, and the long loops do not branch on values."""

import numpy as np
from numba import njit

SLACK = 1e-12
"""Relative slack of every comparison that decides what stays: rounding alone neither drops nor keeps an entry."""

SAMPLE = 31
"""Entries that a selection looks at to guess where its target lies."""

SMALL = 24
"""So many entries are sorted rather than divided further."""


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
