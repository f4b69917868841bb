"""The loop that adds a frame of whole numbers to sums over frames."""

import numpy as np
from numba import njit

BLOCK = 4096
"""Pixels that are added, without a branch, before those that are lost among them are looked for."""


@njit(nogil=True, cache=True)
def add_counts(start, stop, sign, frame, used, dummy_low, dummy_high, signal, lost_pixels):
    """Add ``sign`` times pixels start..stop of `frame` to int64 `signal`; return how many are lost and negative.

    Pixels that are not `used`, and those with a value from dummy_low to dummy_high, add nothing. The latter are lost:
    their numbers go to ``lost_pixels[:lost]``.
    """
    lost = 0
    negative = 0
    for first in range(start, stop, BLOCK):
        last = min(first + BLOCK, stop)
        line, sums, wanted = frame[first:last], signal[first:last], used[first:last]
        dropped = 0
        for j in range(last - first):
            dummy = (line[j] >= dummy_low) & (line[j] <= dummy_high)
            good = wanted[j] & (not dummy)
            dropped += np.int64(wanted[j] & dummy)
            negative += np.int64(good & (line[j] < 0))
            value = np.int64(line[j]) if good else 0
            sums[j] += value if sign > 0 else -value
        if dropped:
            for j in range(last - first):
                if wanted[j] and dummy_low <= line[j] <= dummy_high:
                    lost_pixels[lost] = first + j
                    lost += 1
    return lost, negative
