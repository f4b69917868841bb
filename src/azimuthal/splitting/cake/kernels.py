"""The loops that share pixels out among the cells of a cake: bin = azimuthal bin * radial bins + radial bin.

Azimuths are in the unit of `edges_a`, whose first edge lies in [-period / 2, period / 2) and whose last one is at most
a period above it; `scale` turns the radians of pixel corners into that unit. Cells without a share are not stored.
"""

import math

import numpy as np
from numba import njit

from azimuthal.csr.tiles import NONE_YET
from azimuthal.splitting.kernels import (
    QUANTA,
    add_edge,
    azimuth_bounds,
    azimuth_extent,
    find_bin,
    outline,
    radial_extent,
    reach_to_beam,
    span_of_bins,
    turn,
    winds_around_beam,
)


@njit(nogil=True, cache=True)
def find_azimuth(x, edges, period):
    """Return the bin that holds azimuth `x`, which is at most half a turn away from 0 or from the bins; -1 outside."""
    if x < edges[0]:
        x += period
    elif x > edges[-1] and x - period >= edges[0]:
        x -= period
    return find_bin(x, edges)


@njit(nogil=True, cache=True)
def whole_pixels(start, stop, centres, azimuths, skipped, edges_r, edges_a, scale, period, bins):
    """Put each pixel of start..stop, whole, into the cell of its centre; -1 where it is skipped or outside."""
    for i in range(start, stop):
        bins[i] = -1
        if skipped[i]:
            continue
        r = find_bin(centres[i], edges_r)
        if r >= 0:
            a = find_azimuth(azimuths[i] * scale, edges_a, period)
            if a >= 0:
                bins[i] = a * (edges_r.size - 1) + r


@njit(nogil=True, cache=True)
def half_azimuths(start, stop, columns, azimuths, radial, azimuth, row_stride, column_stride, offsets, poles, half):
    """Store, per pixel, the largest angle (radians) between a corner's azimuth and the centre's.

    A corner on the beam has no azimuth and does not count.
    """
    front, back = poles[0], poles[2]
    for i in range(start, stop):
        base = (i // columns) * row_stride + (i % columns) * column_stride
        d = 0.0
        for k in range(4):
            r = radial[base + offsets[k]]
            if r not in (front, back):
                d = max(d, abs(turn(azimuth[base + offsets[k]] - azimuths[i])))
        half[i] = d


@njit(nogil=True, cache=True)
def first_turn(high, edges, period):
    """Return the least number of periods by which an interval that ends at `high` must move up to meet the bins."""
    return math.ceil((edges[0] - high) / period)


@njit(nogil=True, cache=True)
def azimuth_runs(low, high, edges, period, runs):
    """Write the bins that [low, high], no longer than a period, overlaps: two runs (first, last), either may be empty.

    The bins ascend and none is told twice.
    """
    runs[0], runs[1], runs[2], runs[3] = 0, -1, 0, -1
    n = 0
    m = first_turn(high, edges, period)
    while low + m * period < edges[-1] and n < 2:
        first, last = span_of_bins(low + m * period, high + m * period, edges)
        if last >= first and high + m * period > edges[0]:
            runs[2 * n] = first
            runs[2 * n + 1] = last
            n += 1
        m += 1
    runs[2] = max(runs[2], runs[1] + 1)


@njit(nogil=True, cache=True)
def count_runs(runs):
    """Return how many bins the two runs hold."""
    return max(0, runs[1] - runs[0] + 1) + max(0, runs[3] - runs[2] + 1)


@njit(nogil=True, cache=True)
def azimuth_overlap(low, high, lower, upper, edges, period):
    """Return the length of [low, high], and its repetitions, inside the bin from `lower` to `upper`."""
    total = 0.0
    m = first_turn(high, edges, period)
    while low + m * period < edges[-1]:
        total += max(0.0, min(high + m * period, upper) - max(low + m * period, lower))
        m += 1
    return total


@njit(nogil=True, cache=True)
def covers(low, high, edges, period):
    """Tell whether all of [low, high] lies inside the bins."""
    if edges[-1] - edges[0] >= period * (1.0 - 1e-12):
        return True
    m = first_turn(high, edges, period)
    return low + m * period >= edges[0] and high + m * period <= edges[-1]


@njit(nogil=True, cache=True)
def store_cells(area, runs, first_r, n_r, radial_bins, total, bins, shares, at):
    """Store ``area / total`` in whole quanta, azimuthal bin by azimuthal bin, and return where the next pixel goes.

    The running sum is rounded, not each share, so that the sum of a pixel's shares is right to a quantum.
    """
    running = 0.0
    before = 0.0
    j = 0
    for half in range(2):
        for a in range(runs[2 * half], runs[2 * half + 1] + 1):
            for k in range(n_r):
                running += area[j, k]
                after = round(min(running / total, 1.0) * QUANTA)
                if after > before:
                    bins[at] = a * radial_bins + first_r + k
                    shares[at] = (after - before) / QUANTA
                    at += 1
                    before = after
            j += 1
    return at


@njit(nogil=True, cache=True)
def fill_box(low, high, low_a, high_a, runs, first_r, n_r, edges_r, edges_a, period, area):
    """Fill the areas of a rectangle over cells and return the whole rectangle's; a side without length counts as 1."""
    flat, thin = high <= low, high_a <= low_a
    j = 0
    for half in range(2):
        for a in range(runs[2 * half], runs[2 * half + 1] + 1):
            along = 1.0 if thin else azimuth_overlap(low_a, high_a, edges_a[a], edges_a[a + 1], edges_a, period)
            for k in range(n_r):
                across = 1.0 if flat else min(high, edges_r[first_r + k + 1]) - max(low, edges_r[first_r + k])
                area[j, k] = along * across
            j += 1
    return (1.0 if flat else high - low) * (1.0 if thin else high_a - low_a)


@njit(nogil=True, cache=True)
def cells_under(low, high, low_a, high_a, edges_r, edges_a, period, runs):
    """Write the azimuthal runs of bins under a footprint and return its first radial bin and how many there are."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return 0, 0
    first_r, last_r = span_of_bins(low, high, edges_r)
    if last_r < first_r:
        return 0, 0
    if high_a <= low_a:
        middle = turn(low_a * (2.0 * math.pi / period)) * (period / (2.0 * math.pi))
        a = find_azimuth(middle, edges_a, period)
        runs[0], runs[1], runs[2], runs[3] = max(a, 0), a, 0, -1
    else:
        azimuth_runs(low_a, high_a, edges_a, period, runs)
    return first_r, last_r - first_r + 1 if count_runs(runs) > 0 else 0


@njit(nogil=True, cache=True)
def count_cells(start, stop, low, high, low_a, high_a, skipped, edges_r, edges_a, scale, period):
    """Return how many cells pixels start..stop can have at most, all together, and the most azimuthal bins of one."""
    runs = np.zeros(4, np.int64)
    total = 0
    most = 0
    for i in range(start, stop):
        if skipped[i]:
            continue
        _, n_r = cells_under(low[i], high[i], low_a[i] * scale, high_a[i] * scale, edges_r, edges_a, period, runs)
        if n_r > 0:
            n_a = count_runs(runs)
            total += n_r * n_a
            most = max(most, n_a)
    return total, most


@njit(nogil=True, cache=True)
def bbox_cells(
    start, stop, low, high, low_a, high_a, skipped, edges_r, edges_a, scale, period, most, counts, bins, shares
):
    """Share pixels start..stop by the overlap of their rectangle with each cell; return how many were stored."""
    runs = np.zeros(4, np.int64)
    area = np.empty((max(most, 1), edges_r.size))
    at = NONE_YET
    for i in range(start, stop):
        counts[i] = 0
        if skipped[i]:
            continue
        from_a, to_a = low_a[i] * scale, high_a[i] * scale
        first_r, n_r = cells_under(low[i], high[i], from_a, to_a, edges_r, edges_a, period, runs)
        if n_r == 0:
            continue
        total = fill_box(low[i], high[i], from_a, to_a, runs, first_r, n_r, edges_r, edges_a, period, area)
        after = store_cells(area, runs, first_r, n_r, edges_r.size - 1, total, bins, shares, at)
        counts[i] = after - at
        at = after
    return at


@njit(nogil=True, cache=True)
def clip_above(n, r, chi, bound, sign, r_out, chi_out):
    """Keep the part of a polygon with ``sign * chi >= sign * bound`` (Sutherland and Hodgman 1974); return its size."""
    m = 0
    for k in range(n):
        j = k + 1 if k + 1 < n else 0
        inside = sign * chi[k] >= sign * bound
        if inside:
            r_out[m] = r[k]
            chi_out[m] = chi[k]
            m += 1
        if inside != (sign * chi[j] >= sign * bound):
            t = (bound - chi[k]) / (chi[j] - chi[k])
            r_out[m] = r[k] + t * (r[j] - r[k])
            chi_out[m] = bound
            m += 1
    return m


@njit(nogil=True, cache=True)
def add_polygon(n, r, chi, origin, edges_r, first_r, n_r, area):
    """Add the signed area of a polygon over each radial bin."""
    for k in range(n):
        j = k + 1 if k + 1 < n else 0
        add_edge(r[k], chi[k] - origin, r[j], chi[j] - origin, edges_r, first_r, n_r, area)


@njit(nogil=True, cache=True)
def fill_polygon(n, r, chi, low_a, high_a, runs, first_r, n_r, edges_r, edges_a, period, work, area):
    """Fill the signed areas of a polygon over cells: cut to each azimuthal bin, then integrated over radial ones."""
    j = 0
    origin = chi[0]
    first_m = first_turn(high_a, edges_a, period)
    for half in range(2):
        for a in range(runs[2 * half], runs[2 * half + 1] + 1):
            area[j, :n_r] = 0.0
            m = first_m
            while low_a + m * period < edges_a[-1]:
                lower, upper = edges_a[a] - m * period, edges_a[a + 1] - m * period
                m += 1
                if low_a >= upper or high_a <= lower:
                    continue
                if low_a >= lower and high_a <= upper:
                    add_polygon(n, r, chi, origin, edges_r, first_r, n_r, area[j])
                    continue
                cut = clip_above(n, r, chi, lower, 1.0, work[0], work[1])
                cut = clip_above(cut, work[0], work[1], upper, -1.0, work[2], work[3])
                add_polygon(cut, work[2], work[3], origin, edges_r, first_r, n_r, area[j])
            j += 1


@njit(nogil=True, cache=True)
def footprints(
    start, stop, columns, radial, azimuth, row_stride, column_stride, offsets, poles, low, high, low_a, high_a
):
    """Store the extents of each pixel in radius and azimuth (radians, unwrapped); around the beam, the full turn."""
    r = np.empty(8)
    chi = np.empty(8)
    front, equator, back = poles[0], poles[1], poles[2]
    for i in range(start, stop):
        base = (i // columns) * row_stride + (i % columns) * column_stride
        least, most = radial_extent(radial, base, offsets)
        low_a[i], high_a[i], plain = azimuth_bounds(radial, azimuth, base, offsets, front, back)
        if not plain:
            low_a[i], high_a[i] = azimuth_extent(radial, azimuth, base, offsets, front, back, r, chi)
            if winds_around_beam(radial, azimuth, base, offsets, front, back, chi):
                least, most = reach_to_beam(least, most, front, equator, back)
        low[i] = least
        high[i] = most


@njit(nogil=True, cache=True)
def full_cells(
    start,
    stop,
    columns,
    radial,
    azimuth,
    row_stride,
    column_stride,
    offsets,
    poles,
    low,
    high,
    low_a,
    high_a,
    skipped,
    edges_r,
    edges_a,
    scale,
    period,
    most,
    counts,
    bins,
    shares,
):
    """Share pixels start..stop by the area of their quadrilateral over each cell; return how many were stored."""
    runs = np.zeros(4, np.int64)
    area = np.empty((max(most, 1), edges_r.size))
    work = np.empty((4, 32))
    r = np.empty(8)
    chi = np.empty(8)
    front, back = poles[0], poles[2]
    at = NONE_YET
    for i in range(start, stop):
        counts[i] = 0
        if skipped[i]:
            continue
        from_a, to_a = low_a[i] * scale, high_a[i] * scale
        first_r, n_r = cells_under(low[i], high[i], from_a, to_a, edges_r, edges_a, period, runs)
        if n_r == 0:
            continue
        n_a = count_runs(runs)
        inside = low[i] >= edges_r[0] and high[i] <= edges_r[-1] and covers(from_a, to_a, edges_a, period)
        base = (i // columns) * row_stride + (i % columns) * column_stride
        _, _, plain = azimuth_bounds(radial, azimuth, base, offsets, front, back)
        if n_r == 1 and n_a == 1 and inside:
            area[0, 0] = total = 1.0
        elif not plain and winds_around_beam(radial, azimuth, base, offsets, front, back, chi):
            total = fill_box(low[i], high[i], from_a, to_a, runs, first_r, n_r, edges_r, edges_a, period, area)
        else:
            points = outline(radial, azimuth, base, offsets, front, back, r, chi)
            total = 0.0
            for k in range(points):
                chi[k] *= scale
            for k in range(points):
                j = k + 1 if k + 1 < points else 0
                total += (r[j] - r[k]) * 0.5 * (chi[k] + chi[j] - 2.0 * chi[0])
            if total == 0.0:
                # A footprint without area (a corner seen edge-on): its rectangle stands in.
                total = fill_box(low[i], high[i], from_a, to_a, runs, first_r, n_r, edges_r, edges_a, period, area)
            else:
                fill_polygon(points, r, chi, from_a, to_a, runs, first_r, n_r, edges_r, edges_a, period, work, area)
                sign = 1.0 if total > 0.0 else -1.0
                total *= sign
                parts = 0.0
                for j in range(n_a):
                    for k in range(n_r):
                        area[j, k] = max(sign * area[j, k], 0.0)
                        parts += area[j, k]
                if inside and parts > 0.0:
                    total = parts
        after = store_cells(area, runs, first_r, n_r, edges_r.size - 1, total, bins, shares, at)
        counts[i] = after - at
        at = after
    return at
