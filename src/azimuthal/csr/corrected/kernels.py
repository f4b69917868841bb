"""The loops over the sparse matrix for frames with corrections: each pixel with its own dark, variance and monitor.

Like those for counts (`azimuthal.csr.kernels`) they take one band of the matrix, are serial, release the GIL and are
cached on disk.
"""

import numpy as np
from numba import njit

from azimuthal.csr.kernels import A, B, N, P, Q, V, W
from azimuthal.csr.loading.kernels import tile_box
from azimuthal.csr.tiles import TILE_COLUMNS, TILE_PIXELS, tiles_across


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
