"""The loops that put shares into the matrix's order: pixel by pixel into tiles, and tiles into bins.

What a tile's pixels have stored, in pixel order, `close_tile` sorts by bin into the band.
"""

import numpy as np
from numba import njit

from azimuthal.csr.loading.kernels import tile_box
from azimuthal.csr.tiles import NONE_YET, TILE_COLUMNS, TILE_PIXELS, tiles_across


@njit(nogil=True, cache=True)
def grown(array, needed):
    """Return `array`, or a larger copy of it with room for `needed` elements."""
    if needed <= array.size:
        return array
    larger = np.empty(max(needed, 2 * array.size), array.dtype)
    larger[: array.size] = array
    return larger


@njit(nogil=True, cache=True)
def distinct(bins, n, counts, found):
    """Count entries by bin in `counts` and write the bins that occur, ascending, to `found`; return how many."""
    many, lowest, highest = 0, counts.size, -1
    for k in range(n):
        b = bins[k]
        if counts[b] == 0:
            found[many] = b
            many += 1
            lowest = min(lowest, b)
            highest = max(highest, b)
        counts[b] += 1
    if highest - lowest < 8 * many:
        many = 0
        for b in range(lowest, highest + 1):
            if counts[b]:
                found[many] = b
                many += 1
    else:
        found[:many] = np.sort(found[:many])
    return many


@njit(nogil=True, cache=True)
def close_tile(n, local, bins, shares, counts, found, row_bins, row_ptr, n_rows, out_pixels, out_shares):
    """Sort the n entries of a tile by bin, behind the `n_rows` rows of the band so far; return the rows there are now.

    ``counts`` (bins,) is 0 before and after. Entries of one bin keep their order.
    """
    many = distinct(bins, n, counts, found)
    end = row_ptr[n_rows]
    for f in range(many):
        size = counts[found[f]]
        row_bins[n_rows + f] = found[f]
        counts[found[f]] = end
        end += size
        row_ptr[n_rows + f + 1] = end
    for k in range(n):
        b = bins[k]
        at = counts[b]
        counts[b] = at + 1
        out_pixels[at] = local[k]
        if out_shares.size:
            out_shares[at] = shares[k]
    for f in range(many):
        counts[found[f]] = 0
    return n_rows + many


@njit(nogil=True, cache=True)
def tile_pixels(first_row, last_row, shape, n_bins, start, indptr, bins, shares, used):
    """Sort shares in pixel order into rows first_row..last_row of tiles.

    Parameters
    ----------
    start
        Number of the first pixel of the band.
    indptr
        Pixel i has the entries ``indptr[i - start]:indptr[i - start + 1]`` of `bins` and `shares` (empty: all 1).
    used
        (pixels,) bool, is set where a pixel has entries.

    Returns
    -------
    tile_ptr, row_bins, row_ptr, pixels, shares
        As `azimuthal.csr.matrix.Band` has them; shares empty where they were.
    """
    rows, columns = shape
    across = tiles_across(columns)
    tiles = (last_row - first_row) * across
    out_pixels, out_shares = np.empty(bins.size, np.uint16), np.empty(shares.size, np.float32)
    tile_ptr = np.zeros(tiles + 1, np.int64)
    row_bins, row_ptr = np.empty(4 * TILE_PIXELS, np.int32), np.zeros(4 * TILE_PIXELS + 1, np.int64)
    counts, n_rows = np.zeros(n_bins, np.int64), NONE_YET
    local, here = np.empty(2 * TILE_PIXELS, np.uint16), np.empty(2 * TILE_PIXELS, np.int32)
    weights, found = np.empty(2 * TILE_PIXELS, np.float32), np.empty(2 * TILE_PIXELS, np.int32)
    for t in range(tiles):
        r0, r1, c0, c1 = tile_box(first_row * across + t, across, rows, columns)
        n = NONE_YET
        for i in range(r0, r1):
            for j in range(c0, c1):
                at = i * columns + j
                first, last = indptr[at - start], indptr[at - start + 1]
                used[at] = last > first
                needed = n + last - first
                if needed > local.size:
                    local, here = grown(local, needed), grown(here, needed)
                    weights, found = grown(weights, needed), grown(found, needed)
                for k in range(first, last):
                    local[n] = (i - r0) * TILE_COLUMNS + j - c0
                    here[n] = bins[k]
                    if shares.size:
                        weights[n] = shares[k]
                    n += 1
        row_bins, row_ptr = grown(row_bins, n_rows + n), grown(row_ptr, n_rows + n + 1)
        n_rows = close_tile(n, local, here, weights, counts, found, row_bins, row_ptr, n_rows, out_pixels, out_shares)
        tile_ptr[t + 1] = n_rows
    return tile_ptr, row_bins[:n_rows].copy(), row_ptr[: n_rows + 1].copy(), out_pixels, out_shares


@njit(nogil=True, cache=True)
def count_entries(row_bins, row_ptr, counts):
    """Add the number of entries in each row of a band to the counts of its bin."""
    for r in range(row_bins.size):
        counts[row_bins[r]] += row_ptr[r + 1] - row_ptr[r]


@njit(nogil=True, cache=True)
def place_entries(first_tile, tile_ptr, row_bins, row_ptr, pixels, shares, shape, cursor, out_pixels, out_shares):
    """Write the entries of a band to where `cursor` (bins,) says; pixels get their numbers in the image."""
    rows, columns = shape
    across = tiles_across(columns)
    for t in range(tile_ptr.size - 1):
        r0, _, c0, _ = tile_box(first_tile + t, across, rows, columns)
        for r in range(tile_ptr[t], tile_ptr[t + 1]):
            at = cursor[row_bins[r]]
            for k in range(row_ptr[r], row_ptr[r + 1]):
                p = np.int64(pixels[k])
                out_pixels[at] = (r0 + p // TILE_COLUMNS) * columns + c0 + p % TILE_COLUMNS
                out_shares[at] = shares[k] if shares is not None else np.float32(1.0)
                at += 1
            cursor[row_bins[r]] = at


@njit(nogil=True, cache=True)
def first_bins(indptr, pixels, n_pixels):
    """Return the lowest bin of each pixel, -1 where it has none, from the matrix in bin order."""
    out = np.full(n_pixels, -1, np.int32)
    for r in range(indptr.size - 2, -1, -1):
        for k in range(indptr[r], indptr[r + 1]):
            out[pixels[k]] = r
    return out
