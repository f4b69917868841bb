"""The loops that turn pixel footprints into shares of bins.

Corner k of pixel (i, j) is at ``base + offsets[k]`` of a flat array, ``base = i * row_stride + j * column_stride``: so
one loop serves both a grid of shared vertices and four free corners a pixel.
"""

import math

import numpy as np
from numba import njit

from azimuthal.csr.loading.kernels import tile_box
from azimuthal.csr.sorting import close_tile, grown
from azimuthal.csr.tiles import NONE_YET, TILE_COLUMNS, TILE_PIXELS, tiles_across
from azimuthal.csr.vectors import lent

QUANTA = 2.0**24
ROUNDER = 1.5 * 2.0**52
"""Added and taken off again, it rounds a number below 2**51 to a whole one, half to even."""


@njit(nogil=True, cache=True, inline="always")
def bin_inside(x, edges, bottom, per_unit, last):
    """Return the bin that holds `x`, which is in the range; loops keep what does not change in registers.

    ``bottom`` is the first edge, ``per_unit`` the number of bins over the width of the range, `last` the last bin.
    """
    k = min(int((x - bottom) * per_unit), last)
    # The quotient may round over an edge; the edges themselves decide.
    while k > 0 and x < edges[k]:
        k -= 1
    while k < last and x >= edges[k + 1]:
        k += 1
    return k


@njit(nogil=True, cache=True, inline="always")
def find_bin(x, edges):
    """Return the bin of `edges` (half open, the last one closed) that holds `x`, -1 outside; edges are equidistant."""
    last = edges.size - 2
    if not (edges[0] <= x <= edges[last + 1]):
        return -1
    return bin_inside(x, edges, edges[0], (last + 1) / (edges[last + 1] - edges[0]), last)


@njit(nogil=True, cache=True, error_model="numpy")
def rounding_of_places(edges):
    """Return more than rounding can do to edges, and to quotients that tell the place among them in bins.

    A quotient that is farther than this from whole numbers has its bin; otherwise the edges themselves decide.
    """
    last, bottom, top = edges.size - 1, edges[0], edges[edges.size - 1]
    return 2.0**-48 * (last / (top - bottom) * max(abs(bottom), abs(top)) + last)


@njit(nogil=True, cache=True, error_model="numpy")
def bins_of_line(x, unused, edges, bins):
    """Write the bin of each value of a line, -1 where it is unused or out of range."""
    last, bottom, top = edges.size - 2, edges[0], edges[edges.size - 1]
    per_unit = (last + 1) / (top - bottom)
    close = rounding_of_places(edges)
    doubtful = False
    for j in range(x.size):
        inside = (not unused[j]) & (x[j] >= bottom) & (x[j] <= top)
        place = (x[j] - bottom) * per_unit if inside else 0.5
        k = np.int32(place)
        part = place - k
        doubtful |= (part < close) | (part > 1.0 - close)
        bins[j] = k if inside else -1
    if doubtful:
        for j in range(x.size):
            if bins[j] >= 0:
                bins[j] = bin_inside(x[j], edges, bottom, per_unit, last)


@njit(nogil=True, cache=True, error_model="numpy")
def whole_line(centres, unused, used, edges, first, n, local, bins):
    """Append the pixels of a line, numbers from `first` on, to the n entries of a tile; return how many there are then.

    ``used`` is set where a centre is in range. There must be room for the whole line.
    """
    width = centres.size
    here = lent(bins, n, n + width)
    bins_of_line(centres, unused, edges, here)
    many = 0
    for j in range(width):
        used[j] = here[j] >= 0
        many += np.int64(here[j] >= 0)
    if many == width:
        for j in range(width):
            local[n + j] = first + j
        return n + width
    for j in range(width):
        k = here[j]
        local[n] = first + j
        bins[n] = k  # not behind what is read
        n += k >= 0
    return n


@njit(nogil=True, cache=True, error_model="numpy")
def whole_tiles(first_row, last_row, shape, centres, skipped, edges, used):
    """Put each pixel in rows first_row..last_row of tiles, whole, into the bin of its centre.

    ``used`` is set where that is in range. Returns the arrays of a `Band`, without shares.
    """
    rows, columns = shape
    across = tiles_across(columns)
    tiles = (last_row - first_row) * across
    out_pixels, no_shares = np.empty(tiles * TILE_PIXELS, np.uint16), np.empty(0, np.float32)
    tile_ptr = np.zeros(tiles + 1, np.int64)
    row_bins, row_ptr = np.empty(4 * TILE_PIXELS, np.int32), np.zeros(4 * TILE_PIXELS + 1, np.int64)
    counts, n_rows = np.zeros(edges.size - 1, np.int64), NONE_YET
    local, bins, found = (
        np.empty(TILE_PIXELS, np.uint16),
        np.empty(TILE_PIXELS, np.int32),
        np.empty(TILE_PIXELS, np.int32),
    )
    for t in range(tiles):
        r0, r1, c0, c1 = tile_box(first_row * across + t, across, rows, columns)
        n = NONE_YET
        for i in range(r0, r1):
            at, end = i * columns + c0, i * columns + c1
            line = centres[at:end], skipped[at:end], used[at:end]
            n = whole_line(*line, edges, (i - r0) * TILE_COLUMNS, n, local, bins)
        row_bins, row_ptr = grown(row_bins, n_rows + n), grown(row_ptr, n_rows + n + 1)
        n_rows = close_tile(n, local, bins, no_shares, counts, found, row_bins, row_ptr, n_rows, out_pixels, no_shares)
        tile_ptr[t + 1] = n_rows
    return tile_ptr, row_bins[:n_rows].copy(), row_ptr[: n_rows + 1].copy(), out_pixels[: row_ptr[n_rows]], no_shares


@njit(nogil=True, cache=True)
def half_widths(start, stop, columns, centres, radial, row_stride, column_stride, offsets, half):
    """Store, per pixel, the largest distance of a corner from the centre along the radial axis."""
    for i in range(start, stop):
        base = (i // columns) * row_stride + (i % columns) * column_stride
        d = 0.0
        for k in range(4):
            d = max(d, abs(radial[base + offsets[k]] - centres[i]))
        half[i] = d


@njit(nogil=True, cache=True, inline="always")
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
def store_shares(area, n, first_bin, total, inside, bins, shares, at):
    """Store ``area[:n] / total`` in whole quanta; a pixel wholly `inside` the range keeps the sum of 1 exactly.

    The running sum is rounded, not each share, so that errors stay below one quantum however many bins there are.
    """
    running = 0.0
    before = 0.0
    for k in range(n):
        running += area[k] / total
        after = QUANTA if inside and k == n - 1 else running * QUANTA + ROUNDER - ROUNDER
        bins[at + k] = first_bin + k
        shares[at + k] = (after - before) / QUANTA
        before = after


@njit(nogil=True, cache=True)
def bbox_pixels(start, stop, low, high, skipped, edges):
    """Share pixels start..stop by the overlap of [low, high] with each bin; return indptr, bins, shares."""
    indptr = np.zeros(stop - start + 1, np.int64)
    for i in range(start, stop):
        n = 0
        if not skipped[i] and np.isfinite(low[i]) and np.isfinite(high[i]):
            first_bin, last_bin = span_of_bins(low[i], high[i], edges)
            n = last_bin - first_bin + 1
        indptr[i - start + 1] = indptr[i - start] + n
    bins, shares = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32)
    area = np.empty(edges.size)
    for i in range(start, stop):
        at = indptr[i - start]
        n = indptr[i - start + 1] - at
        if n == 0:
            continue
        first_bin, _ = span_of_bins(low[i], high[i], edges)
        total = overlaps(low[i], high[i], edges, first_bin, n, area)
        inside = low[i] >= edges[0] and high[i] <= edges[-1]
        store_shares(area, n, first_bin, total, inside, bins, shares, at)
    return indptr, bins, shares


@njit(nogil=True, cache=True)
def overlaps(low, high, edges, first_bin, n, area):
    """Write the overlap of [low, high] with n bins to `area`, and return the whole; an empty interval is one bin's."""
    total = high - low
    if total <= 0.0:
        area[:n] = 0.0
        area[0] = 1.0
        return 1.0
    for k in range(n):
        area[k] = min(high, edges[first_bin + k + 1]) - max(low, edges[first_bin + k])
    return total


@njit(nogil=True, cache=True)
def radial_spans(start, stop, columns, radial, azimuth, row_stride, column_stride, offsets, poles, low, high):
    """Store the radial extent of each pixel's quadrilateral.

    Where the pixel holds the beam, or its prolongation backwards, the extent begins or ends there; see `Poles`.
    """
    chi = np.empty(4)
    front, equator, back = poles[0], poles[1], poles[2]  # not read anew after every store
    for i in range(start, stop):
        base = (i // columns) * row_stride + (i % columns) * column_stride
        least, most = radial_extent(radial, base, offsets)
        _, _, plain = azimuth_bounds(radial, azimuth, base, offsets, front, back)
        if not plain and winds_around_beam(radial, azimuth, base, offsets, front, back, chi):
            least, most = reach_to_beam(least, most, front, equator, back)
        low[i] = least
        high[i] = most


@njit(nogil=True, cache=True)
def reach_to_beam(low, high, front, equator, back):
    """Return the radial extent of a pixel around the beam, or its prolongation, from that of its corners."""
    if low >= equator:
        return low, back
    return (low if np.isnan(front) else front), high


@njit(nogil=True, cache=True, inline="always")
def radial_extent(radial, base, offsets):
    """Return the least and the largest radial position of a pixel's corners."""
    low = high = radial[base + offsets[0]]
    for k in range(1, 4):
        low = min(low, radial[base + offsets[k]])
        high = max(high, radial[base + offsets[k]])
    return low, high


@njit(nogil=True, cache=True, inline="always")
def turn(angle):
    """Return `angle` (radians) brought into [-pi, pi]."""
    return angle - 2.0 * math.pi * round(angle / (2.0 * math.pi))


@njit(nogil=True, cache=True)
def corner_azimuths(radial, azimuth, base, offsets, front, back, chi):
    """Write the azimuths of a pixel's corners; a corner on the beam, which has none, takes that of the next one."""
    for k in range(4):
        r = radial[base + offsets[k]]
        chi[k] = azimuth[base + offsets[(k + 1) % 4 if r in (front, back) else k]]


@njit(nogil=True, cache=True, inline="always")
def azimuth_bounds(radial, azimuth, base, offsets, front, back):
    """Return the least and largest azimuth of a pixel's corners, and whether that is all there is to say.

    It is not where azimuths jump inside the pixel, or a corner is on the beam.
    """
    least = most = azimuth[base + offsets[0]]
    at_pole = False
    for k in range(4):
        r = radial[base + offsets[k]]
        x = azimuth[base + offsets[k]]
        least = min(least, x)
        most = max(most, x)
        at_pole |= r in (front, back)
    return least, most, most - least <= math.pi and not at_pole


@njit(nogil=True, cache=True)
def winds_around_beam(radial, azimuth, base, offsets, front, back, chi):
    """Tell whether a pixel's corners go once around the beam, or its prolongation; `chi` (4) is scratch."""
    corner_azimuths(radial, azimuth, base, offsets, front, back, chi)
    total = turn(chi[1] - chi[0]) + turn(chi[2] - chi[1]) + turn(chi[3] - chi[2]) + turn(chi[0] - chi[3])
    return abs(total) > 6.0


@njit(nogil=True, cache=True)
def outline(radial, azimuth, base, offsets, front, back, r, chi):
    """Write the pixel's outline in (radial, azimuth), azimuth unwrapped, and return its number of points (4 or 5).

    A corner on the beam itself has no azimuth: it becomes the segment at that radius between its neighbours' azimuths.
    """
    n = 0
    last = radial[base + offsets[3]]
    before = azimuth[base + offsets[2 if last in (front, back) else 3]]
    for k in range(4):
        rk = radial[base + offsets[k]]
        if rk not in (front, back):
            x = azimuth[base + offsets[k]]
            chi[n] = x if n == 0 else chi[n - 1] + turn(x - chi[n - 1])
            r[n] = rk
            n += 1
        else:
            after = azimuth[base + offsets[(k + 1) % 4]]
            chi[n] = before if n == 0 else chi[n - 1] + turn(before - chi[n - 1])
            chi[n + 1] = chi[n] + turn(after - chi[n])
            r[n] = r[n + 1] = rk
            n += 2
        before = azimuth[base + offsets[k]]
    return n


@njit(nogil=True, cache=True)
def azimuth_spans(start, stop, columns, radial, azimuth, row_stride, column_stride, offsets, poles, low, high):
    """Store the extent of each pixel in azimuth (radians), unwrapped from its first corner; a full turn at the beam."""
    r = np.empty(8)
    chi = np.empty(8)
    front, back = poles[0], poles[2]
    for i in range(start, stop):
        base = (i // columns) * row_stride + (i % columns) * column_stride
        least, most, plain = azimuth_bounds(radial, azimuth, base, offsets, front, back)
        if not plain:
            least, most = azimuth_extent(radial, azimuth, base, offsets, front, back, r, chi)
        low[i] = least
        high[i] = most


@njit(nogil=True, cache=True)
def azimuth_extent(radial, azimuth, base, offsets, front, back, r, chi):
    """Return the extent of a pixel in azimuth (radians), unwrapped; the full turn at the beam. r, chi (8): scratch."""
    if winds_around_beam(radial, azimuth, base, offsets, front, back, chi):
        return -math.pi, math.pi
    points = outline(radial, azimuth, base, offsets, front, back, r, chi)
    return chi[:points].min(), chi[:points].max()


@njit(nogil=True, cache=True, inline="always")
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
