"""The loops over the sparse matrix: sums of frames over bins.

Every kernel takes one band of the matrix (`azimuthal.csr.matrix`), is serial, releases the GIL and is cached on disk.
Tile by tile, pixels are first read into small buffers, where what is left out becomes 0; then each row of the matrix,
one bin's entries in the tile, is summed in registers and added to the bin. Kernels for one frame and for a batch add
the same numbers in the same order: their results have the same bits.

One specialisation exists per frame dtype that reaches a kernel (u1 u2 u4 i2 i4 i8 f4 f8), with and without shares.
"""

import numpy as np
from numba import njit

from azimuthal.csr.tiles import TILE_COLUMNS, TILE_PIXELS, TILE_ROWS, tiles_across
from azimuthal.csr.vectors import WIDTH, add_row, transpose

N, V, W, Q, A, B, P = range(7)


@njit(nogil=True, cache=True, inline="always")
def tile_box(tile, across, rows, columns):
    """Return the first and last + 1 row and column of a tile."""
    r0 = (tile // across) * TILE_ROWS
    c0 = (tile % across) * TILE_COLUMNS
    return r0, min(r0 + TILE_ROWS, rows), c0, min(c0 + TILE_COLUMNS, columns)


@njit(nogil=True, cache=True, inline="always", error_model="numpy")
def load_line(line, low, high, hidden, to):
    """Read a line of counts as float64, 0 for what is left out; return how many that are."""
    lost = 0
    for j in range(line.size):
        x = np.float64(line[j])
        bad = ((line[j] >= low) & (line[j] <= high)) | (x - x != 0.0)
        lost += np.int64(bad)
        to[j] = 0.0 if bad else x
    for j in range(hidden.size):
        if hidden[j]:
            to[j] = 0.0
            lost += 1
    return lost


@njit(nogil=True, cache=True, error_model="numpy")
def load_counts(frame, columns, box, low, high, masked, out):
    """Read a tile of a flat frame by `load_line`."""
    r0, r1, c0, c1 = box
    lost = 0
    for i in range(r0, r1):
        first, to = i * columns + c0, (i - r0) * TILE_COLUMNS
        hidden = masked[first : first + c1 - c0] if masked.size else masked
        lost += load_line(frame[first : first + c1 - c0], low, high, hidden, out[to : to + c1 - c0])
    return lost


@njit(nogil=True, cache=True, inline="always")
def run_totals(lines, width, totals, hidden):
    """Add `WIDTH` lines of counts to int64 `totals`, one after the other, and write the totals after each over it.

    Totals of ``hidden`` pixels (or none) are written as 0.
    """
    for f in range(WIDTH):
        line = lines[f * TILE_COLUMNS : f * TILE_COLUMNS + width]
        for j in range(width):
            totals[j] += np.int64(line[j])
            line[j] = np.float64(totals[j])
        for j in range(hidden.size):
            if hidden[j]:
                line[j] = 0.0


@njit(nogil=True, cache=True, error_model="numpy")
def load_mixed(frames, columns, box, low, high, masked, lines, out, lost, totals, rarely, out_totals):
    """Read a tile of `WIDTH` flat frames, interleaved pixel by pixel; ``lost`` (WIDTH,) is how many are left out.

    ``lines`` (WIDTH * TILE_COLUMNS,) is scratch. Totals are run where there are any, and interleaved where asked for.
    """
    r0, r1, c0, c1 = box
    lost[:] = 0
    for i in range(r0, r1):
        first = i * columns + c0
        for f in range(WIDTH):
            to = lines[f * TILE_COLUMNS : f * TILE_COLUMNS + c1 - c0]
            hidden = masked[f, first : first + c1 - c0] if masked.size else masked[f]
            lost[f] += load_line(frames[f, first : first + c1 - c0], low, high, hidden, to)
        for j in range(0, c1 - c0, WIDTH):
            transpose(lines, j, TILE_COLUMNS, out, ((i - r0) * TILE_COLUMNS + j) * WIDTH)
        if totals is not None:
            seldom = rarely[first : first + c1 - c0] if rarely.size else rarely
            run_totals(lines, c1 - c0, totals[first : first + c1 - c0], seldom)
            if out_totals is not None:
                for j in range(0, c1 - c0, WIDTH):
                    transpose(lines, j, TILE_COLUMNS, out_totals, ((i - r0) * TILE_COLUMNS + j) * WIDTH)


@njit(nogil=True, cache=True, error_model="numpy")
def flag_lost(frame, columns, box, low, high, masked, used, flags):
    """Flag the pixels of a tile that a frame leaves out although the matrix uses them; return how many."""
    r0, r1, c0, c1 = box
    lost = 0
    for i in range(r0, r1):
        first, to = i * columns + c0, (i - r0) * TILE_COLUMNS
        line, wanted, out = frame[first : first + c1 - c0], used[first : first + c1 - c0], flags[to : to + c1 - c0]
        for j in range(c1 - c0):
            x = np.float64(line[j])
            bad = ((line[j] >= low) & (line[j] <= high)) | (x - x != 0.0)
            out[j] = bad & wanted[j]
            lost += np.int64(bad & wanted[j])
        if masked.size:
            hidden = masked[first : first + c1 - c0]
            for j in range(c1 - c0):
                lost += np.int64(hidden[j] & wanted[j] & (not out[j]))
                out[j] |= hidden[j] & wanted[j]
    return lost


@njit(nogil=True, cache=True)
def load_norm(norm, columns, box, out):
    """Copy a tile of the flat normalization."""
    r0, r1, c0, c1 = box
    for i in range(r0, r1):
        line = norm[i * columns + c0 : i * columns + c1]
        to = out[(i - r0) * TILE_COLUMNS : (i - r0) * TILE_COLUMNS + c1 - c0]
        for j in range(c1 - c0):
            to[j] = line[j]


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
):
    """Add one raw frame to `sums` (bins, 4): V, A, B, and P for a gain of 1 without read noise.

    ``lost_sums`` (1, bins, 4) receives what left out pixels take away from N, W, Q and the sum of c^2, which are
    constants of the geometry. Returns how many pixels of the matrix are left out.
    """
    rows, columns = shape
    across = tiles_across(columns)
    s, n, flags = np.zeros(TILE_PIXELS), np.zeros(TILE_PIXELS), np.zeros(TILE_PIXELS, np.bool_)
    members = np.ones(1, np.bool_)
    lost = 0
    for t in range(tile_ptr.size - 1):
        if tile_ptr[t] == tile_ptr[t + 1]:
            continue
        box = tile_box(first_tile + t, across, rows, columns)
        some_lost = load_counts(frame, columns, box, low, high, masked, s)
        load_norm(norm, columns, box, n)
        for r in range(tile_ptr[t], tile_ptr[t + 1]):
            v = a = b = p = 0.0
            for k in range(row_ptr[r], row_ptr[r + 1]):
                pixel = np.uint64(pixels[k])
                if shares is not None:
                    c = np.float64(shares[k])
                    y = c * s[pixel]
                    a += (c * n[pixel]) * y
                    p += c * (y if y > 0.0 else 0.0)
                else:
                    y = s[pixel]
                    a += n[pixel] * y
                    p += y if y > 0.0 else 0.0
                v += y
                b += y * y
            at = row_bins[r]
            sums[at, 0] += v
            sums[at, 1] += a
            sums[at, 2] += b
            sums[at, 3] += p
        if some_lost:
            here = flag_lost(frame, columns, box, low, high, masked, used, flags)
            if here:
                rest = (row_bins, row_ptr, pixels)
                weigh_lost(tile_ptr[t], tile_ptr[t + 1], *rest, shares, n, flags, members, lost_sums)
                lost += here
    return lost


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
    total_sums,
    mixed_totals,
):
    """Add `WIDTH` raw frames, (WIDTH, pixels), at once, each as `add_frame` does.

    Parameters
    ----------
    masked
        (WIDTH, pixels) bool, or (WIDTH, 0).
    sums
        Flat, (bins, 4, WIDTH).
    lost_sums
        (WIDTH, bins, 4).
    lost
        (WIDTH,) int64, is added to.
    totals
        (pixels,) int64, to which the frames' counts are added as well; or None.
    rarely
        (pixels,) bool, or (0,): pixels that ``total_sums`` leave out.
    total_sums
        Like `sums`, receives the sums of the totals after each frame; or None.
    mixed_totals
        (TILE_PIXELS * WIDTH,) float64, scratch; None where ``total_sums`` is.
    """
    rows, columns = shape
    across = tiles_across(columns)
    lines, mixed = np.zeros(WIDTH * TILE_COLUMNS), np.zeros(TILE_PIXELS * WIDTH)
    n, flags = np.zeros(TILE_PIXELS), np.zeros((WIDTH, TILE_PIXELS), np.bool_)
    here, members = np.zeros(WIDTH, np.int64), np.zeros(WIDTH, np.bool_)
    for t in range(tile_ptr.size - 1):
        if tile_ptr[t] == tile_ptr[t + 1]:
            continue
        box = tile_box(first_tile + t, across, rows, columns)
        load_mixed(frames, columns, box, low, high, masked, lines, mixed, here, totals, rarely, mixed_totals)
        load_norm(norm, columns, box, n)
        for r in range(tile_ptr[t], tile_ptr[t + 1]):
            at = np.int64(row_bins[r]) * (4 * WIDTH)
            add_row(row_ptr[r], row_ptr[r + 1], pixels, shares, n, mixed, sums, at)
            if total_sums is not None:
                add_row(row_ptr[r], row_ptr[r + 1], pixels, shares, n, mixed_totals, total_sums, at)
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


@njit(nogil=True, cache=True, inline="always")
def value_at(plane, i):
    """Return the value of pixel i of a flat array that has one value for every pixel, or a single one, or none: 0."""
    if plane.size > 1:
        return plane[i]
    return plane[0] if plane.size == 1 else 0.0


@njit(nogil=True, cache=True, inline="always", error_model="numpy")
def corrected(i, frame, masked, low, high, dark, dark_variance, variance, gain, noise):
    """Return signal and variance of pixel i of a frame, and whether they are any good; see `add_prepared`."""
    raw = frame[i]
    x = np.float64(raw)
    s = x - value_at(dark, i)
    spread = value_at(variance, i) if variance.size else gain * max(x, 0.0) + (noise + value_at(dark_variance, i))
    dummy = (raw >= low) & (raw <= high)
    return s, spread, not (dummy or (masked.size > 0 and masked[i]) or s - s != 0.0 or spread - spread != 0.0)


@njit(nogil=True, cache=True, error_model="numpy")
def load_prepared(
    frame, columns, box, low, high, masked, dark, dark_variance, variance, gain, noise, norm, monitor, used, out
):
    """Read signal, variance, normalization and weight (0: left out) of a tile into the rows of `out` (4, pixels)."""
    r0, r1, c0, c1 = box
    s, v, n, weight = out
    lost = 0
    for i in range(r0, r1):
        for j in range(c0, c1):
            at, to = i * columns + j, (i - r0) * TILE_COLUMNS + j - c0
            y, spread, good = corrected(at, frame, masked, low, high, dark, dark_variance, variance, gain, noise)
            m = norm[at] * value_at(monitor, at)
            lost += np.int64(used[at] and not good)
            good = good and used[at] and m != 0.0
            s[to] = y if good else 0.0
            v[to] = spread if good else 0.0
            n[to] = m if good else 0.0
            weight[to] = 1.0 if good else 0.0
    return lost


@njit(nogil=True, cache=True)
def add_rows_prepared(first_row, last_row, row_bins, row_ptr, pixels, shares, loaded, sums):
    """Add all seven sums of a tile, whose pixels are loaded (4, pixels), to `sums` (bins, 7)."""
    s, variance, n, weight = loaded
    for r in range(first_row, last_row):
        count = v = norm = square = a = b = p = 0.0
        for k in range(row_ptr[r], row_ptr[r + 1]):
            pixel = np.uint64(pixels[k])
            c = np.float64(shares[k]) if shares is not None else 1.0
            w = c * n[pixel]
            y = c * s[pixel]
            count += c * weight[pixel]
            v += y
            norm += w
            square += w * w
            a += w * y
            b += y * y
            p += c * (c * variance[pixel])
        at = row_bins[r]
        sums[at, N] += count
        sums[at, V] += v
        sums[at, W] += norm
        sums[at, Q] += square
        sums[at, A] += a
        sums[at, B] += b
        sums[at, P] += p


@njit(nogil=True, cache=True)
def add_prepared(
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
    dark,
    dark_variance,
    variance,
    gain,
    noise,
    norm,
    monitor,
    used,
    sums,
):
    """Add one frame with corrections to all seven `sums` (bins, 7); return how many pixels it leaves out.

    Parameters
    ----------
    dark, dark_variance
        Flat, one value for every pixel, or a single one, or none.
    variance
        Likewise; stands in for that of counts and dark.
    gain, noise
        Variance is gain * max(frame, 0) + noise.
    monitor
        One value, or one for every pixel: a pixel whose monitor is 0 is left out.
    """
    rows, columns = shape
    across = tiles_across(columns)
    loaded = np.zeros((4, TILE_PIXELS))
    lost = 0
    corrections = (dark, dark_variance, variance, gain, noise, norm, monitor, used)
    for t in range(tile_ptr.size - 1):
        if tile_ptr[t] == tile_ptr[t + 1]:
            continue
        box = tile_box(first_tile + t, across, rows, columns)
        lost += load_prepared(frame, columns, box, low, high, masked, *corrections, loaded)
        add_rows_prepared(tile_ptr[t], tile_ptr[t + 1], row_bins, row_ptr, pixels, shares, loaded, sums)
    return lost


@njit(nogil=True, cache=True)
def add_some(
    first_tile, tile_ptr, row_bins, row_ptr, pixels, shares, shape, tile_of, numbers, counts, monitor, gain, norm, sums
):
    """Add some pixels to all seven `sums` (bins, 7), each with its own monitor.

    ``numbers``, ``counts`` and ``monitor`` of the pixels are sorted by their tile, ``tile_of``.
    """
    rows, columns = shape
    across = tiles_across(columns)
    loaded = np.zeros((4, TILE_PIXELS))
    j = np.searchsorted(tile_of, first_tile)
    while j < numbers.size and tile_of[j] < first_tile + tile_ptr.size - 1:
        tile = tile_of[j]
        r0, _, c0, _ = tile_box(tile, across, rows, columns)
        loaded[:] = 0.0
        while j < numbers.size and tile_of[j] == tile:
            i = numbers[j]
            m = norm[i] * monitor[j]
            if m != 0.0:
                to = (i // columns - r0) * TILE_COLUMNS + i % columns - c0
                s = np.float64(counts[j])
                loaded[0, to], loaded[1, to], loaded[2, to], loaded[3, to] = s, gain * s, m, 1.0
            j += 1
        t = tile - first_tile
        add_rows_prepared(tile_ptr[t], tile_ptr[t + 1], row_bins, row_ptr, pixels, shares, loaded, sums)
