"""The loops over the sparse matrix: sums of frames over bins.

Every kernel takes one band of the matrix (`azimuthal.csr.matrix`), is serial, releases the GIL and is cached on disk.
Tile by tile, pixels are first read into small buffers, where what is left out becomes 0; then each row of the matrix,
one bin's entries in the tile, is summed in registers and added to the bin. Kernels for one frame and for a batch add
the same numbers in the same order: their results have the same bits.

One specialisation exists per frame dtype that reaches a kernel (u1 u2 u4 i2 i4 i8 f4 f8), with and without shares; of
those that add frames to totals (`azimuthal.csr.totals`), a second one for totals beyond uint32, when there are any.
"""

import numpy as np
from numba import njit

from azimuthal.csr.loading.kernels import (
    ask_for,
    flag_lost,
    load_counts,
    load_mixed,
    load_mixed_and_sum,
    load_norm,
    load_pairs,
    new_added,
    new_lanes,
    tile_box,
)
from azimuthal.csr.tiles import TILE_COLUMNS, TILE_PIXELS, TILE_ROWS, tiles_across
from azimuthal.csr.totals.kernels import add_span, add_strip
from azimuthal.csr.vectors import WIDTH, add_row, add_row_of_both, add_row_of_two, lent, multiply_add

N, V, W, Q, A, B, P = range(7)


@njit(nogil=True, cache=True)
def add_frame(
    first_tile,
    tile_ptr,
    row_bins,
    row_ptr,
    pixels,
    shares,
    shape,
    frame,
    masked,
    low,
    high,
    norm,
    used,
    sums,
    lost_sums,
    totals,
    rarely,
    follow,
):
    """Add one raw frame to `sums`: V, A, B, and P for a gain of 1 without read noise.

    Parameters
    ----------
    sums
        Flat, (bins, 4), or (bins, 4, 2) with ``follow``: of the frame, and of the totals.
    lost_sums
        (1, bins, 4), receives what left out pixels take away from N, W, Q and the sum of c^2, which are constants of
        the geometry.
    totals
        (pixels,) uint32 or int64, to which the frame's counts are added as well; or (0,).
    rarely
        (pixels,) bool, or (0,): pixels that sums of the totals leave out.
    follow
        Whether the totals with the frame are to be summed too.

    Returns
    -------
    lost, spoilt
        How many pixels of the matrix are left out, and whether totals are spoilt (`azimuthal.csr.totals`).
    """
    rows, columns = shape
    across = tiles_across(columns)
    s, n, flags = np.zeros(TILE_PIXELS), np.zeros(TILE_PIXELS), np.zeros(TILE_PIXELS, np.bool_)
    pairs = np.zeros(2 * TILE_PIXELS if follow else 0)
    members = np.ones(1, np.bool_)
    lost = 0
    spoilt = False
    for t in range(tile_ptr.size - 1):
        r0, r1, c0, c1 = tile_box(first_tile + t, across, rows, columns)
        if totals.size and c0 == 0:
            # In the order of memory, which it can follow; it leaves the frame of a row of tiles in the cache.
            _, negative, outgrown = add_span(frame, totals, used, low, high, r0 * columns, r1 * columns, 1)
            spoilt |= outgrown or negative > 0
        if tile_ptr[t] == tile_ptr[t + 1]:
            continue
        box = (r0, r1, c0, c1)
        some_lost = load_counts(frame, columns, box, low, high, masked, s)
        load_norm(norm, columns, box, n)
        if follow:
            load_pairs(s, columns, box, totals, rarely, pairs)
        begun, ends = tile_ptr[t], tile_ptr[t + 1]
        s0, s1, e0, e1 = tile_box(first_tile + min(t + 1, tile_ptr.size - 2), across, rows, columns)
        for k in range(TILE_ROWS):
            line = (s0 + k) * columns
            if s0 + k < s1:  # while rows are summed, the next tile comes from memory
                ask_for(frame, line + e0, line + e1)
                ask_for(norm, line + e0, line + e1)
            until = tile_ptr[t] + (ends - tile_ptr[t]) * (k + 1) // TILE_ROWS
            if follow:
                for r in range(begun, until):
                    at = np.int64(row_bins[r]) * 8
                    add_row_of_two(row_ptr[r], row_ptr[r + 1], pixels, shares, n, pairs, frame, sums, at)
            else:
                add_rows(begun, until, row_bins, row_ptr, pixels, shares, n, s, sums)
            begun = until
        if some_lost:
            here = flag_lost(frame, columns, box, low, high, masked, used, flags)
            if here:
                rest = (row_bins, row_ptr, pixels)
                weigh_lost(tile_ptr[t], tile_ptr[t + 1], *rest, shares, n, flags, members, lost_sums)
                lost += here
    return lost, spoilt


@njit(nogil=True, cache=True, inline="always")
def add_rows(first_row, last_row, row_bins, row_ptr, pixels, shares, n, s, sums):
    """Add V, A, B, P of a tile of one frame to `sums`, flat, (bins, 4)."""
    for r in range(first_row, last_row):
        v = a = b = p = 0.0
        for k in range(row_ptr[r], row_ptr[r + 1]):
            pixel = np.uint64(pixels[k])
            if shares is not None:
                c = np.float64(shares[k])
                y = c * s[pixel]
                a = multiply_add(c * n[pixel], y, a)
                p = multiply_add(c, y if y > 0.0 else 0.0, p)
            else:
                y = s[pixel]
                a = multiply_add(n[pixel], y, a)
                p += y if y > 0.0 else 0.0
            v += y
            b = multiply_add(y, y, b)
        at = np.int64(row_bins[r]) * 4
        sums[at] += v
        sums[at + 1] += a
        sums[at + 2] += b
        sums[at + 3] += p


@njit(nogil=True, cache=True)
def add_batch(
    first_tile,
    tile_ptr,
    row_bins,
    row_ptr,
    pixels,
    shares,
    shape,
    frames,
    masked,
    low,
    high,
    norm,
    used,
    sums,
    lost_sums,
    lost,
    totals,
    rarely,
    follow,
):
    """Add `WIDTH` raw frames, (WIDTH, pixels), at once, each as `add_frame` does; return whether totals are spoilt.

    Parameters
    ----------
    masked
        (WIDTH, pixels) bool, or (WIDTH, 0).
    sums
        Flat, (bins, 4, WIDTH), or (bins, 4, 2 * WIDTH) with ``follow``: of the frames, and of the totals after each.
    lost_sums
        (WIDTH, bins, 4).
    lost
        (WIDTH,) int64, is added to.
    totals, rarely, follow
        As for `add_frame`.
    """
    rows, columns = shape
    across = tiles_across(columns)
    lanes = 2 * WIDTH if follow else WIDTH
    lines = new_lanes(frames, totals, WIDTH * TILE_COLUMNS)
    mixed = new_lanes(frames, totals, TILE_PIXELS * lanes)
    n, flags = np.zeros(TILE_PIXELS), np.zeros((WIDTH, TILE_PIXELS), np.bool_)
    here, members = np.zeros(WIDTH, np.int64), np.zeros(WIDTH, np.bool_)
    strip = new_added(lines, TILE_ROWS * columns if totals.size else 0)
    flat = frames.reshape(-1)
    spoilt = False
    for t in range(tile_ptr.size - 1):
        box = tile_box(first_tile + t, across, rows, columns)
        if totals.size and t > 0 and box[2] == 0:
            above = (box[0] - TILE_ROWS) * columns, box[0] * columns
            spoilt |= add_strip(strip, lent(totals, *above), lent(used, *above))
        if tile_ptr[t] == tile_ptr[t + 1]:
            continue
        load_norm(norm, columns, box, n)
        if totals.size:
            into = (lines, mixed, here, strip, totals, used, rarely, follow)
            spoilt |= load_mixed_and_sum(frames, columns, box, low, high, masked, *into)
        else:
            load_mixed(frames, columns, box, low, high, masked, lines, mixed, here)
        begun, ends = tile_ptr[t], tile_ptr[t + 1]
        s0, s1, e0, e1 = tile_box(first_tile + min(t + 1, tile_ptr.size - 2), across, rows, columns)
        for k in range(TILE_ROWS * WIDTH):
            i, f = s0 + k // WIDTH, k % WIDTH
            if i < s1:  # while rows are summed, the next tile comes from memory
                line = i * columns
                ask_for(flat, f * frames.shape[1] + line + e0, f * frames.shape[1] + line + e1)
                if f == 0:
                    ask_for(norm, line + e0, line + e1)
                    if follow:
                        ask_for(totals, line + e0, line + e1)
            until = tile_ptr[t] + (ends - tile_ptr[t]) * (k + 1) // (TILE_ROWS * WIDTH)
            for r in range(begun, until):
                at = np.int64(row_bins[r]) * (4 * lanes)
                if follow:
                    add_row_of_both(row_ptr[r], row_ptr[r + 1], pixels, shares, n, mixed, frames, sums, at)
                else:
                    add_row(row_ptr[r], row_ptr[r + 1], pixels, shares, n, mixed, frames, sums, at)
            begun = until
        if not here.any():
            continue
        for f in range(WIDTH):
            if here[f]:
                here[f] = flag_lost(frames[f], columns, box, low, high, masked[f], used, flags[f])
                lost[f] += here[f]
        for f in range(WIDTH):
            if here[f]:
                # Dead pixels are the same in all frames: weigh them once.
                for g in range(WIDTH):
                    members[g] = g == f or (g > f and here[g] == here[f] and (flags[g] == flags[f]).all())
                rest = (row_bins, row_ptr, pixels)
                weigh_lost(tile_ptr[t], tile_ptr[t + 1], *rest, shares, n, flags[f], members, lost_sums)
                for g in range(WIDTH):
                    if members[g]:
                        here[g] = 0
    if totals.size and tile_ptr.size > 1:
        r0, r1, _, _ = tile_box(first_tile + tile_ptr.size - 2, across, rows, columns)
        last = r0 * columns, r1 * columns
        spoilt |= add_strip(strip, lent(totals, *last), lent(used, *last))
    return spoilt


@njit(nogil=True, cache=True)
def weigh_lost(first_row, last_row, row_bins, row_ptr, pixels, shares, n, flags, members, out):
    """Add N, W, Q and the sum of c^2 of flagged pixels of a tile to ``out[g]`` (bins, 4) of every member frame g."""
    for r in range(first_row, last_row):
        count = weight = square = own = 0.0
        for k in range(row_ptr[r], row_ptr[r + 1]):
            p = pixels[k]
            if flags[p]:
                c = np.float64(shares[k]) if shares is not None else 1.0
                w = c * n[p]
                count += c
                weight += w
                square += w * w
                own += c * c
        if count != 0.0:
            at = row_bins[r]
            for g in range(members.size):
                if members[g]:
                    out[g, at, 0] += count
                    out[g, at, 1] += weight
                    out[g, at, 2] += square
                    out[g, at, 3] += own


@njit(nogil=True, cache=True)
def add_constants(first_tile, tile_ptr, row_bins, row_ptr, pixels, shares, shape, norm, sums):
    """Add N, W, Q and the sum of c^2 of all entries to `sums` (bins, 4)."""
    rows, columns = shape
    across = tiles_across(columns)
    n = np.zeros(TILE_PIXELS)
    for t in range(tile_ptr.size - 1):
        load_norm(norm, columns, tile_box(first_tile + t, across, rows, columns), n)
        for r in range(tile_ptr[t], tile_ptr[t + 1]):
            count = weight = square = own = 0.0
            for k in range(row_ptr[r], row_ptr[r + 1]):
                c = np.float64(shares[k]) if shares is not None else 1.0
                w = c * n[pixels[k]]
                count += c
                weight += w
                square += w * w
                own += c * c
            at = row_bins[r]
            sums[at, 0] += count
            sums[at, 1] += weight
            sums[at, 2] += square
            sums[at, 3] += own


@njit(nogil=True, cache=True)
def weigh_flagged(first_tile, tile_ptr, row_bins, row_ptr, pixels, shares, shape, norm, chosen, sums):
    """Add N, W, Q and the sum of c^2 of chosen pixels to `sums` (1, bins, 4), as `add_frame` does for left out ones."""
    rows, columns = shape
    across = tiles_across(columns)
    n, flags, members = np.zeros(TILE_PIXELS), np.zeros(TILE_PIXELS, np.bool_), np.ones(1, np.bool_)
    for t in range(tile_ptr.size - 1):
        box = tile_box(first_tile + t, across, rows, columns)
        some = False
        for i in range(box[0], box[1]):
            for j in range(box[2], box[3]):
                flags[(i - box[0]) * TILE_COLUMNS + j - box[2]] = chosen[i * columns + j]
                some |= chosen[i * columns + j]
        if some:
            load_norm(norm, columns, box, n)
            rest = (row_bins, row_ptr, pixels)
            weigh_lost(tile_ptr[t], tile_ptr[t + 1], *rest, shares, n, flags, members, sums)
