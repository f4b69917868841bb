"""The loops that turn pixel footprints into shares of bins.

Corner k of pixel (i, j) is at ``base + offsets[k]`` of a flat array, ``base = i * row_stride + j * column_stride``: so
one loop serves both a grid of shared vertices and four free corners a pixel.
"""

import math

import numpy as np
from numba import njit

QUANTA = 2.0**24


@njit(nogil=True, cache=True)
def find_bin(x, edges):
    """Return the bin of `edges` (half open, the last one closed) that holds `x`, -1 outside; edges are equidistant."""
    last = edges.size - 2
    if not (edges[0] <= x <= edges[last + 1]):
        return -1
    k = min(int((x - edges[0]) * ((last + 1) / (edges[last + 1] - edges[0]))), last)
    # The quotient may round over an edge; the edges themselves decide.
    while k > 0 and x < edges[k]:
        k -= 1
    while k < last and x >= edges[k + 1]:
        k += 1
    return k


@njit(nogil=True, cache=True)
def whole_pixels(start, stop, centres, skipped, edges, bins):
    """Put each pixel of start..stop, whole, into the bin of its centre; -1 where it is skipped or outside."""
    for i in range(start, stop):
        bins[i] = -1 if skipped[i] else find_bin(centres[i], edges)


@njit(nogil=True, cache=True)
def half_widths(start, stop, columns, centres, radial, row_stride, column_stride, offsets, half):
    """Store, per pixel, the largest distance of a corner from the centre along the radial axis."""
    for i in range(start, stop):
        base = (i // columns) * row_stride + (i % columns) * column_stride
        d = 0.0
        for k in range(4):
            d = max(d, abs(radial[base + offsets[k]] - centres[i]))
        half[i] = d


@njit(nogil=True, cache=True)
def span_of_bins(low, high, edges):
    """Return the first and last bin that [low, high] overlaps, (0, -1) where it overlaps none."""
    last = edges.size - 2
    if not (low <= edges[last + 1] and high >= edges[0]):
        return 0, -1
    first_bin = find_bin(max(low, edges[0]), edges)
    last_bin = find_bin(min(high, edges[last + 1]), edges)
    if last_bin > first_bin and edges[last_bin] == high:
        last_bin -= 1  # touches the next bin without overlapping it
    return first_bin, last_bin


@njit(nogil=True, cache=True)
def count_spans(start, stop, low, high, skipped, edges, counts):
    """Store, per pixel, how many bins its interval [low, high] overlaps."""
    for i in range(start, stop):
        counts[i] = 0
        if not skipped[i]:
            first_bin, last_bin = span_of_bins(low[i], high[i], edges)
            counts[i] = last_bin - first_bin + 1


@njit(nogil=True, cache=True)
def store_shares(area, n, first_bin, total, inside, bins, shares, at):
    """Store ``area[:n] / total`` in whole quanta; a pixel wholly `inside` the range keeps the sum of 1 exactly.

    The running sum is rounded, not each share, so that errors stay below one quantum however many bins there are.
    """
    running = 0.0
    before = 0.0
    for k in range(n):
        running += area[k] / total
        after = QUANTA if inside and k == n - 1 else round(running * QUANTA)
        bins[at + k] = first_bin + k
        shares[at + k] = (after - before) / QUANTA
        before = after


@njit(nogil=True, cache=True)
def bbox_shares(start, stop, low, high, edges, indptr, bins, shares):
    """Share pixels start..stop by the overlap of [low, high] with each bin."""
    area = np.empty(edges.size)
    for i in range(start, stop):
        n = indptr[i + 1] - indptr[i]
        if n == 0:
            continue
        first_bin, _ = span_of_bins(low[i], high[i], edges)
        total = high[i] - low[i]
        inside = low[i] >= edges[0] and high[i] <= edges[-1]
        if total <= 0.0:
            area[0] = 1.0
            total = 1.0
        else:
            for k in range(n):
                area[k] = min(high[i], edges[first_bin + k + 1]) - max(low[i], edges[first_bin + k])
        store_shares(area, n, first_bin, total, inside, bins, shares, indptr[i])


@njit(nogil=True, cache=True)
def radial_spans(start, stop, columns, radial, azimuth, row_stride, column_stride, offsets, from_beam, low, high):
    """Store the radial extent of each pixel's quadrilateral.

    Where the pixel holds the beam it begins at 0, if the unit is one that does (`from_beam`).
    """
    chi = np.empty(4)
    for i in range(start, stop):
        base = (i // columns) * row_stride + (i % columns) * column_stride
        lo = hi = radial[base + offsets[0]]
        for k in range(4):
            lo = min(lo, radial[base + offsets[k]])
            hi = max(hi, radial[base + offsets[k]])
        corner_azimuths(radial, azimuth, base, offsets, chi)
        low[i] = 0.0 if from_beam and winds_around_beam(chi) else lo
        high[i] = hi


@njit(nogil=True, cache=True)
def turn(angle):
    """Return `angle` (radians) brought into [-pi, pi]."""
    return angle - 2.0 * math.pi * round(angle / (2.0 * math.pi))


@njit(nogil=True, cache=True)
def corner_azimuths(radial, azimuth, base, offsets, chi):
    """Write the azimuths of a pixel's corners; a corner on the beam, which has none, takes that of the next one."""
    for k in range(4):
        chi[k] = azimuth[base + offsets[k if radial[base + offsets[k]] != 0.0 else (k + 1) % 4]]


@njit(nogil=True, cache=True)
def winds_around_beam(chi):
    """Tell whether corners at these azimuths go once around the beam, that is, whether the pixel holds it."""
    total = turn(chi[1] - chi[0]) + turn(chi[2] - chi[1]) + turn(chi[3] - chi[2]) + turn(chi[0] - chi[3])
    return abs(total) > 6.0


@njit(nogil=True, cache=True)
def outline(radial, azimuth, base, offsets, r, chi):
    """Write the pixel's outline in (radial, azimuth), azimuth unwrapped, and return its number of points (4 or 5).

    A corner on the beam itself has no azimuth: it becomes the segment at radius 0 between its neighbours' azimuths.
    """
    n = 0
    before = azimuth[base + offsets[3]] if radial[base + offsets[3]] > 0.0 else azimuth[base + offsets[2]]
    for k in range(4):
        rk = radial[base + offsets[k]]
        if rk > 0.0:
            x = azimuth[base + offsets[k]]
            chi[n] = x if n == 0 else chi[n - 1] + turn(x - chi[n - 1])
            r[n] = rk
            n += 1
        else:
            after = azimuth[base + offsets[(k + 1) % 4]]
            chi[n] = before if n == 0 else chi[n - 1] + turn(before - chi[n - 1])
            chi[n + 1] = chi[n] + turn(after - chi[n])
            r[n] = r[n + 1] = 0.0
            n += 2
        before = azimuth[base + offsets[k]]
    return n


@njit(nogil=True, cache=True)
def add_edge(ra, ca, rb, cb, edges, first_bin, n, area):
    """Add the signed integral of azimuth over radius along the edge a -> b to the bins that it crosses."""
    if ra == rb:
        return
    sign = 1.0
    if ra > rb:
        ra, rb, ca, cb, sign = rb, ra, cb, ca, -1.0
    slope = (cb - ca) / (rb - ra)
    for k in range(n):
        lo = max(ra, edges[first_bin + k])
        hi = min(rb, edges[first_bin + k + 1])
        if hi > lo:
            middle = 0.5 * (lo + hi)
            area[k] += sign * (hi - lo) * (ca + slope * (middle - ra))


@njit(nogil=True, cache=True)
def full_shares(
    start,
    stop,
    columns,
    radial,
    azimuth,
    row_stride,
    column_stride,
    offsets,
    low,
    high,
    edges,
    indptr,
    bins,
    shares,
):
    """Share pixels start..stop by the area of their quadrilateral in (radial, azimuth) over each bin.

    The pixel that holds the beam is the rectangle [0, farthest corner] over the full turn.
    """
    area = np.empty(edges.size)
    r = np.empty(8)
    chi = np.empty(8)
    corner_chi = np.empty(4)
    for i in range(start, stop):
        n = indptr[i + 1] - indptr[i]
        if n == 0:
            continue
        first_bin, _ = span_of_bins(low[i], high[i], edges)
        inside = low[i] >= edges[0] and high[i] <= edges[-1]
        area[:n] = 0.0
        base = (i // columns) * row_stride + (i % columns) * column_stride
        corner_azimuths(radial, azimuth, base, offsets, corner_chi)
        if n == 1 and inside:
            area[0] = total = 1.0
        elif winds_around_beam(corner_chi):
            total = high[i]
            for k in range(n):
                area[k] = min(high[i], edges[first_bin + k + 1]) - max(0.0, edges[first_bin + k])
        else:
            points = outline(radial, azimuth, base, offsets, r, chi)
            origin = chi[0]
            total = 0.0
            for k in range(points):
                m = (k + 1) % points
                add_edge(r[k], chi[k] - origin, r[m], chi[m] - origin, edges, first_bin, n, area)
                total += (r[m] - r[k]) * 0.5 * (chi[k] + chi[m] - 2.0 * origin)
            if total < 0.0:
                total = -total
                area[:n] *= -1.0
            if total <= 0.0:
                # A footprint without area (a corner seen edge-on): shared along the radius alone.
                total = max(high[i] - low[i], 1e-300)
                for k in range(n):
                    area[k] = min(high[i], edges[first_bin + k + 1]) - max(low[i], edges[first_bin + k])
            for k in range(n):
                area[k] = max(area[k], 0.0)
        store_shares(area, n, first_bin, total, inside, bins, shares, indptr[i])
