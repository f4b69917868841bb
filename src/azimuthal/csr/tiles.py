"""How an image is cut into tiles, and tiles into bands.

A tile is small enough for its pixels to stay in the processor's cache while its rows of the matrix are summed; a band,
some rows of tiles, is what one thread works on at a time. Both depend on the image's shape and the number of bins only,
and so does the order in which anything is added up.
"""

import numpy as np
from numba.extending import register_jitable

from azimuthal import threads

# numba's cache watches the file that holds a kernel: after a change here touch those that use it.
TILE_ROWS = 16
TILE_COLUMNS = 128
TILE_PIXELS = TILE_ROWS * TILE_COLUMNS
MOST_BANDS = 8
LARGEST_SUMS = 2**20
"""Bins times bands: more would fill memory with sums of bands."""
NONE_YET = np.int64(0)
"""To count up from: for a literal 0, numba would compile what takes the number once more."""


@register_jitable
def tiles_across(columns: int) -> int:
    """Return how many tiles lie side by side."""
    return (columns + TILE_COLUMNS - 1) // TILE_COLUMNS


def bands(shape: tuple[int, int], n_bins: int) -> list[tuple[int, int]]:
    """Return the bands of an image, (rows, columns), as (first, last + 1) row of tiles."""
    rows, columns = shape
    tall = -(-rows // TILE_ROWS)
    most = min(MOST_BANDS, rows * columns // threads.PIXELS_PER_PIECE, LARGEST_SUMS // n_bins)
    return threads.cut(tall, max(1, min(most, tall)))
