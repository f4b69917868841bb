"""The loops that share pixels by the area of their quadrilateral in (radial, azimuth) over the bins.

A tile's line of pixels goes through simple loops, each over the whole line: that is what the compiler vectorizes. A
quadrilateral's area below a radius is the sum, over its four edges, of the integral of azimuth over radius along the
part of the edge that lies below; shares are differences of such areas. Pixels at a pole of the coordinates, and those
with very many bins, go one by one.
"""

import math

import numpy as np
from numba import njit

from azimuthal.csr.loading.kernels import tile_box
from azimuthal.csr.sorting import close_tile, grown
from azimuthal.csr.tiles import NONE_YET, TILE_COLUMNS, TILE_PIXELS, tiles_across
from azimuthal.splitting.kernels import (
    QUANTA,
    ROUNDER,
    add_edge,
    bin_inside,
    outline,
    overlaps,
    reach_to_beam,
    rounding_of_places,
    store_shares,
    winds_around_beam,
)

MOST_IN_LINE = 16
"""Bins of a pixel that goes through the loops over lines."""


@njit(nogil=True, cache=True)
def winding_areas(radial, azimuth, base, offsets, front, back, low, high, edges, first_bin, n, r, chi, area):
    """Write the areas over n bins of a pixel where azimuths jump, or with a pole on it, and return the whole.

    A pixel around the beam is the rectangle [low, high] over the full turn; see `reach_to_beam`. r, chi (8): scratch.
    """
    if winds_around_beam(radial, azimuth, base, offsets, front, back, chi):
        return overlaps(low, high, edges, first_bin, n, area)
    area[:n] = 0.0
    points = outline(radial, azimuth, base, offsets, front, back, r, chi)
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
        return overlaps(low, high, edges, first_bin, n, area)
    for k in range(n):
        area[k] = max(area[k], 0.0)
    return total


@njit(nogil=True, cache=True, error_model="numpy")
def load_corners(values, base, n, column_stride, offsets, out):
    """Copy the corners of n pixels of a line to `out` (4, n)."""
    for k in range(4):
        first = base + offsets[k]
        if column_stride == 1:
            line = values[first : first + n]
            for j in range(n):
                out[k, j] = line[j]
        else:
            for j in range(n):
                out[k, j] = values[first + j * column_stride]


@njit(nogil=True, cache=True, error_model="numpy")
def spans_of_line(r, x, n, front, back, low, high, plain):
    """Write radial extents of n pixels from their corners (4, n), and whether they have nothing to do with poles."""
    for j in range(n):
        low[j] = min(min(r[0, j], r[1, j]), min(r[2, j], r[3, j]))
        high[j] = max(max(r[0, j], r[1, j]), max(r[2, j], r[3, j]))
    for j in range(n):
        turned = max(max(x[0, j], x[1, j]), max(x[2, j], x[3, j])) - min(min(x[0, j], x[1, j]), min(x[2, j], x[3, j]))
        at_pole = (low[j] == front) | (high[j] == front) | (low[j] == back) | (high[j] == back)
        plain[j] = (turned <= math.pi) & (not at_pole)


@njit(nogil=True, cache=True, inline="always", error_model="numpy")
def bins_between(low, high, edges, per_unit):
    """Return the first bin that [low, high] overlaps, and how many; none where it is not finite."""
    last = edges.size - 1
    if not (low <= edges[last] and high >= edges[0] and high - low < math.inf):
        return 0, 0
    k = 0 if low <= edges[0] else bin_inside(low, edges, edges[0], per_unit, last - 1)
    m = 1
    while k + m < last and edges[k + m] < high:
        m += 1
    return k, m


@njit(nogil=True, cache=True, error_model="numpy")
def bins_of_spans(low, high, n, unused, edges, first, many):
    """Write the first bin that each of n intervals of a line overlaps, and how many; none where it is unused.

    `bins_between` decides wherever rounding could.
    """
    last, bottom, top = edges.size - 1, edges[0], edges[edges.size - 1]
    per_unit = last / (top - bottom)
    close = rounding_of_places(edges)
    doubtful = False
    for j in range(n):
        some = (low[j] <= top) & (high[j] >= bottom) & (high[j] - low[j] < math.inf) & (not unused[j])
        begin = (low[j] - bottom) * per_unit if some & (low[j] > bottom) else 0.5
        end = (high[j] - bottom) * per_unit if some & (high[j] < top) else last - 0.5
        k, m = np.int32(begin), np.int32(end)
        doubtful |= (begin - k < close) | (begin - k > 1.0 - close) | (end - m < close) | (end - m > 1.0 - close)
        first[j] = k if some else 0
        many[j] = m - k + 1 if some else 0
    if doubtful:
        for j in range(n):
            first[j], many[j] = (0, 0) if unused[j] else bins_between(low[j], high[j], edges, per_unit)


@njit(nogil=True, cache=True, error_model="numpy")
def edges_of_line(r, x, n, ra, length, c, h):
    """Write the four edges of n pixels, (4, n) each, from their lower ends.

    ra is the radius there, `length` the edge's along the radius; c is the azimuth there and h half the slope of azimuth
    over radius, both negated for edges that go down.
    """
    for k in range(4):
        m = (k + 1) % 4
        for j in range(n):
            up = r[m, j] >= r[k, j]
            ra[k, j] = r[k, j] if up else r[m, j]
            c[k, j] = x[k, j] - x[0, j] if up else x[0, j] - x[m, j]
            size = abs(r[m, j] - r[k, j])
            length[k, j] = size
            h[k, j] = 0.5 * (x[m, j] - x[k, j]) / size if size > 0.0 else 0.0


@njit(nogil=True, cache=True, error_model="numpy")
def areas_of_line(edge, n, ra, length, c, h, out):
    """Write the signed areas of n quadrilaterals below a radius each, `edge` (n,)."""
    for j in range(n):
        out[j] = 0.0
    for k in range(4):
        for j in range(n):
            d = edge[j] - ra[k, j]
            d = d if d > 0.0 else 0.0
            d = d if d < length[k, j] else length[k, j]
            out[j] += d * (c[k, j] + h[k, j] * d)


@njit(nogil=True, cache=True, error_model="numpy")
def shares_of_line(r, x, n, first, many, inside, edges, room, after):
    """Write the running shares, in quanta, of n pixels to `after` (most bins, n).

    Pixel j has ``many[j]`` bins from ``first[j]`` on; those with one, wholly inside the range, and those with more than
    `after` has room for are left alone. ``room`` (20, n) is scratch; its last row tells quanta per area: infinite, or
    NaN, for pixels without area.
    """
    most, all_inside = 0, True
    for j in range(n):
        if many[j] <= after.shape[0]:
            most = max(most, many[j] - inside[j])
            all_inside &= inside[j] | (many[j] == 0)
    if most == 0:
        return
    ra, length, c, h = room[0:4], room[4:8], room[8:12], room[12:16]
    edge, area, start, scale = room[16], room[17], room[18], room[19]
    edges_of_line(r, x, n, ra, length, c, h)
    for j in range(n):
        start[j], scale[j] = 0.0, 0.0
    for k in range(4):
        for j in range(n):
            scale[j] += length[k, j] * (c[k, j] + h[k, j] * length[k, j])
    for j in range(n):
        scale[j] = QUANTA / scale[j]
    if not all_inside:
        for j in range(n):
            edge[j] = edges[first[j]]
        areas_of_line(edge, n, ra, length, c, h, start)
        for j in range(n):
            start[j] = 0.0 if inside[j] else start[j]
    last = edges.size - 1
    for k in range(most):
        for j in range(n):
            edge[j] = edges[min(first[j] + k + 1, last)]
        areas_of_line(edge, n, ra, length, c, h, area)
        for j in range(n):
            rounded = (area[j] - start[j]) * scale[j] + ROUNDER - ROUNDER
            before = after[k - 1, j] if k else 0.0
            rounded = rounded if rounded > before else before
            after[k, j] = rounded if rounded < QUANTA else QUANTA


@njit(nogil=True, cache=True)
def tile_room(edges):
    """Return what `share_tile` writes to: entries of a tile, which grow, and its scratch."""
    entries = (
        np.empty(4 * TILE_PIXELS, np.uint16),
        np.empty(4 * TILE_PIXELS, np.int32),
        np.empty(4 * TILE_PIXELS, np.float32),
    )
    corners = np.empty((4, TILE_COLUMNS)), np.empty((4, TILE_COLUMNS))
    spans = np.empty(TILE_COLUMNS), np.empty(TILE_COLUMNS)
    flags = np.empty(TILE_COLUMNS, np.bool_), np.empty(TILE_COLUMNS, np.bool_)
    numbers = np.empty(TILE_COLUMNS, np.int64), np.empty(TILE_COLUMNS, np.int64)
    areas = np.empty((20, TILE_COLUMNS)), np.empty((MOST_IN_LINE, TILE_COLUMNS))
    outlines = np.empty(8), np.empty(8), np.empty(edges.size)
    return entries, (corners, spans, flags, numbers, areas, outlines)


@njit(nogil=True, cache=True, error_model="numpy")
def share_tile(box, columns, unused, where, radial, azimuth, layout, poles, edges, used, entries, scratch):
    """Share the pixels of a tile, line by line; return how many entries that are, and the entries.

    Parameters
    ----------
    box
        The tile's first and last + 1 row and column.
    unused
        Flat bool; pixel (i, j) of the tile is at ``where[0] + i * where[1] + j``.
    where
        These two numbers, and where the first corner of the tile's first pixel is in `radial` and `azimuth`.
    radial, azimuth, layout
        Corners, and how they follow each other; see `Corners`.
    used
        (pixels,) bool, is set where a pixel has a share.
    entries
        Number of the pixel in the tile, bin and share of each, in the order of the pixels.
    """
    r0, r1, c0, c1 = box
    unused_start, unused_stride, start = where
    row_stride, column_stride, offsets = layout
    local, bins, shares = entries
    (r, x), (low, high), (plain, inside), (first, many), (room, after), (line, chi, area) = scratch
    front, back = poles[0], poles[2]
    bottom, top = edges[0], edges[edges.size - 1]
    width, n = c1 - c0, NONE_YET
    for i in range(r1 - r0):
        base, flags = start + i * row_stride, unused_start + i * unused_stride
        load_corners(radial, base, width, column_stride, offsets, r)
        load_corners(azimuth, base, width, column_stride, offsets, x)
        spans_of_line(r, x, width, front, back, low, high, plain)
        for j in range(width):
            corner = base + j * column_stride
            if not plain[j] and winds_around_beam(radial, azimuth, corner, offsets, front, back, chi):
                low[j], high[j] = reach_to_beam(low[j], high[j], front, poles[1], back)
        bins_of_spans(low, high, width, unused[flags : flags + width], edges, first, many)
        here, needed = (r0 + i) * columns + c0, n
        for j in range(width):
            used[here + j] = many[j] > 0
            inside[j] = (low[j] >= bottom) & (high[j] <= top)
            needed += many[j]
        if needed > local.size:
            local, bins, shares = grown(local, needed), grown(bins, needed), grown(shares, needed)
        shares_of_line(r, x, width, first, many, inside, edges, room, after)
        for j in range(width):
            m = many[j]
            if m == 0:
                continue
            for k in range(m):
                local[n + k] = i * TILE_COLUMNS + j
                bins[n + k] = first[j] + k
            if m == 1 and inside[j]:
                shares[n] = 1.0
            elif plain[j] and m <= after.shape[0] and np.isfinite(room[19, j]):
                before = 0.0
                for k in range(m - inside[j]):
                    shares[n + k] = (after[k, j] - before) * (1.0 / QUANTA)
                    before = after[k, j]
                if inside[j]:
                    shares[n + m - 1] = (QUANTA - before) * (1.0 / QUANTA)
            else:
                corner, span = base + j * column_stride, (low[j], high[j])
                pixel = (radial, azimuth, corner, offsets, front, back)
                total = winding_areas(*pixel, *span, edges, first[j], m, line, chi, area)
                store_shares(area, m, first[j], total, inside[j], bins, shares, n)
            n += m
    return n, (local, bins, shares)


@njit(nogil=True, cache=True, error_model="numpy")
def full_tiles(first_row, last_row, shape, skipped, radial, azimuth, layout, poles, edges, used):
    """Share the pixels in rows first_row..last_row of tiles by the area of their quadrilateral over each bin.

    ``used`` is set where a pixel has a share. Returns the arrays of a `Band`.
    """
    rows, columns = shape
    across = tiles_across(columns)
    tiles = (last_row - first_row) * across
    likely = 3 * tiles * TILE_PIXELS
    out_pixels, out_shares = np.empty(likely, np.uint16), np.empty(likely, np.float32)
    tile_ptr = np.zeros(tiles + 1, np.int64)
    row_bins, row_ptr = np.empty(4 * TILE_PIXELS, np.int32), np.zeros(4 * TILE_PIXELS + 1, np.int64)
    counts, n_rows = np.zeros(edges.size - 1, np.int64), NONE_YET
    entries, scratch = tile_room(edges)
    found = np.empty(entries[0].size, np.int32)
    for t in range(tiles):
        box = tile_box(first_row * across + t, across, rows, columns)
        where = box[0] * columns + box[2], columns, box[0] * layout[0] + box[2] * layout[1]
        common = (radial, azimuth, layout, poles, edges, used)
        n, entries = share_tile(box, columns, skipped, where, *common, entries, scratch)
        local, bins, shares = entries
        found = grown(found, n)
        row_bins, row_ptr = grown(row_bins, n_rows + n), grown(row_ptr, n_rows + n + 1)
        out_pixels, out_shares = grown(out_pixels, row_ptr[n_rows] + n), grown(out_shares, row_ptr[n_rows] + n)
        n_rows = close_tile(n, local, bins, shares, counts, found, row_bins, row_ptr, n_rows, out_pixels, out_shares)
        tile_ptr[t + 1] = n_rows
    end = row_ptr[n_rows]
    return tile_ptr, row_bins[:n_rows].copy(), row_ptr[: n_rows + 1].copy(), out_pixels[:end], out_shares[:end]
