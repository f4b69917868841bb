"""Sums of the first frame of a geometry, without the matrix that only repetition needs.

Tile by tile, positions, normalization and shares are worked out in small buffers and summed at once. What is added up,
and in which order, is what the matrix's kernels (`azimuthal.csr.kernels`) would: the first frame has the bits of all
later ones. Sums are made bin by bin of a tile, in the order of its pixels, and then added to those of the image.

numba's cache watches this file only: touch it after a change of `csr.loading.kernels`, `csr.vectors`,
`geometry.kernels`, `splitting.kernels` or `splitting.full`.

Arguments that come in groups:

``place``   lines of pixel centres (rows,) and (columns,), distance, matrix, sines, shifts: as in `geometry.kernels`
``factors`` sizes of rows and of columns, polarization, flat, absorption, skipped: likewise
``axis``    code and factor of the radial unit, bin edges
``counts``  frame and mask (or none), flat, and the lowest and highest value of no data

What is returned: the sums (bins, 8), V, A, B, P and N, W, Q, c^2; what left out pixels take away from the latter (bins,
4); the first and last + 1 bin that has anything; how many pixels no frame can use; and how many others this one lacks.
"""

import numpy as np
from numba import njit

from azimuthal.csr.loading.kernels import flag_lost, load_counts, tile_box
from azimuthal.csr.tiles import NONE_YET, TILE_COLUMNS, TILE_PIXELS, TILE_ROWS, tiles_across
from azimuthal.csr.vectors import add_products, borrowed, lent, multiply_add
from azimuthal.geometry.kernels import line_to_lab, normalize_line, row_of
from azimuthal.splitting.full import share_tile, tile_room
from azimuthal.splitting.kernels import whole_line
from azimuthal.units.kernels import fill_azimuth, fill_radial

V, A, B, P, N, W, Q, C2 = range(8)
LINE = TILE_COLUMNS + 1
"""Points of a line of a tile, corners at most."""


@njit(nogil=True, cache=True, inline="always")
def line_of(lab, k, width):
    """Return coordinate k of the points of a line, (width,)."""
    return lent(lab, k * LINE, k * LINE + width)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def load_line(i, box, columns, place, factors, lab, norm, unused):
    """Work out y, x and z (`line_of`) of the pixels of a tile in row i, their normalization and which are no use.

    Returns how many those are.
    """
    lines1, lines2, distance, matrix, sines, shifts = place
    sizes1, sizes2, polarization, flat, absorption, skipped = factors
    r0, _, c0, c1 = box
    to, width = (i - r0) * TILE_COLUMNS, c1 - c0
    y, x, z = line_of(lab, 0, width), line_of(lab, 1, width), line_of(lab, 2, width)
    across = lent(lines2, c0, c1)
    line_to_lab(lines1[i], across, distance, matrix, sines, shifts, y, x, z)
    sized = 1 if sizes1.size > 0 else 0  # without solid angle there are no sizes, and none are lent
    areas = lent(sizes1, sized * i, sized * (i + 1)), lent(sizes2, sized * c0, sized * c1)
    planes, flags = (row_of(flat, i, c0, c1), row_of(absorption, i, c0, c1)), lent(unused, to, to + width)
    row, at = (lines1[i], across, distance, y, x, z), i * columns
    left_out, out = lent(skipped, at + c0, at + c1), lent(norm, to, to + width)
    normalize_line(row, areas, polarization, planes, left_out, flags, out)
    any_flag, no_use = False, 0
    for j in range(width):
        any_flag |= flags[j]
    if any_flag:
        for j in range(width):
            no_use += np.int64(flags[j])
    return no_use


@njit(nogil=True, cache=True, error_model="numpy")
def sum_whole(n, local, bins, lowest, signal, norm, room):
    """Add the n entries of a tile, of share 1, to `room` (8 * bins,), which begins with bin `lowest`.

    Sums stay in registers while the bin is the same, as it often is along a line.
    """
    here, at = lowest, 0
    v = a = b = p = count = weight = square = 0.0
    for k in range(n):
        if bins[k] != here:
            room[at + V], room[at + A], room[at + B], room[at + P] = v, a, b, p
            room[at + N], room[at + W], room[at + Q] = count, weight, square
            here = bins[k]
            at = 8 * np.int64(here - lowest)
            v, a, b, p = room[at + V], room[at + A], room[at + B], room[at + P]
            count, weight, square = room[at + N], room[at + W], room[at + Q]
        w, y = norm[np.int64(local[k])], signal[np.int64(local[k])]
        v += y
        a = multiply_add(w, y, a)
        b = multiply_add(y, y, b)
        p += y if y > 0.0 else 0.0
        count += 1.0
        weight += w
        square += w * w
    room[at + V], room[at + A], room[at + B], room[at + P] = v, a, b, p
    room[at + N], room[at + W], room[at + Q] = count, weight, square


@njit(nogil=True, cache=True, error_model="numpy")
def sum_shared(n, local, bins, shares, lowest, signal, norm, room):
    """Add the n entries of a tile to `room` (8 * bins,), which begins with bin `lowest`."""
    for k in range(n):
        pixel, c = np.int64(local[k]), np.float64(shares[k])
        w, y = c * norm[pixel], c * signal[pixel]
        ones, others = (y, w, y, c, c, w, w * w, c * c), (1.0, y, y, y if y > 0.0 else 0.0, 1.0, 1.0, 1.0, 1.0)
        add_products(room, 8 * np.int64(bins[k] - lowest), ones, others)


@njit(nogil=True, cache=True, error_model="numpy")
def sum_entries(n, local, bins, shares, signal, norm, room, sums):
    """Add the n entries of a tile to `sums` (bins, 8); return the first and last + 1 bin that they are in.

    ``room`` (8 * bins,) is scratch.
    """
    lowest, highest = bins[0], bins[0]
    for k in range(n):
        lowest, highest = min(lowest, bins[k]), max(highest, bins[k])
    room[: 8 * (highest + 1 - lowest)] = 0.0
    if shares is None:
        sum_whole(n, local, bins, lowest, signal, norm, room)
    else:
        sum_shared(n, local, bins, shares, lowest, signal, norm, room)
    for r in range(lowest, highest + 1):
        at = 8 * (r - lowest)
        for q in range(8):
            sums[r, q] += room[at + q]
        if shares is None:
            sums[r, C2] = sums[r, N]
    return lowest, highest + 1


@njit(nogil=True, cache=True, error_model="numpy")
def sum_lost(n, local, bins, shares, norm, flags, room, span, lost_sums):
    """Add N, W, Q and c^2 of the entries of flagged pixels of a tile, which are within a span of bins."""
    lowest, end = span
    room[: 4 * (end - lowest)] = 0.0
    for k in range(n):
        if flags[local[k]]:
            at = 4 * np.int64(bins[k] - lowest)
            c = np.float64(shares[k]) if shares is not None else 1.0
            w = c * norm[local[k]]
            room[at] += c
            room[at + 1] += w
            room[at + 2] += w * w
            room[at + 3] += c * c
    for b in range(lowest, end):
        at = 4 * (b - lowest)
        for q in range(4):
            lost_sums[b, q] += room[at + q]


@njit(nogil=True, cache=True, error_model="numpy")
def add_tile(box, columns, n, local, bins, shares, counts, used, tile, room, sums, lost_sums):
    """Add a tile's entries, and what left out pixels take away; return the span of bins, and how many pixels lack.

    ``tile`` is the signal, the normalization and flags of its pixels: scratch, but for the normalization.
    """
    frame, masked, low, high = counts
    signal, norm, flags = tile
    if n == 0:
        return sums.shape[0], 0, 0
    some_lost = load_counts(frame, columns, box, low, high, masked, signal)
    span = sum_entries(n, local, bins, shares, signal, norm, room, sums)
    lost = flag_lost(frame, columns, box, low, high, masked, used, flags) if some_lost else 0
    if lost:
        sum_lost(n, local, bins, shares, norm, flags, room, span, lost_sums)
    return span[0], span[1], lost


@njit(nogil=True, cache=True, error_model="numpy")
def whole_once(first_row, last_row, shape, place, factors, axis, counts, used):
    """Sum rows first_row..last_row of tiles of a frame, each pixel whole in the bin of its centre.

    ``used`` (pixels,) is set where that is in range. What is returned is said above.
    """
    place, counts, axis = borrowed(place), borrowed(counts), borrowed(axis)
    flat_factors = borrowed((*factors[:5], factors[5].reshape(-1)))
    rows, columns = shape
    code, factor, edges = axis
    across = tiles_across(columns)
    sums, lost_sums = np.zeros((edges.size - 1, 8)), np.zeros((edges.size - 1, 4))
    room, lab, radial = np.empty(8 * (edges.size - 1)), np.empty(3 * LINE), np.empty(TILE_COLUMNS)
    signal, norm = np.empty(TILE_PIXELS), np.empty(TILE_PIXELS)
    unused, flags = np.empty(TILE_PIXELS, np.bool_), np.empty(TILE_PIXELS, np.bool_)
    local, bins = np.empty(TILE_PIXELS, np.uint16), np.empty(TILE_PIXELS, np.int32)
    lowest, end, no_use, lost = edges.size - 1, 0, 0, 0
    for t in range(first_row * across, last_row * across):
        box = tile_box(t, across, rows, columns)
        r0, r1, c0, c1 = box
        width = c1 - c0
        y, x, z = line_of(lab, 0, width), line_of(lab, 1, width), line_of(lab, 2, width)
        centres = lent(radial, 0, width)
        n = NONE_YET
        for i in range(r0, r1):
            no_use += load_line(i, box, columns, place, flat_factors, lab, norm, unused)
            fill_radial(code, factor, y, x, z, centres)
            to, at = (i - r0) * TILE_COLUMNS, i * columns + c0
            flagged = lent(unused, to, to + width), lent(used, at, at + width)
            n = whole_line(centres, *flagged, edges, to, n, local, bins)
        tile = signal, norm, flags
        first, last, here = add_tile(box, columns, n, local, bins, None, counts, used, tile, room, sums, lost_sums)
        lowest, end, lost = min(lowest, first), max(end, last), lost + here
    return sums, lost_sums, lowest, end, no_use, lost


@njit(nogil=True, cache=True, error_model="numpy")
def full_once(first_row, last_row, shape, place, factors, axis, counts, used, vertices, poles):
    """Sum rows first_row..last_row of tiles of a frame, each pixel shared by the area of its quadrilateral.

    ``used`` (pixels,) is set where a pixel has a share. ``vertices`` are the lines (rows + 1,) and (columns + 1,)
    between pixels. What is returned is said above.
    """
    place, counts, axis, vertices = borrowed(place), borrowed(counts), borrowed(axis), borrowed(vertices)
    flat_factors = borrowed((*factors[:5], factors[5].reshape(-1)))
    rows, columns = shape
    _, _, distance, matrix, sines, shifts = place
    code, factor, edges = axis
    lines1, lines2 = vertices
    across = tiles_across(columns)
    sums, lost_sums = np.zeros((edges.size - 1, 8)), np.zeros((edges.size - 1, 4))
    room, lab = np.empty(8 * (edges.size - 1)), np.empty(3 * LINE)
    signal, norm = np.empty(TILE_PIXELS), np.empty(TILE_PIXELS)
    unused, flags = np.empty(TILE_PIXELS, np.bool_), np.empty(TILE_PIXELS, np.bool_)
    radial, azimuth = np.empty((TILE_ROWS + 1) * LINE), np.empty((TILE_ROWS + 1) * LINE)
    layout = LINE, 1, np.array([0, LINE, LINE + 1, 1])
    entries, scratch = tile_room(edges)
    lowest, end, no_use, lost = edges.size - 1, 0, 0, 0
    for t in range(first_row * across, last_row * across):
        box = tile_box(t, across, rows, columns)
        r0, r1, c0, c1 = box
        for i in range(r0, r1):
            no_use += load_line(i, box, columns, place, flat_factors, lab, norm, unused)
        width = c1 - c0 + 1
        y, x, z = line_of(lab, 0, width), line_of(lab, 1, width), line_of(lab, 2, width)
        for i in range(r0, r1 + 1):
            to = (i - r0) * LINE
            line_to_lab(lines1[i], lent(lines2, c0, c1 + 1), distance, matrix, sines, shifts, y, x, z)
            fill_radial(code, factor, y, x, z, lent(radial, to, to + width))
            fill_azimuth(1.0, y, x, lent(azimuth, to, to + width))
        where, common = (0, TILE_COLUMNS, 0), (radial, azimuth, layout, poles, edges, used)
        n, entries = share_tile(box, columns, unused, where, *common, entries, scratch)
        tile = signal, norm, flags
        first, last, here = add_tile(box, columns, n, *entries, counts, used, tile, room, sums, lost_sums)
        lowest, end, lost = min(lowest, first), max(end, last), lost + here
    return sums, lost_sums, lowest, end, no_use, lost
